/* sasl_bearer.c - the messages of OAUTHBEARER (RFC 7628, 3.1) and XOAUTH2 (as Google and Microsoft describe it).
 *
 *   n,a=user@example.com,^Ahost=mail.example.com^Aport=993^Aauth=Bearer TOKEN^A^A
 *   user=user@example.com^Aauth=Bearer TOKEN^A^A
 *
 * Pure functions, so that they can be fuzzed. */
#include "server/directory/sasl_internal.h"

#define SEPARATOR      '\1'
#define TOKEN_SIZE_MAX 16384

static int malformed(struct error *err)
{
    return fail(err, ERR_SYNTAX, "malformed bearer message");
}

/* RFC 6750, 2.1. */
static bool is_token(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < 0x21 || s.p[i] > 0x7e)
            return false;
    return s.n > 0 && s.n <= TOKEN_SIZE_MAX;
}

static bool take_token(struct str value, struct str *token)
{
    *token = value;
    if (!str_skip_prefix(token, STR("Bearer ")))
        return false;
    *token = str_trim(*token);
    return is_token(*token);
}

/* key=value pairs, each with its separator, and one more separator. */
static bool read_pairs(struct str rest, struct str *user, struct str *token)
{
    struct str pair, key, value;

    while (str_cut(rest, SEPARATOR, &pair, &rest)) {
        if (pair.n == 0)
            return rest.n == 0 && token->n > 0;
        if (!str_cut(pair, '=', &key, &value))
            return false;
        if (str_eq(key, STR("auth")) && (token->n > 0 || !take_token(value, token)))
            return false;
        if (str_eq(key, STR("user")))
            *user = value;
    }
    return false;
}

int sasl_parse_xoauth2(struct str message, struct sasl_bearer *out, struct error *err)
{
    *out = (struct sasl_bearer){0};
    if (!read_pairs(message, &out->name, &out->token) || out->name.n == 0)
        return malformed(err);
    return 0;
}

int sasl_parse_oauthbearer(struct arena *a, struct str message, struct sasl_bearer *out,
                           struct error *err)
{
    struct str gs2, flag, name, ignored = STR_NULL;

    *out = (struct sasl_bearer){0};
    if (!str_cut(message, SEPARATOR, &gs2, &message) || !str_cut(gs2, ',', &flag, &name) ||
        (!str_eq(flag, STR("n")) && !str_eq(flag, STR("y"))) || !str_ends(name, STR(",")))
        return malformed(err);
    name.n--;
    if (name.n > 0 && (!str_starts(name, STR("a=")) ||
                       !scram_unescape_name(a, str_from(name, 2), &out->name) || out->name.n == 0))
        return malformed(err);
    return read_pairs(message, &ignored, &out->token) ? 0 : malformed(err);
}
