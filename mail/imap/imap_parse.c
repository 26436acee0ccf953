/* imap_parse.c - a cursor over one command.
 *
 * Nothing here knows commands; it knows how the grammar of RFC 9051, section 9, spells atoms,
 * strings, numbers, flags and dates. It never reads behind the end of the text and never
 * allocates more than the text is long. */
#include "mail/imap/imap_parse.h"

#include <stdlib.h>
#include <string.h>

#include "server/base/date.h"
#include "server/base/utf8.h"

enum {
    CHAR_ATOM = 1,    /* ATOM-CHAR                                  */
    CHAR_ASTRING = 2, /* ASTRING-CHAR: the same and ']'             */
    CHAR_PATTERN = 4, /* list-char: the same and the two wildcards  */
    CHAR_TAG = 8,     /* ASTRING-CHAR without '+'                   */
};

static unsigned char_class(char c)
{
    unsigned char u = (unsigned char)c;

    if (u <= ' ' || u == 127)
        return 0;
    switch (c) {
    case '(':
    case ')':
    case '{':
    case '"':
    case '\\':
        return 0;
    case '%':
    case '*':
        return CHAR_PATTERN;
    case ']':
        return CHAR_ASTRING | CHAR_PATTERN | CHAR_TAG;
    case '+':
        return CHAR_ATOM | CHAR_ASTRING | CHAR_PATTERN;
    default:
        /* Bytes above 127 are no atom, but clients send mailbox names and passwords so; an
         * astring may hold them. */
        return u > 127 ? CHAR_ASTRING | CHAR_PATTERN
                       : CHAR_ATOM | CHAR_ASTRING | CHAR_PATTERN | CHAR_TAG;
    }
}

bool imap_is_atom_char(char c)
{
    return (char_class(c) & CHAR_ATOM) != 0;
}

void imap_parser_init(struct imap_parser *p, struct str text)
{
    p->at = text.p;
    p->end = text.p + text.n;
    p->is_utf8 = false;
}

struct str imap_parse_rest(const struct imap_parser *p)
{
    return str_of(p->at, (size_t)(p->end - p->at));
}

bool imap_parse_at_end(const struct imap_parser *p)
{
    return p->at == p->end;
}

bool imap_parse_peek(const struct imap_parser *p, char c)
{
    return p->at < p->end && *p->at == c;
}

bool imap_parse_skip(struct imap_parser *p, char c)
{
    if (!imap_parse_peek(p, c))
        return false;
    p->at++;
    return true;
}

/* The text goes back to the client inside a quoted sentence: printable ASCII only. */
int imap_parse_expected(const struct imap_parser *p, const char *what, struct error *err)
{
    char shown[25];
    size_t n = 0;

    if (p->at == p->end)
        return fail(err, ERR_SYNTAX, "expected %s at the end of the command", what);
    for (const char *c = p->at; c < p->end && n < sizeof shown - 1; c++)
        shown[n++] = *c >= ' ' && *c < 127 ? *c : '?';
    shown[n] = '\0';
    return fail(err, ERR_SYNTAX, "expected %s before: %s", what, shown);
}

/* --- literals --------------------------------------------------------------------------------- */

static uint64_t digits_value(const char *from, const char *to)
{
    uint64_t value = 0;

    for (; from < to; from++) {
        unsigned digit = (unsigned)(*from - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return UINT64_MAX;
        value = value * 10 + digit;
    }
    return value;
}

bool imap_literal_at_end(struct str line, struct imap_literal *out)
{
    const char *end = line.p + line.n, *from, *to;

    if (line.n < 3 || end[-1] != '}')
        return false;
    to = end - 1;
    out->is_sync = to[-1] != '+';
    if (!out->is_sync)
        to--;
    from = to;
    while (from > line.p && from[-1] >= '0' && from[-1] <= '9')
        from--;
    if (from == to || from == line.p || from[-1] != '{')
        return false;
    out->size = digits_value(from, to);
    from--;
    out->is_binary = from > line.p && from[-1] == '~';
    if (out->is_binary)
        from--;
    out->marker_size = (size_t)(end - from);
    return true;
}

int imap_parse_open_literal(struct imap_parser *p, struct imap_literal *out, struct error *err)
{
    struct str rest = imap_parse_rest(p);

    if (!imap_literal_at_end(rest, out) || out->marker_size != rest.n)
        return imap_parse_expected(p, "a literal with the message", err);
    p->at = p->end;
    return 0;
}

/* At "{" or "~{": the announcement, the line end, the bytes. */
static int parse_literal(struct imap_parser *p, struct str *out, bool may_have_nul,
                         const char *what, struct error *err)
{
    struct str rest = imap_parse_rest(p);
    const char *line_end = memmem(rest.p, rest.n, "\r\n", 2);
    struct imap_literal literal;

    if (line_end == NULL ||
        !imap_literal_at_end(str_of(rest.p, (size_t)(line_end - rest.p)), &literal) ||
        literal.marker_size != (size_t)(line_end - rest.p))
        return imap_parse_expected(p, what, err);
    rest = str_from(rest, literal.marker_size + 2);
    if (literal.size > rest.n)
        return fail(err, ERR_SYNTAX, "the literal for %s ends too early", what);
    *out = str_head(rest, (size_t)literal.size);
    if (!may_have_nul && memchr(out->p, '\0', out->n) != NULL)
        return fail(err, ERR_SYNTAX, "a NUL byte stands in %s", what);
    p->at = out->p + out->n;
    return 0;
}

/* --- strings ---------------------------------------------------------------------------------- */

static struct str unescaped(struct arena *a, struct str s)
{
    char *copy = arena_alloc(a, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\\')
            i++;
        copy[n++] = s.p[i];
    }
    return str_of(copy, n);
}

static int parse_quoted(struct imap_parser *p, struct arena *a, struct str *out, const char *what,
                        struct error *err)
{
    const char *from = p->at + 1, *c = from;
    bool has_escape = false;

    for (; c < p->end && *c != '"'; c++) {
        if (*c == '\\') {
            has_escape = true;
            c++;
            if (c == p->end || (*c != '"' && *c != '\\'))
                return fail(err, ERR_SYNTAX,
                            "a backslash in %s must be followed by a quote or a backslash", what);
        } else if (*c == '\r' || *c == '\n' || *c == '\0') {
            return fail(err, ERR_SYNTAX, "a line end or NUL stands inside the quotes of %s", what);
        }
    }
    if (c == p->end)
        return fail(err, ERR_SYNTAX, "the quoted string for %s has no closing quote", what);
    *out = str_of(from, (size_t)(c - from));
    if (p->is_utf8 && !utf8_valid(*out))
        return fail(err, ERR_SYNTAX, "%s is not UTF-8", what);
    if (has_escape)
        *out = unescaped(a, *out);
    p->at = c + 1;
    return 0;
}

int imap_parse_string(struct imap_parser *p, struct arena *a, struct str *out, const char *what,
                      struct error *err)
{
    if (imap_parse_peek(p, '"'))
        return parse_quoted(p, a, out, what, err);
    if (imap_parse_peek(p, '{'))
        return parse_literal(p, out, false, what, err);
    return imap_parse_expected(p, what, err);
}

static struct str take_class(struct imap_parser *p, unsigned class)
{
    const char *from = p->at;

    while (p->at < p->end && (char_class(*p->at) & class))
        p->at++;
    return str_of(from, (size_t)(p->at - from));
}

static int parse_string_or(struct imap_parser *p, struct arena *a, unsigned class, struct str *out,
                           const char *what, struct error *err)
{
    if (imap_parse_peek(p, '"') || imap_parse_peek(p, '{'))
        return imap_parse_string(p, a, out, what, err);
    *out = take_class(p, class);
    return out->n > 0 ? 0 : imap_parse_expected(p, what, err);
}

int imap_parse_astring(struct imap_parser *p, struct arena *a, struct str *out, const char *what,
                       struct error *err)
{
    return parse_string_or(p, a, CHAR_ASTRING, out, what, err);
}

int imap_parse_pattern(struct imap_parser *p, struct arena *a, struct str *out, struct error *err)
{
    return parse_string_or(p, a, CHAR_PATTERN, out, "a mailbox pattern", err);
}

int imap_parse_nstring(struct imap_parser *p, struct arena *a, struct str *out, const char *what,
                       struct error *err)
{
    if (imap_parse_word(p, STR("NIL"))) {
        *out = STR_NULL;
        return 0;
    }
    return imap_parse_string(p, a, out, what, err);
}

int imap_parse_nstring8(struct imap_parser *p, struct arena *a, struct str *out, const char *what,
                        struct error *err)
{
    if (imap_parse_peek(p, '~'))
        return parse_literal(p, out, true, what, err);
    return imap_parse_nstring(p, a, out, what, err);
}

/* --- words ------------------------------------------------------------------------------------ */

bool imap_parse_word(struct imap_parser *p, struct str word)
{
    struct imap_parser ahead = *p;

    if (!str_ieq(take_class(&ahead, CHAR_ATOM), word))
        return false;
    *p = ahead;
    return true;
}

int imap_parse_char(struct imap_parser *p, char c, struct error *err)
{
    const char what[] = {'\'', c, '\'', '\0'};

    return imap_parse_skip(p, c) ? 0 : imap_parse_expected(p, what, err);
}

int imap_parse_space(struct imap_parser *p, struct error *err)
{
    if (imap_parse_skip(p, ' '))
        return 0;
    return imap_parse_at_end(p) ? fail(err, ERR_SYNTAX, "the command ends too early")
                                : imap_parse_expected(p, "a space", err);
}

int imap_parse_end(struct imap_parser *p, struct error *err)
{
    return imap_parse_at_end(p) ? 0 : imap_parse_expected(p, "the end of the command", err);
}

int imap_parse_tag(struct imap_parser *p, struct str *out, struct error *err)
{
    *out = take_class(p, CHAR_TAG);
    return out->n > 0 ? 0 : imap_parse_expected(p, "a tag", err);
}

int imap_parse_atom(struct imap_parser *p, struct str *out, const char *what, struct error *err)
{
    *out = take_class(p, CHAR_ATOM);
    return out->n > 0 ? 0 : imap_parse_expected(p, what, err);
}

int imap_parse_number64(struct imap_parser *p, uint64_t *out, const char *what, struct error *err)
{
    struct imap_parser ahead = *p;

    while (ahead.at < ahead.end && *ahead.at >= '0' && *ahead.at <= '9')
        ahead.at++;
    if (!str_to_u64(str_of(p->at, (size_t)(ahead.at - p->at)), out) || *out > INT64_MAX)
        return imap_parse_expected(p, what, err);
    *p = ahead;
    return 0;
}

int imap_parse_number(struct imap_parser *p, uint32_t *out, const char *what, struct error *err)
{
    struct imap_parser ahead = *p;
    uint64_t wide;

    if (imap_parse_number64(&ahead, &wide, what, err) < 0)
        return -1;
    if (wide > UINT32_MAX)
        return imap_parse_expected(p, what, err);
    *out = (uint32_t)wide;
    *p = ahead;
    return 0;
}

int imap_parse_nonzero(struct imap_parser *p, uint32_t *out, const char *what, struct error *err)
{
    struct imap_parser ahead = *p;

    if (imap_parse_number(&ahead, out, what, err) < 0)
        return -1;
    if (*out == 0)
        return imap_parse_expected(p, what, err);
    *p = ahead;
    return 0;
}

/* --- flags ------------------------------------------------------------------------------------ */

static int parse_system_flag(struct imap_parser *p, uint32_t *flags, struct error *err)
{
    static const struct {
        struct str name;
        uint32_t flag;
    } system_flags[] = {
        {{"Seen", 4}, FLAG_SEEN},       {{"Answered", 8}, FLAG_ANSWERED},
        {{"Flagged", 7}, FLAG_FLAGGED}, {{"Deleted", 7}, FLAG_DELETED},
        {{"Draft", 5}, FLAG_DRAFT},
    };
    struct imap_parser start = *p;

    p->at++;
    for (size_t i = 0; i < sizeof system_flags / sizeof *system_flags; i++)
        if (imap_parse_word(p, system_flags[i].name)) {
            *flags |= system_flags[i].flag;
            return 0;
        }
    return imap_parse_expected(
        &start, "\\Seen, \\Answered, \\Flagged, \\Deleted, \\Draft or a keyword", err);
}

static int parse_flag(struct imap_parser *p, uint32_t *flags, struct str *keyword,
                      struct error *err)
{
    *keyword = STR_NULL;
    if (imap_parse_peek(p, '\\'))
        return parse_system_flag(p, flags, err);
    if (imap_parse_atom(p, keyword, "a flag", err) < 0)
        return -1;
    if (keyword->n > KEYWORD_SIZE_MAX)
        return fail(err, ERR_LIMIT, "a keyword is longer than %d bytes", KEYWORD_SIZE_MAX);
    return 0;
}

static int compare_keywords(const void *a, const void *b)
{
    return str_icmp(*(const struct str *)a, *(const struct str *)b);
}

static size_t sort_unique(struct str *v, size_t n)
{
    size_t kept = 0;

    qsort(v, n, sizeof *v, compare_keywords);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || !str_ieq(v[kept - 1], v[i]))
            v[kept++] = v[i];
    return kept;
}

int imap_parse_flags(struct imap_parser *p, struct arena *a, bool bare, uint32_t *flags,
                     struct keywords *keywords, struct error *err)
{
    struct str names[IMAP_FLAGS_MAX];
    bool in_parentheses = imap_parse_skip(p, '(');
    size_t n = 0;

    if (!in_parentheses && !bare)
        return imap_parse_expected(p, "a list of flags", err);
    *flags = 0;
    while (!(in_parentheses && n == 0 && *flags == 0 && imap_parse_peek(p, ')'))) {
        if (n == IMAP_FLAGS_MAX)
            return fail(err, ERR_LIMIT, "too many flags");
        if (parse_flag(p, flags, &names[n], err) < 0)
            return -1;
        n += names[n].p != NULL;
        if (!imap_parse_skip(p, ' '))
            break;
    }
    if (in_parentheses && imap_parse_char(p, ')', err) < 0)
        return -1;
    n = n > 0 ? sort_unique(names, n) : 0;
    if (n > KEYWORDS_PER_MESSAGE_MAX)
        return fail(err, ERR_LIMIT, "more than %d keywords", KEYWORDS_PER_MESSAGE_MAX);
    keywords->v = n > 0 ? arena_copy(a, names, n * sizeof *names) : NULL;
    keywords->n = n;
    return 0;
}

/* --- dates ------------------------------------------------------------------------------------ */

int imap_parse_date_time(struct imap_parser *p, struct arena *a, int64_t *unix_us,
                         struct error *err)
{
    struct imap_parser start = *p;
    struct str text;
    int64_t unix_s;

    if (!imap_parse_peek(p, '"') || parse_quoted(p, a, &text, "a date", NULL) < 0 ||
        !date_parse_imap(text, &unix_s))
        return imap_parse_expected(&start, "a date such as \"23-Nov-2026 10:00:00 +0700\"", err);
    *unix_us = unix_s * 1000000;
    return 0;
}

int imap_parse_day(struct imap_parser *p, struct arena *a, int64_t *day, struct error *err)
{
    struct imap_parser start = *p;
    struct str text;

    if (imap_parse_astring(p, a, &text, "a date", err) < 0)
        return -1;
    if (!date_parse_imap_day(text, day))
        return imap_parse_expected(&start, "a date such as 23-Nov-2026", err);
    return 0;
}
