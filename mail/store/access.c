/* access.c - rights of users in mailboxes, and the names by which they find those of others.
 *
 * Rights are computed by PostgreSQL from the grants, in one query for a mailbox as for all that a
 * user may see; nothing is remembered here. Owners are never asked about. */
#include "mail/store/access.h"

#include "mail/store/mailbox_internal.h"
#include "mail/store/message.h"
#include "server/directory/directory.h"
#include "server/directory/saslprep.h"
#include "server/pg/notify.h"
#include "server/pg/pg.h"
#include "server/run/config.h"
#include "sql_queries.h"

#define IDENTIFIER_SIZE_MAX 1000

/* ---- rights as text -------------------------------------------------------------------------- */

static const struct {
    char letter;
    unsigned rights;
} letters[] = {
    {'l', RIGHT_LOOKUP},
    {'r', RIGHT_READ},
    {'s', RIGHT_SEEN},
    {'w', RIGHT_WRITE},
    {'i', RIGHT_INSERT},
    {'p', RIGHT_POST},
    {'k', RIGHT_CREATE},
    {'x', RIGHT_DELETE_MAILBOX},
    {'t', RIGHT_DELETE_MESSAGES},
    {'e', RIGHT_EXPUNGE},
    {'c', RIGHT_CREATE | RIGHT_DELETE_MAILBOX},   /* RFC 4314, 2.1.1 */
    {'d', RIGHT_DELETE_MESSAGES | RIGHT_EXPUNGE}, /* the same */
    {'a', RIGHT_ADMINISTER},
};
#define LETTER_COUNT (sizeof letters / sizeof *letters)

int rights_parse(struct str text, unsigned *out, struct error *err)
{
    *out = 0;
    for (size_t i = 0; i < text.n; i++) {
        size_t at = 0;
        while (at < LETTER_COUNT && letters[at].letter != text.p[i])
            at++;
        if (at == LETTER_COUNT && text.p[i] > ' ' && text.p[i] < 127)
            return fail(err, ERR_SYNTAX, "there is no right \"%c\"", text.p[i]);
        if (at == LETTER_COUNT)
            return fail(err, ERR_SYNTAX, "rights are letters such as lrs");
        *out |= letters[at].rights;
    }
    return 0;
}

void rights_add(struct buf *out, unsigned rights)
{
    for (size_t i = 0; i < LETTER_COUNT; i++)
        if (rights & letters[i].rights)
            buf_addc(out, letters[i].letter);
}

uint32_t rights_flags(unsigned rights)
{
    uint32_t flags = 0;

    if (rights & RIGHT_SEEN)
        flags |= FLAG_SEEN;
    if (rights & RIGHT_DELETE_MESSAGES)
        flags |= FLAG_DELETED;
    if (rights & RIGHT_WRITE)
        flags |= FLAG_ALL & ~(uint32_t)(FLAG_SEEN | FLAG_DELETED);
    return flags;
}

/* ---- names ----------------------------------------------------------------------------------- */

static struct str prefix_of(bool is_shared)
{
    return is_shared ? STR(ACCESS_SHARED_PREFIX) : STR(ACCESS_OTHERS_PREFIX);
}

static bool is_at_or_below(struct str name, struct str prefix)
{
    return str_starts(name, prefix) && (name.n == prefix.n || name.p[prefix.n] == '/');
}

bool access_is_foreign_name(struct str name)
{
    return is_at_or_below(name, prefix_of(false)) || is_at_or_below(name, prefix_of(true));
}

static bool is_escaped(char c)
{
    return c == '/' || c == '*' || c == '%' || c == '=';
}

static void add_level(struct buf *out, struct str address)
{
    for (size_t i = 0; i < address.n; i++)
        if (is_escaped(address.p[i]))
            buf_addf(out, "=%02X", (unsigned char)address.p[i]);
        else
            buf_addc(out, address.p[i]);
}

static int hex_value(char c)
{
    ptrdiff_t at = str_index(STR("0123456789ABCDEF"), ascii_upper(c));

    return (int)at;
}

/* The address that a level names; false when it is not spelled as add_level does. */
static bool read_level(struct arena *a, struct str level, struct str *address)
{
    char *text = arena_alloc(a, level.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < level.n; i++) {
        if (level.p[i] != '=') {
            text[n++] = level.p[i];
            continue;
        }
        if (i + 2 >= level.n || hex_value(level.p[i + 1]) < 0 || hex_value(level.p[i + 2]) < 0)
            return false;
        text[n++] = (char)(hex_value(level.p[i + 1]) * 16 + hex_value(level.p[i + 2]));
        i += 2;
    }
    *address = str_of(text, n);
    return true;
}

struct str access_name(struct arena *a, bool is_shared, struct str address, struct str path)
{
    struct buf name;
    struct str out;

    buf_init(&name, SIZE_MAX);
    buf_add(&name, prefix_of(is_shared));
    buf_addc(&name, '/');
    add_level(&name, address);
    if (path.n > 0)
        buf_addc(&name, '/');
    buf_add(&name, path);
    out = arena_str(a, buf_str(&name));
    buf_fini(&name);
    return out;
}

static int no_such_mailbox(struct error *err)
{
    return fail(err, ERR_NOT_FOUND, "no such mailbox");
}

/* Takes "Other Users/address/path" apart. */
static int split_name(struct arena *a, struct str name, struct access_place *out,
                      struct str *address, struct error *err)
{
    struct str rest, level, path, typed, local, domain;

    out->is_shared = is_at_or_below(name, prefix_of(true));
    rest = str_from(name, prefix_of(out->is_shared).n + 1);
    if (!str_cut(rest, '/', &level, &path))
        return no_such_mailbox(err);
    if (mailbox_path_canonical(a, path, &out->path, err) < 0)
        return -1;
    if (!read_level(a, level, &typed) || !str_rcut(typed, '@', &local, &domain) ||
        address_canonical(a, local, domain, address, NULL) < 0)
        return no_such_mailbox(err);
    return 0;
}

int access_canonical_name(struct arena *a, struct str name, struct str *out, struct error *err)
{
    struct access_place place;
    struct str address;

    if (!access_is_foreign_name(name))
        return mailbox_path_canonical(a, name, out, err);
    *out = name;
    if (split_name(a, name, &place, &address, err) == 0)
        *out = access_name(a, place.is_shared, address, place.path);
    else if (err->kind != ERR_NOT_FOUND || name.n > MAILBOX_PATH_SIZE_MAX)
        return -1;
    error_clear(err);
    return 0;
}

static int find_account(struct arena *a, int64_t user_id, struct str address,
                        struct access_place *out, struct error *err)
{
    struct pg_rows rows = {0};
    bool is_found;

    if (pg_run(pg_pool(), &sql_access_account, PG_ARGS(pg_i64(user_id), pg_text(address)), &rows,
               err) < 0)
        return -1;
    is_found = rows.count > 0 && pg_get_bool(&rows, 0, "is_shared") == out->is_shared;
    if (is_found) {
        out->account_id = pg_get_i64(&rows, 0, "account_id");
        out->address = arena_str(a, pg_get_str(&rows, 0, "address"));
    }
    pg_rows_free(&rows);
    return is_found ? 0 : no_such_mailbox(err);
}

int access_parse_name(struct arena *a, int64_t user_id, struct str name, struct access_place *out,
                      struct error *err)
{
    struct str address;

    if (split_name(a, name, out, &address, err) < 0 ||
        find_account(a, user_id, address, out, err) < 0)
        return -1;
    out->name = access_name(a, out->is_shared, out->address, out->path);
    return 0;
}

int access_name_of(struct arena *a, struct mailbox_key mailbox, struct str *out, struct error *err)
{
    struct pg_rows rows = {0};
    struct mailbox found;
    bool is_there;

    if (mailbox_get(a, mailbox.account_id, mailbox.mailbox_id, &found, err) < 0 ||
        pg_run(pg_pool(), &sql_access_owner, PG_ARGS(pg_i64(mailbox.account_id)), &rows, err) < 0)
        return -1;
    is_there = rows.count > 0;
    if (is_there)
        *out = access_name(a, pg_get_bool(&rows, 0, "is_shared"), pg_get_str(&rows, 0, "address"),
                           found.path);
    pg_rows_free(&rows);
    return is_there ? 0 : no_such_mailbox(err);
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* No row: nothing that rights could be in. */
static int read_rights(const struct sql_query *query, struct pg_args args, unsigned *out,
                       struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), query, args, &rows, err) < 0)
        return -1;
    *out = rows.count > 0 ? (unsigned)pg_get_i32(&rows, 0, "rights") : 0;
    pg_rows_free(&rows);
    return 0;
}

int access_rights(int64_t user_id, struct mailbox_key mailbox, unsigned *out, struct error *err)
{
    *out = RIGHTS_ALL;
    if (user_id == mailbox.account_id)
        return 0;
    return read_rights(
        &sql_access_rights,
        PG_ARGS(pg_i64(user_id), pg_i64(mailbox.account_id), pg_i64(mailbox.mailbox_id)), out, err);
}

int access_parent_rights(int64_t user_id, int64_t account_id, struct str path, unsigned *out,
                         struct error *err)
{
    *out = RIGHTS_ALL;
    if (user_id == account_id)
        return 0;
    return read_rights(&sql_access_parent_rights,
                       PG_ARGS(pg_i64(user_id), pg_i64(account_id), pg_text(path)), out, err);
}

static void read_shared(struct arena *a, const struct pg_rows *rows, size_t row,
                        struct mailbox *out)
{
    mailbox_read(a, rows, row, out);
    out->rights = (unsigned)pg_get_i32(rows, row, "rights");
}

int access_find(struct arena *a, int64_t user_id, int64_t account_id, struct str path,
                struct mailbox *out, struct error *err)
{
    struct pg_rows rows = {0};

    if (user_id == account_id)
        return mailbox_find(a, account_id, path, out, err);
    if (pg_run(pg_pool(), &sql_access_find,
               PG_ARGS(pg_i64(user_id), pg_i64(account_id), pg_text(path)), &rows, err) < 0)
        return -1;
    *out = (struct mailbox){0};
    if (rows.count > 0)
        read_shared(a, &rows, 0, out);
    pg_rows_free(&rows);
    return out->rights & RIGHTS_KNOWING ? 0 : no_such_mailbox(err);
}

static void read_listed(struct arena *a, const struct pg_rows *rows, size_t row,
                        struct shared_mailbox *out)
{
    out->account_id = pg_get_i64(rows, row, "account_id");
    read_shared(a, rows, row, out->mailbox);
    out->name = access_name(a, pg_get_bool(rows, row, "is_shared"),
                            pg_get_str(rows, row, "address"), out->mailbox->path);
}

static void read_list(struct arena *a, const struct pg_rows *rows, struct shared_mailbox **out,
                      size_t *count)
{
    struct mailbox *mailboxes = ARENA_ARRAY(a, rows->count, struct mailbox);

    *count = rows->count;
    *out = ARENA_ARRAY(a, rows->count, struct shared_mailbox);
    for (size_t i = 0; i < rows->count; i++) {
        (*out)[i].mailbox = &mailboxes[i];
        read_listed(a, rows, i, &(*out)[i]);
        fiber_pause();
    }
}

#define LIST_ARGS(user_id)                                                                         \
    PG_ARGS(pg_i64(user_id), pg_i32(RIGHT_LOOKUP), pg_i64(SHARED_MAILBOXES_MAX))

int access_list(struct arena *a, int64_t user_id, struct shared_mailbox **out, size_t *count,
                struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_access_list, LIST_ARGS(user_id), &rows, err) < 0)
        return -1;
    read_list(a, &rows, out, count);
    pg_rows_free(&rows);
    return 0;
}

int access_list_all(struct arena *a, int64_t user_id, struct mailbox **own, size_t *own_count,
                    struct shared_mailbox **foreign, size_t *foreign_count, struct error *err)
{
    const struct pg_call calls[] = {
        {&sql_mailbox_list, PG_ARGS(pg_i64(user_id))},
        {&sql_access_list, LIST_ARGS(user_id)},
    };
    struct pg_rows rows[2] = {{0}};

    if (pg_run_batch(pg_pool(), calls, 2, rows, err) < 0)
        return -1;
    mailbox_read_list(a, &rows[0], own, own_count);
    read_list(a, &rows[1], foreign, foreign_count);
    pg_rows_free(&rows[0]);
    pg_rows_free(&rows[1]);
    return 0;
}

/* Rows come by mailbox_id; there may be thousands, for as many mailboxes. */
static uint32_t seen_in(const struct pg_rows *rows, int64_t mailbox_id)
{
    size_t row = pg_find_i64(rows, pg_column(rows, "mailbox_id"), mailbox_id);

    return row == SIZE_MAX ? 0 : pg_get_u32(rows, row, "seen");
}

/* Counters and sets are read one after the other: a message may have gone between. */
int access_count_unseen(int64_t user_id, int64_t account_id, struct mailbox *v, size_t count,
                        struct error *err)
{
    struct pg_rows rows = {0};

    if (user_id == account_id)
        return 0;
    if (pg_run(pg_pool(), &sql_access_seen, PG_ARGS(pg_i64(user_id), pg_i64(account_id)), &rows,
               err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        uint32_t seen = seen_in(&rows, v[i].mailbox_id);
        v[i].unseen_count = seen < v[i].message_count ? v[i].message_count - seen : 0;
        fiber_pause();
    }
    pg_rows_free(&rows);
    return 0;
}

/* ---- granting -------------------------------------------------------------------------------- */

/* Prepared as RFC 4314, 3 asks for. */
static int prepare_identifier(struct arena *a, struct str identifier, struct str *out,
                              struct error *err)
{
    struct buf prepared;
    bool ok;

    if (identifier.n > IDENTIFIER_SIZE_MAX)
        return fail(err, ERR_SYNTAX, "the identifier is longer than %d bytes", IDENTIFIER_SIZE_MAX);
    buf_init(&prepared, 8 * IDENTIFIER_SIZE_MAX);
    ok = saslprep(identifier, &prepared) && buf_ok(&prepared);
    *out = arena_str(a, buf_str(&prepared));
    buf_fini(&prepared);
    if (!ok)
        return fail(err, ERR_SYNTAX, "the identifier holds characters that no name can have");
    return 0;
}

int grantee_parse(struct arena *a, struct str identifier, struct grantee *out, struct error *err)
{
    struct error cause = {0};
    struct account account;
    struct str name;

    if (prepare_identifier(a, identifier, &name, err) < 0)
        return -1;
    out->is_negative = str_skip_prefix(&name, STR("-"));
    out->account_id = 0;
    if (name.n == 0)
        return fail(err, ERR_SYNTAX, "an identifier cannot be empty");
    if (str_eq(name, STR("anyone")) || str_eq(name, STR("authenticated")))
        return 0;
    if (directory_find_login(a, name, &account, &cause) < 0)
        return cause.kind == ERR_NOT_FOUND
                   ? fail(err, ERR_UNSUPPORTED, "there is no user and no group of this name")
                   : fail(err, cause.kind, "%s", cause.text);
    out->account_id = account.account_id;
    return 0;
}

static void read_grant(struct arena *a, const struct pg_rows *rows, size_t row,
                       struct mailbox_grant *out)
{
    struct str name = pg_get_str(rows, row, "name");

    out->name =
        arena_printf(a, "%s%.*s", pg_get_bool(rows, row, "is_negative") ? "-" : "", STR_ARG(name));
    out->rights = pg_get_bool(rows, row, "is_owner") ? (unsigned)RIGHTS_ALL
                                                     : (unsigned)pg_get_i32(rows, row, "rights");
}

int access_list_grants(struct arena *a, struct mailbox_key mailbox, struct mailbox_grant **out,
                       size_t *count, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_access_grants,
               PG_ARGS(pg_i64(mailbox.account_id), pg_i64(mailbox.mailbox_id)), &rows, err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count, struct mailbox_grant);
    for (size_t i = 0; i < rows.count; i++)
        read_grant(a, &rows, i, &(*out)[i]);
    pg_rows_free(&rows);
    return 0;
}

static int check_grant(int64_t account_id, struct grantee grantee, enum rights_change change,
                       struct error *err)
{
    if (grantee.account_id == account_id)
        return fail(err, ERR_UNSUPPORTED, "the owner has every right, always");
    if (grantee.account_id == 0 && !grantee.is_negative && change != RIGHTS_REMOVE &&
        !config.sharing_anyone)
        return fail(err, ERR_UNSUPPORTED, "sharing with anyone is switched off on this server");
    return 0;
}

static void tell(int64_t account_id, struct grantee grantee)
{
    bus_publish((uint64_t)account_id);
    if (grantee.account_id != 0)
        bus_publish((uint64_t)grantee.account_id);
}

int access_set(struct mailbox_key mailbox, struct grantee grantee, enum rights_change change,
               unsigned rights, struct error *err)
{
    if (check_grant(mailbox.account_id, grantee, rights == 0 ? RIGHTS_REMOVE : change, err) < 0 ||
        pg_run(pg_pool(), &sql_access_set,
               PG_ARGS(pg_i64(mailbox.account_id), pg_i64(mailbox.mailbox_id),
                       pg_i64(grantee.account_id), pg_bool(grantee.is_negative),
                       pg_i32((int32_t)change), pg_i32((int32_t)rights),
                       pg_i32(GRANTS_PER_MAILBOX_MAX)),
               NULL, err) < 0)
        return -1;
    tell(mailbox.account_id, grantee);
    return 0;
}

int access_set_all(int64_t account_id, struct grantee grantee, enum rights_change change,
                   unsigned rights, int *count, struct error *err)
{
    struct pg_rows rows = {0};

    if (check_grant(account_id, grantee, rights == 0 ? RIGHTS_REMOVE : change, err) < 0 ||
        pg_run(pg_pool(), &sql_access_set_all,
               PG_ARGS(pg_i64(account_id), pg_i64(grantee.account_id), pg_bool(grantee.is_negative),
                       pg_i32((int32_t)change), pg_i32((int32_t)rights),
                       pg_i32(GRANTS_PER_MAILBOX_MAX)),
               &rows, err) < 0)
        return -1;
    *count = pg_get_i32(&rows, 0, "count");
    pg_rows_free(&rows);
    tell(account_id, grantee);
    return 0;
}
