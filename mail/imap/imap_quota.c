/* imap_quota.c - GETQUOTA, GETQUOTAROOT, SETQUOTA (RFC 9208).
 *
 * Every account has one quota root, which is named by the account's address and covers all of its
 * mailboxes. Limits are the store's own: bytes are shown in units of 1,024, rounded up. */
#include "mail/imap/imap_quota.h"

#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_session.h"
#include "mail/store/mailbox.h"
#include "server/base/log.h"
#include "server/directory/directory.h"
#include "server/pg/notify.h"

#define UNIT 1024

/* --- answers ---------------------------------------------------------------------------------- */

static void add_resource(struct buf *out, const char **gap, const char *name, int64_t used,
                         int64_t limit)
{
    if (limit == 0)
        return;
    buf_addf(out, "%s%s %lld %lld", *gap, name, (long long)used, (long long)limit);
    *gap = " ";
}

static int64_t in_units(int64_t bytes)
{
    return bytes / UNIT + (bytes % UNIT > 0);
}

/* A root without limits has an empty list. */
static PARKS int add_quota(struct buf *out, const struct account *account, struct error *err)
{
    struct mail_usage usage;
    const char *gap = "";

    if (mail_usage(account->account_id, &usage, err) < 0)
        return -1;
    buf_adds(out, "* QUOTA ");
    imap_add_quoted(out, account->address);
    buf_adds(out, " (");
    add_resource(out, &gap, "STORAGE", in_units(usage.bytes), in_units(usage.bytes_max));
    add_resource(out, &gap, "MESSAGE", usage.messages, usage.messages_max);
    buf_adds(out, ")\r\n");
    return 0;
}

/* `place`, where it is not NULL, is the mailbox whose roots are asked for. */
static PARKS int tell_quota(struct imap_session *s, const struct account *account,
                            const struct imap_place *place, struct error *err)
{
    struct buf out;
    int status;

    buf_init(&out, SIZE_MAX);
    if (place != NULL) {
        buf_adds(&out, "* QUOTAROOT ");
        imap_add_mailbox(s, &out, place->name);
        buf_addc(&out, ' ');
        imap_add_quoted(&out, account->address);
        buf_adds(&out, "\r\n");
    }
    status = add_quota(&out, account, err);
    if (status == 0)
        imap_write_buf(s, &out);
    buf_fini(&out);
    return status;
}

/* --- roots ------------------------------------------------------------------------------------ */

/* Whose root it is. Who may not know it does not learn whether there is one. */
static PARKS int find_root(struct imap_session *s, struct str root, struct account *user,
                           struct account *out, struct error *err)
{
    struct error cause = {0};

    if (directory_get_account(s->arena, s->account_id, user, err) < 0)
        return -1;
    if (directory_find_account(s->arena, root, out, &cause) == 0 &&
        (user->is_administrator || out->account_id == user->account_id))
        return 0;
    if (cause.kind == ERR_TRY_LATER || cause.kind == ERR_INTERNAL)
        return fail(err, cause.kind, "%s", cause.text);
    return user->is_administrator ? fail(err, ERR_NOT_FOUND, "there is no such quota root")
                                  : fail(err, ERR_DENIED, "this is not your quota root");
}

int imap_cmd_getquota(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct account user, account;
    struct str root;

    if (imap_parse_astring(&c->args, s->arena, &root, "a quota root", err) < 0 ||
        imap_parse_end(&c->args, err) < 0 || find_root(s, root, &user, &account, err) < 0)
        return -1;
    return tell_quota(s, &account, NULL, err);
}

/* One's own mailbox need not exist; another's must be readable (RFC 9208, 6). */
int imap_cmd_getquotaroot(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct account account;
    struct mailbox mailbox;
    struct imap_place place;

    if (imap_parse_mailbox(s, c, &place, err) < 0 || imap_parse_end(&c->args, err) < 0)
        return -1;
    if (!imap_place_is_own(s, &place) &&
        imap_find_mailbox(s, c, &place, RIGHT_READ, &mailbox, err) < 0)
        return -1;
    if (directory_get_account(s->arena, place.account_id, &account, err) < 0)
        return -1;
    return tell_quota(s, &account, &place, err);
}

/* --- SETQUOTA --------------------------------------------------------------------------------- */

struct limits {
    uint64_t storage, messages; /* 0: not named, so without limit from now on */
};

/* The store has no limit that forbids every message. */
static int parse_limit(struct imap_command *c, uint64_t *limit, uint64_t max, struct error *err)
{
    if (*limit != 0)
        return fail(err, ERR_SYNTAX, "a resource is named twice");
    if (imap_parse_space(&c->args, err) < 0 ||
        imap_parse_number64(&c->args, limit, "a limit", err) < 0)
        return -1;
    if (*limit == 0 || *limit > max)
        return fail(err, ERR_UNSUPPORTED, "a limit is between 1 and %llu", (unsigned long long)max);
    return 0;
}

static int parse_resource(struct imap_command *c, struct limits *limits, struct error *err)
{
    struct str name;

    if (imap_parse_atom(&c->args, &name, "a resource", err) < 0)
        return -1;
    if (str_ieq(name, STR("STORAGE")))
        return parse_limit(c, &limits->storage, INT64_MAX / UNIT, err);
    if (str_ieq(name, STR("MESSAGE")))
        return parse_limit(c, &limits->messages, INT64_MAX, err);
    return fail(err, ERR_UNSUPPORTED, "only STORAGE and MESSAGE can be limited");
}

static int parse_limits(struct imap_command *c, struct limits *limits, struct error *err)
{
    *limits = (struct limits){0};
    if (imap_parse_char(&c->args, '(', err) < 0)
        return -1;
    if (!imap_parse_skip(&c->args, ')')) {
        do {
            if (parse_resource(c, limits, err) < 0)
                return -1;
        } while (imap_parse_skip(&c->args, ' '));
        if (imap_parse_char(&c->args, ')', err) < 0)
            return -1;
    }
    return imap_parse_end(&c->args, err);
}

static int64_t quota_of(uint64_t limit, uint64_t unit)
{
    return limit == 0 ? QUOTA_UNLIMITED : (int64_t)(limit * unit);
}

int imap_cmd_setquota(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct account user, account;
    struct limits limits;
    struct str root;

    if (imap_parse_astring(&c->args, s->arena, &root, "a quota root", err) < 0 ||
        imap_parse_space(&c->args, err) < 0 || parse_limits(c, &limits, err) < 0 ||
        find_root(s, root, &user, &account, err) < 0)
        return -1;
    if (!user.is_administrator)
        return fail(err, ERR_DENIED, "only administrators change limits");
    if (account_set_quota(account.address, quota_of(limits.storage, UNIT),
                          quota_of(limits.messages, 1), err) < 0)
        return -1;
    log_info(conn_log(s->conn), "quota_set", KV("by", user.address), KV("root", account.address),
             KV("bytes_max", limits.storage * UNIT), KV("messages_max", limits.messages),
             KV("bytes_max_before", account.quota_bytes),
             KV("messages_max_before", account.quota_messages));
    bus_publish((uint64_t)account.account_id);
    return tell_quota(s, &account, NULL, err);
}

/* --- the warning ------------------------------------------------------------------------------ */

static bool is_exceeded(const struct mail_usage *usage)
{
    return (usage->bytes_max > 0 && usage->bytes > usage->bytes_max) ||
           (usage->messages_max > 0 && usage->messages > usage->messages_max);
}

/* Nothing that IMAP adds can exceed a limit, but a delivery that was admitted before it can. */
void imap_quota_warn(struct imap_session *s)
{
    struct mail_usage usage;
    bool was_over = s->is_over_quota;

    if (!s->has_quota || s->selected.account_id != s->account_id ||
        mail_usage(s->account_id, &usage, NULL) < 0)
        return;
    s->is_over_quota = is_exceeded(&usage);
    if (s->is_over_quota && !was_over)
        conn_write(s->conn, STR("* NO [OVERQUOTA] The mailbox is over its quota\r\n"));
}
