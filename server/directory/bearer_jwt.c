/* bearer_jwt.c - HS256 and nothing else.
 *
 * The signature is checked before anything of the token is read as JSON, and always as HS256: what "alg" says
 * can only disagree. So only text that the issuer signed reaches the JSON parser. */
#include "server/directory/bearer_jwt.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "server/base/date.h"
#include "server/base/encode.h"
#include "server/directory/digest.h"
#include "server/run/config.h"

#define KEYS_MAX       8
#define KEY_SIZE_MIN   32
#define KEY_FILE_MAX   8192
#define TOKEN_SIZE_MAX 16384
#define DEPTH_MAX      16 /* jansson's own limit is beyond a fiber's stack */
#define CLOCK_LEEWAY_S 60
#define TIME_MAX_S     (INT64_C(1) << 40)

static struct {
    struct str v[KEYS_MAX];
    size_t n;
    struct buf text;
} keys;

/* --- the token -------------------------------------------------------------------------------- */

struct jwt {
    struct str header, payload, signature; /* base64url */
    struct str is_signed;                  /* header and payload with their dot */
};

static bool jwt_split(struct str token, struct jwt *out)
{
    struct str rest;

    if (!str_cut(token, '.', &out->header, &rest) ||
        !str_cut(rest, '.', &out->payload, &out->signature) || str_index(out->signature, '.') >= 0)
        return false;
    out->is_signed = str_head(token, out->header.n + 1 + out->payload.n);
    return true;
}

static bool is_signed_by(struct str key, const struct jwt *t)
{
    uint8_t expected[DIGEST_SIZE];
    struct buf given;
    bool is_good;

    buf_init(&given, 1024);
    hmac_sha256(key, t->is_signed, expected);
    is_good = base64url_decode(&given, t->signature) && given.n == DIGEST_SIZE &&
              bytes_equal_constant_time(given.p, expected, DIGEST_SIZE);
    buf_fini(&given);
    return is_good;
}

static bool is_signed(const struct jwt *t)
{
    for (size_t i = 0; i < keys.n; i++)
        if (is_signed_by(keys.v[i], t))
            return true;
    return false;
}

/* --- its claims ------------------------------------------------------------------------------- */

static bool is_flat(struct str text)
{
    unsigned depth = 0;

    for (size_t i = 0; i < text.n; i++)
        if ((text.p[i] == '{' || text.p[i] == '[') && ++depth > DEPTH_MAX)
            return false;
    return true;
}

static json_t *json_of(struct str base64url)
{
    struct buf text;
    json_t *object = NULL;

    buf_init(&text, TOKEN_SIZE_MAX);
    if (base64url_decode(&text, base64url) && is_flat(buf_str(&text)))
        object = json_loadb(text.n > 0 ? text.p : "", text.n, JSON_REJECT_DUPLICATES, NULL);
    buf_fini(&text);
    if (json_is_object(object))
        return object;
    json_decref(object);
    return NULL;
}

static struct str text_of(const json_t *value)
{
    return json_is_string(value) ? str_of(json_string_value(value), json_string_length(value))
                                 : STR_NULL;
}

static bool time_of(const json_t *value, int64_t *seconds)
{
    double n = json_number_value(value);

    if (!json_is_number(value) || !(n >= 0 && n < (double)TIME_MAX_S))
        return false;
    *seconds = (int64_t)n;
    return true;
}

static bool header_is_good(const json_t *header)
{
    return str_eq(text_of(json_object_get(header, "alg")), STR("HS256")) &&
           json_object_get(header, "crit") == NULL;
}

/* "aud" is one name or a list of them. */
static bool audience_is_us(const json_t *aud)
{
    struct str us = str_c(config.bearer_token_audience);

    if (us.n == 0 || str_eq(text_of(aud), us))
        return true;
    for (size_t i = 0; i < json_array_size(aud); i++)
        if (str_eq(text_of(json_array_get(aud, i)), us))
            return true;
    return false;
}

static bool issuer_is_right(const json_t *iss)
{
    struct str wanted = str_c(config.bearer_token_issuer);

    return wanted.n == 0 || str_eq(text_of(iss), wanted);
}

static bool has_begun(const json_t *nbf, int64_t now_s)
{
    int64_t begin_s;

    return nbf == NULL || (time_of(nbf, &begin_s) && begin_s <= now_s + CLOCK_LEEWAY_S);
}

static bool read_claims(struct arena *a, const json_t *payload, int64_t now_s,
                        struct bearer_claims *out)
{
    const json_t *scope = json_object_get(payload, "scope");
    int64_t expires_s;

    if (!issuer_is_right(json_object_get(payload, "iss")) ||
        !audience_is_us(json_object_get(payload, "aud")) ||
        !has_begun(json_object_get(payload, "nbf"), now_s) ||
        !time_of(json_object_get(payload, "exp"), &expires_s) ||
        (scope != NULL && !json_is_string(scope)))
        return false;
    *out = (struct bearer_claims){
        .name = arena_str(a, text_of(json_object_get(payload, config.bearer_token_claim))),
        .has_scope = scope != NULL,
        .scope = arena_str(a, text_of(scope)),
        .expires_us = expires_s * 1000000,
    };
    return out->name.n > 0;
}

int bearer_jwt_verify(struct arena *a, struct str token, int64_t now_s, struct bearer_claims *out,
                      struct error *err)
{
    json_t *header, *payload;
    struct jwt t;
    bool is_good;

    if (token.n > TOKEN_SIZE_MAX || !jwt_split(token, &t))
        return fail(err, ERR_NOT_FOUND, "this is no JSON Web Token");
    if (!is_signed(&t))
        return fail(err, ERR_AUTH, "the signature is not right");
    header = json_of(t.header);
    payload = json_of(t.payload);
    is_good = header_is_good(header) && read_claims(a, payload, now_s, out);
    json_decref(header);
    json_decref(payload);
    return is_good ? 0 : fail(err, ERR_AUTH, "the token is not for us");
}

static int verify(struct arena *a, struct str token, struct bearer_claims *out, struct error *err)
{
    return bearer_jwt_verify(a, token, time_now_us() / 1000000, out, err);
}

/* --- keys ------------------------------------------------------------------------------------- */

static int read_file(struct error *err)
{
    FILE *f = fopen(config.bearer_token_key, "re");
    char *room;

    if (f == NULL)
        return fail(err, ERR_NOT_FOUND, "bearer_token_key: cannot read %s: %s",
                    config.bearer_token_key, strerror(errno));
    room = buf_reserve(&keys.text, KEY_FILE_MAX);
    buf_commit(&keys.text, fread(room, 1, KEY_FILE_MAX, f));
    fclose(f);
    return 0;
}

static int take_keys(struct error *err)
{
    struct str rest = buf_str(&keys.text), line;

    while (str_next_token(&rest, '\n', &line)) {
        line = str_trim(line);
        if (line.n == 0)
            continue;
        if (line.n < KEY_SIZE_MIN || keys.n == KEYS_MAX)
            return fail(
                err, ERR_SYNTAX,
                "bearer_token_key: %s must hold 1 to %d keys, one a line, of %d bytes or more",
                config.bearer_token_key, KEYS_MAX, KEY_SIZE_MIN);
        keys.v[keys.n++] = line;
    }
    return keys.n > 0 ? 0
                      : fail(err, ERR_SYNTAX, "bearer_token_key: %s holds no key",
                             config.bearer_token_key);
}

int bearer_jwt_start(struct error *err)
{
    static const struct bearer_verifier verifier = {verify};

    if (config.bearer_token_key[0] == '\0')
        return 0;
    bearer_jwt_fini();
    buf_init(&keys.text, KEY_FILE_MAX);
    if (read_file(err) < 0 || take_keys(err) < 0)
        return -1;
    bearer_register(&verifier);
    return 0;
}

void bearer_jwt_fini(void)
{
    bearer_unregister_all();
    buf_fini(&keys.text);
    keys.n = 0;
}
