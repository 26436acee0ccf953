/* smtp_transaction.c - MAIL, RCPT and RSET: who sends, who receives, and whether we take it. */
#include "mail/smtp/smtp_internal.h"

#include "server/directory/directory.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

void smtp_tx_reset(struct smtp_session *s)
{
    struct buf message;

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

/* ---- MAIL ------------------------------------------------------------------------------------- */

static int mail_params(struct smtp_session *s, const struct smtp_params *params, struct error *err)
{
    for (size_t i = 0; i < params->n; i++) {
        struct str name = params->v[i].name, value = params->v[i].value;
        uint64_t size;

        if (str_ieq(name, STR("SIZE"))) {
            if (!str_to_u64(value, &size))
                return fail(err, ERR_SYNTAX, "SIZE needs a number of bytes");
            if (size > (uint64_t)config.smtp_size_max)
                return fail(err, ERR_TOO_BIG, "the message is larger than the %lld bytes we take",
                            (long long)config.smtp_size_max);
            s->tx.size_declared = (int64_t)size;
        } else if (str_ieq(name, STR("BODY"))) {
            if (!str_ieq(value, STR("7BIT")) && !str_ieq(value, STR("8BITMIME")))
                return fail(err, ERR_SYNTAX, "BODY is 7BIT or 8BITMIME");
        } else if (str_ieq(name, STR("SMTPUTF8"))) {
            s->tx.is_utf8 = true;
        } else if (!str_ieq(name, STR("AUTH"))) { /* RFC 4954, 5: may be ignored */
            return smtp_reply(s, 555, "5.5.4", "unknown MAIL parameter"), 1;
        }
    }
    return 0;
}

/* The sender's own addresses only: a log-in is no licence to write in another's name. */
static int check_submitter(struct smtp_session *s, const struct smtp_path *path, struct error *err)
{
    struct str address;
    bool is_allowed;

    if (path->is_null)
        return 0;
    if (address_canonical(s->command_arena, path->local, path->domain, &address, err) < 0 ||
        directory_may_send_as(s->account_id, address, &is_allowed, err) < 0)
        return -1;
    if (!is_allowed)
        return fail(err, ERR_DENIED, "you may not send as this address; use one of your own");
    return 0;
}

int smtp_cmd_mail(struct smtp_session *s, struct str args, struct error *err)
{
    struct smtp_params params;
    struct smtp_path path;
    int status;

    if (s->role == SMTP_SUBMISSION && !s->is_logged_in)
        return smtp_reply(s, 530, "5.7.0", "log in first");
    smtp_tx_reset(s);
    if (smtp_parse_path(s->tx_arena, args, STR("FROM:"), &path, &params, err) < 0)
        return -1;
    if (!s->is_esmtp && params.n > 0)
        return smtp_reply(s, 555, "5.5.4", "parameters need EHLO");
    if ((status = mail_params(s, &params, err)) != 0)
        return status < 0 ? -1 : 0;
    if (path.is_utf8 && !s->tx.is_utf8)
        return smtp_reply(s, 553, "5.6.7", "this address needs the parameter SMTPUTF8");
    if (s->is_logged_in && check_submitter(s, &path, err) < 0)
        return -1;
    s->tx.sender = smtp_mailbox_text(s->tx_arena, path.local, path.domain);
    s->phase = SMTP_MAIL;
    return smtp_reply(s, 250, "2.1.0", "sender ok");
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

static void add_account(struct smtp_session *s, int64_t account_id)
{
    struct smtp_tx *tx = &s->tx;

    tx->accounts = grown(s->tx_arena, tx->accounts, tx->account_count, &tx->account_room,
                         sizeof *tx->accounts);
    tx->accounts[tx->account_count++] = account_id;
}

static bool leads_to(const struct smtp_tx *tx, const struct smtp_recipient *r,
                     const struct recipients *found)
{
    if (r->count != found->n)
        return false;
    for (size_t i = 0; i < found->n; i++)
        if (tx->accounts[r->first + i] != found->v[i].account_id)
            return false;
    return true;
}

/* Where the accounts stand, in tx->accounts. A large group named a thousand times takes its place once. */
static size_t place_accounts(struct smtp_session *s, const struct recipients *found)
{
    struct smtp_tx *tx = &s->tx;
    size_t first = tx->account_count;

    for (size_t i = 0; i < tx->rcpt_count; i++)
        if (leads_to(tx, &tx->rcpts[i], found))
            return tx->rcpts[i].first;
    for (size_t i = 0; i < found->n; i++)
        add_account(s, found->v[i].account_id);
    return first;
}

static void add_recipient(struct smtp_session *s, struct str path, const struct recipients *found)
{
    struct smtp_tx *tx = &s->tx;
    size_t first = place_accounts(s, found);

    tx->rcpts = grown(s->tx_arena, tx->rcpts, tx->rcpt_count, &tx->rcpt_room, sizeof *tx->rcpts);
    tx->rcpts[tx->rcpt_count++] = (struct smtp_recipient){path, first, found->n};
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

static int resolve(struct smtp_session *s, const struct smtp_path *path, struct recipients *found,
                   struct error *err)
{
    struct str domain = path->domain;

    if (str_empty(domain) && postmaster_domain(s, &domain, err) < 0)
        return -1;
    if (directory_resolve(s->command_arena, path->local, domain, found, err) == 0)
        return 0;
    if (err->kind == ERR_DENIED && s->is_logged_in) {
        error_clear(err);
        return fail(err, ERR_DENIED, "mail to other servers cannot be sent from here yet");
    }
    return -1;
}

/* A full mailbox is refused here, while the sender can still be told whose it is. A group is not full as long as
 * one member has room. */
static int check_room(struct smtp_session *s, const struct recipients *found, struct error *err)
{
    int64_t wanted = s->tx.size_declared > 0 ? s->tx.size_declared : 1;

    for (size_t i = 0; i < found->n; i++)
        if (found->v[i].bytes_free >= wanted)
            return 0;
    return fail(err, ERR_OVER_QUOTA, "the mailbox is full");
}

int smtp_cmd_rcpt(struct smtp_session *s, struct str args, struct error *err)
{
    struct recipients found = {0};
    struct smtp_params params;
    struct smtp_path path;

    if (s->tx.rcpt_count >= (size_t)config.smtp_rcpt_max)
        return smtp_reply(s, 452, "4.5.3", "too many recipients; send the rest in another message");
    if (smtp_parse_path(s->command_arena, args, STR("TO:"), &path, &params, err) < 0)
        return -1;
    if (path.is_null)
        return smtp_reply(s, 501, "5.1.3", "a recipient needs an address");
    if (params.n > 0)
        return smtp_reply(s, 555, "5.5.4", "unknown RCPT parameter");
    if (path.is_utf8 && !s->tx.is_utf8)
        return smtp_reply(s, 553, "5.6.7", "this address needs the parameter SMTPUTF8 of MAIL");
    if (resolve(s, &path, &found, err) < 0 || check_room(s, &found, err) < 0) {
        metric_inc(METRIC_smtp_recipients_refused);
        log_info(&s->log, "rcpt_refused", KV("rcpt", args), KV_ERR(err));
        return -1;
    }
    add_recipient(s, smtp_mailbox_text(s->tx_arena, path.local, path.domain), &found);
    s->phase = SMTP_RCPT;
    return smtp_reply(s, 250, "2.1.5", "recipient ok");
}
