/* submit_report.c - what a sender is told of recipients that a submission settled: with queued ones the queue does it.
 *
 * A copy that came into a mailbox here is a delivery, a group that led to its members was expanded (RFC 3461, 5.2.7). Whom
 * nobody could deliver to, the client of an SMTP session cannot be told of while others were served, as there is one answer
 * for all: this is told in a report. */
#include "mail/queue/submit_report.h"

#include "mail/mime/xtext.h"
#include "mail/queue/sender_report.h"
#include "mail/store/trace.h"
#include "server/base/date.h"
#include "server/base/log.h"

/* It waits in the queue, and what becomes of it is known when it comes out. */
static bool is_kept_back(const struct submit *s)
{
    return !str_empty(s->held) || s->hold_until_us > time_now_us() || s->waits_for_queue;
}

static bool is_delivered_here(const struct submit_recipient *r)
{
    for (size_t i = 0; i < r->route_count; i++)
        if (r->routes[i].kind == ROUTE_ACCOUNT)
            return true;
    return false;
}

static bool is_success_wanted(const struct submit_recipient *r)
{
    return r->status == SUBMIT_TAKEN && (r->notify & OUTBOUND_NOTIFY_SUCCESS) &&
           (r->is_group || is_delivered_here(r));
}

static bool is_failure_wanted(const struct submit_recipient *r)
{
    return r->status != SUBMIT_TAKEN && (r->notify == 0 || (r->notify & OUTBOUND_NOTIFY_FAILURE));
}

/* Is there a client who learns from the answer that nobody got it? */
static bool is_failure_answered(const struct submit *s)
{
    if (s->answers_each)
        return true;
    if (s->ends != NULL)
        return false;
    for (size_t i = 0; i < s->rcpt_count; i++)
        if (s->rcpts[i].status == SUBMIT_TAKEN)
            return false;
    return true;
}

static struct dsn_recipient describe(struct arena *a, const struct submit_recipient *r)
{
    struct dsn_recipient out = {.address = r->address, .orcpt = xtext_shown(a, r->orcpt)};

    switch (r->status) {
    case SUBMIT_TAKEN:
        out.action = r->is_group ? DSN_EXPANDED : DSN_DELIVERED;
        out.status = STR("2.0.0");
        break;
    case SUBMIT_OVER_QUOTA:
        out.action = DSN_FAILED;
        out.status = STR("5.2.2");
        out.text = STR("the mailbox is full");
        break;
    case SUBMIT_GONE:
        out.action = DSN_FAILED;
        out.status = STR("5.1.1");
        out.text = STR("the account is gone");
        break;
    case SUBMIT_REFUSED:
        out.action = DSN_FAILED;
        out.status = STR("5.7.1");
        out.text = r->reason;
        break;
    }
    return out;
}

static void send_report(const struct submit *s, const struct dsn_recipient *v, size_t count)
{
    struct sender_report report = {
        .sender = s->sender,
        .envid = s->envid,
        .language = s->language,
        .trace_id = s->trace_id,
        .arrival_us = s->trace_id != 0 ? trace_id_time_us(s->trace_id) : time_now_us(),
        .ret = s->ret,
        .is_utf8 = s->is_utf8,
        .requires_tls = s->requires_tls,
        .original = s->message,
        .v = v,
        .count = count,
    };
    struct error err = {0};
    bool is_away;

    if (sender_report_send(&report, &is_away, &err) < 0)
        log_warn(NULL, "submit_report_failed", KV("to", s->sender), KV_ERR(&err));
    else if (s->trace_id != 0)
        trace_event(s->trace_id, TRACE_BOUNCED, s->sender,
                    is_away ? STR("a report is queued") : STR("a report is delivered"));
}

void submit_report_taken(const struct submit *s)
{
    bool tells_failures = !is_failure_answered(s);
    struct dsn_recipient *v = NULL;
    struct arena *a;
    size_t n = 0;

    if (str_empty(s->sender) || is_kept_back(s))
        return;
    a = arena_new();
    for (size_t i = 0; i < s->rcpt_count; i++) {
        const struct submit_recipient *r = &s->rcpts[i];

        if (!is_success_wanted(r) && !(tells_failures && is_failure_wanted(r)))
            continue;
        if (v == NULL)
            v = ARENA_ARRAY(a, s->rcpt_count, struct dsn_recipient);
        v[n++] = describe(a, r);
    }
    if (n > 0)
        send_report(s, v, n);
    arena_free(&a);
}
