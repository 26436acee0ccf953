/* cli_domain.c - merpati domain: which domains the server is responsible for. */
#include "server/cli/cli_internal.h"

static int add(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);

    cli_row(out);
    for (size_t i = 0; i < c->arg_count; i++)
        if (domain_add(c->args[i], err) < 0)
            return -1;
    cli_texts(out, "added", c->args, c->arg_count);
    if (c->arg_count == 1)
        cli_print_done(out, "Added the domain %.*s.", STR_ARG(c->args[0]));
    else
        cli_print_done(out, "Added %zu domains.", c->arg_count);
    return 0;
}

static int remove_domain(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);

    if (domain_remove(c->args[0], err) < 0)
        return -1;
    cli_row(out);
    cli_text(out, "removed", c->args[0]);
    cli_print_done(out, "Removed the domain %.*s.", STR_ARG(c->args[0]));
    return 0;
}

static int list(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct str *names;
    size_t count;

    if (domain_list(c->arena, &names, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cli_row(out);
        cli_text(out, "domain", names[i]);
    }
    cli_print_list(out);
    return 0;
}

const struct cli_command cli_domain_commands[] = {
    {"add", "DOMAIN...", 1, CLI_ARGS_MAX, 0, NULL, add, false,
     "be responsible for mail to a domain"},
    {"remove", "DOMAIN", 1, 1, 0, NULL, remove_domain, false,
     "be no longer; its accounts and aliases must be gone"},
    {"list", "", 0, 0, 0, NULL, list, false, "the domains of this server"},
    {0},
};
