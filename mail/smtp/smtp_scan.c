/* smtp_scan.c - from what scanners said to what becomes of the message: the strictest of both counts.
 *
 * Rspamd's "greylist" alone changes nothing, as in its own milter: when its greylisting wants mail to come again, it says
 * "soft reject". */
#include "mail/smtp/smtp_scan.h"

#include "mail/spam/scanner.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

/* From mild to strict. */
enum outcome { TAKE, TAG, JUNK, HOLD, DEFER, REFUSE };

/* ---- what to do --------------------------------------------------------------------------------------- */

static enum outcome virus_outcome(const struct scan_result *r)
{
    static const enum outcome of_action[] = {
        [VIRUS_REJECT] = REFUSE, [VIRUS_HOLD] = HOLD, [VIRUS_JUNK] = JUNK, [VIRUS_TAG] = TAG};

    return str_empty(r->virus) ? TAKE : of_action[scanner_virus_action()];
}

static enum outcome spam_outcome(const struct scan_result *r)
{
    static const enum outcome of_action[] = {
        [RSPAMD_NO_ACTION] = TAKE,       [RSPAMD_GREYLIST] = TAKE,     [RSPAMD_ADD_HEADER] = JUNK,
        [RSPAMD_REWRITE_SUBJECT] = JUNK, [RSPAMD_SOFT_REJECT] = DEFER, [RSPAMD_REJECT] = REFUSE,
        [RSPAMD_QUARANTINE] = HOLD,      [RSPAMD_DISCARD] = REFUSE,    [RSPAMD_OTHER] = TAKE,
    };

    return r->rspamd == SCAN_SAID ? of_action[r->spam.action] : TAKE;
}

static bool is_away(const struct scan_result *r)
{
    return r->clamav == SCAN_FAILED || r->rspamd == SCAN_FAILED;
}

/* Of a virus that is refused nothing else needs to be known, though a scanner be away. */
static enum outcome decide(const struct scan_result *r)
{
    enum outcome virus = virus_outcome(r), spam = spam_outcome(r);
    enum outcome strictest = virus > spam ? virus : spam;

    return strictest < DEFER && is_away(r) && scanner_must_say() ? DEFER : strictest;
}

/* ---- telling ---------------------------------------------------------------------------------------------- */

static struct str spam_refusal(struct arena *a, const struct rspamd_answer *spam)
{
    if (!str_empty(spam->message))
        return arena_printf(a,
                            "the spam filter refuses the message (%.*s); if it is none, ask "
                            "postmaster@%s",
                            STR_ARG(spam->message), config.hostname);
    return arena_printf(
        a,
        "the message looks like spam; if it is none, ask postmaster@%s, or tell its "
        "recipient another way",
        config.hostname);
}

static struct str refusal(struct arena *a, const struct scan_result *r)
{
    if (virus_outcome(r) == REFUSE)
        return arena_printf(a,
                            "the message carries %.*s (found by ClamAV); send it without, and look "
                            "after the machine that it comes from",
                            STR_ARG(r->virus));
    return spam_refusal(a, &r->spam);
}

static struct str deferral(struct arena *a, const struct scan_result *r)
{
    if (spam_outcome(r) != DEFER)
        return STR("a scanner that must see all mail cannot say anything now, try again later");
    if (str_empty(r->spam.message))
        return STR("the spam filter puts the message off, try again later");
    return arena_printf(a, "the spam filter puts the message off (%.*s), try again later",
                        STR_ARG(r->spam.message));
}

static void tell(struct smtp_session *s, const struct scan_result *r, enum outcome outcome)
{
    static const char *const words[] = {
        [TAKE] = "",       [TAG] = ", tagged",    [JUNK] = ", to Junk",
        [HOLD] = ", held", [DEFER] = ", put off", [REFUSE] = ", refused",
    };
    struct str said = scan_result_text(s->tx_arena, r);
    struct str text = arena_printf(s->tx_arena, "%.*s%s", STR_ARG(said), words[outcome]);

    trace_event(s->tx.trace_id, TRACE_VERDICT, STR_NULL, text);
    log_info(&s->log, "message_scanned", KV("id", s->tx.trace_text), KV("from", s->tx.sender),
             KV("results", text));
    if (outcome >= DEFER)
        metric_inc(METRIC_scan_refused);
    else if (outcome > TAKE)
        metric_inc(METRIC_scan_junked);
}

static int answer(struct smtp_session *s, const struct submit *m, int code, const char *enhanced,
                  struct str text)
{
    smtp_trace_refused(s, m->message, text);
    smtp_reply(s, code, enhanced, "%.*s", STR_ARG(text));
    return 1;
}

/* ---- doing it ------------------------------------------------------------------------------------------------ */

/* Why it waits for an administrator. */
static struct str hold_reason(struct arena *a, const struct scan_result *r)
{
    return str_empty(r->virus) ? STR("Rspamd wants it in quarantine")
                               : arena_printf(a, "ClamAV found %.*s", STR_ARG(r->virus));
}

static int follow(struct smtp_session *s, struct submit *m, const struct scan_result *r,
                  enum outcome outcome)
{
    struct arena *a = s->tx_arena;

    if (outcome == REFUSE)
        return answer(s, m, 554, "5.7.1", refusal(a, r));
    if (outcome == DEFER)
        return answer(s, m, 451, "4.7.1", deferral(a, r));
    if (!str_empty(r->virus))
        m->head = arena_printf(a, "X-Virus-Status: Infected (%.*s)\r\n%.*s", STR_ARG(r->virus),
                               STR_ARG(m->head));
    m->is_junk |= outcome == JUNK || virus_outcome(r) == JUNK || spam_outcome(r) == JUNK;
    if (outcome == HOLD && str_empty(m->held))
        m->held = hold_reason(a, r);
    return 0;
}

/* ---- asking --------------------------------------------------------------------------------------------------- */

static bool goes_past(const struct smtp_session *s)
{
    bool is_ours = s->role == SMTP_SUBMISSION || smtp_may_relay(s);

    return !scanner_is_on() || s->role == SMTP_LMTP || (is_ours && !config.scan_submissions);
}

static struct rspamd_mail describe(struct smtp_session *s, const struct submit *m)
{
    struct str *rcpts = ARENA_ARRAY(s->tx_arena, m->rcpt_count, struct str);
    bool is_local = conn_peer(s->conn)->ss_family == AF_UNIX;

    for (size_t i = 0; i < m->rcpt_count; i++)
        rcpts[i] = m->rcpts[i].address;
    return (struct rspamd_mail){
        .message = m->message,
        .client_ip = is_local ? STR("") : conn_peer_text(s->conn),
        .client_name = s->tx.client_name,
        .helo = s->helo,
        .user = s->is_logged_in ? s->account_address : STR(""),
        .queue_id = arena_str(s->tx_arena, str_c(s->tx.trace_text)),
        .sender = m->sender,
        .rcpts = rcpts,
        .rcpt_count = m->rcpt_count,
    };
}

PARKS int smtp_scan_submit(struct smtp_session *s, struct submit *m, struct error *err)
{
    struct scan_result result;
    struct rspamd_mail mail;
    enum outcome outcome;

    if (goes_past(s))
        return 0;
    mail = describe(s, m);
    if (scanner_scan(s->tx_arena, &mail, &result, err) < 0)
        return -1;
    outcome = decide(&result);
    tell(s, &result, outcome);
    return follow(s, m, &result, outcome);
}
