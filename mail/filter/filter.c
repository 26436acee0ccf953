/* filter.c - runs the scripts, and makes of their actions what submit.h takes.
 *
 * Whom a redirect leads to is found out while there is still time to keep the message instead. Answers and redirected mail go
 * out before the copy is filed: a crash in between sends them again, and loses nothing. */
#include "mail/filter/filter.h"

#include "mail/filter/filter_actions.h"
#include "mail/filter/filter_hooks.h"
#include "mail/filter/filter_scripts.h"
#include "server/base/date.h"
#include "server/base/log.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

static int is_wanted(int64_t account_id, bool *out, struct error *err)
{
    const struct filter_scripts *scripts;

    if (filter_scripts_hold(account_id, &scripts, err) < 0)
        return -1;
    *out = scripts->count > 0;
    filter_scripts_release(&scripts);
    return 0;
}

/* ---- what scripts see ------------------------------------------------------------------------ */

static struct str notify_words(struct arena *a, unsigned notify)
{
    static const struct {
        unsigned bit;
        const char *word;
    } words[] = {{OUTBOUND_NOTIFY_NEVER, "NEVER"},
                 {OUTBOUND_NOTIFY_SUCCESS, "SUCCESS"},
                 {OUTBOUND_NOTIFY_FAILURE, "FAILURE"},
                 {OUTBOUND_NOTIFY_DELAY, "DELAY"}};
    struct str out = STR("");

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (notify & words[i].bit)
            out =
                arena_printf(a, "%.*s%s%s", STR_ARG(out), str_empty(out) ? "" : ",", words[i].word);
    return out;
}

static struct sieve_mail describe(struct arena *a, const struct submit *s,
                                  const struct submit_filtered *f,
                                  const struct filter_author *author)
{
    static const char *const rets[] = {"", "FULL", "HDRS"};
    struct str local, domain;

    str_rcut(author->address, '@', &local, &domain);
    return (struct sieve_mail){
        .message = f->message,
        .sender = s->sender,
        .recipient = f->rcpt->address,
        .original_recipient = f->rcpt->orcpt,
        .account_address = author->address,
        .own_addresses = author->own_addresses,
        .own_addresses_count = author->own_count,
        .now_us = time_now_us(),
        .spam_percent = s->is_junk ? 100 : -1,
        .dsn_notify = notify_words(a, f->rcpt->notify),
        .dsn_orcpt = f->rcpt->orcpt,
        .dsn_ret = str_c(rets[s->ret <= OUTBOUND_RET_HDRS ? s->ret : 0]),
        .dsn_envid = s->envid,
        .has_deliver_by = s->deliver_by_us != 0,
        .deliver_by_us = s->deliver_by_us,
        .deliver_by_mode = s->deliver_by_notify ? STR("notify") : STR("return"),
        .env_domain = domain,
        .env_host = str_c(config.hostname),
        .env_location = STR("MDA"),
        .env_phase = STR("during"),
        .env_remote_host = s->client_name,
        .env_remote_ip = s->client_ip,
    };
}

/* ---- running --------------------------------------------------------------------------------- */

static void log_fault(const struct submit *s, const struct submit_filtered *f,
                      const struct filter_scripts *scripts, const struct sieve_outcome *outcome)
{
    log_info(NULL, "script_failed", KV("account", f->account_id),
             KV("script", scripts->names[outcome->fault_script]), KV("line", outcome->fault.line),
             KV("error", outcome->fault.text));
}

static int run(struct filter_run *run, const struct filter_scripts *scripts, struct error *err)
{
    struct filter_place place = {
        .arena = run->arena, .account_id = run->f->account_id, .scripts = scripts};
    struct sieve_mail mail = describe(run->arena, run->s, run->f, &run->author);
    struct sieve_hooks hooks;

    filter_hooks_fill(&place, &hooks);
    if (sieve_run(run->arena, scripts->v, scripts->count, &mail, &hooks, &run->outcome) < 0)
        return place.cause.kind != ERR_NONE
                   ? fail(err, place.cause.kind, "%s", place.cause.text)
                   : fail(err, ERR_TRY_LATER, "the recipient's filter cannot run now");
    if (run->outcome.end == SIEVE_FAILED)
        log_fault(run->s, run->f, scripts, &run->outcome);
    metric_inc(METRIC_sieve_runs);
    return filter_actions_plan(run, &place, err);
}

static int decide(struct arena *a, const struct submit *s, const struct submit_filtered *f,
                  struct submit_decision *out, struct error *err)
{
    struct filter_run *r = ARENA_NEW(a, struct filter_run);
    const struct filter_scripts *scripts;
    struct error cause = {0};
    int rc;

    *r = (struct filter_run){.arena = a, .s = s, .f = f, .decision = out};
    if (filter_read_author(a, f->account_id, &r->author, &cause) < 0) {
        if (cause.kind == ERR_NOT_FOUND) /* the account is gone: the store will say so */
            return 0;
        return fail(err, cause.kind, "%s", cause.text);
    }
    if (filter_scripts_hold(f->account_id, &scripts, err) < 0)
        return -1;
    r->scripts = scripts;
    rc = run(r, scripts, err);
    r->scripts = NULL;
    filter_scripts_release(&scripts);
    out->is_made = rc == 0;
    out->more = r;
    return rc;
}

static int before(struct arena *a, const struct submit *s, const struct submit_filtered *f,
                  struct submit_decision *d, struct error *err)
{
    return filter_actions_send(d->more, err);
}

static void after(const struct submit *s, const struct submit_filtered *f,
                  struct submit_decision *d)
{
    filter_actions_remember(d->more);
}

const struct submit_filter filter_scripts_filter = {
    .is_wanted = is_wanted, .decide = decide, .before = before, .after = after};
