/* spf_record.c - parses an SPF record as a whole (RFC 7208, 4.6): an error anywhere in it is found before any
 * term is looked at. */
#include <arpa/inet.h>

#include "mail/authentic/spf_internal.h"

#define RECORD_SIZE_MAX 16384 /* RFC 7208, 3.4 advises 450 */

static const struct {
    struct str name;
    bool takes_domain, needs_domain, takes_length;
} mechanisms[] = {
    [SPF_ALL] = {STR("all"), false, false, false},
    [SPF_INCLUDE] = {STR("include"), true, true, false},
    [SPF_A] = {STR("a"), true, false, true},
    [SPF_MX] = {STR("mx"), true, false, true},
    [SPF_PTR] = {STR("ptr"), true, false, false},
    [SPF_IP4] = {STR("ip4"), false, false, false},
    [SPF_IP6] = {STR("ip6"), false, false, false},
    [SPF_EXISTS] = {STR("exists"), true, true, false},
};

bool spf_is_record(struct str txt)
{
    return str_skip_prefix(&txt, STR("v=spf1")) && (txt.n == 0 || txt.p[0] == ' ');
}

/* ---- prefix lengths ------------------------------------------------------------------------ */

/* A number without leading zeros, up to max. */
static bool read_bits(struct str s, unsigned max, unsigned *out)
{
    uint32_t number;

    if (s.n > 3 || (s.n > 1 && s.p[0] == '0') || !str_to_u32(s, &number) || number > max)
        return false;
    *out = number;
    return true;
}

/* Digits at the end behind a slash: the rest goes to *before. */
static bool cut_length(struct str s, struct str *before, struct str *digits)
{
    if (!str_rcut(s, '/', before, digits) || digits->n == 0)
        return false;
    for (size_t i = 0; i < digits->n; i++)
        if (digits->p[i] < '0' || digits->p[i] > '9')
            return false;
    return true;
}

/* Takes [ "/" bits ] [ "//" bits ] off the end; false when there is a length and it is wrong. A slash may
 * belong to the domain too, so only what looks like a length is one. */
static bool take_dual_length(struct str *s, struct spf_directive *d)
{
    struct str before, digits;

    if (cut_length(*s, &before, &digits) && str_ends(before, STR("/"))) {
        if (!read_bits(digits, 128, &d->bits6))
            return false;
        *s = str_head(before, before.n - 1);
    }
    if (cut_length(*s, &before, &digits)) {
        if (!read_bits(digits, 32, &d->bits4))
            return false;
        *s = before;
    }
    return true;
}

/* ---- mechanisms ---------------------------------------------------------------------------- */

/* ":" network [ "/" bits ] */
static bool read_network(struct str s, struct spf_directive *d)
{
    bool is_ipv4 = d->mechanism == SPF_IP4;
    struct str address, length;
    char text[INET6_ADDRSTRLEN];

    if (!str_skip_prefix(&s, STR(":")))
        return false;
    if (str_cut(s, '/', &address, &length) &&
        !read_bits(length, is_ipv4 ? 32 : 128, is_ipv4 ? &d->bits4 : &d->bits6))
        return false;
    if (address.n == 0 || address.n >= sizeof text || memchr(address.p, '\0', address.n) != NULL)
        return false;
    memcpy(text, address.p, address.n);
    text[address.n] = '\0';
    return inet_pton(is_ipv4 ? AF_INET : AF_INET6, text, d->network) == 1;
}

/* What stands behind the name of a mechanism other than ip4 and ip6. */
static bool read_arguments(struct str s, struct spf_directive *d)
{
    if (mechanisms[d->mechanism].takes_length && !take_dual_length(&s, d))
        return false;
    if (s.n == 0)
        return !mechanisms[d->mechanism].needs_domain;
    if (!mechanisms[d->mechanism].takes_domain || !str_skip_prefix(&s, STR(":")))
        return false;
    d->domain_spec = s;
    return spf_domain_spec_is_valid(s);
}

static enum spf_result take_qualifier(struct str *s)
{
    if (str_skip_prefix(s, STR("-")))
        return SPF_FAIL;
    if (str_skip_prefix(s, STR("~")))
        return SPF_SOFTFAIL;
    if (str_skip_prefix(s, STR("?")))
        return SPF_NEUTRAL;
    str_skip_prefix(s, STR("+"));
    return SPF_PASS;
}

static bool find_mechanism(struct str name, enum spf_mechanism *out)
{
    for (size_t i = 0; i < sizeof mechanisms / sizeof mechanisms[0]; i++) {
        if (str_ieq(name, mechanisms[i].name)) {
            *out = (enum spf_mechanism)i;
            return true;
        }
    }
    return false;
}

static bool read_directive(struct str term, struct spf_directive *d)
{
    struct str rest = term;
    size_t n = 0;

    *d = (struct spf_directive){.text = term, .bits4 = 32, .bits6 = 128};
    d->result = take_qualifier(&rest);
    while (n < rest.n && rest.p[n] != ':' && rest.p[n] != '/')
        n++;
    if (!find_mechanism(str_head(rest, n), &d->mechanism))
        return false;
    rest = str_from(rest, n);
    return d->mechanism == SPF_IP4 || d->mechanism == SPF_IP6 ? read_network(rest, d)
                                                              : read_arguments(rest, d);
}

/* ---- modifiers ----------------------------------------------------------------------------- */

/* name "=" value; a mechanism has ":" or "/" before any "=". */
static bool cut_modifier(struct str term, struct str *name, struct str *value)
{
    if (!str_cut(term, '=', name, value))
        return false;
    return str_index(*name, ':') < 0 && str_index(*name, '/') < 0;
}

static bool is_modifier_name(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = ascii_lower(s.p[i]);
        bool is_alpha = c >= 'a' && c <= 'z';

        if (!is_alpha && (i == 0 || !((c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.')))
            return false;
    }
    return s.n > 0;
}

/* Once only, and what it holds is a domain. */
static bool set_domain_modifier(struct str *to, struct str value)
{
    if (to->n > 0 || !spf_domain_spec_is_valid(value))
        return false;
    *to = value;
    return true;
}

static bool read_modifier(struct str name, struct str value, struct spf_record *out)
{
    if (str_ieq(name, STR("redirect")))
        return set_domain_modifier(&out->redirect, value);
    if (str_ieq(name, STR("exp")))
        return set_domain_modifier(&out->exp, value);
    return is_modifier_name(name) && spf_macro_is_valid(value, SPF_IN_MODIFIER);
}

/* ---- the record ---------------------------------------------------------------------------- */

static bool read_term(struct str term, struct spf_record *out)
{
    struct str name, value;

    if (cut_modifier(term, &name, &value))
        return read_modifier(name, value, out);
    if (!read_directive(term, &out->directives[out->count]))
        return false;
    out->has_all = out->has_all || out->directives[out->count].mechanism == SPF_ALL;
    out->count++;
    return true;
}

static int fail_term(struct str term, struct error *err)
{
    char shown[61];
    size_t n = 0;

    for (; n < term.n && n < sizeof shown - 1; n++)
        shown[n] = term.p[n] >= ' ' && term.p[n] <= '~' ? term.p[n] : '?';
    shown[n] = '\0';
    return fail(err, ERR_SYNTAX, "its SPF record has an error in \"%s\"", shown);
}

static size_t count_terms(struct str text)
{
    struct str term;
    size_t count = 0;

    while (str_next_token(&text, ' ', &term))
        count++;
    return count;
}

int spf_parse_record(struct arena *a, struct str text, struct spf_record *out, struct error *err)
{
    struct str term;

    *out = (struct spf_record){0};
    if (!spf_is_record(text))
        return fail(err, ERR_SYNTAX, "this is no SPF record");
    if (text.n > RECORD_SIZE_MAX)
        return fail(err, ERR_SYNTAX, "its SPF record is longer than %d bytes", RECORD_SIZE_MAX);
    text = str_from(text, STR("v=spf1").n);
    out->directives = ARENA_ARRAY(a, count_terms(text) + 1, struct spf_directive);
    while (str_next_token(&text, ' ', &term))
        if (!read_term(term, out))
            return fail_term(term, err);
    return 0;
}
