/* cli_alias.c - merpati alias: more addresses for an account. */
#include "server/cli/cli_internal.h"

static int add(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);

    if (alias_add(c->args[0], c->args[1], err) < 0)
        return -1;
    cli_row(out);
    cli_text(out, "alias", c->args[0]);
    cli_text(out, "target", c->args[1]);
    cli_print_done(out, "%.*s leads to %.*s now.", STR_ARG(c->args[0]), STR_ARG(c->args[1]));
    return 0;
}

static int remove_alias(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);

    if (alias_remove(c->args[0], err) < 0)
        return -1;
    cli_row(out);
    cli_text(out, "removed", c->args[0]);
    cli_print_done(out, "Removed the alias %.*s.", STR_ARG(c->args[0]));
    return 0;
}

static int list(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct alias *aliases;
    size_t count;

    if (alias_list(c->arena, cli_value(c, OPTION_DOMAIN), &aliases, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cli_row(out);
        cli_text(out, "alias", aliases[i].alias);
        cli_text(out, "target", aliases[i].target);
    }
    cli_print_list(out);
    return 0;
}

const struct cli_command cli_alias_commands[] = {
    {"add", "ALIAS TARGET", 2, 2, 0, NULL, add, false,
     "let another address lead to an account, or elsewhere"},
    {"remove", "ALIAS", 1, 1, 0, NULL, remove_alias, false, "let it lead nowhere again"},
    {"list", "", 0, 0, TAKES(DOMAIN), NULL, list, false, "aliases and where they lead"},
    {0},
};
