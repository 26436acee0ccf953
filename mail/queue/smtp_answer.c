/* smtp_answer.c - an answer's lines put together. Nothing here waits, and nothing trusts the peer. */
#include "mail/queue/smtp_answer.h"

#include "server/base/buf.h"
#include "server/base/utf8.h"

/* ---- codes --------------------------------------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* One to three digits (RFC 3463, 2). */
static size_t number_at(struct str text, size_t at)
{
    size_t n = 0;

    while (n < 3 && at + n < text.n && is_digit(text.p[at + n]))
        n++;
    return n;
}

bool smtp_enhanced_code(struct str text, size_t *size, struct str *code)
{
    size_t at = 1;

    if (text.n < 5 || (text.p[0] != '2' && text.p[0] != '4' && text.p[0] != '5'))
        return false;
    for (int i = 0; i < 2; i++) {
        size_t n;

        if (at >= text.n || text.p[at] != '.' || (n = number_at(text, at + 1)) == 0)
            return false;
        at += 1 + n;
    }
    if (at < text.n && text.p[at] != ' ')
        return false;
    *code = str_head(text, at);
    *size = at < text.n ? at + 1 : at;
    return true;
}

/* "250-", "250 ", "250": 0 when it is none of them. */
static int code_of(struct str line)
{
    if (line.n < 3 || line.p[0] < '2' || line.p[0] > '5' || !is_digit(line.p[1]) ||
        !is_digit(line.p[2]))
        return 0;
    if (line.n > 3 && line.p[3] != ' ' && line.p[3] != '-')
        return 0;
    return (line.p[0] - '0') * 100 + (line.p[1] - '0') * 10 + (line.p[2] - '0');
}

/* ---- text ---------------------------------------------------------------------------------- */

struct str smtp_clean_text(struct arena *a, struct str text, size_t size_max)
{
    char *to;
    size_t n = 0;

    text = str_trim(str_head(text, size_max));
    while (text.n > 0 && !utf8_valid(text) && ((unsigned char)text.p[text.n - 1] & 0x80) != 0 &&
           text.n + 4 > size_max)
        text.n--; /* a character cut in two */
    to = arena_alloc(a, text.n + 1);
    for (size_t i = 0; i < text.n; i++)
        to[n++] = (unsigned char)text.p[i] < ' ' || text.p[i] == 0x7f ? ' ' : text.p[i];
    if (!utf8_valid(str_of(to, n)))
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)to[i] >= 0x80)
                to[i] = '?';
    return str_of(to, n);
}

static void add_text(struct arena *a, struct smtp_answer *answer, struct str text)
{
    size_t room = SMTP_ANSWER_TEXT_MAX - answer->text.n;

    text = smtp_clean_text(a, text, room > 1 ? room - 1 : 0);
    if (text.n == 0)
        return;
    answer->text = answer->text.n == 0
                       ? text
                       : arena_printf(a, "%.*s %.*s", STR_ARG(answer->text), STR_ARG(text));
}

/* ---- lines --------------------------------------------------------------------------------- */

static void keep_line(struct arena *a, struct smtp_answer *answer, struct str text)
{
    if (answer->lines == NULL)
        answer->lines = ARENA_ARRAY(a, SMTP_ANSWER_LINES_MAX, struct str);
    answer->lines[answer->line_count++] = arena_str(a, text);
}

static void read_enhanced(struct arena *a, struct smtp_answer *answer, struct str *text)
{
    size_t size;
    struct str code;

    if (!smtp_enhanced_code(*text, &size, &code) || code.p[0] != '0' + answer->code / 100)
        return;
    if (!answer->has_enhanced)
        answer->enhanced = arena_str(a, code);
    answer->has_enhanced = true;
    *text = str_from(*text, size);
}

int smtp_answer_add(struct arena *a, struct smtp_answer *answer, struct str line, struct error *err)
{
    int code = code_of(line);
    struct str text = str_from(line, 4);

    if (code == 0)
        return fail(err, ERR_SYNTAX, "the other server's answer is not SMTP");
    if (answer->line_count > 0 && code != answer->code)
        return fail(err, ERR_SYNTAX, "the other server's answer has two different codes");
    if (answer->line_count == SMTP_ANSWER_LINES_MAX)
        return fail(err, ERR_LIMIT, "the other server's answer has too many lines");
    answer->code = code;
    keep_line(a, answer, text);
    read_enhanced(a, answer, &text);
    add_text(a, answer, text);
    if (line.n > 3 && line.p[3] == '-')
        return 0;
    if (!answer->has_enhanced)
        answer->enhanced = arena_printf(a, "%d.0.0", code / 100);
    return 1;
}
