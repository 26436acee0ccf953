/* smtp_milter.c - the milters of an SMTP session: when they are told what, and what becomes of their verdicts.
 *
 * A conversation with each milter begins with the client's connection and is kept for all its messages. What a milter has
 * not been told yet (it was away, or the session began before it was wanted) is told before the next step, so each step
 * only says how far it needs to be. A milter that fails costs its deadline, and then the setting decides: accept goes on
 * without it, tempfail and reject refuse the mail, but never the session: the client may say QUIT in peace. */
#include "mail/smtp/smtp_milter.h"

#include <stdio.h>
#include <stdlib.h>

#include "mail/milter/milter.h"
#include "mail/mime/address_path.h"
#include "mail/smtp/smtp_milter_macros.h"
#include "server/base/memory.h"
#include "server/base/net.h"
#include "server/run/config.h"
#include "server/run/dns.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"

#define RETRY_MS  5000 /* a session asks again for a milter that was away */
#define ROOM_SIZE 8192
#define ARGS_MAX  (SMTP_PARAMS_MAX + 1)

/* How much of the session a milter knows. */
enum told { TOLD_NOTHING, TOLD_CONNECT, TOLD_HELO };

struct link {
    const struct milter_target *target;
    struct milter *m; /* NULL: no conversation */
    enum told told;
    bool is_past;  /* it wants to hear no more of the session */
    bool is_in_tx; /* it was told of the transaction; with no conversation: it was lost meanwhile */
    bool discards; /* all mail of the session */
    int64_t retry_ms; /* not asked again before */
};

struct smtp_milters {
    struct link v[MILTERS_MAX];
    size_t n;
    bool discards; /* the transaction's message */
    struct smtp_macros macros;
};

static struct arena *settings; /* holds targets */
static struct milter_list targets;

int smtp_milter_start(struct error *err)
{
    struct str bad;

    if (!net_list_valid(str_c(config.milter_networks_skipped), &bad))
        return fail(err, ERR_SYNTAX, "milter_networks_skipped: %.*s is no network", STR_ARG(bad));
    settings = arena_new();
    return milter_list_parse(settings, str_c(config.milters), &targets, err);
}

void smtp_milter_stop(void)
{
    targets = (struct milter_list){0};
    arena_free(&settings);
}

/* ---- whom it concerns ------------------------------------------------------------------------------ */

static bool goes_past(const struct smtp_session *s)
{
    bool is_submission = s->role == SMTP_SUBMISSION || s->is_logged_in;

    return targets.n == 0 || s->role == SMTP_LMTP || (is_submission && !config.milter_submission) ||
           net_list_contains(str_c(config.milter_networks_skipped), conn_peer(s->conn));
}

/* No milter waits for the rest of the transaction. */
static bool concerns_nobody(const struct smtp_session *s)
{
    if (s->milters == NULL)
        return true;
    for (size_t i = 0; i < s->milters->n; i++)
        if (s->milters->v[i].is_in_tx)
            return false;
    return true;
}

static struct smtp_milters *milters_of(struct smtp_session *s)
{
    if (s->milters != NULL)
        return s->milters;
    s->milters = memory_alloc(sizeof *s->milters);
    s->milters->n = targets.n;
    for (size_t i = 0; i < targets.n; i++)
        s->milters->v[i].target = &targets.v[i];
    s->milters->macros.session = s;
    return s->milters;
}

static void hang_up(struct link *l)
{
    milter_close(&l->m);
    l->told = TOLD_NOTHING;
}

void smtp_milter_close(struct smtp_session *s)
{
    if (s->milters == NULL)
        return;
    for (size_t i = 0; i < s->milters->n; i++)
        hang_up(&s->milters->v[i]);
    free(s->milters);
    s->milters = NULL;
}

void smtp_milter_forget(struct smtp_session *s)
{
    if (s->milters == NULL)
        return;
    for (size_t i = 0; i < s->milters->n; i++) {
        struct link *l = &s->milters->v[i];

        l->is_in_tx = false;
        if (l->told > TOLD_CONNECT)
            l->told = TOLD_CONNECT;
    }
}

/* ---- words ----------------------------------------------------------------------------------------- */

/* The milter's own, or ours where it gave none. */
static void write_refusal(struct milter_refusal *r, const char *what)
{
    if (r->text[0] == '\0')
        snprintf(r->text, sizeof r->text, "a filter of this server refuses this %s%s", what,
                 r->code < 500 ? " for now, try again later"
                               : "; ask its postmaster if that is wrong");
}

static int refuse(struct smtp_session *s, const struct link *l, struct milter_refusal *r,
                  const char *what)
{
    write_refusal(r, what);
    metric_inc(METRIC_milter_refusals);
    log_info(&s->log, "milter_refused", KV("milter", l->target->name), KV("what", what),
             KV("code", r->code), KV("reason", (const char *)r->text));
    smtp_reply(s, r->code, r->enhanced, "%s", r->text);
    if (r->code == 421)
        s->phase = SMTP_CLOSING;
    return 1;
}

/* What the setting says of a milter that is away. False: go on without it. */
static bool away_refusal(const struct link *l, struct milter_refusal *r)
{
    if (l->target->away == MILTER_AWAY_ACCEPT)
        return false;
    *r =
        l->target->away == MILTER_AWAY_REJECT
            ? (struct milter_refusal){550, "5.7.1",
                                      "a filter that must see all mail does not answer; tell the "
                                      "postmaster of this server"}
            : (struct milter_refusal){
                  451, "4.7.1", "a filter that must see all mail does not answer, try again later"};
    return true;
}

static void note_failure(struct smtp_session *s, struct link *l, const struct error *err)
{
    hang_up(l);
    if (err->kind == ERR_CANCELLED)
        return;
    metric_inc(METRIC_milter_failures);
    log_warn(&s->log, "milter_failed", KV("milter", l->target->name), KV_ERR(err));
}

/* The server is stopping: mail must not slip past a filter for that. */
static int end_cancelled(struct smtp_session *s)
{
    smtp_reply(s, 421, "4.3.2", "%s is restarting, come back in a moment", config.hostname);
    s->phase = SMTP_CLOSING;
    return 1;
}

/* ---- one milter ------------------------------------------------------------------------------------- */

static int open_link(struct smtp_milters *all, struct link *l, struct error *err)
{
    struct milter_macros macros = {smtp_macro_value, &all->macros};

    if (loop_now_ms() < l->retry_ms)
        return fail(err, ERR_TRY_LATER, "the milter %.*s was away a moment ago",
                    STR_ARG(l->target->name));
    l->m = milter_open(l->target, &macros, err);
    l->told = TOLD_NOTHING;
    l->retry_ms = l->m == NULL ? loop_now_ms() + RETRY_MS : 0;
    return l->m == NULL ? -1 : 0;
}

static int tell_connect(struct smtp_session *s, struct link *l, struct milter_verdict *v,
                        struct error *err)
{
    struct str address = conn_peer_text(s->conn), name = s->milters->macros.client_name;

    if (str_empty(name))
        name = arena_printf(s->command_arena, "[%.*s]", STR_ARG(address));
    if (milter_connect(l->m, name, conn_peer(s->conn), address, v, err) < 0)
        return -1;
    l->told = TOLD_CONNECT;
    return 0;
}

static int tell_helo(struct smtp_session *s, struct link *l, struct milter_verdict *v,
                     struct error *err)
{
    if (milter_helo(l->m, s->helo, v, err) < 0)
        return -1;
    l->told = TOLD_HELO;
    return 0;
}

/* Opens the conversation where there is none and tells what is missing, until the milter says anything but continue. */
static int bring_up(struct smtp_session *s, struct link *l, enum told want,
                    struct milter_verdict *v, struct error *err)
{
    *v = (struct milter_verdict){.decision = MILTER_CONTINUE};
    if (l->m != NULL && !milter_is_fresh(l->m))
        hang_up(l);
    if (l->m == NULL && open_link(s->milters, l, err) < 0)
        return -1;
    if (l->told < TOLD_CONNECT && tell_connect(s, l, v, err) < 0)
        return -1;
    if (v->decision == MILTER_CONTINUE && want == TOLD_HELO && l->told < TOLD_HELO &&
        tell_helo(s, l, v, err) < 0)
        return -1;
    if (v->decision == MILTER_ACCEPT)
        l->is_past = true;
    if (v->decision == MILTER_DISCARD)
        l->is_past = l->discards = true;
    if (v->decision == MILTER_REFUSE) /* and will again, when the client goes on all the same */
        hang_up(l);
    return 0;
}

/* ---- the session ------------------------------------------------------------------------------------- */

static void find_client_name(struct smtp_session *s)
{
    struct smtp_macros *macros = &s->milters->macros;
    struct str name = s->client_name;

    if (conn_peer(s->conn)->ss_family == AF_UNIX || conn_is_loopback(s->conn))
        name = STR("localhost");
    else if (str_empty(name))
        dns_confirmed_name(s->command_arena, conn_peer(s->conn), &name, NULL);
    name = str_head(name, sizeof macros->client_name_text);
    if (name.n > 0)
        memcpy(macros->client_name_text, name.p, name.n);
    macros->client_name = str_of(macros->client_name_text, name.n);
}

/* Connections that are refused end with it (RFC 5321, 3.1). */
static int refuse_client(struct smtp_session *s, const struct link *l, struct milter_refusal *r)
{
    bool is_final = r->code >= 500;

    if (r->text[0] == '\0' || !is_final)
        r->code = is_final ? 554 : 421;
    refuse(s, l, r, "connection");
    s->phase = SMTP_CLOSING;
    return 1;
}

PARKS int smtp_milter_connect(struct smtp_session *s)
{
    if (goes_past(s))
        return 0;
    milters_of(s);
    find_client_name(s);
    for (size_t i = 0; i < s->milters->n; i++) {
        struct link *l = &s->milters->v[i];
        struct milter_verdict v;
        struct error err = {0};

        if (bring_up(s, l, TOLD_CONNECT, &v, &err) < 0) {
            note_failure(s, l, &err);
            if (err.kind == ERR_CANCELLED)
                return end_cancelled(s);
        } else if (v.decision == MILTER_REFUSE)
            return refuse_client(s, l, &v.refusal);
    }
    return 0;
}

static int helo_to(struct smtp_session *s, struct link *l)
{
    struct milter_verdict v;
    struct error err = {0};

    l->is_in_tx = false;
    if (l->told > TOLD_CONNECT)
        l->told = TOLD_CONNECT; /* it is greeted as often as we are */
    if (l->is_past || (l->m == NULL && loop_now_ms() < l->retry_ms))
        return 0;
    if (bring_up(s, l, TOLD_HELO, &v, &err) < 0) {
        note_failure(s, l, &err);
        return err.kind == ERR_CANCELLED ? end_cancelled(s) : 0;
    }
    if (v.decision != MILTER_REFUSE)
        return 0;
    refuse(s, l, &v.refusal, "greeting");
    if (s->phase != SMTP_CLOSING)
        s->phase = SMTP_START;
    return 1;
}

PARKS int smtp_milter_helo(struct smtp_session *s)
{
    if (s->milters == NULL)
        return 0;
    for (size_t i = 0; i < s->milters->n; i++)
        if (helo_to(s, &s->milters->v[i]) != 0)
            return 1;
    return 0;
}

PARKS int smtp_milter_unknown(struct smtp_session *s, struct str line)
{
    if (s->milters == NULL)
        return 0;
    line = arena_str(s->command_arena, line);
    for (size_t i = 0; i < s->milters->n; i++) {
        struct link *l = &s->milters->v[i];
        struct milter_verdict v;
        struct error err = {0};

        if (l->m == NULL || l->is_past)
            continue;
        if (milter_unknown(l->m, line, &v, &err) < 0)
            note_failure(s, l, &err);
        else if (v.decision == MILTER_REFUSE)
            return refuse(s, l, &v.refusal, "command");
    }
    return 0;
}

/* ---- the envelope ------------------------------------------------------------------------------------- */

/* "FROM:<a@b> SIZE=1" -> "<a@b>", "SIZE=1": as the client wrote it, but always in brackets. */
static size_t cut_args(struct smtp_session *s, struct str args, struct str prefix,
                       struct str mailbox, struct str *v)
{
    struct smtp_params params = {0};
    struct smtp_path path;
    size_t n = 0;

    smtp_parse_path(s->command_arena, args, prefix, &path, &params, NULL);
    v[n++] = arena_printf(s->command_arena, "<%.*s>", STR_ARG(mailbox));
    for (size_t i = 0; i < params.n && n < ARGS_MAX; i++)
        v[n++] = params.v[i].value.n == 0
                     ? params.v[i].name
                     : arena_printf(s->command_arena, "%.*s=%.*s", STR_ARG(params.v[i].name),
                                    STR_ARG(params.v[i].value));
    return n;
}

/* What a verdict about MAIL or RCPT means for the rest of the transaction; 1: refused. */
static int take_verdict(struct smtp_session *s, struct link *l, struct milter_verdict *v,
                        const char *what)
{
    switch (v->decision) {
    case MILTER_CONTINUE:
        break;
    case MILTER_ACCEPT:
        l->is_in_tx = false;
        break;
    case MILTER_DISCARD:
        l->is_in_tx = false;
        s->milters->discards = true;
        break;
    case MILTER_REFUSE:
        return refuse(s, l, &v->refusal, what);
    }
    return 0;
}

/* It is away, or was lost on the way. */
static int do_without(struct smtp_session *s, struct link *l, const char *what)
{
    struct milter_refusal r;

    if (away_refusal(l, &r))
        return refuse(s, l, &r, what);
    l->is_in_tx = false;
    return 0;
}

static int fail_link(struct smtp_session *s, struct link *l, const struct error *err,
                     const char *what)
{
    note_failure(s, l, err);
    return err->kind == ERR_CANCELLED ? end_cancelled(s) : do_without(s, l, what);
}

static int mail_to(struct smtp_session *s, struct link *l, const struct str *args, size_t count)
{
    struct milter_verdict v;
    struct error err = {0};

    if (l->is_past)
        return 0;
    if (bring_up(s, l, TOLD_HELO, &v, &err) < 0)
        return fail_link(s, l, &err, "sender");
    if (l->is_past || v.decision == MILTER_REFUSE)
        return take_verdict(s, l, &v, "sender");
    l->is_in_tx = true;
    if (milter_mail(l->m, args, count, &v, &err) < 0)
        return fail_link(s, l, &err, "sender");
    return take_verdict(s, l, &v, "sender");
}

static void forget_transaction(struct smtp_session *s)
{
    if (s->milters == NULL)
        return;
    s->milters->discards = false;
    for (size_t i = 0; i < s->milters->n; i++)
        s->milters->v[i].is_in_tx = false;
}

PARKS int smtp_milter_mail(struct smtp_session *s, struct str args)
{
    struct str v[ARGS_MAX];
    size_t n;

    forget_transaction(s);
    if (goes_past(s))
        return 0;
    milters_of(s);
    smtp_trace_name(&s->tx);
    n = cut_args(s, args, STR("FROM:"), s->tx.sender, v);
    for (size_t i = 0; i < s->milters->n; i++) {
        if (mail_to(s, &s->milters->v[i], v, n) != 0)
            return 1;
        s->milters->discards |= s->milters->v[i].discards;
    }
    return 0;
}

static int rcpt_to(struct smtp_session *s, struct link *l, const struct str *args, size_t count)
{
    struct milter_verdict v;
    struct error err = {0};

    if (l->m == NULL)
        return do_without(s, l, "recipient");
    if (milter_rcpt(l->m, args, count, &v, &err) < 0)
        return fail_link(s, l, &err, "recipient");
    return take_verdict(s, l, &v, "recipient");
}

static int rcpt_to_all(struct smtp_session *s, const struct str *args, size_t count)
{
    for (size_t i = 0; i < s->milters->n; i++) {
        struct link *l = &s->milters->v[i];

        if (l->is_in_tx && rcpt_to(s, l, args, count) != 0)
            return 1;
    }
    return 0;
}

PARKS int smtp_milter_rcpt(struct smtp_session *s, struct str args)
{
    struct str v[ARGS_MAX], mailbox;
    struct smtp_params params;
    struct smtp_path path;
    size_t count;
    int status;

    if (concerns_nobody(s) ||
        smtp_parse_path(s->command_arena, args, STR("TO:"), &path, &params, NULL) < 0)
        return 0;
    mailbox = address_path_of(s->command_arena, path.local, path.domain);
    count = cut_args(s, args, STR("TO:"), mailbox, v);
    s->milters->macros.rcpt = mailbox;
    status = rcpt_to_all(s, v, count);
    s->milters->macros.rcpt = STR_NULL; /* it lives no longer than the command */
    return status;
}

/* ---- the end of the message ---------------------------------------------------------------------------- */

static int describe(struct smtp_session *s, struct str message, struct milter_mail *mail,
                    struct error *err)
{
    if (milter_mail_init(mail, s->tx_arena, message, err) < 0)
        return -1;
    mail->body_size_max = (size_t)config.smtp_size_max;
    mail->rcpt_max = s->tx.rcpt_count + (size_t)config.smtp_rcpt_max;
    mail->sender = s->tx.sender;
    for (size_t i = 0; i < s->tx.rcpt_count; i++)
        milter_mail_add_rcpt(mail, s->tx.rcpts[i].path, true);
    return 0;
}

static void note_refusal(struct smtp_session *s, const struct link *l, struct milter_refusal *r,
                         struct smtp_milter_result *out)
{
    write_refusal(r, "message");
    metric_inc(METRIC_milter_refusals);
    log_info(&s->log, "milter_refused", KV("milter", l->target->name), KV("what", "message"),
             KV("id", s->tx.trace_text), KV("code", r->code), KV("reason", (const char *)r->text));
    out->code = r->code;
    out->enhanced = arena_str(s->tx_arena, str_c(r->enhanced));
    out->text = arena_str(s->tx_arena, str_c(r->text));
    if (r->code == 421)
        s->phase = SMTP_CLOSING;
}

/* Its conversation was lost before or now. */
static int lost(struct smtp_session *s, struct link *l, struct smtp_milter_result *out)
{
    struct milter_refusal r;

    l->is_in_tx = false;
    if (away_refusal(l, &r))
        note_refusal(s, l, &r, out);
    return 0;
}

static int pass_through(struct smtp_session *s, struct link *l, struct milter_mail *mail,
                        struct smtp_milter_result *out, struct error *err)
{
    struct milter_verdict v;
    struct error why = {0};

    if (l->m == NULL)
        return lost(s, l, out);
    if (milter_message(l->m, mail, &v, &why) < 0) {
        note_failure(s, l, &why);
        return why.kind == ERR_CANCELLED ? fail(err, why.kind, "%s", why.text) : lost(s, l, out);
    }
    l->is_in_tx = false;
    if (v.decision == MILTER_REFUSE)
        note_refusal(s, l, &v.refusal, out);
    if (v.decision == MILTER_DISCARD)
        out->is_discarded = true;
    return 0;
}

static int pass_through_all(struct smtp_session *s, struct milter_mail *mail,
                            struct smtp_milter_result *out, struct error *err)
{
    for (size_t i = 0; i < s->milters->n; i++) {
        struct link *l = &s->milters->v[i];

        if (!l->is_in_tx)
            continue;
        if (pass_through(s, l, mail, out, err) < 0)
            return -1;
        if (out->code != 0 || out->is_discarded)
            return 0;
    }
    return 0;
}

static void list_recipients(struct smtp_session *s, const struct milter_mail *mail,
                            struct smtp_milter_result *out)
{
    out->added = ARENA_ARRAY(s->tx_arena, mail->rcpt_count, struct str);
    out->removed = ARENA_ARRAY(s->tx_arena, mail->rcpt_count, struct str);
    for (size_t i = 0; i < mail->rcpt_count; i++) {
        const struct milter_rcpt *r = &mail->rcpts[i];

        if (r->was_given && r->is_removed)
            out->removed[out->removed_count++] = r->address;
        if (!r->was_given && !r->is_removed)
            out->added[out->added_count++] = r->address;
    }
}

static void report(struct smtp_session *s, const struct milter_mail *mail,
                   struct smtp_milter_result *out)
{
    if (milter_mail_is_changed(mail)) {
        out->message = milter_mail_text(mail, ROOM_SIZE);
        out->room_size = ROOM_SIZE;
    }
    out->is_sender_changed = mail->is_sender_changed;
    out->sender = mail->sender;
    out->quarantine = mail->quarantine;
    list_recipients(s, mail, out);
}

PARKS int smtp_milter_message(struct smtp_session *s, struct smtp_milter_result *out,
                              struct error *err)
{
    struct milter_mail mail;
    int status;

    out->sender = s->tx.sender;
    out->is_discarded = s->milters != NULL && s->milters->discards;
    if (out->is_discarded || concerns_nobody(s))
        return 0;
    status = describe(s, out->message, &mail, err);
    if (status == 0)
        status = pass_through_all(s, &mail, out, err);
    if (status == 0 && out->code == 0 && !out->is_discarded)
        report(s, &mail, out);
    milter_mail_fini(&mail);
    return status;
}
