/* cli_domain.c - merpati domain: which domains the server is responsible for. */
#include "server/cli/cli_internal.h"
#include "server/directory/routing_admin.h"

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

/* --- settings -------------------------------------------------------------------------------------- */

struct change {
    struct domain_settings settings;
    unsigned fields;
};

/* Notes that an option was given. */
static bool given(struct cli *c, struct change *change, enum cli_option option,
                  enum domain_field field)
{
    if (cli_has(c, option))
        change->fields |= field;
    return cli_has(c, option);
}

static int prepare_limits(struct cli *c, struct change *change, struct error *err)
{
    struct domain_settings *s = &change->settings;

    if (given(c, change, OPTION_QUOTA, DOMAIN_QUOTA_BYTES) &&
        cli_parse_quota(cli_value(c, OPTION_QUOTA), &s->quota_bytes, err) < 0)
        return -1;
    if (given(c, change, OPTION_MESSAGES, DOMAIN_QUOTA_MESSAGES) &&
        cli_parse_quota(cli_value(c, OPTION_MESSAGES), &s->quota_messages, err) < 0)
        return -1;
    if (given(c, change, OPTION_SIZE_MAX, DOMAIN_SIZE_MAX) &&
        cli_parse_quota(cli_value(c, OPTION_SIZE_MAX), &s->size_max, err) < 0)
        return -1;
    if (s->size_max == QUOTA_UNLIMITED)
        s->size_max = 0; /* the server's setting limits everybody */
    return 0;
}

static int prepare_set(struct cli *c, struct error *err)
{
    struct change *change = ARENA_NEW(c->arena, struct change);
    struct domain_settings *s = &change->settings;

    c->prepared = change;
    if (given(c, change, OPTION_ALIAS_OF, DOMAIN_ALIAS_OF))
        s->alias_of = cli_none(cli_value(c, OPTION_ALIAS_OF));
    if (given(c, change, OPTION_CATCH_ALL, DOMAIN_CATCH_ALL))
        s->catch_all = cli_none(cli_value(c, OPTION_CATCH_ALL));
    if (given(c, change, OPTION_POSTMASTER, DOMAIN_POSTMASTER))
        s->postmaster = cli_none(cli_value(c, OPTION_POSTMASTER));
    if (given(c, change, OPTION_SUBADDRESS, DOMAIN_DETAILS) &&
        cli_parse_yes_no(cli_value(c, OPTION_SUBADDRESS), "--subaddress yes, or no",
                         &s->has_details, err) < 0)
        return -1;
    if (given(c, change, OPTION_ADMINS_SEND_AS, DOMAIN_ADMINISTRATORS) &&
        cli_parse_yes_no(cli_value(c, OPTION_ADMINS_SEND_AS), "--admins-send-as yes, or no",
                         &s->administrators_send_as, err) < 0)
        return -1;
    if (prepare_limits(c, change, err) < 0)
        return -1;
    return change->fields != 0
               ? 0
               : fail(err, ERR_SYNTAX, "say what to change: see \"merpati help domain\"");
}

static void put_limit(struct cli_output *out, const char *name, int64_t quota, bool is_bytes)
{
    if (quota == QUOTA_DEFAULT)
        cli_text(out, name, STR("default"));
    else
        cli_limit(out, name, quota == QUOTA_UNLIMITED ? 0 : quota, is_bytes);
}

static int put_settings(struct cli *c, struct cli_output *out, struct error *err)
{
    struct domain_settings s;

    if (domain_get(c->arena, c->args[0], &s, err) < 0)
        return -1;
    cli_row(out);
    cli_text(out, "domain", c->args[0]);
    cli_text(out, "alias_of", s.alias_of);
    cli_text(out, "catch_all", s.catch_all);
    cli_text(out, "postmaster", s.postmaster);
    cli_flag(out, "subaddress", s.has_details);
    put_limit(out, "quota", s.quota_bytes, true);
    put_limit(out, "messages_max", s.quota_messages, false);
    put_limit(out, "size_max", s.size_max, true);
    cli_flag(out, "admins_send_as", s.administrators_send_as);
    return 0;
}

static int set(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    const struct change *change = c->prepared;

    if (domain_set(c->args[0], &change->settings, change->fields, err) < 0 ||
        put_settings(c, out, err) < 0)
        return -1;
    cli_print_done(out, "%.*s: changed.", STR_ARG(c->args[0]));
    return 0;
}

static int show(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);

    if (put_settings(c, out, err) < 0)
        return -1;
    cli_print_record(out);
    return 0;
}

#define SETTINGS                                                                                   \
    (TAKES(ALIAS_OF) | TAKES(CATCH_ALL) | TAKES(POSTMASTER) | TAKES(SUBADDRESS) | TAKES(QUOTA) |   \
     TAKES(MESSAGES) | TAKES(SIZE_MAX) | TAKES(ADMINS_SEND_AS))

const struct cli_command cli_domain_commands[] = {
    {"add", "DOMAIN...", 1, CLI_ARGS_MAX, 0, NULL, add, false,
     "be responsible for mail to a domain"},
    {"remove", "DOMAIN", 1, 1, 0, NULL, remove_domain, false,
     "be no longer; its accounts and aliases must be gone"},
    {"list", "", 0, 0, 0, NULL, list, false, "the domains of this server"},
    {"set", "DOMAIN", 1, 1, SETTINGS, prepare_set, set, false,
     "what holds for its addresses, and for new accounts in it"},
    {"show", "DOMAIN", 1, 1, 0, NULL, show, false, "what holds for it"},
    {0},
};
