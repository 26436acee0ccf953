/* mailbox.c - folders by path, number and role.
 *
 * The rules of the tree (parents are made, roles stay, INBOX is special) are in the SQL
 * functions, under the account's lock; here paths are put into canonical form and rows into
 * structs. */
#include "mail/store/mailbox.h"
#include <stdlib.h>
#include <utf8proc.h>
#include "mail/store/access.h"
#include "mail/store/mailbox_internal.h"
#include "mail/store/message_internal.h"
#include "server/base/utf8.h"
#include "server/pg/notify.h"
#include "server/run/config.h"
#include "sql_queries.h"

/* ---- paths ----------------------------------------------------------------------------------- */

static bool is_forbidden(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == '*' ||
           c == '%';
}

static bool has_forbidden(struct str path)
{
    uint32_t c;

    while (utf8_next(&path, &c))
        if (is_forbidden(c))
            return true;
    return false;
}

static bool has_empty_level(struct str path)
{
    return str_starts(path, STR("/")) || str_ends(path, STR("/")) || str_find(path, STR("//")) >= 0;
}

static unsigned depth_of(struct str path)
{
    unsigned depth = 1;

    for (size_t i = 0; i < path.n; i++)
        depth += path.p[i] == '/';
    return depth;
}

static int normalize(struct arena *a, struct str path, struct str *out)
{
    utf8proc_uint8_t *nfc = NULL;
    utf8proc_ssize_t size = utf8proc_map((const utf8proc_uint8_t *)path.p, (utf8proc_ssize_t)path.n,
                                         &nfc, UTF8PROC_STABLE | UTF8PROC_COMPOSE);

    if (size < 0)
        return -1;
    *out = arena_str(a, str_of((const char *)nfc, (size_t)size));
    free(nfc);
    return 0;
}

/* RFC 9051, 5.1: INBOX is the same in any case, and so is what leads to a mailbox below it. */
static struct str fold_inbox(struct arena *a, struct str path)
{
    struct str first, rest;
    bool has_rest = str_cut(path, '/', &first, &rest);

    if (!str_ieq(first, STR("INBOX")))
        return path;
    return has_rest ? arena_printf(a, "INBOX/%.*s", STR_ARG(rest)) : STR("INBOX");
}

int mailbox_path_canonical(struct arena *a, struct str path, struct str *out, struct error *err)
{
    if (path.n == 0)
        return fail(err, ERR_SYNTAX, "a mailbox name cannot be empty");
    if (path.n > MAILBOX_PATH_SIZE_MAX || !utf8_valid(path))
        return fail(err, ERR_SYNTAX, "a mailbox name is at most %d bytes of UTF-8",
                    MAILBOX_PATH_SIZE_MAX);
    if (has_forbidden(path))
        return fail(err, ERR_SYNTAX, "a mailbox name cannot hold control characters, '*' or '%%'");
    if (has_empty_level(path))
        return fail(err, ERR_SYNTAX, "a level of a mailbox name cannot be empty");
    if (depth_of(path) > MAILBOX_DEPTH_MAX)
        return fail(err, ERR_SYNTAX, "a mailbox name has at most %d levels", MAILBOX_DEPTH_MAX);
    if (normalize(a, path, out) < 0 || out->n > MAILBOX_PATH_SIZE_MAX)
        return fail(err, ERR_SYNTAX, "this mailbox name cannot be used");
    *out = fold_inbox(a, *out);
    return 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

void mailbox_read(struct arena *a, const struct pg_rows *rows, size_t row, struct mailbox *out)
{
    *out = (struct mailbox){
        .account_id = pg_get_i64(rows, row, "account_id"),
        .mailbox_id = pg_get_i64(rows, row, "mailbox_id"),
        .path = arena_str(a, pg_get_str(rows, row, "path")),
        .role = arena_str(a, pg_get_str(rows, row, "role")),
        .uid_validity = pg_get_u32(rows, row, "uid_validity"),
        .uid_next = pg_get_u32(rows, row, "uid_next"),
        .modseq = (uint64_t)pg_get_i64(rows, row, "modseq"),
        .message_count = pg_get_u32(rows, row, "message_count"),
        .unseen_count = pg_get_u32(rows, row, "unseen_count"),
        .deleted_count = pg_get_u32(rows, row, "deleted_count"),
        .bytes = (uint64_t)pg_get_i64(rows, row, "bytes"),
        .is_subscribed = pg_get_bool(rows, row, "is_subscribed"),
        .rights = RIGHTS_ALL,
    };
}

static int read_one(struct arena *a, const struct sql_query *query, struct pg_args args,
                    struct mailbox *out, struct error *err)
{
    struct pg_rows rows = {0};
    struct error cause = {0};

    if (pg_run(pg_pool(), query, args, &rows, &cause) < 0)
        return cause.kind == ERR_NOT_FOUND ? fail(err, ERR_NOT_FOUND, "no such mailbox")
                                           : fail(err, cause.kind, "%s", cause.text);
    mailbox_read(a, &rows, 0, out);
    pg_rows_free(&rows);
    return 0;
}

int mailbox_find(struct arena *a, int64_t account_id, struct str path, struct mailbox *out,
                 struct error *err)
{
    struct str canonical;

    if (mailbox_path_canonical(a, path, &canonical, err) < 0)
        return -1;
    return read_one(a, &sql_mailbox_find, PG_ARGS(pg_i64(account_id), pg_text(canonical)), out,
                    err);
}

int mailbox_get(struct arena *a, int64_t account_id, int64_t mailbox_id, struct mailbox *out,
                struct error *err)
{
    return read_one(a, &sql_mailbox_get, PG_ARGS(pg_i64(account_id), pg_i64(mailbox_id)), out, err);
}

int mailbox_find_role(struct arena *a, int64_t account_id, struct str role, struct mailbox *out,
                      struct error *err)
{
    return read_one(a, &sql_mailbox_find_role, PG_ARGS(pg_i64(account_id), pg_text(role)), out,
                    err);
}

static bool is_child_of(struct str path, struct str parent)
{
    return path.n > parent.n && path.p[parent.n] == '/' && str_starts(path, parent);
}

/* What is below a mailbox comes right behind it. */
static void mark_parents(struct mailbox *v, size_t count)
{
    for (size_t i = 0; i + 1 < count; i++)
        v[i].has_children = is_child_of(v[i + 1].path, v[i].path);
}

void mailbox_read_list(struct arena *a, const struct pg_rows *rows, struct mailbox **out,
                       size_t *count)
{
    *count = rows->count;
    *out = ARENA_ARRAY(a, rows->count, struct mailbox);
    for (size_t i = 0; i < rows->count; i++) {
        mailbox_read(a, rows, i, &(*out)[i]);
        fiber_pause();
    }
    mark_parents(*out, *count);
}

int mailbox_list(struct arena *a, int64_t account_id, struct mailbox **out, size_t *count,
                 struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_mailbox_list, PG_ARGS(pg_i64(account_id)), &rows, err) < 0)
        return -1;
    mailbox_read_list(a, &rows, out, count);
    pg_rows_free(&rows);
    return 0;
}

int mailbox_count_deleted(int64_t account_id, struct mailbox *v, size_t count, struct error *err)
{
    struct arena *a = arena_new();
    int64_t *ids = ARENA_ARRAY(a, count + 1, int64_t);
    size_t *positions = ARENA_ARRAY(a, count + 1, size_t), asked = 0;
    struct pg_rows rows = {0};
    int rc = 0;

    for (size_t i = 0; i < count; i++)
        if (v[i].deleted_count > 0) {
            positions[asked] = i;
            ids[asked++] = v[i].mailbox_id;
        }
    if (asked > 0)
        rc = pg_run(pg_pool(), &sql_mailbox_deleted_bytes,
                    PG_ARGS(pg_i64(account_id), pg_i64_array(ids, asked)), &rows, err);
    for (size_t i = 0; i < rows.count; i++)
        v[positions[i]].deleted_bytes = (uint64_t)pg_get_i64(&rows, i, "bytes");
    pg_rows_free(&rows);
    arena_free(&a);
    return rc;
}

int mail_usage(int64_t account_id, struct mail_usage *out, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_mail_usage, PG_ARGS(pg_i64(account_id)), &rows, err) < 0)
        return -1;
    out->bytes = pg_get_i64(&rows, 0, "bytes_used");
    out->messages = pg_get_i64(&rows, 0, "message_count");
    out->bytes_max = pg_is_null(&rows, 0, "quota_bytes") ? config.quota_bytes
                                                         : pg_get_i64(&rows, 0, "quota_bytes");
    out->messages_max = pg_is_null(&rows, 0, "quota_messages")
                            ? config.quota_messages
                            : pg_get_i64(&rows, 0, "quota_messages");
    pg_rows_free(&rows);
    return 0;
}

int mailbox_unseen_count(struct mailbox_key mailbox, int64_t user_id, uint32_t *count,
                         struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_mailbox_unseen_count,
               PG_ARGS(pg_i64(mailbox.account_id), pg_i64(mailbox.mailbox_id), pg_i64(user_id)),
               &rows, err) < 0)
        return -1;
    *count = pg_get_u32(&rows, 0, "unseen_count");
    pg_rows_free(&rows);
    return 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int change(int64_t account_id, const struct sql_query *query, struct pg_args args,
                  struct pg_rows *rows, struct error *err)
{
    if (pg_run(pg_pool(), query, args, rows, err) < 0)
        return -1;
    bus_publish((uint64_t)account_id);
    return 0;
}

/* Mailboxes of others are found there. */
static int check_free_name(struct str path, struct error *err)
{
    return access_is_foreign_name(path)
               ? fail(err, ERR_UNSUPPORTED, "this name is kept for mailboxes of others")
               : 0;
}

static int create(struct arena *a, int64_t account_id, struct str path, struct str role,
                  int64_t *mailbox_id, struct error *err)
{
    struct pg_arg role_arg = role.n > 0 ? pg_text(role) : pg_null();
    struct pg_rows rows = {0};
    struct str canonical;

    if (mailbox_path_canonical(a, path, &canonical, err) < 0 ||
        check_free_name(canonical, err) < 0 ||
        change(account_id, &sql_mailbox_create,
               PG_ARGS(pg_i64(account_id), pg_text(canonical), role_arg), &rows, err) < 0)
        return -1;
    if (mailbox_id != NULL)
        *mailbox_id = pg_get_i64(&rows, 0, "mailbox_id");
    pg_rows_free(&rows);
    return 0;
}

int mailbox_create(int64_t account_id, struct str path, struct str role, int64_t *mailbox_id,
                   struct error *err)
{
    struct arena *a = arena_new();
    int rc = create(a, account_id, path, role, mailbox_id, err);

    arena_free(&a);
    return rc;
}

/* The mailbox is gone with the first statement. Failures behind it are upkeep's to mend. */
static void empty_removed(int64_t account_id, int64_t mailbox_id)
{
    bool is_emptied = false;

    while (!is_emptied) {
        struct pg_rows rows = {0};

        if (pg_run(pg_pool(), &sql_mailbox_empty_removed,
                   PG_ARGS(pg_i64(account_id), pg_i64(mailbox_id), pg_i32(MESSAGE_PORTION)), &rows,
                   NULL) < 0)
            return;
        is_emptied = pg_get_bool(&rows, 0, "is_emptied");
        pg_rows_free(&rows);
    }
}

static int remove_at(int64_t account_id, struct str canonical, struct error *err)
{
    struct pg_rows rows = {0};

    if (change(account_id, &sql_mailbox_remove,
               PG_ARGS(pg_i64(account_id), pg_text(canonical), pg_i32(MESSAGE_PORTION)), &rows,
               err) < 0)
        return -1;
    if (!pg_get_bool(&rows, 0, "is_emptied"))
        empty_removed(account_id, pg_get_i64(&rows, 0, "mailbox_id"));
    pg_rows_free(&rows);
    return 0;
}

int mailbox_remove(int64_t account_id, struct str path, struct error *err)
{
    struct arena *a = arena_new();
    struct str canonical;
    int rc = mailbox_path_canonical(a, path, &canonical, err);

    if (rc == 0)
        rc = remove_at(account_id, canonical, err);
    arena_free(&a);
    return rc;
}

/* What was in INBOX when it was renamed. Each portion is a transaction, so that mail can come in
 * between. */
static int move_inbox(int64_t account_id, int64_t to, int64_t uid_below, struct error *err)
{
    int64_t moved = MESSAGE_PORTION;

    while (moved == MESSAGE_PORTION) {
        struct pg_rows rows = {0};

        if (pg_run(pg_pool(), &sql_mailbox_move_oldest,
                   PG_ARGS(pg_i64(account_id), pg_i64(INBOX_ID), pg_i64(to), pg_i64(uid_below),
                           pg_i32(MESSAGE_PORTION)),
                   &rows, err) < 0)
            return -1;
        moved = pg_get_i64(&rows, 0, "moved");
        pg_rows_free(&rows);
    }
    bus_publish((uint64_t)account_id);
    return 0;
}

static int rename_to(int64_t account_id, struct str from, struct str to, struct error *err)
{
    struct pg_rows rows = {0};
    int rc = 0;

    if (change(account_id, &sql_mailbox_rename,
               PG_ARGS(pg_i64(account_id), pg_text(from), pg_text(to),
                       pg_i32(MAILBOX_PATH_SIZE_MAX), pg_i32(MAILBOX_DEPTH_MAX)),
               &rows, err) < 0)
        return -1;
    if (!pg_is_null(&rows, 0, "mailbox_id"))
        rc = move_inbox(account_id, pg_get_i64(&rows, 0, "mailbox_id"),
                        pg_get_i64(&rows, 0, "uid_below"), err);
    pg_rows_free(&rows);
    return rc;
}

int mailbox_rename(int64_t account_id, struct str from, struct str to, struct error *err)
{
    struct arena *a = arena_new();
    struct str from_path, to_path;
    int rc = 0;

    if (mailbox_path_canonical(a, from, &from_path, err) < 0 ||
        mailbox_path_canonical(a, to, &to_path, err) < 0 || check_free_name(to_path, err) < 0)
        rc = -1;
    if (rc == 0)
        rc = rename_to(account_id, from_path, to_path, err);
    arena_free(&a);
    return rc;
}

/* ---- subscriptions --------------------------------------------------------------------------- */

int mailbox_subscribe(int64_t account_id, struct str name, bool subscribed, struct error *err)
{
    struct arena *a = arena_new();
    struct str canonical;
    int rc = access_canonical_name(a, name, &canonical, err);

    if (rc == 0)
        rc = change(account_id, &sql_mailbox_subscribe,
                    PG_ARGS(pg_i64(account_id), pg_text(canonical), pg_bool(subscribed),
                            pg_i32(MAILBOX_SUBSCRIPTIONS_MAX)),
                    NULL, err);
    arena_free(&a);
    return rc;
}

int mailbox_subscriptions(struct arena *a, int64_t account_id, struct str **names, size_t *count,
                          struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_mailbox_subscriptions, PG_ARGS(pg_i64(account_id)), &rows, err) < 0)
        return -1;
    *count = rows.count;
    *names = ARENA_ARRAY(a, rows.count, struct str);
    for (size_t i = 0; i < rows.count; i++)
        (*names)[i] = arena_str(a, pg_get_str(&rows, i, "name"));
    pg_rows_free(&rows);
    return 0;
}
