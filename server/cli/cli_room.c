/* cli_room.c - merpati room: rooms and equipment, which are accounts that can be booked. */
#include "server/cli/cli_internal.h"

#define BOOKABLE (KIND_BIT(ACCOUNT_ROOM) | KIND_BIT(ACCOUNT_EQUIPMENT))

static int add(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct account_new room = {.kind =
                                   cli_has(c, OPTION_EQUIPMENT) ? ACCOUNT_EQUIPMENT : ACCOUNT_ROOM,
                               .address = c->args[0],
                               .name = cli_value(c, OPTION_NAME)};
    int64_t account_id;

    if (account_add(&room, &account_id, err) < 0)
        return -1;
    cli_row(out);
    cli_number(out, "account_id", account_id);
    cli_text(out, "address", c->args[0]);
    cli_text(out, "kind", str_c(account_kind_name(room.kind)));
    cli_print_done(out, "Added the %s %.*s.", account_kind_name(room.kind), STR_ARG(c->args[0]));
    return 0;
}

static int remove_room(struct cli *c, struct error *err)
{
    return cli_remove_account(c, c->args[0], BOOKABLE, "a room", err);
}

static int list(struct cli *c, struct error *err)
{
    return cli_list_accounts(c, BOOKABLE, err);
}

const struct cli_command cli_room_commands[] = {
    {"add", "ADDRESS", 1, 1, TAKES(NAME) | TAKES(EQUIPMENT), NULL, add, false,
     "make a room, or a thing, that can be booked"},
    {"remove", "ADDRESS", 1, 1, 0, NULL, remove_room, false, "remove it; it can be restored"},
    {"list", "", 0, 0, TAKES(DOMAIN), NULL, list, false, "rooms and equipment"},
    {0},
};
