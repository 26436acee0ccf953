/* smtp_deliver.c - what becomes of a message: trace fields in front, one delivery, the answers. */
#include "mail/smtp/smtp_internal.h"

#include <stdlib.h>

#include "mail/store/delivery.h"
#include "server/base/date.h"
#include "server/run/config.h"
#include "server/run/dns.h"
#include "server/run/metrics.h"

/* ---- trace fields (RFC 5321, 4.4) ---------------------------------------------------------------- */

static const char *protocol_name(const struct smtp_session *s)
{
    static const char *const names[2][2][2][2] = {
        /* [UTF8][LMTP][TLS][AUTH], RFC 3848, 6531 */
        {{{"ESMTP", "ESMTPA"}, {"ESMTPS", "ESMTPSA"}}, {{"LMTP", "LMTPA"}, {"LMTPS", "LMTPSA"}}},
        {{{"UTF8SMTP", "UTF8SMTPA"}, {"UTF8SMTPS", "UTF8SMTPSA"}},
         {{"UTF8LMTP", "UTF8LMTPA"}, {"UTF8LMTPS", "UTF8LMTPSA"}}},
    };
    if (!s->is_esmtp)
        return "SMTP";
    return names[s->tx.is_utf8][s->role == SMTP_LMTP][conn_is_tls(s->conn)][s->is_logged_in];
}

static struct str client_name(struct smtp_session *s)
{
    struct str name = s->client_name;

    if (str_empty(name) && config.smtp_reverse_lookup && !conn_is_loopback(s->conn))
        dns_confirmed_name(s->command_arena, conn_peer(s->conn), &name, NULL);
    return str_empty(name) ? STR("unknown") : name;
}

static void add_client(struct smtp_session *s, struct buf *b)
{
    struct str peer = conn_peer_text(s->conn);

    if (conn_peer(s->conn)->ss_family == AF_UNIX) {
        buf_addf(b, "(local)");
        return;
    }
    s->tx.client_name = arena_str(s->tx_arena, client_name(s));
    buf_addf(b, "(%.*s [%s%.*s])", STR_ARG(s->tx.client_name),
             str_index(peer, ':') >= 0 ? "IPv6:" : "", STR_ARG(peer));
}

void smtp_trace_begin(struct smtp_session *s)
{
    struct buf *b = &s->tx.message;

    s->tx.trace_id = trace_id_new();
    trace_id_text(s->tx.trace_id, s->tx.trace_text);
    buf_clear(b);
    buf_addf(b, "Return-Path: <%.*s>\r\n", STR_ARG(s->tx.sender));
    buf_addf(b, "Received: from %.*s ", STR_ARG(s->helo));
    add_client(s, b);
    buf_addf(b, "\r\n\tby %s with %s", config.hostname, protocol_name(s));
    if (conn_is_tls(s->conn))
        buf_addf(b, "\r\n\t(%.*s)", STR_ARG(conn_tls_description(s->conn)));
    buf_addf(b, "\r\n\tid %s", s->tx.trace_text);
    if (s->tx.rcpt_count == 1) /* more would show blind recipients to each other */
        buf_addf(b, "\r\n\tfor <%.*s>", STR_ARG(s->tx.rcpts[0].path));
    buf_adds(b, ";\r\n\t");
    date_add_rfc5322(b, time_now_us() / 1000000, 0);
    buf_adds(b, "\r\n");
    s->tx.trace_size = b->n;
}

/* ---- delivery --------------------------------------------------------------------------------------- */

static int compare_deliveries(const void *a, const void *b)
{
    int64_t x = ((const struct delivery *)a)->account_id,
            y = ((const struct delivery *)b)->account_id;

    return x < y ? -1 : x > y;
}

/* One delivery per account, sorted, however many recipients lead to it. */
static struct delivery *make_deliveries(struct smtp_session *s, size_t *count)
{
    struct smtp_tx *tx = &s->tx;
    struct delivery *v = ARENA_ARRAY(s->tx_arena, tx->account_count, struct delivery);
    int64_t now_us = time_now_us();
    size_t n = 0;

    for (size_t i = 0; i < tx->account_count; i++)
        v[i] = (struct delivery){.account_id = tx->accounts[i],
                                 .received_us = now_us,
                                 .may_exceed_quota = s->role != SMTP_LMTP};
    qsort(v, tx->account_count, sizeof *v, compare_deliveries);
    for (size_t i = 0; i < tx->account_count; i++)
        if (n == 0 || v[n - 1].account_id != v[i].account_id)
            v[n++] = v[i];
    *count = n;
    return v;
}

static const struct delivery *find_delivery(const struct delivery *v, size_t count,
                                            int64_t account_id)
{
    struct delivery key = {.account_id = account_id};

    return bsearch(&key, v, count, sizeof *v, compare_deliveries);
}

/* A recipient is served when any of the accounts it led to was (a group's one full member is not its failure). */
static enum delivery_status recipient_status(struct smtp_session *s, const struct smtp_recipient *r,
                                             const struct delivery *v, size_t count)
{
    enum delivery_status status = DELIVERY_NO_ACCOUNT;

    for (size_t i = r->first; i < r->first + r->count; i++) {
        const struct delivery *d = find_delivery(v, count, s->tx.accounts[i]);
        if (d->status == DELIVERED)
            return DELIVERED;
        status = d->status;
    }
    return status;
}

static void answer_recipient(struct smtp_session *s, const struct smtp_recipient *r,
                             enum delivery_status status)
{
    switch (status) {
    case DELIVERED:
        smtp_reply(s, 250, "2.0.0", "<%.*s> %s delivered", STR_ARG(r->path), s->tx.trace_text);
        return;
    case DELIVERY_OVER_QUOTA:
        smtp_reply(s, 452, "4.2.2", "<%.*s> the mailbox is full", STR_ARG(r->path));
        return;
    case DELIVERY_NO_MAILBOX:
    case DELIVERY_NO_ACCOUNT:
        smtp_reply(s, 550, "5.1.1", "<%.*s> the account is gone", STR_ARG(r->path));
        return;
    }
}

/* ---- the trace ------------------------------------------------------------------------------------- */

static void trace_facts(struct smtp_session *s, const struct message_prepared *m,
                        struct trace_facts *f)
{
    struct str *recipients = ARENA_ARRAY(s->tx_arena, TRACE_RECIPIENTS_MAX, struct str);

    for (size_t i = 0; i < s->tx.rcpt_count && i < TRACE_RECIPIENTS_MAX; i++)
        recipients[i] = s->tx.rcpts[i].path;
    *f = (struct trace_facts){
        .direction = s->is_logged_in ? TRACE_SUBMITTED : TRACE_IN,
        .client_ip = conn_peer_text(s->conn),
        .client_name = s->tx.client_name,
        .helo = s->helo,
        .protocol = str_c(protocol_name(s)),
        .tls = conn_is_tls(s->conn) ? conn_tls_description(s->conn) : STR(""),
        .account_id = s->is_logged_in ? s->account_id : 0,
        .sender = s->tx.sender,
        .recipients = recipients,
        .recipient_count = s->tx.rcpt_count,
        .size = m->raw.n - s->tx.trace_size,
    };
    trace_header_facts(str_from(m->raw, s->tx.trace_size), f);
}

static void trace_copy(struct smtp_session *s, struct str path, const struct delivery *d)
{
    if (d->status == DELIVERED)
        trace_delivered(s->tx.trace_id, path, d->account_id, STR("INBOX"));
    else
        trace_event(s->tx.trace_id, TRACE_REFUSED, path,
                    d->status == DELIVERY_OVER_QUOTA ? STR("the mailbox is full")
                                                     : STR("the account is gone"));
}

/* What was received, and where each recipient's copies went. */
static void trace_message(struct smtp_session *s, const struct message_prepared *m,
                          const struct delivery *v, size_t count)
{
    struct trace_facts facts;
    size_t lines = 0;

    trace_facts(s, m, &facts);
    trace_received(s->tx.trace_id, &facts);
    for (size_t i = 0; i < s->tx.rcpt_count; i++) {
        const struct smtp_recipient *r = &s->tx.rcpts[i];
        for (size_t j = r->first; j < r->first + r->count && lines < TRACE_LINES_MAX; j++, lines++)
            trace_copy(s, r->path, find_delivery(v, count, s->tx.accounts[j]));
        fiber_pause();
    }
}

static void log_accepted(struct smtp_session *s, const struct message_prepared *m)
{
    metric_inc(METRIC_smtp_messages_accepted);
    log_info(&s->log, "message_accepted", KV("id", s->tx.trace_text), KV("from", s->tx.sender),
             KV("rcpt", s->tx.rcpts[0].path), KV("rcpt_count", s->tx.rcpt_count),
             KV("size", m->raw.n));
}

static int answer_smtp(struct smtp_session *s, const struct delivery *v, size_t count)
{
    size_t lost = 0, full = 0;

    for (size_t i = 0; i < count; i++) {
        lost += v[i].status != DELIVERED;
        full += v[i].status == DELIVERY_OVER_QUOTA;
    }
    if (lost == count)
        return full > 0 ? smtp_reply(s, 452, "4.2.2", "the mailbox is full")
                        : smtp_reply(s, 550, "5.1.1", "the recipient's account is gone");
    return smtp_reply(s, 250, "2.0.0", "%s accepted", s->tx.trace_text);
}

int smtp_deliver(struct smtp_session *s, struct error *err)
{
    struct message_prepared message;
    struct delivery *v;
    size_t count;

    v = make_deliveries(s, &count);
    message_prepare(s->tx_arena, buf_str(&s->tx.message), &message);
    if (mail_deliver(&message, v, count, NULL, err) < 0)
        return -1;
    log_accepted(s, &message);
    trace_message(s, &message, v, count);
    if (s->role != SMTP_LMTP)
        return answer_smtp(s, v, count);
    for (size_t i = 0; i < s->tx.rcpt_count; i++)
        answer_recipient(s, &s->tx.rcpts[i], recipient_status(s, &s->tx.rcpts[i], v, count));
    return 0;
}
