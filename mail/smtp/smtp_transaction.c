/* smtp_transaction.c - MAIL, RCPT and RSET: who sends, who receives, and whether we take it. */
#include "mail/smtp/smtp_internal.h"
#include "mail/mime/address_path.h"

#include "mail/authentic/srs.h"
#include "mail/queue/submit.h"
#include "mail/smtp/smtp_milter.h"
#include "mail/smtp/smtp_policy.h"
#include "mail/store/report_address.h"
#include "server/base/date.h"
#include "server/directory/directory.h"
#include "server/directory/grants.h"
#include "server/directory/routing.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

void smtp_tx_reset(struct smtp_session *s)
{
    struct buf message;

    smtp_trace_end(s);
    smtp_message_discard(&s->tx);
    message = s->tx.message;
    s->tx = (struct smtp_tx){.message = message};
    arena_reset(s->tx_arena);
    if (s->phase != SMTP_START && s->phase != SMTP_CLOSING)
        s->phase = SMTP_READY;
}

int smtp_cmd_rset(struct smtp_session *s, struct str args, struct error *err)
{
    smtp_tx_reset(s);
    return smtp_reply(s, 250, "2.0.0", "ok");
}

bool smtp_may_relay(const struct smtp_session *s)
{
    return s->is_logged_in || s->is_trusted;
}

/* ---- MAIL ------------------------------------------------------------------------------------- */

/* A neighbour on LMTP is trusted: that is what LMTP is for. */
static struct smtp_offer make_offer(const struct smtp_session *s)
{
    bool may_hold = s->role == SMTP_SUBMISSION && s->is_logged_in;

    return (struct smtp_offer){
        .now_us = time_now_us(),
        .size_max = config.smtp_size_max,
        .hold_max_s = may_hold ? config.smtp_future_release_max / 1000 : 0,
        .is_tls = conn_is_tls(s->conn),
        .is_trusted = s->is_logged_in || s->is_trusted || s->role == SMTP_LMTP,
    };
}

/* 1: refused, and said so. */
static int mail_params(struct smtp_session *s, const struct smtp_params *params, struct error *err)
{
    struct smtp_offer offer = make_offer(s);

    if (smtp_read_mail_params(s->tx_arena, params, &offer, &s->tx.params, err) < 0) {
        if (err->kind != ERR_UNSUPPORTED)
            return -1;
        smtp_reply(s, 555, "5.5.4", "%s", err->text);
        return 1;
    }
    s->tx.is_utf8 = s->tx.params.is_utf8;
    return 0;
}

/* The sender's own addresses and those granted to them: a log-in is no licence to write in another's name. */
static int check_submitter(struct smtp_session *s, const struct smtp_path *path, struct error *err)
{
    struct send_address sender;

    if (path->is_null)
        return 0;
    if (address_canonical(s->command_arena, path->local, path->domain, &sender.address, err) < 0 ||
        directory_may_send_as(s->account_id, &sender, 1, NULL, err) < 0)
        return -1;
    if (sender.right == SEND_DENIED)
        return fail(err, ERR_DENIED,
                    "you may not send as this address; use one of your own, or ask the "
                    "administrator for a grant");
    return 0;
}

static int take_mail(struct smtp_session *s, struct str args, struct smtp_path *path,
                     struct error *err)
{
    struct smtp_params params;
    int status;

    if (smtp_parse_path(s->tx_arena, args, STR("FROM:"), path, &params, err) < 0)
        return path->is_bad ? smtp_reply(s, 501, "5.1.7", "%s", err->text) : -1;
    s->tx.sender = address_path_of(s->tx_arena, path->local, path->domain);
    if (!s->is_esmtp && params.n > 0)
        return smtp_reply(s, 555, "5.5.4", "parameters need EHLO");
    if ((status = mail_params(s, &params, err)) != 0)
        return status < 0 ? -1 : 0;
    if (path->is_utf8 && !s->tx.is_utf8)
        return smtp_reply(s, 553, "5.6.7", "this address needs the parameter SMTPUTF8");
    if (s->is_logged_in && check_submitter(s, path, err) < 0)
        return -1;
    if ((status = smtp_policy_mail(s, path, err)) != 0)
        return status < 0 ? -1 : 0;
    if (smtp_milter_mail(s, args) != 0)
        return 0;
    s->phase = SMTP_MAIL;
    if (s->tx.params.is_priority_lowered) /* RFC 6710, 4.1: the new one comes first */
        return smtp_reply(s, 250, "2.3.6", "0 is the priority of this message; sender ok");
    return smtp_reply(s, 250, "2.1.0", "sender ok");
}

int smtp_cmd_mail(struct smtp_session *s, struct str args, struct error *err)
{
    struct smtp_path path = {0};
    struct str why;
    int status;

    if (s->role == SMTP_SUBMISSION && !s->is_logged_in)
        return smtp_reply(s, 530, "5.7.0", "log in first");
    smtp_tx_reset(s);
    s->refusal[0] = '\0';
    /* What is remembered of it must outlive the line. */
    status = take_mail(s, arena_str(s->tx_arena, args), &path, err);
    why = status < 0 ? str_c(err->text) : str_c(s->refusal);
    if (!str_empty(path.local) && !str_empty(why))
        smtp_trace_sender_refused(s, why);
    return status;
}

/* ---- RCPT ------------------------------------------------------------------------------------- */

static void *grown(struct arena *a, void *old, size_t count, size_t *room, size_t size)
{
    void *to;

    if (count < *room)
        return old;
    *room = *room == 0 ? 8 : *room * 2;
    to = arena_array(a, *room, size);
    if (count > 0)
        memcpy(to, old, count * size);
    return to;
}

static bool is_same_route(const struct route *x, const struct route *y)
{
    return x->kind == y->kind && x->account_id == y->account_id &&
           x->through_account_id == y->through_account_id && str_eq(x->address, y->address);
}

static bool leads_to(const struct smtp_recipient *r, const struct routes *found)
{
    if (r->route_count != found->n)
        return false;
    for (size_t i = 0; i < found->n; i++)
        if (!is_same_route(&r->routes[i], &found->v[i]))
            return false;
    return true;
}

static const struct route *copy_routes(struct arena *a, const struct routes *found)
{
    struct route *v = ARENA_ARRAY(a, found->n, struct route);

    for (size_t i = 0; i < found->n; i++) {
        v[i] = found->v[i];
        v[i].address = arena_str(a, v[i].address);
        v[i].detail = arena_str(a, v[i].detail);
    }
    return v;
}

/* A large group named a thousand times takes its place once. */
static const struct route *place_routes(struct smtp_session *s, const struct routes *found)
{
    struct smtp_tx *tx = &s->tx;

    for (size_t i = 0; i < tx->rcpt_count; i++)
        if (leads_to(&tx->rcpts[i], found))
            return tx->rcpts[i].routes;
    tx->route_count += found->n;
    return copy_routes(s->tx_arena, found);
}

static void add_recipient(struct smtp_session *s, struct str path,
                          const struct smtp_rcpt_params *params, const struct routes *found)
{
    struct smtp_tx *tx = &s->tx;
    const struct route *routes = place_routes(s, found);

    if (found->size_max > 0 && (tx->size_max == 0 || found->size_max < tx->size_max))
        tx->size_max = found->size_max;
    tx->rcpts = grown(s->tx_arena, tx->rcpts, tx->rcpt_count, &tx->rcpt_room, sizeof *tx->rcpts);
    tx->rcpts[tx->rcpt_count++] = (struct smtp_recipient){
        .path = path,
        .routes = routes,
        .route_count = found->n,
        .is_group = found->is_group,
        .notify = params->notify,
        .orcpt = arena_str(s->tx_arena, params->orcpt),
    };
}

/* <postmaster> without a domain is the server's own (RFC 5321, 4.5.1). */
static int postmaster_domain(struct smtp_session *s, struct str *domain, struct error *err)
{
    struct str *names;
    size_t count;

    if (domain_list(s->command_arena, &names, &count, err) < 0)
        return -1;
    if (count == 0)
        return fail(err, ERR_NOT_FOUND, "this server has no domain yet");
    *domain = names[0];
    return 0;
}

static void lead_away(struct smtp_session *s, struct str local, struct str domain,
                      struct routes *found)
{
    *found = (struct routes){
        .v = submit_route_away(s->command_arena, arena_printf(s->command_arena, "%.*s@%.*s",
                                                              STR_ARG(local), STR_ARG(domain))),
        .n = 1,
    };
}

/* A bounce of what we forwarded comes back to the address that we made up for its sender (mail/authentic/srs.h). */
static int lead_back(struct smtp_session *s, struct str srs_local, struct routes *found,
                     struct error *err)
{
    struct str local, domain;

    if (srs_restore(s->command_arena, srs_local, time_now_us() / 1000000, &local, &domain, err) < 0)
        return -1;
    lead_away(s, local, domain, found);
    return 0;
}

/* Literals and names that DNS may know: it is the queue that finds out. */
static int relay(struct smtp_session *s, const struct smtp_path *path, struct routes *found,
                 struct error *err)
{
    struct str domain = path->domain;

    if (!str_starts(domain, STR("[")) &&
        domain_canonical(s->command_arena, path->domain, &domain, err) < 0)
        return -1;
    lead_away(s, path->local, domain, found);
    return 0;
}

static int check_size(struct smtp_session *s, const struct routes *found, struct error *err)
{
    if (found->size_max > 0 && s->tx.params.size_declared > found->size_max)
        return fail(err, ERR_TOO_BIG, "the message is larger than the %lld bytes this domain takes",
                    (long long)found->size_max);
    return 0;
}

static int resolve(struct smtp_session *s, struct smtp_path *path, struct routes *found,
                   struct error *err)
{
    struct routing_sender from = {s->tx.sender, s->is_logged_in ? s->account_id : 0,
                                  s->is_trusted || s->role == SMTP_LMTP};
    struct error cause = {0};

    if (str_empty(path->domain) && postmaster_domain(s, &path->domain, err) < 0)
        return -1;
    if (str_starts(path->domain, STR("[")))
        fail(&cause, ERR_UNSUPPORTED, "an address in brackets is not one of our domains");
    else if (directory_route(s->command_arena, path->local, path->domain, &from, found, &cause) ==
             0)
        return check_size(s, found, err);
    if (cause.kind == ERR_NOT_FOUND && str_empty(s->tx.sender) && srs_is_rewritten(path->local))
        return lead_back(s, path->local, found, err);
    if (cause.kind == ERR_NOT_FOUND && report_address_is(path->local))
        return 0; /* it leads to nobody: reports are kept without an account */
    if (cause.kind == ERR_UNSUPPORTED && smtp_may_relay(s))
        return relay(s, path, found, err);
    if (cause.kind == ERR_UNSUPPORTED)
        return fail(err, ERR_DENIED, "relaying is not allowed: %s", cause.text);
    return fail(err, cause.kind, "%s", cause.text);
}

/* A full mailbox is refused here, while the sender can still be told whose it is. A group is not full as long as
 * one member has room, and postmaster never is. */
static int check_room(struct smtp_session *s, const struct smtp_path *path,
                      const struct routes *found, struct error *err)
{
    int64_t wanted = s->tx.params.size_declared > 0 ? s->tx.params.size_declared : 1;

    if (found->n == 0 || smtp_policy_is_role(path))
        return 0;
    for (size_t i = 0; i < found->n; i++)
        if (found->v[i].bytes_free >= wanted)
            return 0;
    return fail(err, ERR_OVER_QUOTA, "the mailbox is full");
}

/* 1: refused, and said so. */
static int rcpt_params(struct smtp_session *s, const struct smtp_params *params,
                       struct smtp_rcpt_params *out, struct error *err)
{
    if (params->n > 0 && !s->is_esmtp)
        return smtp_reply(s, 555, "5.5.4", "parameters need EHLO"), 1;
    if (smtp_read_rcpt_params(s->tx_arena, params, s->tx.is_utf8, out, err) == 0)
        return 0;
    if (err->kind != ERR_UNSUPPORTED)
        return -1;
    return smtp_reply(s, 555, "5.5.4", "%s", err->text), 1;
}

/* 1: refused, and said so. */
static int parse_rcpt(struct smtp_session *s, struct str args, struct smtp_path *path,
                      struct smtp_rcpt_params *out, struct error *err)
{
    struct smtp_params params;

    if (smtp_parse_path(s->command_arena, args, STR("TO:"), path, &params, err) < 0)
        return path->is_bad ? (smtp_reply(s, 501, "5.1.3", "%s", err->text), 1) : -1;
    if (path->is_null)
        return smtp_reply(s, 501, "5.1.3", "a recipient needs an address"), 1;
    if (path->is_utf8 && !s->tx.is_utf8)
        return smtp_reply(s, 553, "5.6.7", "this address needs the parameter SMTPUTF8 of MAIL"), 1;
    return rcpt_params(s, &params, out, err);
}

static int refuse_rcpt(struct smtp_session *s, struct str args, const struct error *err)
{
    metric_inc(METRIC_smtp_recipients_refused);
    log_info(&s->log, "rcpt_refused", KV("rcpt", args), KV_ERR(err));
    if (err->kind == ERR_LIMIT) /* RFC 3463, 3.3: a list that cannot be expanded */
        smtp_reply(s, 550, "5.2.4", "%s", err->text);
    else
        smtp_reply_error(s, err);
    if (err->kind == ERR_NOT_FOUND)
        smtp_policy_unknown_rcpt(s);
    return 0;
}

static int take_rcpt(struct smtp_session *s, struct str args, struct smtp_path *path,
                     struct error *err)
{
    struct routes found = {0};
    struct smtp_rcpt_params params;
    int status;

    if ((status = parse_rcpt(s, args, path, &params, err)) != 0)
        return status < 0 ? -1 : 0;
    if (resolve(s, path, &found, err) < 0 || check_room(s, path, &found, err) < 0)
        return refuse_rcpt(s, args, err);
    if (s->tx.route_count + found.n > SMTP_ROUTES_MAX)
        return smtp_reply(
            s, 452, "4.5.3",
            "the recipients lead to too many people; send the rest in another message");
    if ((status = smtp_policy_rcpt(s, path, err)) != 0)
        return status < 0 ? -1 : 0;
    if (smtp_milter_rcpt(s, args) != 0)
        return 0;
    add_recipient(s, address_path_of(s->tx_arena, path->local, path->domain), &params, &found);
    s->phase = SMTP_RCPT;
    return smtp_reply(s, 250, "2.1.5", "recipient ok");
}

int smtp_cmd_rcpt(struct smtp_session *s, struct str args, struct error *err)
{
    struct smtp_path path = {0};
    struct str why;
    int status;

    if (s->tx.rcpt_count >= (size_t)config.smtp_rcpt_max)
        return smtp_reply(s, 452, "4.5.3", "too many recipients; send the rest in another message");
    args = arena_str(s->command_arena, args); /* policies may wait, and the line with them */
    s->refusal[0] = '\0';
    status = take_rcpt(s, args, &path, err);
    why = status < 0 ? str_c(err->text) : str_c(s->refusal);
    if (!str_empty(path.local) && !str_empty(why))
        smtp_trace_rcpt_refused(s, address_path_of(s->command_arena, path.local, path.domain), why);
    return status;
}
