/* smtp_deliver.c - what becomes of a message: whose it is, whether it is what it says, one submission, the answers.
 *
 * Who logged in writes as an author (smtp_author.c); what strangers bring is judged (smtp_verdict.c). Then it goes through
 * mail/queue/submit.h like everything else: copies and queue entries in one transaction, behind which the answer follows. */
#include "mail/smtp/smtp_internal.h"

#include "mail/queue/submit.h"
#include "mail/smtp/smtp_author.h"
#include "mail/smtp/smtp_guard.h"
#include "mail/smtp/smtp_milter.h"
#include "mail/smtp/smtp_reports.h"
#include "mail/smtp/smtp_scan.h"
#include "mail/smtp/smtp_verdict.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

_Static_assert((int)SMTP_NOTIFY_NEVER == (int)OUTBOUND_NOTIFY_NEVER &&
                   (int)SMTP_NOTIFY_SUCCESS == (int)OUTBOUND_NOTIFY_SUCCESS &&
                   (int)SMTP_NOTIFY_FAILURE == (int)OUTBOUND_NOTIFY_FAILURE &&
                   (int)SMTP_NOTIFY_DELAY == (int)OUTBOUND_NOTIFY_DELAY &&
                   (int)SMTP_RET_HDRS == (int)OUTBOUND_RET_HDRS &&
                   (int)SMTP_BODY_BINARYMIME == (int)OUTBOUND_BODY_BINARYMIME,
               "they go through as they are");

/* ---- the submission --------------------------------------------------------------------------------- */

static struct submit_recipient *describe_recipients(struct smtp_session *s)
{
    struct submit_recipient *v =
        ARENA_ARRAY(s->tx_arena, s->tx.rcpt_count, struct submit_recipient);

    for (size_t i = 0; i < s->tx.rcpt_count; i++) {
        const struct smtp_recipient *r = &s->tx.rcpts[i];

        v[i] = (struct submit_recipient){.address = r->path,
                                         .orcpt = r->orcpt,
                                         .notify = r->notify,
                                         .routes = r->routes,
                                         .route_count = r->route_count,
                                         .is_group = r->is_group};
    }
    return v;
}

static struct submit describe(struct smtp_session *s)
{
    const struct smtp_mail_params *p = &s->tx.params;

    return (struct submit){
        .trace_id = s->tx.trace_id,
        .account_id = s->is_logged_in ? s->account_id : 0,
        .sender = s->tx.sender,
        .envid = p->envid,
        .ret = p->ret,
        .body = p->body,
        .is_utf8 = s->tx.is_utf8,
        .requires_tls = p->requires_tls,
        .priority = p->priority,
        .deliver_by_us = p->deliver_by_us,
        .deliver_by_notify = p->by_mode == SMTP_BY_NOTIFY,
        .hold_until_us = p->hold_until_us,
        .may_exceed_quota = s->role != SMTP_LMTP,
        .answers_each = s->role == SMTP_LMTP,
        .client_ip = conn_peer_text(s->conn),
        .return_path = arena_printf(s->tx_arena, "Return-Path: <%.*s>\r\n", STR_ARG(s->tx.sender)),
        .message = smtp_message_of(&s->tx),
        .room_size = SMTP_ROOM_SIZE,
        .rcpts = describe_recipients(s),
        .rcpt_count = s->tx.rcpt_count,
    };
}

/* Strangers' mail is judged; nobody's speaks in our name. */
static int judge(struct smtp_session *s, struct submit *m)
{
    struct smtp_verdict *verdict = ARENA_NEW(s->tx_arena, struct smtp_verdict);

    if (smtp_verdict_make(s, m->message, m->room_size, verdict) != 0)
        return 1;
    m->message = verdict->message;
    m->room_size = verdict->room_size;
    m->is_junk = verdict->is_junk;
    m->head = verdict->field;
    m->results = verdict->results;
    m->arc = verdict->is_checked ? &verdict->checked.arc : NULL;
    return 0;
}

static int prepare(struct smtp_session *s, struct submit *m, struct error *err)
{
    struct str received;

    if (judge(s, m) != 0)
        return 1;
    if (s->is_logged_in && smtp_author_prepare(s, m->message, m->room_size, m, err) < 0)
        return -1;
    received = smtp_received_field(s);
    m->head = arena_printf(s->tx_arena, "%.*s%.*s", STR_ARG(m->head), STR_ARG(received));
    return 0;
}

/* ---- answers ------------------------------------------------------------------------------------------ */

static void answer_recipient(struct smtp_session *s, const struct submit_recipient *r)
{
    switch (r->status) {
    case SUBMIT_TAKEN:
        smtp_reply(s, 250, "2.0.0", "<%.*s> %s delivered", STR_ARG(r->address), s->tx.trace_text);
        return;
    case SUBMIT_OVER_QUOTA:
        smtp_reply(s, 452, "4.2.2", "<%.*s> the mailbox is full", STR_ARG(r->address));
        return;
    case SUBMIT_GONE:
        smtp_reply(s, 550, "5.1.1", "<%.*s> the account is gone", STR_ARG(r->address));
        return;
    case SUBMIT_REFUSED:
        smtp_reply(s, 550, "5.7.1", "<%.*s> refuses the message: %.*s", STR_ARG(r->address),
                   STR_ARG(r->reason));
        return;
    }
}

static int answer_smtp(struct smtp_session *s, const struct submit *m)
{
    const struct submit_recipient *refused = NULL;
    size_t taken = 0, full = 0;

    for (size_t i = 0; i < m->rcpt_count; i++) {
        taken += m->rcpts[i].status == SUBMIT_TAKEN;
        full += m->rcpts[i].status == SUBMIT_OVER_QUOTA;
        if (m->rcpts[i].status == SUBMIT_REFUSED)
            refused = &m->rcpts[i];
    }
    if (taken == 0 && full == 0 && refused != NULL)
        return smtp_reply(s, 550, "5.7.1", "the recipient refuses the message: %.*s",
                          STR_ARG(refused->reason));
    if (taken == 0)
        return full > 0 ? smtp_reply(s, 452, "4.2.2", "the mailbox is full")
                        : smtp_reply(s, 550, "5.1.1", "the recipient's account is gone");
    return smtp_reply(s, 250, "2.0.0", "%s accepted", s->tx.trace_text);
}

static int answer(struct smtp_session *s, const struct submit *m)
{
    if (s->role != SMTP_LMTP)
        return answer_smtp(s, m);
    for (size_t i = 0; i < m->rcpt_count; i++)
        answer_recipient(s, &m->rcpts[i]);
    return 0;
}

static void log_accepted(struct smtp_session *s, const struct submit *m)
{
    s->idle_count = 0;
    metric_inc(METRIC_smtp_messages_accepted);
    log_info(&s->log, "message_accepted", KV("id", s->tx.trace_text), KV("from", s->tx.sender),
             KV("rcpt", s->tx.rcpts[0].path), KV("rcpt_count", s->tx.rcpt_count),
             KV("size", m->message.n));
}

int smtp_deliver(struct smtp_session *s, struct error *err)
{
    struct submit m = describe(s);
    int status = prepare(s, &m, err);

    if (status == 0)
        status = smtp_milter_submit(s, &m, err);
    if (status == 0)
        status = smtp_scan_submit(s, &m, err);
    if (status == 0)
        status = smtp_guard_submit(s, &m, err);
    if (status == 0) /* ahead of the copies: who is told to come again has served nobody yet */
        status = smtp_reports_keep(s, &m, err);
    if (status < 0)
        smtp_trace_refused(s, m.message, str_c(err->text));
    if (status != 0)
        return status;
    smtp_trace_received(s, m.message);
    if (submit_message(&m, err) < 0) {
        smtp_trace_recipients_refused(s, str_c(err->text));
        return -1;
    }
    log_accepted(s, &m);
    return answer(s, &m);
}
