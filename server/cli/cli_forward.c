/* cli_forward.c - merpati account forward, sent-copy and grants: where an account's mail goes on to, and who writes in its name. */
#include "server/cli/cli_internal.h"
#include "server/directory/grants.h"
#include "server/directory/routing_admin.h"
#include "server/run/config.h"

/* --- forwards -------------------------------------------------------------------------------------- */

/* What is in force now, after a change too. */
static int print_forward(struct cli *c, bool is_change, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct str *targets;
    size_t count;
    bool keeps_copy;

    if (forward_get(c->arena, c->args[0], &targets, &count, &keeps_copy, err) < 0)
        return -1;
    cli_row(out);
    cli_text(out, "address", c->args[0]);
    cli_texts(out, "forward", targets, count);
    cli_flag(out, "keeps_copy", keeps_copy);
    if (!is_change)
        cli_print_record(out);
    else if (count == 0)
        cli_print_done(out, "%.*s forwards nothing.", STR_ARG(c->args[0]));
    else
        cli_print_done(out, "%.*s forwards to %zu %s and keeps %s copy.", STR_ARG(c->args[0]),
                       count, count == 1 ? "address" : "addresses", keeps_copy ? "a" : "no");
    return 0;
}

int cli_forward_set(struct cli *c, struct error *err)
{
    if (forward_set(c->args[0], c->args + 1, c->arg_count - 1, !cli_has(c, OPTION_NO_COPY), err) <
        0)
        return -1;
    return print_forward(c, true, err);
}

int cli_forward_off(struct cli *c, struct error *err)
{
    return forward_set(c->args[0], NULL, 0, true, err) < 0 ? -1 : print_forward(c, true, err);
}

int cli_forward_show(struct cli *c, struct error *err)
{
    return print_forward(c, false, err);
}

/* --- sent copies ----------------------------------------------------------------------------------- */

struct sent_copy {
    bool of_own, of_others;
};

int cli_prepare_sent_copy(struct cli *c, struct error *err)
{
    static const struct {
        const char *name;
        struct sent_copy copy;
    } words[] = {{"none", {false, false}},
                 {"own", {true, false}},
                 {"others", {false, true}},
                 {"both", {true, true}}};
    struct sent_copy *copy = ARENA_NEW(c->arena, struct sent_copy);

    c->prepared = copy;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (str_ieq(c->args[1], str_c(words[i].name))) {
            *copy = words[i].copy;
            return 0;
        }
    }
    return fail(err, ERR_SYNTAX,
                "write: merpati account sent-copy ADDRESS none, own, others or both");
}

int cli_sent_copy(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    const struct sent_copy *copy = c->prepared;

    if (account_set_sent_copy(c->args[0], copy->of_own, copy->of_others, err) < 0)
        return -1;
    cli_row(out);
    cli_text(out, "address", c->args[0]);
    cli_flag(out, "sent_copy", copy->of_own);
    cli_flag(out, "sent_copy_of_others", copy->of_others);
    cli_print_done(out, "%.*s: changed what is put into Sent.", STR_ARG(c->args[0]));
    return 0;
}

/* --- undo send ------------------------------------------------------------------------------------- */

int cli_prepare_undo_send(struct cli *c, struct error *err)
{
    int64_t *duration_ms = ARENA_NEW(c->arena, int64_t);

    c->prepared = duration_ms;
    if (str_ieq(c->args[1], STR("off")))
        return 0;
    if (!config_parse_duration(c->args[1], duration_ms) || *duration_ms <= 0 ||
        *duration_ms > UNDO_SEND_MAX_MS)
        return fail(err, ERR_SYNTAX,
                    "write: merpati account undo-send ADDRESS off, or a time up to 1d such as 30s");
    return 0;
}

int cli_undo_send(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    const int64_t *duration_ms = c->prepared;

    if (account_set_undo_send(c->args[0], *duration_ms, err) < 0)
        return -1;
    cli_row(out);
    cli_text(out, "address", c->args[0]);
    cli_number(out, "undo_send_ms", *duration_ms);
    if (*duration_ms == 0)
        cli_print_done(out, "%.*s: what it sends goes at once.", STR_ARG(c->args[0]));
    else
        cli_print_done(out, "%.*s: what it sends waits for %.*s.", STR_ARG(c->args[0]),
                       STR_ARG(c->args[1]));
    return 0;
}

/* --- grants ---------------------------------------------------------------------------------------- */

static int change_grants(struct cli *c, enum send_right right, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);

    for (size_t i = 1; i < c->arg_count; i++)
        if (grant_add(c->args[0], c->args[i], right, err) < 0)
            return -1;
    cli_row(out);
    cli_text(out, "address", c->args[0]);
    cli_texts(out, "with", c->args + 1, c->arg_count - 1);
    cli_text(out, "right", str_c(send_right_name(right)));
    cli_print_done(out, "%.*s: %s %zu.", STR_ARG(c->args[0]),
                   right == SEND_DENIED ? "taken from" : "granted to", c->arg_count - 1);
    return 0;
}

int cli_grants_add(struct cli *c, struct error *err)
{
    return change_grants(c, cli_has(c, OPTION_ON_BEHALF) ? SEND_ON_BEHALF : SEND_AS, err);
}

int cli_grants_remove(struct cli *c, struct error *err)
{
    return change_grants(c, SEND_DENIED, err);
}

int cli_grants_list(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct grant *grants;
    size_t count;

    if (grant_list(c->arena, c->args[0], &grants, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cli_row(out);
        cli_text(out, "with", grants[i].grantee);
        cli_text(out, "right", str_c(send_right_name(grants[i].right)));
    }
    cli_print_list(out);
    return 0;
}
