/* sieve_check.c - what is a valid header name, address, mailbox, flag, zone ... : checked for constants when a script is
 * compiled, and for what variables make when it runs. */
#include "mail/mime/address.h"
#include "mail/mime/mailto.h"
#include "mail/sieve/sieve_program.h"
#include "server/base/date.h"
#include "server/base/utf8.h"

#define MAILBOX_SIZE_MAX 1000
#define ADDRESS_SIZE_MAX 320
#define FLAG_SIZE_MAX    100

static bool has_control(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < ' ' || s.p[i] == 127)
            return true;
    return false;
}

bool sieve_header_name_valid(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] <= ' ' || name.p[i] == 127 || name.p[i] == ':' ||
            (unsigned char)name.p[i] > 127)
            return false;
    return name.n > 0;
}

bool sieve_mailbox_name_valid(struct str path)
{
    return path.n > 0 && path.n <= MAILBOX_SIZE_MAX && !has_control(path) && utf8_valid(path);
}

/* --- addresses ------------------------------------------------------------------------------------ */

static bool is_atom_text(char c)
{
    return (unsigned char)c > 127 ||
           (c > ' ' && c < 127 && memchr("()<>[]:;@\\,.\"", c, 13) == NULL);
}

static bool is_dot_atom(struct str s)
{
    bool was_dot = true;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '.' ? was_dot : !is_atom_text(s.p[i]))
            return false;
        was_dot = s.p[i] == '.';
    }
    return !was_dot;
}

static bool is_quoted(struct str s)
{
    if (s.n < 2 || s.p[0] != '"' || s.p[s.n - 1] != '"' || has_control(s))
        return false;
    for (size_t i = 1; i < s.n - 1; i++) {
        if (s.p[i] == '"' || (s.p[i] == '\\' && i + 1 == s.n - 1))
            return false;
        if (s.p[i] == '\\')
            i++;
    }
    return true;
}

static bool is_domain(struct str s)
{
    if (s.n > 2 && s.p[0] == '[' && s.p[s.n - 1] == ']')
        return !has_control(s);
    return is_dot_atom(s);
}

bool sieve_address_valid(struct str address)
{
    struct str local, domain;

    if (address.n > ADDRESS_SIZE_MAX || !utf8_valid(address) ||
        !str_rcut(address, '@', &local, &domain))
        return false;
    return (is_dot_atom(local) || is_quoted(local)) && is_domain(domain);
}

bool sieve_address_take(struct arena *a, struct str text, struct str *address)
{
    struct str s = str_trim(text);
    ptrdiff_t open = str_rindex(s, '<');

    if (has_control(s))
        return false;
    if (open >= 0 && s.p[s.n - 1] == '>')
        s = str_trim(str_of(s.p + open + 1, s.n - (size_t)open - 2));
    *address = arena_str(a, s);
    return sieve_address_valid(s);
}

bool sieve_from_valid(struct arena *a, struct str text)
{
    struct addresses list;

    if (has_control(text) || text.n > 4 * ADDRESS_SIZE_MAX)
        return false;
    address_parse_list(a, text, &list);
    for (size_t i = 0; i < list.n; i++)
        if (list.v[i].is_group_start || list.v[i].is_group_end || list.v[i].local.n == 0 ||
            !is_domain(list.v[i].domain))
            return false;
    return list.n > 0;
}

/* --- words of a fixed set ------------------------------------------------------------------------- */

bool sieve_flag_valid(struct str flag)
{
    static const struct str system_flags[] = {STR("\\Answered"), STR("\\Flagged"), STR("\\Deleted"),
                                              STR("\\Seen"), STR("\\Draft")};

    for (size_t i = 0; i < sizeof system_flags / sizeof *system_flags; i++)
        if (str_ieq(flag, system_flags[i]))
            return true;
    for (size_t i = 0; i < flag.n; i++)
        if (flag.p[i] <= ' ' || flag.p[i] >= 127 || memchr("(){%*\"\\]", flag.p[i], 8) != NULL)
            return false;
    return flag.n > 0 && flag.n <= FLAG_SIZE_MAX;
}

static bool take_digits(struct str s, size_t at, int *value)
{
    if (s.p[at] < '0' || s.p[at] > '9' || s.p[at + 1] < '0' || s.p[at + 1] > '9')
        return false;
    *value = (s.p[at] - '0') * 10 + s.p[at + 1] - '0';
    return true;
}

bool sieve_zone_parse(struct str zone, int *minutes)
{
    int hours, rest;

    if (zone.n != 5 || (zone.p[0] != '+' && zone.p[0] != '-') || !take_digits(zone, 1, &hours) ||
        !take_digits(zone, 3, &rest))
        return false;
    if (hours > 23 || rest > 59)
        return false;
    *minutes = (hours * 60 + rest) * (zone.p[0] == '-' ? -1 : 1);
    return true;
}

static unsigned find_word(const char *const *words, unsigned count, struct str name)
{
    unsigned i;

    for (i = 0; i < count && !str_ieq(name, str_c(words[i]));)
        i++;
    return i;
}

enum sieve_date_part sieve_date_part_of(struct str name)
{
    static const char *const words[] = {"year",  "month",  "day",    "date", "julian",
                                        "hour",  "minute", "second", "time", "iso8601",
                                        "std11", "zone",   "weekday"};

    return find_word(words, SIEVE_DATE_UNKNOWN, name);
}

enum sieve_envelope_part sieve_envelope_part_of(struct str name)
{
    static const char *const words[] = {"from",   "to",     "notify",         "orcpt",
                                        "ret",    "envid",  "bytimeabsolute", "bytimerelative",
                                        "bymode", "bytrace"};

    return find_word(words, SIEVE_ENVELOPE_UNKNOWN, name);
}

/* RFC 5464, 4.1: no empty component, no wildcard. */
bool sieve_metadata_name_valid(struct str name)
{
    if (!str_istarts(name, STR("/private/")) && !str_istarts(name, STR("/shared/")))
        return false;
    if (has_control(name) || !str_is_ascii(name) || name.n > MAILBOX_SIZE_MAX ||
        name.p[name.n - 1] == '/')
        return false;
    return str_find(name, STR("//")) < 0 && str_index(name, '*') < 0 && str_index(name, '%') < 0;
}

/* The recipients stand before the "?", with commas between them, or in "to" behind it. */
bool sieve_notify_uri_valid(struct arena *a, struct str uri)
{
    struct str paths, path, fields, address;

    if (!str_istarts(uri, STR("mailto:")) || has_control(uri) || uri.n > SIEVE_VARIABLE_SIZE_MAX)
        return false;
    str_cut(str_from(uri, sizeof "mailto:" - 1), '?', &paths, &fields);
    if (paths.n == 0)
        return str_istarts(fields, STR("to=")) || str_ifind(fields, STR("&to=")) >= 0;
    while (paths.n > 0) {
        str_cut(paths, ',', &path, &paths);
        if (!mailto_parse(a, arena_printf(a, "mailto:%.*s", STR_ARG(path)), &address))
            return false;
    }
    return true;
}

bool sieve_dsn_notify_valid(struct str value)
{
    struct str word;

    if (str_ieq(value, STR("NEVER")))
        return true;
    if (value.n == 0)
        return false;
    for (bool more = true; more;) {
        more = str_cut(value, ',', &word, &value);
        word = str_trim(word);
        if (!str_ieq(word, STR("SUCCESS")) && !str_ieq(word, STR("FAILURE")) &&
            !str_ieq(word, STR("DELAY")))
            return false;
    }
    return true;
}
