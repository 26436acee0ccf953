/* Command lines of ManageSieve with literals in between: arguments are what was written, never more of them than there
 * may be, and nothing is read beyond the line. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/sieve/managesieve_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct managesieve_command *c)
{
    assert(c->n <= MANAGESIEVE_ARGS_MAX);
    for (size_t i = 0; i < c->n; i++)
        assert(c->v[i].is_number || c->v[i].text.p != NULL);
    assert(!c->wants_literal || c->n < MANAGESIEVE_ARGS_MAX);
}

/* Lines end at LF; a literal takes as many bytes of what follows as there are. */
static struct str take_line(struct str *rest)
{
    struct str line;

    str_cut(*rest, '\n', &line, rest);
    return str_ends(line, STR("\r")) ? str_head(line, line.n - 1) : line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct str rest = str_of((const char *)data, size);
    struct managesieve_command c;
    struct error err = {0};
    bool is_answer = size > 0 && data[0] == '!';
    int status;

    if (is_answer)
        rest = str_from(rest, 1);
    status = is_answer ? managesieve_parse_answer(a, take_line(&rest), &c, &err)
                       : managesieve_parse_start(a, take_line(&rest), &c, &err);
    while (status == 0 && c.wants_literal) {
        struct str literal = str_head(rest, c.literal_size < rest.n ? c.literal_size : rest.n);

        check(&c);
        rest = str_from(rest, literal.n);
        status = managesieve_parse_more(a, arena_str(a, literal), take_line(&rest), &c, &err);
    }
    assert((status < 0) == (err.kind != ERR_NONE));
    if (status == 0)
        check(&c);
    arena_free(&a);
    return 0;
}
