/* cli_config.c - merpati config: what is set, and whether a file is right. */
#include <stdio.h>

#include "server/cli/cli_internal.h"
#include "server/run/config.h"

#define ERRORS_SIZE_MAX (1 << 20)

static int print(struct cli *c, struct error *err)
{
    if (c->is_json)
        config_print_json(stdout);
    else
        config_print(stdout, true);
    return 0;
}

static int docs(struct cli *c, struct error *err)
{
    config_print_docs(stdout);
    return 0;
}

static int check(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    const char *path = arena_c(c->arena, c->args[0]);
    struct buf errors;
    int status;

    buf_init(&errors, ERRORS_SIZE_MAX);
    status = config_read(path, &errors);
    if (status < 0) {
        fputs(buf_c(&errors), stderr);
        fail(err, ERR_SYNTAX, "%s has errors", path);
    } else {
        cli_row(out);
        cli_text(out, "checked", c->args[0]);
        cli_print_done(out, "%s is right.", path);
    }
    buf_fini(&errors);
    return status;
}

const struct cli_command cli_config_commands[] = {
    {"print", "", 0, 0, 0, NULL, print, true,
     "every setting with its value, as a file that can be read back"},
    {"docs", "", 0, 0, 0, NULL, docs, true, "every setting, as a page of the manual"},
    {"check", "FILE", 1, 1, 0, NULL, check, true, "read a file and say what is wrong in it"},
    {0},
};
