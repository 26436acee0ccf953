/* sieve_lex.c - cuts a script into tokens. Every byte is looked at a fixed number of times.
 *
 * Scripts come from text areas and editors of every kind, so a line may end in LF alone; inside strings
 * it becomes CRLF, as the language has it. */
#include "mail/sieve/sieve_lex.h"
#include "server/base/utf8.h"

#define NUMBER_MAX INT64_MAX

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Moves on, counting lines and characters. */
static void move_to(struct sieve_lexer *l, const char *to)
{
    for (; l->at < to; l->at++) {
        if (*l->at == '\n') {
            l->line++;
            l->column = 1;
        } else if (((unsigned char)*l->at & 0xc0) != 0x80) {
            l->column++;
        }
    }
}

static int fail_here(struct sieve_lexer *l, const char *what)
{
    return sieve_fail(l->report, l->line, l->column, "%s", what);
}

/* U+FFFD stands for a bad byte, and for itself. */
static bool is_bad(uint32_t code_point, const char *from, const char *to)
{
    return code_point == 0 ||
           (code_point == 0xfffd && !(to - from == 3 && memcmp(from, "\xef\xbf\xbd", 3) == 0));
}

static int check_bytes(struct sieve_lexer *l)
{
    struct str rest = str_of(l->at, (size_t)(l->end - l->at));
    const char *from = rest.p;
    uint32_t code_point;

    if (utf8_valid(rest) && (rest.n == 0 || memchr(rest.p, 0, rest.n) == NULL))
        return 0;
    while (utf8_next(&rest, &code_point) && !is_bad(code_point, from, rest.p))
        from = rest.p;
    move_to(l, from);
    return fail_here(
        l, "here is a byte that is no text in UTF-8: save the script in the encoding UTF-8");
}

int sieve_lex_init(struct sieve_lexer *l, struct arena *a, struct sieve_report *report,
                   struct str text)
{
    *l = (struct sieve_lexer){
        .a = a, .report = report, .at = text.p, .end = text.p + text.n, .line = 1, .column = 1};
    if (text.n == 0)
        return 0;
    if (str_starts(text, STR("\xef\xbb\xbf")))
        l->at += 3; /* the mark that some editors write in front */
    return check_bytes(l);
}

static const char *line_end(const struct sieve_lexer *l, const char *from)
{
    const char *lf = memchr(from, '\n', (size_t)(l->end - from));

    return lf ? lf : l->end;
}

static int skip_bracket_comment(struct sieve_lexer *l)
{
    const char *from = l->at + 2;
    const char *close = memmem(from, (size_t)(l->end - from), "*/", 2);

    if (close == NULL)
        return fail_here(l, "the comment that begins here has no end: put \"*/\" behind it");
    move_to(l, close + 2);
    return 0;
}

static bool begins_comment(const struct sieve_lexer *l)
{
    return *l->at == '/' && l->at + 1 < l->end && l->at[1] == '*';
}

static int skip_space(struct sieve_lexer *l)
{
    while (l->at < l->end) {
        if (*l->at == '#') {
            move_to(l, line_end(l, l->at));
        } else if (begins_comment(l)) {
            if (skip_bracket_comment(l) < 0)
                return -1;
        } else if (memchr(" \t\r\n", *l->at, 4) != NULL) {
            move_to(l, l->at + 1);
        } else {
            return 0;
        }
    }
    return 0;
}

static void take(struct sieve_lexer *l, struct sieve_token *t, enum sieve_token_kind kind,
                 const char *to)
{
    t->kind = kind;
    t->text = str_of(l->at, (size_t)(to - l->at));
    move_to(l, to);
}

static const char *word_end(const struct sieve_lexer *l, const char *from)
{
    while (from < l->end && (is_letter(*from) || is_digit(*from)))
        from++;
    return from;
}

static int lex_tag(struct sieve_lexer *l, struct sieve_token *t)
{
    if (l->at + 1 == l->end || !is_letter(l->at[1]))
        return fail_here(l, "a name must follow the colon, as in \":contains\"");
    take(l, t, SIEVE_TOKEN_TAG, word_end(l, l->at + 1));
    t->text = str_from(t->text, 1);
    return 0;
}

static uint64_t factor_of(char c)
{
    switch (ascii_lower(c)) {
    case 'k':
        return UINT64_C(1) << 10;
    case 'm':
        return UINT64_C(1) << 20;
    case 'g':
        return UINT64_C(1) << 30;
    default:
        return 1;
    }
}

static int lex_number(struct sieve_lexer *l, struct sieve_token *t)
{
    const char *p = l->at;
    uint64_t factor = 1;
    bool is_too_big = false;

    for (t->number = 0; p < l->end && is_digit(*p); p++) {
        uint64_t digit = (uint64_t)(*p - '0');

        is_too_big = is_too_big || t->number > (NUMBER_MAX - digit) / 10;
        t->number = is_too_big ? 0 : t->number * 10 + digit;
    }
    if (p < l->end && (factor = factor_of(*p)) != 1)
        p++;
    if (p < l->end && (is_letter(*p) || is_digit(*p)))
        return fail_here(l, "a number is digits with K, M or G behind them, as in \"100K\"");
    if (is_too_big || t->number > NUMBER_MAX / factor)
        return fail_here(l, "this number is too big: the largest is 9223372036854775807");
    t->number *= factor;
    take(l, t, SIEVE_TOKEN_NUMBER, p);
    return 0;
}

/* --- strings -------------------------------------------------------------------------------------- */

/* The closing quote, or NULL. *is_plain: the text between is what the string says. */
static const char *find_quote(const struct sieve_lexer *l, const char *p, bool *is_plain)
{
    *is_plain = true;
    for (; p < l->end && *p != '"'; p++) {
        if (*p == '\\' || *p == '\n' || *p == '\r')
            *is_plain = false;
        if (*p == '\\' && ++p == l->end)
            return NULL;
    }
    return p < l->end ? p : NULL;
}

static char *put_line_end(char *out)
{
    *out++ = '\r';
    *out++ = '\n';
    return out;
}

/* Backslashes removed; every line end CRLF, and a CR alone is one, too. */
static struct str unescape(struct arena *a, struct str in)
{
    char *copy = arena_alloc(a, in.n * 2 + 1), *out = copy;

    for (size_t i = 0; i < in.n; i++) {
        if (in.p[i] == '\\')
            i++;
        if (in.p[i] == '\r' && i + 1 < in.n && in.p[i + 1] == '\n')
            continue;
        if (in.p[i] == '\r' || in.p[i] == '\n')
            out = put_line_end(out);
        else
            *out++ = in.p[i];
    }
    return str_of(copy, (size_t)(out - copy));
}

static int lex_quoted(struct sieve_lexer *l, struct sieve_token *t)
{
    bool is_plain;
    const char *quote = find_quote(l, l->at + 1, &is_plain);
    struct str inner;

    if (quote == NULL)
        return fail_here(
            l, "the string that begins here has no end: put a quotation mark (\") behind it");
    inner = str_of(l->at + 1, (size_t)(quote - l->at - 1));
    take(l, t, SIEVE_TOKEN_STRING, quote + 1);
    t->text = is_plain ? inner : unescape(l->a, inner);
    return 0;
}

/* Where the text of a multi-line string begins: behind blanks and a comment, on the next line (RFC 5228, 2.4.2). */
static const char *multi_line_start(const struct sieve_lexer *l, const char *p)
{
    const char *lf = line_end(l, p);

    while (p < lf && (*p == ' ' || *p == '\t' || *p == '\r'))
        p++;
    return lf == l->end || (p < lf && *p != '#') ? NULL : lf + 1;
}

static struct str without_cr(const char *from, const char *to)
{
    return str_of(from, (size_t)(to - from) - (to > from && to[-1] == '\r' ? 1 : 0));
}

/* The line with the single dot; NULL when there is none. *size: what the text takes with CRLF everywhere. */
static const char *find_dot(const struct sieve_lexer *l, const char *p, size_t *size)
{
    const char *lf;

    for (*size = 0; p < l->end; p = lf < l->end ? lf + 1 : l->end) {
        struct str line = without_cr(p, lf = line_end(l, p));

        if (str_eq(line, STR(".")))
            return p;
        *size += line.n + 2;
    }
    return NULL;
}

static struct str unstuff(struct sieve_lexer *l, const char *p, const char *dot, size_t size)
{
    char *copy = arena_alloc(l->a, size + 1), *out = copy;
    const char *lf;

    for (; p < dot; p = lf + 1) {
        struct str line = without_cr(p, lf = line_end(l, p));

        if (str_starts(line, STR("..")))
            line = str_from(line, 1);
        memcpy(out, line.p, line.n);
        out = put_line_end(out + line.n);
    }
    return str_of(copy, (size_t)(out - copy));
}

static int lex_multi_line(struct sieve_lexer *l, struct sieve_token *t, const char *behind_colon)
{
    const char *start = multi_line_start(l, behind_colon);
    const char *dot;
    size_t size;
    struct str text;

    if (start == NULL)
        return fail_here(l, "the text of a \"text:\" string begins on the next line: end this line "
                            "behind the colon");
    dot = find_dot(l, start, &size);
    if (dot == NULL)
        return fail_here(l, "the \"text:\" string that begins here has no end: put a line with a "
                            "single dot behind it");
    text = unstuff(l, start, dot, size);
    take(l, t, SIEVE_TOKEN_STRING, dot + 1);
    t->text = text;
    return 0;
}

static int lex_word(struct sieve_lexer *l, struct sieve_token *t)
{
    const char *to = word_end(l, l->at);

    if (to < l->end && *to == ':' && str_ieq(str_of(l->at, (size_t)(to - l->at)), STR("text")))
        return lex_multi_line(l, t, to + 1);
    take(l, t, SIEVE_TOKEN_IDENTIFIER, to);
    return 0;
}

static int fail_sign(struct sieve_lexer *l)
{
    if (*l->at == '\'')
        return fail_here(
            l, "strings stand in quotation marks (\"), not in apostrophes: \"like this\"");
    if (*l->at > ' ' && *l->at < 127)
        return sieve_fail(l->report, l->line, l->column,
                          "\"%c\" has no meaning here: remove it, or put text in quotation marks",
                          *l->at);
    return fail_here(
        l, "this character has no meaning here: remove it, or put text in quotation marks");
}

int sieve_lex_next(struct sieve_lexer *l, struct sieve_token *t)
{
    if (skip_space(l) < 0)
        return -1;
    *t = (struct sieve_token){.kind = SIEVE_TOKEN_END, .line = l->line, .column = l->column};
    if (l->at == l->end)
        return 0;
    if (is_letter(*l->at))
        return lex_word(l, t);
    if (is_digit(*l->at))
        return lex_number(l, t);
    if (*l->at == ':')
        return lex_tag(l, t);
    if (*l->at == '"')
        return lex_quoted(l, t);
    if (memchr(";,[](){}", *l->at, 8) == NULL)
        return fail_sign(l);
    take(l, t, SIEVE_TOKEN_SIGN, l->at + 1);
    return 0;
}
