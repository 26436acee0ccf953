/* cli_sieve.c - merpati sieve: scripts that filter mail, looked at before they are used. */
#include "mail/sieve/sieve.h"
#include "server/cli/cli_input.h"
#include "server/cli/cli_internal.h"

static int prepare_check(struct cli *c, struct error *err)
{
    struct str *text = ARENA_NEW(c->arena, struct str);

    c->prepared = text;
    return cli_read_file(c->arena, arena_c(c->arena, c->args[0]), text, err);
}

/* One line as compilers write it, so that editors find the place. */
static int check(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    const struct str *text = c->prepared;
    struct sieve_script *script;
    struct sieve_fault fault;
    bool is_right = sieve_compile(*text, &script, c->arena, &fault) == 0;

    sieve_script_free(&script);
    cli_row(out);
    cli_text(out, "file", c->args[0]);
    cli_flag(out, "is_right", is_right);
    if (is_right) {
        cli_print_done(out, "%.*s is right.", STR_ARG(c->args[0]));
        return 0;
    }
    cli_number(out, "line", fault.line);
    cli_number(out, "column", fault.column);
    cli_text(out, "fault", fault.text);
    cli_print_done(out, "%.*s:%u:%u: %.*s", STR_ARG(c->args[0]), fault.line, fault.column,
                   STR_ARG(fault.text));
    return 1;
}

const struct cli_command cli_sieve_commands[] = {
    {"check", "FILE", 1, 1, 0, prepare_check, check, true,
     "read a Sieve script and say what is wrong in it, and where; - is standard input"},
    {0},
};
