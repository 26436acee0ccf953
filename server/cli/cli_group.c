/* cli_group.c - merpati group: one address for many accounts. */
#include "server/cli/cli_internal.h"
#include "server/directory/routing_admin.h"

static int add(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct account_new group = {
        .kind = ACCOUNT_GROUP, .address = c->args[0], .name = cli_value(c, OPTION_NAME)};
    int64_t account_id;

    for (size_t i = 1; i < c->arg_count; i++) /* a mistyped member leaves no half-made group */
        if (directory_check_target(c->args[i], err) < 0)
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

/* --- who may post ---------------------------------------------------------------------------------- */

static int show(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct group_policy policy;
    struct account group;
    struct str *members;
    size_t count;

    if (group_get_policy(c->arena, c->args[0], &policy, err) < 0 ||
        directory_find_account(c->arena, c->args[0], &group, err) < 0 ||
        group_list_members(c->arena, c->args[0], &members, &count, err) < 0)
        return -1;
    cli_row(out);
    cli_text(out, "address", group.address);
    cli_text(out, "name", group.name);
    cli_text(out, "post", str_c(group_posting_name(policy.posting)));
    cli_texts(out, "senders", policy.senders, policy.sender_count);
    cli_texts(out, "owners", policy.owners, policy.owner_count);
    cli_texts(out, "members", members, count);
    cli_flag(out, "hidden", policy.is_hidden);
    cli_print_record(out);
    return 0;
}

static int prepare_post(struct cli *c, struct error *err)
{
    enum group_posting *posting = ARENA_NEW(c->arena, enum group_posting);

    c->prepared = posting;
    if (!group_posting_parse(c->args[1], posting))
        return fail(err, ERR_SYNTAX,
                    "\"%.*s\" is no rule: write anyone, domains, members, owners or listed",
                    STR_ARG(str_head(c->args[1], 40)));
    return 0;
}

static int post(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    const enum group_posting *posting = c->prepared;

    if (group_set_posting(c->args[0], *posting, err) < 0)
        return -1;
    cli_row(out);
    cli_text(out, "group", c->args[0]);
    cli_text(out, "post", str_c(group_posting_name(*posting)));
    cli_print_done(out, "%.*s: changed who may post.", STR_ARG(c->args[0]));
    return 0;
}

static int prepare_hide(struct cli *c, struct error *err)
{
    bool *hidden = ARENA_NEW(c->arena, bool);

    c->prepared = hidden;
    return cli_parse_yes_no(c->args[1], "merpati group hide GROUP yes, or no", hidden, err);
}

static int hide(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    const bool *hidden = c->prepared;

    if (group_set_hidden(c->args[0], *hidden, err) < 0)
        return -1;
    cli_row(out);
    cli_text(out, "group", c->args[0]);
    cli_flag(out, "hidden", *hidden);
    cli_print_done(out, "%.*s: %s.", STR_ARG(c->args[0]), *hidden ? "hidden" : "shown");
    return 0;
}

static int add_owner(struct cli *c, struct error *err)
{
    return each_member(c, group_add_owner, "added", err);
}

static int remove_owner(struct cli *c, struct error *err)
{
    return each_member(c, group_remove_owner, "removed", err);
}

static int add_sender(struct cli *c, struct error *err)
{
    return each_member(c, group_add_sender, "added", err);
}

static int remove_sender(struct cli *c, struct error *err)
{
    return each_member(c, group_remove_sender, "removed", err);
}

const struct cli_command cli_group_commands[] = {
    {"add", "ADDRESS [MEMBER...]", 1, CLI_ARGS_MAX, TAKES(NAME), NULL, add, false, "make a group"},
    {"remove", "ADDRESS", 1, 1, 0, NULL, remove_group, false, "remove a group; its members stay"},
    {"list", "", 0, 0, TAKES(DOMAIN), NULL, list, false, "the groups"},
    {"add-member", "GROUP MEMBER...", 2, CLI_ARGS_MAX, 0, NULL, add_member, false,
     "let mail to the group reach them too; addresses elsewhere are welcome"},
    {"remove-member", "GROUP MEMBER...", 2, CLI_ARGS_MAX, 0, NULL, remove_member, false,
     "let it not"},
    {"members", "GROUP", 1, 1, 0, NULL, members, false, "who is in the group"},
    {"show", "GROUP", 1, 1, 0, NULL, show, false, "members, owners and who may post"},
    {"owner add", "GROUP OWNER...", 2, CLI_ARGS_MAX, 0, NULL, add_owner, false,
     "whom refused senders are told to ask; owners may always post"},
    {"owner remove", "GROUP OWNER...", 2, CLI_ARGS_MAX, 0, NULL, remove_owner, false,
     "let them own it no more"},
    {"post", "GROUP anyone|domains|members|owners|listed", 2, 2, 0, prepare_post, post, false,
     "who may post beside owners and listed senders; domains: people of this server"},
    {"sender add", "GROUP SENDER...", 2, CLI_ARGS_MAX, 0, NULL, add_sender, false,
     "list who may always post: addresses, groups, or @DOMAIN"},
    {"sender remove", "GROUP SENDER...", 2, CLI_ARGS_MAX, 0, NULL, remove_sender, false,
     "list them no more"},
    {"hide", "GROUP yes|no", 2, 2, 0, prepare_hide, hide, false,
     "from address books; its owners from strangers"},
    {0},
};
