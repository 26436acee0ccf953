/* directory_address.c - the canonical form of addresses and domains, in which they are stored and compared.
 *
 * Not a parser of mail syntax: the protocols have taken quotes, brackets and routes off. ASCII, which is
 * nearly everything, goes a short way that allocates once; the rest goes through libidn2 and utf8proc. */
#include <idn2.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "server/base/buf.h"
#include "server/base/utf8.h"
#include "server/directory/directory_internal.h"
#include "server/run/config.h"

#define LOCAL_SIZE_MAX  64 /* RFC 5321, 4.5.3.1.1 */
#define DOMAIN_SIZE_MAX 253
#define LABEL_SIZE_MAX  63

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static int check_label(struct str label, struct error *err)
{
    if (label.n == 0)
        return fail(err, ERR_SYNTAX, "the domain has an empty part between its dots");
    if (label.n > LABEL_SIZE_MAX)
        return fail(err, ERR_SYNTAX, "a part of the domain is longer than 63 characters");
    if (label.p[0] == '-' || label.p[label.n - 1] == '-')
        return fail(err, ERR_SYNTAX, "a part of the domain begins or ends with a hyphen");
    for (size_t i = 0; i < label.n; i++)
        if (!is_letter_or_digit(label.p[i]) && label.p[i] != '-')
            return fail(err, ERR_SYNTAX, "the domain holds a character that no domain may have");
    return 0;
}

/* An all-numeric last label would read as an IPv4 address (RFC 1123, 2.1). */
static bool is_number(struct str label)
{
    for (size_t i = 0; i < label.n; i++)
        if (label.p[i] < '0' || label.p[i] > '9')
            return false;
    return true;
}

static int check_domain(struct str domain, struct error *err)
{
    struct str rest = domain, label;
    bool more;

    if (domain.n > DOMAIN_SIZE_MAX)
        return fail(err, ERR_SYNTAX, "the domain is longer than 253 characters");
    do {
        more = str_cut(rest, '.', &label, &rest);
        if (check_label(label, err) < 0)
            return -1;
    } while (more);
    if (is_number(label))
        return fail(err, ERR_SYNTAX, "a number is not a domain");
    return 0;
}

static int domain_to_ascii(struct arena *a, struct str domain, struct str *out, struct error *err)
{
    char *ascii;
    int status;

    if (!utf8_valid(domain) || memchr(domain.p, '\0', domain.n) != NULL)
        return fail(err, ERR_SYNTAX, "the domain is not valid UTF-8");
    status = idn2_to_ascii_8z(arena_c(a, domain), &ascii, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT);
    if (status != IDN2_OK)
        return fail(err, ERR_SYNTAX, "the domain is not a valid international name: %s",
                    idn2_strerror(status));
    *out = arena_lower(a, str_c(ascii));
    idn2_free(ascii);
    return 0;
}

int domain_canonical(struct arena *a, struct str domain, struct str *out, struct error *err)
{
    if (domain.n == 0)
        return fail(err, ERR_SYNTAX, "the domain is missing");
    if (domain.p[0] == '[')
        return fail(err, ERR_SYNTAX, "an address literal in brackets is not accepted here");
    if (domain.n > 4 * DOMAIN_SIZE_MAX)
        return fail(err, ERR_SYNTAX, "the domain is longer than 253 characters");
    if (str_is_ascii(domain))
        *out = arena_lower(a, domain);
    else if (domain_to_ascii(a, domain, out, err) < 0)
        return -1;
    return check_domain(*out, err);
}

static bool has_control(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return true;
    return false;
}

/* Characters that nobody can see or type have no business in an address; utf8proc already refused unassigned ones. */
static bool has_invisible(struct str s)
{
    uint32_t code_point;

    while (utf8_next(&s, &code_point)) {
        switch (utf8proc_category((utf8proc_int32_t)code_point)) {
        case UTF8PROC_CATEGORY_CC:
        case UTF8PROC_CATEGORY_CS:
        case UTF8PROC_CATEGORY_ZL:
        case UTF8PROC_CATEGORY_ZP:
            return true;
        default:
            break;
        }
    }
    return false;
}

/* NFC and full case folding (RFC 6532, 3.1 asks for NFC; folding makes STRASSE and straße one mailbox). */
static int fold_local(struct arena *a, struct str local, struct str *out, struct error *err)
{
    utf8proc_uint8_t *folded;
    utf8proc_ssize_t n;

    if (!utf8_valid(local))
        return fail(err, ERR_SYNTAX, "the local part is not valid UTF-8");
    n = utf8proc_map((const utf8proc_uint8_t *)local.p, (utf8proc_ssize_t)local.n, &folded,
                     UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD | UTF8PROC_REJECTNA);
    if (n < 0)
        return fail(err, ERR_SYNTAX, "the local part holds a character that is not assigned");
    *out = arena_str(a, str_of((const char *)folded, (size_t)n));
    free(folded);
    if (has_invisible(*out))
        return fail(err, ERR_SYNTAX, "the local part holds a control character");
    return 0;
}

int local_part_canonical(struct arena *a, struct str local, struct str *out, struct error *err)
{
    if (local.n == 0)
        return fail(err, ERR_SYNTAX, "the local part of the address is missing");
    if (local.n > LOCAL_SIZE_MAX)
        return fail(err, ERR_SYNTAX, "the local part is longer than 64 bytes");
    if (has_control(local))
        return fail(err, ERR_SYNTAX, "the local part holds a control character");
    if (!str_is_ascii(local)) {
        if (fold_local(a, local, out, err) < 0)
            return -1;
        return out->n <= LOCAL_SIZE_MAX
                   ? 0
                   : fail(err, ERR_SYNTAX, "the local part is longer than 64 bytes");
    }
    *out = arena_lower(a, local);
    return 0;
}

int address_canonical(struct arena *a, struct str local, struct str domain, struct str *out,
                      struct error *err)
{
    struct str canonical_local, canonical_domain;

    if (local_part_canonical(a, local, &canonical_local, err) < 0 ||
        domain_canonical(a, domain, &canonical_domain, err) < 0)
        return -1;
    *out = arena_printf(a, "%.*s@%.*s", STR_ARG(canonical_local), STR_ARG(canonical_domain));
    return 0;
}

int address_split(struct arena *a, struct str address, struct str *out, struct str *domain,
                  struct error *err)
{
    struct str local, host;

    if (!str_rcut(address, '@', &local, &host))
        return fail(err, ERR_SYNTAX, "\"%.*s\" is not an address: write it as name@domain",
                    STR_ARG(str_head(address, 80)));
    if (address_canonical(a, local, host, out, err) < 0)
        return -1;
    if (domain != NULL)
        str_rcut(*out, '@', &local, domain);
    return 0;
}

struct str address_without_detail(struct arena *a, struct str address, struct str *detail)
{
    struct str local, domain, delimiter = str_c(config.recipient_delimiter);
    ptrdiff_t at;

    *detail = STR_NULL;
    str_rcut(address, '@', &local, &domain);
    at = delimiter.n == 0 ? -1 : str_find(local, delimiter);
    if (at <= 0)
        return address;
    *detail = str_from(local, (size_t)at + delimiter.n);
    return arena_printf(a, "%.*s@%.*s", STR_ARG(str_head(local, (size_t)at)), STR_ARG(domain));
}

#define LOGIN_NAME_SIZE_MAX 320

static struct str printable(struct arena *a, struct str s)
{
    struct buf text;
    struct str out;

    buf_init(&text, 4 * LOGIN_NAME_SIZE_MAX);
    utf8_add_repaired(&text, str_head(s, LOGIN_NAME_SIZE_MAX));
    out = arena_lower(a, buf_str(&text));
    buf_fini(&text);
    return out;
}

struct str login_name(struct arena *a, struct str typed, bool *is_bare)
{
    struct str local, domain, out;

    *is_bare = false;
    if (str_rcut(typed, '@', &local, &domain)) {
        if (address_canonical(a, local, domain, &out, NULL) == 0)
            return out;
    } else if (local_part_canonical(a, typed, &out, NULL) == 0) {
        *is_bare = true;
        return out;
    }
    return printable(a, typed);
}
