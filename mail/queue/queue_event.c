/* queue_event.c - what the scheduler tells the log, the counters and the trace: one place, so that all tell the same. */
#include "mail/queue/queue_internal.h"

#include "mail/store/trace.h"
#include "server/base/date.h"
#include "server/base/log.h"
#include "server/run/metrics.h"

struct str event_trace_id(struct arena *a, int64_t trace_id)
{
    char text[TRACE_ID_TEXT_SIZE];

    return trace_id != 0 ? arena_str(a, str_c(trace_id_text(trace_id, text))) : STR("");
}

static int64_t age_ms(const struct outbound_claim *c)
{
    return (time_now_us() - c->created_us) / 1000;
}

static const char *id_text(const struct outbound_claim *c, char out[TRACE_ID_TEXT_SIZE])
{
    return c->o.trace_id != 0 ? trace_id_text(c->o.trace_id, out) : "-";
}

#define FIELDS(c, f)                                                                               \
    KV("queue", (c)->o.queue_id), KV("trace", id_text(c, id)), KV("rcpt", (f)->rcpt->address),     \
        KV("host", (f)->hop_host), KV("code", (f)->code), KV("status", (f)->enhanced),             \
        KV("answer", (f)->text), KV("age_ms", age_ms(c))

/* "451 4.2.0 come back later (mx.example.net [192.0.2.1]:25)" and what else is to be said. */
static void tell_trace(const struct outbound_claim *c, const struct queue_fate *f,
                       enum trace_kind kind, const char *more)
{
    struct arena *a;
    struct str text;

    if (c->o.trace_id == 0)
        return;
    a = arena_new();
    text = arena_printf(a, "%.*s (%.*s)%s", STR_ARG(f->text), STR_ARG(f->hop_host), more);
    if (f->code > 0)
        text = arena_printf(a, "%d %.*s %.*s", f->code, STR_ARG(f->enhanced), STR_ARG(text));
    trace_event(c->o.trace_id, kind, f->rcpt->address, text);
    arena_free(&a);
}

void event_delivered(const struct outbound_claim *c, const struct queue_fate *f, struct str tls)
{
    char id[TRACE_ID_TEXT_SIZE];

    metric_inc(METRIC_queue_delivered);
    log_info(NULL, "queue_delivered", FIELDS(c, f), KV("tls", tls));
    tell_trace(c, f, TRACE_DELIVERED, str_empty(tls) ? "" : " over TLS");
}

void event_deferred(const struct outbound_claim *c, const struct queue_fate *f, int64_t delay_ms)
{
    char id[TRACE_ID_TEXT_SIZE];

    metric_inc(METRIC_queue_deferred);
    log_info(NULL, "queue_deferred", FIELDS(c, f), KV("again_ms", delay_ms));
    tell_trace(c, f, TRACE_DEFERRED, "");
}

void event_failed(const struct outbound_claim *c, const struct queue_fate *f)
{
    char id[TRACE_ID_TEXT_SIZE];

    metric_inc(METRIC_queue_failed);
    log_info(NULL, "queue_failed", FIELDS(c, f));
    tell_trace(c, f, TRACE_FAILED, "");
    if (str_empty(c->o.sender)) { /* a report that did not arrive, or the like: nobody is told */
        metric_inc(METRIC_queue_reports_dropped);
        tell_trace(c, f, TRACE_NOTE, "; the sender is the null path: nobody is told");
    }
}

void event_untold(const struct outbound_claim *c, size_t count, const char *why)
{
    char id[TRACE_ID_TEXT_SIZE];
    struct arena *a;

    log_info(NULL, "queue_untold", KV("queue", c->o.queue_id), KV("trace", id_text(c, id)),
             KV("to", c->o.sender), KV("recipients", count), KV("reason", why));
    if (c->o.trace_id == 0)
        return;
    a = arena_new();
    trace_event(c->o.trace_id, TRACE_NOTE, c->o.sender,
                arena_printf(a, "the sender cannot be told: %s", why));
    arena_free(&a);
}

void event_reported(const struct outbound_claim *c, size_t count, const char *how)
{
    char id[TRACE_ID_TEXT_SIZE];

    log_info(NULL, "queue_reported", KV("queue", c->o.queue_id), KV("trace", id_text(c, id)),
             KV("to", c->o.sender), KV("recipients", count), KV("how", how));
    if (c->o.trace_id != 0)
        trace_event(c->o.trace_id, TRACE_BOUNCED, c->o.sender, str_c(how));
}
