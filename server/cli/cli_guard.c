/* cli_guard.c - merpati account held, release, purge and guard: accounts whose outgoing mail is held. */
#include "mail/queue/guard.h"
#include "mail/queue/guard_judge.h"
#include "mail/store/trace.h"
#include "server/cli/cli_internal.h"

int cli_guard_held(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct guard_held *v;
    size_t count;

    if (guard_record_list_held(c->arena, &v, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        struct guard_finding f = {guard_cause_parse(v[i].cause), v[i].seen, v[i].usual};

        cli_row(out);
        cli_text(out, "address", v[i].address);
        cli_time(out, "since", v[i].held_us);
        cli_number(out, "messages", v[i].messages);
        cli_number(out, "recipients", v[i].recipients);
        cli_bytes(out, "size", v[i].size);
        cli_text(out, "cause", v[i].cause);
        cli_text(out, "seen", guard_sentence(c->arena, "en", &f, v[i].detail));
    }
    cli_print_list(out);
    return 0;
}

int cli_guard_release(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct account account;
    int64_t count;
    bool was_held;
    int rc;

    if (directory_find_account(c->arena, c->args[0], &account, err) < 0)
        return -1;
    trace_start();
    rc = guard_release(account.account_id, &was_held, &count, err);
    trace_stop();
    if (rc < 0)
        return -1;
    cli_row(out);
    cli_text(out, "address", account.address);
    cli_flag(out, "was_held", was_held);
    cli_number(out, "recipients", count);
    cli_print_done(out, "%.*s %s; mail to %lld recipient%s released.", STR_ARG(account.address),
                   was_held ? "may send again" : "was not held", (long long)count,
                   count == 1 ? "" : "s");
    return 0;
}

int cli_guard_purge(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct account account;
    int64_t count;
    int rc;

    if (directory_find_account(c->arena, c->args[0], &account, err) < 0)
        return -1;
    trace_start();
    rc = guard_purge(account.account_id, &count, err);
    trace_stop();
    if (rc < 0)
        return -1;
    cli_row(out);
    cli_text(out, "address", account.address);
    cli_number(out, "recipients", count);
    cli_print_done(out,
                   "Held mail of %.*s to %lld recipient%s deleted. What it sends is held until "
                   "\"merpati account release %.*s\".",
                   STR_ARG(account.address), (long long)count, count == 1 ? "" : "s",
                   STR_ARG(account.address));
    return 0;
}

int cli_prepare_guard_switch(struct cli *c, struct error *err)
{
    bool *is_off = ARENA_NEW(c->arena, bool);

    c->prepared = is_off;
    *is_off = str_ieq(c->args[1], STR("off"));
    if (!*is_off && !str_ieq(c->args[1], STR("on")))
        return fail(err, ERR_SYNTAX, "\"%.*s\" is neither on nor off",
                    STR_ARG(str_head(c->args[1], 40)));
    return 0;
}

int cli_guard_switch(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    const bool *is_off = c->prepared;
    struct account account;

    if (directory_find_account(c->arena, c->args[0], &account, err) < 0 ||
        guard_set_off(account.account_id, *is_off, err) < 0)
        return -1;
    cli_row(out);
    cli_text(out, "address", account.address);
    cli_flag(out, "guard", !*is_off);
    cli_print_done(out,
                   *is_off ? "%.*s is never held." : "%.*s is held when it seems to be misused.",
                   STR_ARG(account.address));
    return 0;
}
