/* cli_group.c - merpati group: one address for many accounts. */
#include "server/cli/cli_internal.h"

static int check_member(struct cli *c, struct str address, struct error *err)
{
    struct error cause = {0};
    struct account member;

    if (directory_find_account(c->arena, address, &member, &cause) == 0)
        return 0;
    if (cause.kind == ERR_NOT_FOUND)
        return fail(err, ERR_NOT_FOUND, "there is no account %.*s", STR_ARG(address));
    return fail(err, cause.kind, "%s", cause.text);
}

static int add(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct account_new group = {
        .kind = ACCOUNT_GROUP, .address = c->args[0], .name = cli_value(c, OPTION_NAME)};
    int64_t account_id;

    for (size_t i = 1; i < c->arg_count; i++) /* a mistyped member leaves no half-made group */
        if (check_member(c, c->args[i], err) < 0)
            return -1;
    if (account_add(&group, &account_id, err) < 0)
        return -1;
    for (size_t i = 1; i < c->arg_count; i++)
        if (group_add_member(c->args[0], c->args[i], err) < 0)
            return -1;
    cli_row(out);
    cli_number(out, "account_id", account_id);
    cli_text(out, "address", c->args[0]);
    cli_print_done(out, "Added the group %.*s.", STR_ARG(c->args[0]));
    return 0;
}

static int remove_group(struct cli *c, struct error *err)
{
    return cli_remove_account(c, c->args[0], KIND_BIT(ACCOUNT_GROUP), "a group", err);
}

static int list(struct cli *c, struct error *err)
{
    return cli_list_accounts(c, KIND_BIT(ACCOUNT_GROUP), err);
}

static int each_member(struct cli *c,
                       int (*change)(struct str group, struct str member, struct error *err),
                       const char *done, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);

    for (size_t i = 1; i < c->arg_count; i++)
        if (change(c->args[0], c->args[i], err) < 0)
            return -1;
    cli_row(out);
    cli_text(out, "group", c->args[0]);
    cli_texts(out, done, c->args + 1, c->arg_count - 1);
    cli_print_done(out, "%.*s: %s %zu.", STR_ARG(c->args[0]), done, c->arg_count - 1);
    return 0;
}

static int add_member(struct cli *c, struct error *err)
{
    return each_member(c, group_add_member, "added", err);
}

static int remove_member(struct cli *c, struct error *err)
{
    return each_member(c, group_remove_member, "removed", err);
}

static int members(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct str *addresses;
    size_t count;

    if (group_list_members(c->arena, c->args[0], &addresses, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cli_row(out);
        cli_text(out, "address", addresses[i]);
    }
    cli_print_list(out);
    return 0;
}

const struct cli_command cli_group_commands[] = {
    {"add", "ADDRESS [MEMBER...]", 1, CLI_ARGS_MAX, TAKES(NAME), NULL, add, false, "make a group"},
    {"remove", "ADDRESS", 1, 1, 0, NULL, remove_group, false, "remove a group; its members stay"},
    {"list", "", 0, 0, TAKES(DOMAIN), NULL, list, false, "the groups"},
    {"add-member", "GROUP MEMBER...", 2, CLI_ARGS_MAX, 0, NULL, add_member, false,
     "let mail to the group reach them too"},
    {"remove-member", "GROUP MEMBER...", 2, CLI_ARGS_MAX, 0, NULL, remove_member, false,
     "let it not"},
    {"members", "GROUP", 1, 1, 0, NULL, members, false, "who is in the group"},
    {0},
};
