/* queue_report.c - senders are told: who is to hear of what (RFC 3461), and the report on its way.
 *
 * A report and the end of the recipients it speaks of are one transaction: nobody is told twice, and nothing ends untold. A
 * sender of ours gets it into the mailbox, another through the queue. Nobody is told of a report that does not arrive: its
 * own sender is the null path. */
#include "mail/queue/queue_internal.h"

#include "mail/mime/address_path.h"
#include "mail/queue/dsn.h"
#include "mail/store/trace.h"
#include "server/base/date.h"
#include "server/base/log.h"
#include "server/directory/routing.h"
#include "server/run/config.h"
#include "server/run/metrics.h"
#include <assert.h>

#define AGAIN_MIN_MS 100
#define AGAIN_MAX_MS 10000
#define RETURN_PATH  "Return-Path: <>\r\n"

static_assert((int)DSN_RET_FULL == (int)OUTBOUND_RET_FULL, "RET is one number everywhere");
static_assert((int)DSN_RET_HDRS == (int)OUTBOUND_RET_HDRS, "RET is one number everywhere");

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

/* ---- what it says ------------------------------------------------------------------------------ */

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* RFC 3461, 4. What is no xtext stays as it is. */
static struct str xtext_decoded(struct arena *a, struct str s)
{
    char *out = arena_alloc(a, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        bool is_coded = s.p[i] == '+' && i + 2 < s.n && hex_value(s.p[i + 1]) >= 0 &&
                        hex_value(s.p[i + 2]) >= 0;

        out[n++] = is_coded ? (char)(hex_value(s.p[i + 1]) * 16 + hex_value(s.p[i + 2])) : s.p[i];
        i += is_coded ? 2 : 0;
    }
    return str_of(out, n);
}

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
            .orcpt = xtext_decoded(a, v[i].rcpt->orcpt),
            .status = v[i].enhanced,
            .remote_host = v[i].host,
            .code = v[i].code,
            .text = v[i].text,
            .retry_until_us = c->expires_us,
        };
    return out;
}

static struct str write_report(struct arena *a, const struct outbound_claim *c,
                               const struct queue_fate *v, size_t count, struct str message)
{
    struct dsn d = {
        .reporting_host = str_c(config.hostname),
        .recipient = c->o.sender,
        .envid = xtext_decoded(a, c->o.envid),
        .trace_id = event_trace_id(a, c->o.trace_id),
        .arrival_us = c->created_us,
        .now_us = time_now_us(),
        .language = arena_c(a, c->o.language),
        .v = describe_rcpts(a, c, v, count),
        .count = count,
        .original = message,
        .ret = (enum dsn_ret)c->o.ret,
        .is_utf8 = c->o.is_utf8,
    };
    struct str report = dsn_build(a, &d);

    return arena_printf(a, RETURN_PATH "%.*s", STR_ARG(report));
}

/* ---- where it goes ------------------------------------------------------------------------------ */

struct target {
    struct delivery *deliveries;
    size_t delivery_count;
    struct outbound_recipient *rcpts;
    size_t rcpt_count;
};

static void go_elsewhere(struct arena *a, struct str address, struct target *out)
{
    out->rcpts = ARENA_ARRAY(a, 1, struct outbound_recipient);
    out->rcpts[0].address = address;
    out->rcpt_count = 1;
}

static void follow_routes(struct arena *a, const struct routes *routes, struct target *out)
{
    int64_t now_us = time_now_us();

    out->deliveries = ARENA_ARRAY(a, routes->n, struct delivery);
    out->rcpts = ARENA_ARRAY(a, routes->n, struct outbound_recipient);
    for (size_t i = 0; i < routes->n; i++) {
        if (routes->v[i].kind == ROUTE_REMOTE)
            out->rcpts[out->rcpt_count++].address = address_path(a, routes->v[i].address);
        else
            out->deliveries[out->delivery_count++] =
                (struct delivery){.account_id = routes->v[i].account_id,
                                  .received_us = now_us,
                                  .may_exceed_quota = true};
    }
}

/* ERR_NOT_FOUND and the like: nobody is there. */
static int find_sender(struct arena *a, struct str sender, struct target *out, struct error *err)
{
    struct routing_sender from = {.address = STR(""), .is_trusted = true};
    struct error cause = {0};
    struct routes routes;
    struct str local, domain;

    *out = (struct target){NULL, 0, NULL, 0};
    address_path_split(a, sender, &local, &domain);
    if (str_empty(domain))
        return fail(err, ERR_NOT_FOUND, "the sender's address has no domain");
    if (!str_starts(domain, STR("[")) &&
        directory_route(a, local, domain, &from, &routes, &cause) == 0)
        follow_routes(a, &routes, out);
    else if (cause.kind == ERR_UNSUPPORTED || cause.kind == ERR_NONE)
        go_elsewhere(a, sender, out);
    else
        return fail(err, cause.kind, "%s", cause.text);
    return 0;
}

/* ---- on its way -------------------------------------------------------------------------------- */

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

/* A report to another server has a timeline of its own. */
static void trace_report(const struct outbound *o, const struct message_prepared *m,
                         const struct outbound_claim *c)
{
    struct trace_facts facts = {.direction = TRACE_SYSTEM,
                                .recipients = &c->o.sender,
                                .recipient_count = 1,
                                .size = m->raw.n};

    trace_header_facts(m->raw, &facts);
    trace_received(o->trace_id, &facts);
    trace_event(o->trace_id, TRACE_QUEUED, c->o.sender, STR("a report to the sender"));
}

static int send_to(struct arena *a, struct target *t, const struct message_prepared *m,
                   const struct outbound_ends *ends, const struct outbound_claim *c,
                   struct error *err)
{
    struct outbound o = {
        .trace_id = t->rcpt_count > 0 ? trace_id_new() : 0,
        .body = OUTBOUND_BODY_8BITMIME,
        .is_utf8 = c->o.is_utf8,
        .language = c->o.language,
        .blob_offset = sizeof RETURN_PATH - 1,
        .rcpts = t->rcpts,
        .rcpt_count = t->rcpt_count,
        .arena = a,
        .ends = ends,
    };

    if (o.trace_id != 0)
        trace_report(&o, m, c);
    return queue_deliver(m, t->deliveries, t->delivery_count, &o, err);
}

static int try_to_send(struct arena *a, const struct message_prepared *m,
                       const struct outbound_ends *ends, const struct outbound_claim *c)
{
    struct error err = {0};
    struct target target;

    if (find_sender(a, c->o.sender, &target, &err) < 0) {
        if (err.kind == ERR_TRY_LATER || err.kind == ERR_CANCELLED)
            return -1;
        metric_inc(METRIC_queue_reports_dropped);
        event_reported(c, ends->count, err.text);
        return end_untold(ends, a, NULL);
    }
    if (send_to(a, &target, m, ends, c, &err) == 0) {
        metric_inc(METRIC_queue_reports);
        event_reported(c, ends->count, target.rcpt_count > 0 ? "queued" : "delivered");
        return 0;
    }
    if (err.kind == ERR_NOT_FOUND)
        return 0; /* somebody else ended them */
    log_warn(NULL, "queue_report_failed", KV("queue", c->o.queue_id), KV_ERR(&err));
    return -1;
}

bool report_send(int64_t worker_id, const struct outbound_claim *c, const struct queue_fate *v,
                 size_t count, struct str message)
{
    struct arena *a = arena_new();
    struct str text = write_report(a, c, v, count, message);
    struct outbound_ends ends = ends_of(a, worker_id, c, v, count);
    struct message_prepared prepared;
    int64_t again_ms = AGAIN_MIN_MS;
    bool is_sent;

    message_prepare(a, text, &prepared);
    while (!(is_sent = try_to_send(a, &prepared, &ends, c) == 0) && !queue.is_stopping &&
           worker_id == queue.worker_id) {
        if (fiber_sleep(again_ms) == WAKE_CANCELLED)
            break;
        again_ms = again_ms * 2 < AGAIN_MAX_MS ? again_ms * 2 : AGAIN_MAX_MS;
    }
    arena_free(&a);
    return is_sent;
}
