/* managesieve_parse.c - cuts a command line into its arguments.
 *
 * A literal interrupts the line: its bytes come from the connection, and the line goes on behind
 * them. Who reads the connection calls back here, so that nothing below knows about it. */
#include "mail/sieve/managesieve_parse.h"

#include "server/base/utf8.h"

static bool is_verb_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static int add(struct managesieve_command *c, struct managesieve_arg arg, struct error *err)
{
    if (c->n == MANAGESIEVE_ARGS_MAX)
        return fail(err, ERR_SYNTAX, "there are too many arguments");
    c->v[c->n++] = arg;
    return 0;
}

/* Behind the opening quote. */
static int parse_quoted(struct arena *a, struct str *rest, struct managesieve_command *c,
                        struct error *err)
{
    char *text = arena_alloc(a, rest->n + 1);
    size_t n = 0, i = 0;

    for (; i < rest->n && rest->p[i] != '"'; i++) {
        if (rest->p[i] == '\\' && ++i == rest->n)
            break;
        text[n++] = rest->p[i];
    }
    if (i >= rest->n)
        return fail(err, ERR_SYNTAX, "a quoted string has no end; add the closing quote");
    if (n > MANAGESIEVE_QUOTED_MAX)
        return fail(err, ERR_SYNTAX, "a quoted string has at most %d bytes; send a literal",
                    MANAGESIEVE_QUOTED_MAX);
    *rest = str_from(*rest, i + 1);
    return add(c, (struct managesieve_arg){.text = str_of(text, n)}, err);
}

/* "{123+}" at the end of the line; without the plus, as some clients write it, nobody waits either. */
static int parse_literal(struct str rest, struct managesieve_command *c, struct error *err)
{
    if (!str_ends(rest, STR("}")))
        return fail(err, ERR_SYNTAX, "a literal is announced as {size+} at the end of the line");
    rest = str_of(rest.p + 1, rest.n - 2);
    if (str_ends(rest, STR("+")))
        rest.n--;
    if (!str_to_u64(rest, &c->literal_size))
        return fail(err, ERR_SYNTAX, "the size of a literal is not a number");
    if (c->n == MANAGESIEVE_ARGS_MAX)
        return fail(err, ERR_SYNTAX, "there are too many arguments");
    c->wants_literal = true;
    return 0;
}

static int parse_number(struct str *rest, struct managesieve_command *c, struct error *err)
{
    struct managesieve_arg arg = {.is_number = true};
    size_t n = 0;

    while (n < rest->n && rest->p[n] >= '0' && rest->p[n] <= '9')
        n++;
    if (!str_to_u64(str_head(*rest, n), &arg.number))
        return fail(err, ERR_SYNTAX, "a number is too large");
    *rest = str_from(*rest, n);
    return add(c, arg, err);
}

static int parse_arg(struct arena *a, struct str *rest, struct managesieve_command *c,
                     struct error *err)
{
    char first = rest->p[0];

    if (first == '"') {
        *rest = str_from(*rest, 1);
        return parse_quoted(a, rest, c, err);
    }
    if (first >= '0' && first <= '9')
        return parse_number(rest, c, err);
    if (first != '{')
        return fail(err, ERR_SYNTAX, "an argument is a quoted string, a literal or a number");
    if (parse_literal(*rest, c, err) < 0)
        return -1;
    *rest = STR("");
    return 0;
}

/* Each argument has a space before it. */
static int parse_args(struct arena *a, struct str rest, struct managesieve_command *c,
                      struct error *err)
{
    while (!str_empty(str_trim(rest)) && !c->wants_literal) {
        if (rest.p[0] != ' ')
            return fail(err, ERR_SYNTAX, "expected a space between the arguments");
        while (rest.n > 0 && rest.p[0] == ' ')
            rest = str_from(rest, 1);
        if (parse_arg(a, &rest, c, err) < 0)
            return -1;
    }
    return 0;
}

int managesieve_parse_start(struct arena *a, struct str line, struct managesieve_command *out,
                            struct error *err)
{
    size_t n = 0;

    *out = (struct managesieve_command){.n = 0};
    if (str_index(line, '\0') >= 0)
        return fail(err, ERR_SYNTAX, "a command must not hold NUL");
    if (!utf8_valid(line))
        return fail(err, ERR_SYNTAX, "a command must be UTF-8");
    while (n < line.n && is_verb_char(line.p[n]))
        n++;
    if (n == 0)
        return fail(err, ERR_SYNTAX, "expected a command, such as LISTSCRIPTS");
    out->verb = arena_str(a, str_head(line, n));
    return parse_args(a, str_from(line, n), out, err);
}

int managesieve_parse_more(struct arena *a, struct str literal, struct str line,
                           struct managesieve_command *c, struct error *err)
{
    c->wants_literal = false;
    if (add(c, (struct managesieve_arg){.text = literal}, err) < 0)
        return -1;
    return parse_args(a, line, c, err);
}

int managesieve_parse_answer(struct arena *a, struct str line, struct managesieve_command *out,
                             struct error *err)
{
    *out = (struct managesieve_command){.n = 0};
    return parse_args(a, arena_printf(a, " %.*s", STR_ARG(line)), out, err);
}
