/* scanner.c - the settings, a place in the queue of each scanner, and the two asked side by side. */
#include "mail/spam/scanner.h"

#include "mail/spam/clamd.h"
#include "mail/spam/scan_breaker.h"
#include "server/base/buf.h"
#include "server/base/log.h"
#include "server/run/channel.h"
#include "server/run/companion.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"

#define AT_ONCE_MAX   8 /* of one worker; clamd has ten threads */
#define SYMBOLS_TOLD  6
#define NAME_TOLD     40
#define TEXT_SIZE_MAX 1024

struct scanner {
    const char *name;
    struct dial_target target;
    bool is_on;
    unsigned busy;
    struct wait_queue waiting;
    struct scan_breaker breaker;
};

static struct scanner clamav = {.name = "clamav"}, rspamd = {.name = "rspamd"};
static enum virus_action virus_action;
static bool must_say;

/* ---- settings ---------------------------------------------------------------------------------------- */

static int start_one(struct scanner *s, const char *setting, const char *example, struct error *err)
{
    s->is_on = *setting != '\0';
    s->busy = 0;
    s->breaker = (struct scan_breaker){0};
    wait_queue_init(&s->waiting);
    if (s->is_on && !dial_target_parse(str_c(setting), &s->target))
        return fail(err, ERR_SYNTAX,
                    "%s: \"%.80s\" is no scanner; write %s, with inet:host:port or unix:/path",
                    s->name, setting, example);
    return 0;
}

static int read_virus_action(struct error *err)
{
    static const char *const names[] = {[VIRUS_REJECT] = "reject",
                                        [VIRUS_HOLD] = "hold",
                                        [VIRUS_JUNK] = "junk",
                                        [VIRUS_TAG] = "tag"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (str_ieq(str_c(config.virus_action), str_c(names[i]))) {
            virus_action = (enum virus_action)i;
            return 0;
        }
    }
    return fail(err, ERR_SYNTAX, "virus_action: \"%.80s\" is none; write reject, hold, junk or tag",
                config.virus_action);
}

static int read_away(struct error *err)
{
    must_say = str_ieq(str_c(config.scanner_away), STR("tempfail"));
    if (must_say || str_ieq(str_c(config.scanner_away), STR("accept")))
        return 0;
    return fail(err, ERR_SYNTAX, "scanner_away: \"%.80s\" is none; write accept or tempfail",
                config.scanner_away);
}

int scanner_start(struct error *err)
{
    if (start_one(&clamav, config.clamav, "unix:/run/clamav/clamd.ctl", err) < 0 ||
        start_one(&rspamd, config.rspamd, "inet:127.0.0.1:11333", err) < 0 ||
        read_virus_action(err) < 0)
        return -1;
    return read_away(err);
}

void scanner_stop(void)
{
    clamav.is_on = rspamd.is_on = false;
}

bool scanner_is_on(void)
{
    return clamav.is_on || rspamd.is_on;
}

enum virus_action scanner_virus_action(void)
{
    return virus_action;
}

bool scanner_must_say(void)
{
    return must_say;
}

/* ---- a place in the queue ------------------------------------------------------------------------------ */

static int take_place(struct scanner *s, int64_t deadline_ms, struct error *err)
{
    while (s->busy >= AT_ONCE_MAX) {
        enum wake wake = wait_queue_wait(&s->waiting, deadline_ms);

        if (wake == WAKE_CANCELLED)
            return fiber_wake_error(wake, err);
        if (wake == WAKE_TIMED_OUT)
            return fail(err, ERR_LIMIT, "too many messages wait for it");
    }
    s->busy++;
    return 0;
}

static void give_place(struct scanner *s)
{
    s->busy--;
    wait_queue_wake_one(&s->waiting);
}

/* ---- one scanner --------------------------------------------------------------------------------------- */

static void note_failure(struct scanner *s, const struct error *why)
{
    switch (why->kind) {
    case ERR_CANCELLED:
        scan_breaker_forget(&s->breaker);
        return;
    case ERR_TOO_BIG: /* this message's fault: it is there */
    case ERR_UNSUPPORTED:
        scan_breaker_succeeded(&s->breaker);
        break;
    default:
        scan_breaker_failed(&s->breaker, why->kind == ERR_TRY_LATER, loop_now_ms());
        break;
    }
    metric_inc(METRIC_scan_failures);
    log_warn(NULL, "scanner_failed", KV("scanner", s->name), KV_ERR(why));
}

struct question {
    struct arena *arena;
    const struct rspamd_mail *mail;
    struct scan_result *out;
    int64_t deadline_ms;
    struct error err;
};

static int ask_clamav(struct question *q, int64_t timeout_ms)
{
    return clamd_scan(q->arena, &clamav.target, q->mail->message, timeout_ms, &q->out->virus,
                      &q->err);
}

static int ask_rspamd(struct question *q, int64_t timeout_ms)
{
    return rspamd_check(q->arena, &rspamd.target, q->mail, timeout_ms, &q->out->spam, &q->err);
}

/* In its place, with the time that is left. */
static int ask_in_place(struct scanner *s, struct question *q,
                        int (*ask)(struct question *, int64_t timeout_ms))
{
    int64_t left_ms = q->deadline_ms - loop_now_ms();
    int status;

    if (!scan_breaker_admits(&s->breaker, loop_now_ms()))
        return fail(&q->err, ERR_LIMIT, "it was away a moment ago");
    status = ask(q, left_ms > 1 ? left_ms : 1);
    if (status == 0)
        scan_breaker_succeeded(&s->breaker);
    else
        note_failure(s, &q->err);
    return status;
}

static enum scan_state ask_one(struct scanner *s, struct question *q, int64_t timeout_ms,
                               int64_t size_max, int (*ask)(struct question *, int64_t timeout_ms))
{
    int status;

    if (q->mail->message.n > (uint64_t)size_max) {
        metric_inc(METRIC_scan_skipped);
        fail(&q->err, ERR_TOO_BIG, "the message is larger than %s_size_max", s->name);
        return SCAN_SKIPPED;
    }
    q->deadline_ms = loop_deadline(timeout_ms);
    if (take_place(s, q->deadline_ms, &q->err) < 0) {
        metric_inc(METRIC_scan_skipped);
        return SCAN_FAILED;
    }
    status = ask_in_place(s, q, ask);
    give_place(s);
    if (q->err.kind == ERR_LIMIT)
        metric_inc(METRIC_scan_skipped);
    return status == 0 ? SCAN_SAID : SCAN_FAILED;
}

static void run_clamav(struct question *q)
{
    q->out->clamav = ask_one(&clamav, q, config.clamav_timeout, config.clamav_size_max, ask_clamav);
    q->out->clamav_why = arena_str(q->arena, str_c(q->err.text));
}

static void run_rspamd(void *arg)
{
    struct question *q = arg;

    q->out->rspamd = ask_one(&rspamd, q, config.rspamd_timeout, config.rspamd_size_max, ask_rspamd);
    q->out->rspamd_why = arena_str(q->arena, str_c(q->err.text));
}

/* ---- both ------------------------------------------------------------------------------------------------- */

PARKS int scanner_scan(struct arena *a, const struct rspamd_mail *mail, struct scan_result *out,
                       struct error *err)
{
    struct question first = {.arena = a, .mail = mail, .out = out}, second = first;
    struct companion companion;

    *out = (struct scan_result){.clamav = SCAN_OFF};
    metric_inc(METRIC_scan_messages);
    if (rspamd.is_on)
        companion_start(&companion, "rspamd", run_rspamd, &second);
    if (clamav.is_on)
        run_clamav(&first);
    if (rspamd.is_on)
        companion_await(&companion);
    if (!str_empty(out->virus))
        metric_inc(METRIC_scan_viruses);
    if (first.err.kind == ERR_CANCELLED || second.err.kind == ERR_CANCELLED || fiber_cancelled())
        return fiber_wake_error(WAKE_CANCELLED, err);
    return 0;
}

/* ---- in words -------------------------------------------------------------------------------------------- */

static void add_why(struct buf *b, enum scan_state state, struct str why)
{
    buf_addf(b, "%s (%.*s)", state == SCAN_SKIPPED ? "not asked" : "could not say", STR_ARG(why));
}

static void add_clamav(struct buf *b, const struct scan_result *r)
{
    buf_adds(b, "clamav: ");
    if (r->clamav != SCAN_SAID)
        add_why(b, r->clamav, r->clamav_why);
    else if (str_empty(r->virus))
        buf_adds(b, "clean");
    else
        buf_addf(b, "found %.*s", STR_ARG(r->virus));
}

static void add_symbols(struct buf *b, const struct rspamd_answer *spam)
{
    for (size_t i = 0; i < spam->symbol_count && i < SYMBOLS_TOLD; i++)
        buf_addf(b, "%s%.*s %.2f", i > 0 ? ", " : " (",
                 STR_ARG(str_head(spam->symbols[i].name, NAME_TOLD)), spam->symbols[i].score);
    if (spam->symbol_count > SYMBOLS_TOLD)
        buf_addf(b, " and %zu more", spam->symbol_count - SYMBOLS_TOLD);
    if (spam->symbol_count > 0)
        buf_addc(b, ')');
}

static void add_rspamd(struct buf *b, const struct scan_result *r)
{
    buf_addf(b, "%srspamd: ", b->n > 0 ? "; " : "");
    if (r->rspamd != SCAN_SAID) {
        add_why(b, r->rspamd, r->rspamd_why);
        return;
    }
    buf_addf(b, "%.*s, %.2f of %.2f", STR_ARG(r->spam.action_name), r->spam.score,
             r->spam.required_score);
    add_symbols(b, &r->spam);
}

struct str scan_result_text(struct arena *a, const struct scan_result *r)
{
    struct buf b;
    struct str text;

    buf_init(&b, TEXT_SIZE_MAX);
    if (r->clamav != SCAN_OFF)
        add_clamav(&b, r);
    if (r->rspamd != SCAN_OFF)
        add_rspamd(&b, r);
    text = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return text;
}
