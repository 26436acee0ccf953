/* metadata.c - annotations: found by name, set in sets.
 *
 * Limits and the account's lock are the SQL functions' (sql/migrations/0008_metadata.sql). Shared
 * and private entries of the server lie in two accounts; everything else is one statement. */
#include "mail/store/metadata.h"

#include "server/pg/notify.h"
#include "server/pg/pg.h"
#include "sql_queries.h"

/* ---- names ----------------------------------------------------------------------------------- */

static bool has_bad_byte(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] < ' ' || name.p[i] > '~' || name.p[i] == '*' || name.p[i] == '%')
            return true;
    return false;
}

static size_t count_levels(struct str name)
{
    size_t levels = 0;

    for (size_t i = 0; i < name.n; i++)
        levels += name.p[i] == '/';
    return levels;
}

static bool is_below(struct str entry, struct str name)
{
    return entry.n > name.n && entry.p[name.n] == '/' && str_starts(entry, name);
}

/* RFC 5464, 3.2: two levels at least, four below /shared/vendor and /private/vendor. */
static bool is_deep_enough(struct str name)
{
    bool is_vendor = str_eq(name, STR("/shared/vendor")) || str_eq(name, STR("/private/vendor")) ||
                     is_below(name, STR("/shared/vendor")) ||
                     is_below(name, STR("/private/vendor"));

    return count_levels(name) >= (is_vendor ? 4 : 2);
}

bool metadata_entry_canonical(struct arena *a, struct str name, bool may_be_prefix, struct str *out)
{
    *out = arena_lower(a, name);
    if (name.n == 0 || name.n > METADATA_ENTRY_SIZE_MAX || has_bad_byte(name))
        return false;
    if (str_ends(name, STR("/")) || str_find(name, STR("//")) >= 0)
        return false;
    if (!is_below(*out, STR("/shared")) && !is_below(*out, STR("/private")) &&
        !str_eq(*out, STR("/shared")) && !str_eq(*out, STR("/private")))
        return false;
    return may_be_prefix || is_deep_enough(*out);
}

bool metadata_entry_matches(struct str entry, struct str name, int depth)
{
    if (str_eq(entry, name))
        return true;
    if (depth == 0 || !is_below(entry, name))
        return false;
    return depth == METADATA_DEPTH_ANY || count_levels(str_from(entry, name.n)) <= (size_t)depth;
}

/* ---- reading --------------------------------------------------------------------------------- */

static void read_annotations(struct arena *a, const struct pg_rows *rows, struct annotation *out)
{
    int mailbox_id = pg_column(rows, "mailbox_id"), entry = pg_column(rows, "entry");
    int size = pg_column(rows, "size"), value = pg_column(rows, "value");

    for (size_t i = 0; i < rows->count; i++) {
        out[i] = (struct annotation){
            .mailbox_id = pg_i64_at(rows, i, mailbox_id),
            .entry = arena_str(a, pg_str_at(rows, i, entry)),
            .size = (uint64_t)pg_i64_at(rows, i, size),
            .value = STR_NULL,
        };
        if (!pg_null_at(rows, i, value))
            out[i].value = arena_str(a, pg_str_at(rows, i, value));
        fiber_pause();
    }
}

int metadata_find(struct arena *a, int64_t account_id, const int64_t *mailbox_ids,
                  size_t mailbox_count, int64_t user_id, const struct metadata_query *query,
                  struct annotation **out, size_t *count, struct error *err)
{
    uint64_t size_max = query->size_max < INT64_MAX ? query->size_max : INT64_MAX;
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_metadata_find,
               PG_ARGS(pg_i64(account_id), pg_i64_array(mailbox_ids, mailbox_count),
                       pg_i64(user_id), pg_text_array(query->names, query->name_count),
                       pg_i32(query->depth), pg_i64((int64_t)size_max)),
               &rows, err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count + 1, struct annotation);
    read_annotations(a, &rows, *out);
    pg_rows_free(&rows);
    return 0;
}

int metadata_find_server(struct arena *a, int64_t user_id, const struct metadata_query *query,
                         struct annotation **out, size_t *count, struct error *err)
{
    static const int64_t server = 0;
    struct annotation *own, *shared;
    size_t own_count, shared_count;

    if (metadata_find(a, user_id, &server, 1, user_id, query, &own, &own_count, err) < 0 ||
        metadata_find(a, METADATA_SERVER_ACCOUNT, &server, 1, 0, query, &shared, &shared_count,
                      err) < 0)
        return -1;
    *count = own_count + shared_count;
    *out = ARENA_ARRAY(a, *count + 1, struct annotation);
    for (size_t i = 0; i < *count; i++)
        (*out)[i] = i < own_count ? own[i] : shared[i - own_count];
    return 0;
}

int metadata_changed(struct arena *a, int64_t account_id, int64_t user_id, uint64_t since,
                     uint64_t until, struct annotation **out, size_t *count, struct error *err)
{
    struct pg_rows rows = {0};
    int mailbox_id, entry, modseq;

    if (pg_run(pg_pool(), &sql_metadata_changed,
               PG_ARGS(pg_i64(account_id), pg_i64((int64_t)since), pg_i64((int64_t)until),
                       pg_i64(user_id), pg_i64(METADATA_CHANGES_MAX)),
               &rows, err) < 0)
        return -1;
    mailbox_id = pg_column(&rows, "mailbox_id");
    entry = pg_column(&rows, "entry");
    modseq = pg_column(&rows, "modseq");
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count + 1, struct annotation);
    for (size_t i = 0; i < rows.count; i++)
        (*out)[i] = (struct annotation){.mailbox_id = pg_i64_at(&rows, i, mailbox_id),
                                        .entry = arena_str(a, pg_str_at(&rows, i, entry)),
                                        .modseq = (uint64_t)pg_i64_at(&rows, i, modseq)};
    pg_rows_free(&rows);
    return 0;
}

int metadata_modseq(int64_t account_id, uint64_t *out, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_metadata_modseq, PG_ARGS(pg_i64(account_id)), &rows, err) < 0)
        return -1;
    *out = (uint64_t)pg_get_i64(&rows, 0, "modseq");
    pg_rows_free(&rows);
    return 0;
}

/* ---- setting --------------------------------------------------------------------------------- */

#define ANNOTATE_ARGS 8
#define CALLS_MAX     3

/* The statements of one change; answers come in the same order. */
struct batch {
    struct pg_call calls[CALLS_MAX];
    uint64_t *modseqs[CALLS_MAX]; /* where each answer's modseq goes */
    size_t count;
};

/* Those entries that are (not) shared ones. */
struct part {
    struct str *entries, *values, *removed;
    size_t set_count, removed_count;
};

static struct part part_of(struct arena *a, const struct metadata_change *change, bool all,
                           bool shared)
{
    struct part part = {.entries = ARENA_ARRAY(a, change->count + 1, struct str),
                        .values = ARENA_ARRAY(a, change->count + 1, struct str),
                        .removed = ARENA_ARRAY(a, change->count + 1, struct str)};

    for (size_t i = 0; i < change->count; i++) {
        const struct annotation *v = &change->v[i];

        if (!all && str_starts(v->entry, STR("/shared/")) != shared)
            continue;
        if (v->value.p == NULL) {
            part.removed[part.removed_count++] = v->entry;
        } else {
            part.entries[part.set_count] = v->entry;
            part.values[part.set_count++] = v->value;
        }
    }
    return part;
}

static void add_annotate(struct arena *a, struct batch *batch, struct mailbox_key mailbox,
                         int64_t user_id, const struct part *part, uint64_t *modseq)
{
    struct pg_arg *v = ARENA_ARRAY(a, ANNOTATE_ARGS, struct pg_arg);

    if (part->set_count + part->removed_count == 0)
        return;
    v[0] = pg_i64(mailbox.account_id);
    v[1] = pg_i64(mailbox.mailbox_id);
    v[2] = pg_i64(user_id);
    v[3] = pg_text_array(part->entries, part->set_count);
    v[4] = pg_bytea_array(part->values, part->set_count);
    v[5] = pg_text_array(part->removed, part->removed_count);
    v[6] = pg_i32(METADATA_COUNT_MAX);
    v[7] = pg_i64(METADATA_BYTES_MAX);
    batch->modseqs[batch->count] = modseq;
    batch->calls[batch->count++] = (struct pg_call){&sql_metadata_annotate, {v, ANNOTATE_ARGS}};
}

static void add_set_role(struct arena *a, struct batch *batch, struct mailbox_key mailbox,
                         struct metadata_change *change)
{
    struct pg_arg *v = ARENA_ARRAY(a, 3, struct pg_arg);

    v[0] = pg_i64(mailbox.account_id);
    v[1] = pg_i64(mailbox.mailbox_id);
    v[2] = change->role.n > 0 ? pg_text(change->role) : pg_null();
    batch->modseqs[batch->count] = &change->role_modseq;
    batch->calls[batch->count++] = (struct pg_call){&sql_metadata_set_role, {v, 3}};
}

/* Accounts in ascending order: that of the server's shared entries is 0. */
static void plan(struct arena *a, struct batch *batch, struct mailbox_key mailbox, int64_t user_id,
                 struct metadata_change *change)
{
    struct mailbox_key server = {METADATA_SERVER_ACCOUNT, 0}, own = {user_id, 0};
    struct part part;

    if (mailbox.mailbox_id != 0) {
        part = part_of(a, change, true, false);
        add_annotate(a, batch, mailbox, user_id, &part, &change->modseq);
    } else {
        part = part_of(a, change, false, true);
        add_annotate(a, batch, server, user_id, &part, &change->server_modseq);
        part = part_of(a, change, false, false);
        add_annotate(a, batch, own, user_id, &part, &change->modseq);
    }
    if (change->sets_role)
        add_set_role(a, batch, mailbox, change);
}

static int run(struct arena *a, struct batch *batch, struct metadata_change *change,
               struct error *err)
{
    struct pg_rows rows[CALLS_MAX] = {{0}};

    if (batch->count == 0)
        return 0;
    if (pg_run_batch(pg_pool(), batch->calls, batch->count, rows, err) < 0)
        return -1;
    for (size_t i = 0; i < batch->count; i++) {
        if (rows[i].count > 0)
            *batch->modseqs[i] = (uint64_t)pg_get_i64(&rows[i], 0, "modseq");
        if (rows[i].count > 0 && batch->modseqs[i] == &change->role_modseq)
            change->loser = arena_str(a, pg_get_str(&rows[i], 0, "loser"));
        pg_rows_free(&rows[i]);
    }
    return 0;
}

static int check_sizes(const struct metadata_change *change, struct error *err)
{
    for (size_t i = 0; i < change->count; i++)
        if (change->v[i].value.n > METADATA_VALUE_SIZE_MAX)
            return fail(err, ERR_TOO_BIG, "an annotation has at most %d bytes",
                        METADATA_VALUE_SIZE_MAX);
    return 0;
}

int metadata_set(struct arena *a, struct mailbox_key mailbox, int64_t user_id,
                 struct metadata_change *change, struct error *err)
{
    struct batch batch = {0};

    change->loser = STR("");
    change->modseq = change->role_modseq = change->server_modseq = 0;
    if (check_sizes(change, err) < 0)
        return -1;
    plan(a, &batch, mailbox, user_id, change);
    if (run(a, &batch, change, err) < 0)
        return -1;
    if (change->server_modseq > 0)
        bus_publish(METADATA_SERVER_ACCOUNT);
    if (change->modseq > 0 || change->role_modseq > 0)
        bus_publish((uint64_t)(mailbox.mailbox_id != 0 ? mailbox.account_id : user_id));
    return 0;
}
