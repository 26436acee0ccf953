/* queue_report.c - senders are told: who is to hear of what (RFC 3461), and that they do.
 *
 * A report and the end of the recipients it speaks of are one transaction: nobody is told twice, and nothing ends untold.
 * How it is written and finds its way is in sender_report.c. Nobody is told of a report that does not arrive: its own sender
 * is the null path. */
#include "mail/queue/queue_internal.h"

#include "mail/mime/xtext.h"
#include "mail/queue/sender_report.h"
#include "server/base/log.h"

#define AGAIN_MIN_MS 100
#define AGAIN_MAX_MS 10000
#define TRIES_MAX    10 /* some half a minute */

bool report_is_wanted(const struct outbound_claim *c, const struct queue_fate *f)
{
    unsigned notify = f->rcpt->notify;

    if (str_empty(c->o.sender) || (notify & OUTBOUND_NOTIFY_NEVER))
        return false;
    switch (f->kind) {
    case FATE_FAILED:
        return notify == 0 || (notify & OUTBOUND_NOTIFY_FAILURE);
    case FATE_DELAYED:
        return notify == 0 || (notify & OUTBOUND_NOTIFY_DELAY);
    case FATE_RELAYED:
        return notify & OUTBOUND_NOTIFY_SUCCESS;
    }
    return false;
}

/* ---- what is told ------------------------------------------------------------------------------ */

static enum dsn_action action_of(const struct queue_fate *f)
{
    return f->kind == FATE_FAILED    ? DSN_FAILED
           : f->kind == FATE_DELAYED ? DSN_DELAYED
                                     : DSN_RELAYED;
}

static struct dsn_recipient *describe_rcpts(struct arena *a, const struct outbound_claim *c,
                                            const struct queue_fate *v, size_t count)
{
    struct dsn_recipient *out = ARENA_ARRAY(a, count, struct dsn_recipient);

    for (size_t i = 0; i < count; i++)
        out[i] = (struct dsn_recipient){
            .action = action_of(&v[i]),
            .address = v[i].rcpt->address,
            .orcpt = xtext_shown(a, v[i].rcpt->orcpt),
            .status = v[i].enhanced,
            .remote_host = v[i].host,
            .code = v[i].code,
            .text = v[i].text,
            .retry_until_us = c->expires_us,
        };
    return out;
}

/* ---- and it ends ------------------------------------------------------------------------------- */

static struct outbound_ends ends_of(struct arena *a, int64_t worker_id,
                                    const struct outbound_claim *c, const struct queue_fate *v,
                                    size_t count)
{
    int32_t *nos = ARENA_ARRAY(a, count, int32_t);

    for (size_t i = 0; i < count; i++)
        nos[i] = v[i].rcpt->no;
    return (struct outbound_ends){.worker_id = worker_id,
                                  .queue_id = c->o.queue_id,
                                  .nos = nos,
                                  .count = count,
                                  .is_warning = v[0].kind == FATE_DELAYED};
}

static int end_untold(const struct outbound_ends *ends, struct arena *a, struct error *err)
{
    struct outbound_result *results;

    if (ends->is_warning)
        return outbound_set_warned(ends->queue_id, err);
    results = ARENA_ARRAY(a, ends->count, struct outbound_result);
    for (size_t i = 0; i < ends->count; i++)
        results[i] = (struct outbound_result){
            .queue_id = ends->queue_id, .no = ends->nos[i], .is_done = true};
    return outbound_finish(ends->worker_id, results, ends->count, NULL, 0, NULL, 0, err);
}

/* The database or the like is away; whatever else stands in the way stands there next time, too. */
static bool may_pass(enum error_kind kind)
{
    return kind == ERR_TRY_LATER || kind == ERR_TIMED_OUT || kind == ERR_CLOSED ||
           kind == ERR_CANCELLED;
}

static int try_to_send(struct arena *a, const struct sender_report *r,
                       const struct outbound_claim *c)
{
    struct error err = {0};
    bool is_away;

    if (sender_report_send(r, &is_away, &err) == 0) {
        event_reported(c, r->count, is_away ? "queued" : "delivered");
        return 0;
    }
    if (err.kind == ERR_NOT_FOUND)
        return 0; /* somebody else ended them */
    if (err.kind != ERR_DENIED)
        log_warn(NULL, "queue_report_failed", KV("queue", c->o.queue_id), KV_ERR(&err));
    if (may_pass(err.kind) || end_untold(r->ends, a, NULL) < 0)
        return -1;
    event_untold(c, r->count, err.text);
    return 0;
}

bool report_send(int64_t worker_id, const struct outbound_claim *c, const struct queue_fate *v,
                 size_t count, struct str message)
{
    struct arena *a = arena_new();
    struct outbound_ends ends = ends_of(a, worker_id, c, v, count);
    struct sender_report report = {
        .sender = c->o.sender,
        .envid = c->o.envid,
        .language = c->o.language,
        .trace_id = c->o.trace_id,
        .arrival_us = c->created_us,
        .ret = c->o.ret,
        .is_utf8 = c->o.is_utf8,
        .requires_tls = c->o.requires_tls,
        .original = message,
        .v = describe_rcpts(a, c, v, count),
        .count = count,
        .ends = &ends,
    };
    int64_t again_ms = AGAIN_MIN_MS;
    int tries = 1;
    bool is_sent;

    while (!(is_sent = try_to_send(a, &report, c) == 0) && tries++ < TRIES_MAX &&
           !queue.is_stopping && worker_id == queue.worker_id) {
        if (fiber_sleep(again_ms) == WAKE_CANCELLED)
            break;
        again_ms = again_ms * 2 < AGAIN_MAX_MS ? again_ms * 2 : AGAIN_MAX_MS;
    }
    arena_free(&a);
    return is_sent;
}
