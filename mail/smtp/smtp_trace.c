/* smtp_trace.c - where a message came from: the fields in front of it (RFC 5321, 4.4) and its line in the trace. */
#include "mail/smtp/smtp_internal.h"

#include "server/base/date.h"
#include "server/run/config.h"
#include "server/run/dns.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"

#define REFUSALS_PER_SESSION 10
#define REFUSALS_AT_ONCE     200 /* of this worker: whoever tries out names must not fill the trace */
#define REFUSAL_INTERVAL_MS  200 /* and so often for ever: 432,000 a day */

void smtp_trace_name(struct smtp_tx *tx)
{
    if (tx->trace_id != 0)
        return;
    tx->trace_id = trace_id_new();
    trace_id_text(tx->trace_id, tx->trace_text);
}

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

/* How people who log in reach us is nobody's business but theirs and ours: the address of their home stays here. */
static void add_origin(struct smtp_session *s, struct buf *b)
{
    if (s->is_logged_in && config.submission_hide_client) {
        buf_adds(b, "Received:");
        return;
    }
    buf_addf(b, "Received: from %.*s ", STR_ARG(s->helo));
    add_client(s, b);
    buf_adds(b, "\r\n\t");
}

struct str smtp_received_field(struct smtp_session *s)
{
    struct str field;
    struct buf b;

    buf_init(&b, 16384);
    add_origin(s, &b);
    buf_addf(&b, "%sby %s with %s", b.p[b.n - 1] == ':' ? " " : "", config.hostname,
             protocol_name(s));
    if (conn_is_tls(s->conn))
        buf_addf(&b, "\r\n\t(%.*s)", STR_ARG(conn_tls_description(s->conn)));
    buf_addf(&b, "\r\n\tid %s", s->tx.trace_text);
    if (s->tx.rcpt_count == 1) /* more would show blind recipients to each other */
        buf_addf(&b, "\r\n\tfor <%.*s>", STR_ARG(s->tx.rcpts[0].path));
    buf_adds(&b, ";\r\n\t");
    date_add_rfc5322(&b, time_now_us() / 1000000, 0);
    buf_adds(&b, "\r\n");
    field = arena_str(s->tx_arena, buf_str(&b));
    buf_fini(&b);
    return field;
}

static void tell_origin(struct smtp_session *s, struct str message, const struct str *recipients,
                        size_t count)
{
    struct trace_facts facts = {
        .direction = s->is_logged_in ? TRACE_SUBMITTED : TRACE_IN,
        .client_ip = conn_peer_text(s->conn),
        .client_name = str_empty(s->tx.client_name) ? s->client_name : s->tx.client_name,
        .helo = s->helo,
        .protocol = str_c(protocol_name(s)),
        .tls = conn_is_tls(s->conn) ? conn_tls_description(s->conn) : STR(""),
        .account_id = s->is_logged_in ? s->account_id : 0,
        .sender = s->tx.sender,
        .recipients = recipients,
        .recipient_count = count,
        .size = message.n,
    };

    trace_header_facts(message, &facts);
    trace_received(s->tx.trace_id, &facts);
    s->tx.is_traced = true;
}

void smtp_trace_received(struct smtp_session *s, struct str message)
{
    struct str recipients[TRACE_RECIPIENTS_MAX];

    for (size_t i = 0; i < s->tx.rcpt_count && i < TRACE_RECIPIENTS_MAX; i++)
        recipients[i] = s->tx.rcpts[i].path;
    tell_origin(s, message, recipients, s->tx.rcpt_count);
}

void smtp_trace_refused(struct smtp_session *s, struct str message, struct str why)
{
    smtp_trace_received(s, message);
    smtp_trace_recipients_refused(s, why);
}

void smtp_trace_recipients_refused(struct smtp_session *s, struct str why)
{
    for (size_t i = 0; i < s->tx.rcpt_count && i < TRACE_LINES_MAX; i++)
        trace_event(s->tx.trace_id, TRACE_REFUSED, s->tx.rcpts[i].path, why);
}

/* ---- refused at MAIL and RCPT ---------------------------------------------------------------------- */

/* One that may not is counted. */
static bool may_tell_refusal(struct smtp_session *s)
{
    static int64_t due_ms; /* when all that was told would have been told at the steady pace */
    int64_t now_ms = loop_now_ms();

    if (due_ms < now_ms)
        due_ms = now_ms;
    if (s->refusals_traced >= REFUSALS_PER_SESSION ||
        due_ms - now_ms >= REFUSALS_AT_ONCE * REFUSAL_INTERVAL_MS) {
        metric_inc(METRIC_smtp_refusals_untraced);
        return false;
    }
    due_ms += REFUSAL_INTERVAL_MS;
    s->refusals_traced++;
    return true;
}

void smtp_trace_sender_refused(struct smtp_session *s, struct str why)
{
    if (!may_tell_refusal(s))
        return;
    smtp_trace_name(&s->tx);
    tell_origin(s, STR_NULL, NULL, 0);
    trace_event(s->tx.trace_id, TRACE_REFUSED, STR_NULL, why);
}

void smtp_trace_rcpt_refused(struct smtp_session *s, struct str rcpt, struct str why)
{
    struct smtp_tx *tx = &s->tx;

    if (!may_tell_refusal(s)) {
        s->refusals_untraced++;
        return;
    }
    if (tx->refused == NULL)
        tx->refused = ARENA_ARRAY(s->tx_arena, REFUSALS_PER_SESSION, struct str);
    smtp_trace_name(tx);
    tx->refused[tx->refused_count++] = arena_str(s->tx_arena, rcpt);
    trace_event(tx->trace_id, TRACE_REFUSED, rcpt, why);
}

void smtp_trace_end(struct smtp_session *s)
{
    struct smtp_tx *tx = &s->tx;

    if (tx->refused_count > 0) {
        if (s->refusals_untraced > 0)
            trace_event(tx->trace_id, TRACE_REFUSED, STR_NULL,
                        arena_printf(s->tx_arena, "%u more recipients", s->refusals_untraced));
        if (!tx->is_traced)
            tell_origin(s, STR_NULL, tx->refused, tx->refused_count);
    }
    s->refusals_untraced = 0;
}
