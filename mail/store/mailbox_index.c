/* mailbox_index.c - follows a mailbox in the database; one index per worker, whoever looks.
 *
 * Loaded in slices, then kept up: what arrived has higher UIDs, what else happened is in the
 * journal by modseq. The mailbox's row is read first, so whatever is committed while the rest is
 * read is at worst read again by the next refresh. One fiber of the index does the reading, apart
 * from those who wait for it, so that nobody's cancellation breaks it off. Nothing here parks
 * between changing the list and changing the rows. Unused indexes are kept for a while,
 * unsubscribed, and caught up when opened again. */
#include <assert.h>
#include <stdlib.h>
#include "mail/store/mailbox_index_internal.h"
#include "server/base/memory.h"
#include "server/base/object.h"
#include "server/pg/pg.h"
#include "sql_queries.h"

#define SLICE_COUNT   20000 /* rows of one query */
#define REFRESH_CALLS 6
/* What one refresh takes: arrivals, of which more are asked for again; other changes, with more of
 * which the index is read anew, unless it is so large that reading it costs more; ranges of
 * vanished UIDs, likewise. */
#define ARRIVED_COUNT_MAX   10000
#define CHANGED_COUNT_MIN   20000
#define VANISHED_RANGES_MAX 20000
#define CACHE_COUNT_MAX     256
#define CACHE_BYTES_MAX     ((size_t)32 << 20)

static struct map *indexes; /* by key, those in use and those cached */
static struct list cached;  /* least recently used first */
static size_t cached_count, cached_bytes;

struct index_key {
    int64_t account_id, mailbox_id;
};

static struct str key_str(const struct index_key *key)
{
    return str_of((const char *)key, sizeof *key);
}

/* ---- rows ------------------------------------------------------------------------------------ */

size_t index_find(const struct mailbox_index *x, uint32_t uid)
{
    size_t at = uid_list_at_least(x->list, x->list->n, uid);

    return at < x->list->n && x->list->v[at] == uid ? at : SIZE_MAX;
}

void index_entry_at(const struct mailbox_index *x, size_t at, struct index_entry *out)
{
    const struct index_row *row = &x->rows[at];

    *out = (struct index_entry){row->message_id, row->modseq, x->list->v[at], row->flags,
                                keyword_sets_get(&x->sets, row->keywords)};
}

/* Views that look at the list do not see what is appended before they ask. */
static void append_row(struct mailbox_index *x, uint32_t uid, const struct index_row *row)
{
    if (x->list->n == x->rows_cap) {
        x->rows_cap += x->rows_cap / 4 + 16;
        x->rows = memory_resize(x->rows, x->rows_cap * sizeof x->rows[0]);
    }
    x->rows[x->list->n] = *row;
    uid_list_append(x->list, uid);
    if (uid >= x->uid_next)
        x->uid_next = uid + 1;
}

static void forget_rows(struct mailbox_index *x)
{
    uid_list_unref(&x->list);
    free(x->rows);
    x->rows = NULL;
    x->rows_cap = 0;
}

/* A view that was told less than `changes_from` compares every row's modseq instead. */
static void note_change(struct mailbox_index *x, uint32_t uid)
{
    if (x->changes == NULL)
        x->changes = memory_array(MAILBOX_CHANGES_KEPT, sizeof x->changes[0]);
    x->changes[x->changes_to++ % MAILBOX_CHANGES_KEPT] = uid;
    if (x->changes_to - x->changes_from > MAILBOX_CHANGES_KEPT)
        x->changes_from = x->changes_to - MAILBOX_CHANGES_KEPT;
}

static void forget_changes(struct mailbox_index *x)
{
    x->changes_from = ++x->changes_to;
}

/* ---- applying -------------------------------------------------------------------------------- */

struct index_columns {
    int uid, message_id, modseq, flags, keywords;
};

static struct index_columns find_columns(const struct pg_rows *rows)
{
    return (struct index_columns){
        pg_column(rows, "uid"),   pg_column(rows, "message_id"), pg_column(rows, "modseq"),
        pg_column(rows, "flags"), pg_column(rows, "keywords"),
    };
}

static uint32_t intern_at(struct mailbox_index *x, const struct pg_rows *rows, size_t row,
                          int column)
{
    struct arena *a;
    struct str *v;
    size_t n;
    uint32_t number;

    if (pg_null_at(rows, row, column))
        return 0;
    a = arena_new();
    n = pg_text_array_at(a, rows, row, column, &v);
    number = keyword_sets_intern(&x->sets, v, n);
    arena_free(&a);
    return number;
}

static struct index_row read_row(struct mailbox_index *x, const struct pg_rows *rows, size_t row,
                                 const struct index_columns *c)
{
    return (struct index_row){
        .message_id = pg_i64_at(rows, row, c->message_id),
        .modseq = (uint64_t)pg_i64_at(rows, row, c->modseq),
        .flags = (uint32_t)pg_i64_at(rows, row, c->flags),
        .keywords = intern_at(x, rows, row, c->keywords),
    };
}

static void apply_arrived(struct mailbox_index *x, const struct pg_rows *rows)
{
    struct index_columns c = find_columns(rows);

    for (size_t i = 0; i < rows->count; i++) {
        struct index_row row = read_row(x, rows, i, &c);

        append_row(x, (uint32_t)pg_i64_at(rows, i, c.uid), &row);
    }
}

struct changed_rows {
    struct changed_row {
        size_t at; /* in the list */
        struct index_row row;
    } * v;
    size_t n;
};

/* What is not in the list arrived or vanished a moment ago, and comes with the next refresh. There
 * may be very many, so this rests between rows; nobody else changes the list meanwhile. */
static struct changed_rows find_changed(struct mailbox_index *x, const struct pg_rows *rows)
{
    struct index_columns c = find_columns(rows);
    struct changed_rows found = {memory_array(rows->count, sizeof found.v[0]), 0};

    for (size_t i = 0; i < rows->count; i++) {
        struct index_row row = read_row(x, rows, i, &c);
        size_t at = index_find(x, (uint32_t)pg_i64_at(rows, i, c.uid));

        if (at != SIZE_MAX && x->rows[at].modseq < row.modseq)
            found.v[found.n++] = (struct changed_row){at, row};
        fiber_pause();
    }
    return found;
}

/* Without rest: a client that was told of one of these modseqs must hear of all below it. */
static void apply_changed(struct mailbox_index *x, const struct changed_rows *changed)
{
    for (size_t i = 0; i < changed->n; i++) {
        x->rows[changed->v[i].at] = changed->v[i].row;
        note_change(x, x->list->v[changed->v[i].at]);
    }
}

/* The list is changed in place only when no view looks at it. */
static void own_the_list(struct mailbox_index *x)
{
    struct uid_list *shared = x->list;

    if (shared->refs == 1)
        return;
    x->list = uid_list_copy(shared, shared->n);
    uid_list_unref(&shared);
}

static void close_gap(struct mailbox_index *x, size_t to, size_t from, size_t end)
{
    memmove(&x->rows[to], &x->rows[from], (end - from) * sizeof x->rows[0]);
    memmove(&x->list->v[to], &x->list->v[from], (end - from) * sizeof x->list->v[0]);
}

/* Ranges come in ascending order. Rows below `kept` have their place, those from `next` on have
 * not yet; SIZE_MAX: nothing was taken out. */
static void apply_vanished(struct mailbox_index *x, const struct pg_rows *rows)
{
    size_t kept = SIZE_MAX, next = 0;
    int first = pg_column(rows, "first"), last = pg_column(rows, "last");

    for (size_t i = 0; i < rows->count; i++) {
        size_t from = uid_list_at_least(x->list, x->list->n, (uint32_t)pg_i64_at(rows, i, first));
        size_t to = uid_list_at_least(x->list, x->list->n, (uint32_t)pg_i64_at(rows, i, last) + 1);

        if (from == to)
            continue;
        if (kept == SIZE_MAX) {
            own_the_list(x);
            kept = next = from;
        }
        close_gap(x, kept, next, from);
        kept += from - next;
        next = to;
    }
    if (kept == SIZE_MAX)
        return;
    close_gap(x, kept, next, x->list->n);
    x->list->n = kept + x->list->n - next;
}

/* ---- reading --------------------------------------------------------------------------------- */

static struct pg_args mailbox_args(const struct mailbox_index *x, struct pg_arg args[2])
{
    args[0] = pg_i64(x->account_id);
    args[1] = pg_i64(x->mailbox_id);
    return (struct pg_args){args, 2};
}

static struct pg_args set_args(const struct mailbox_index *x, int64_t from, size_t count_max,
                               struct pg_arg args[4])
{
    mailbox_args(x, args);
    args[2] = pg_i64(from);
    args[3] = pg_i64((int64_t)count_max);
    return (struct pg_args){args, 4};
}

static void mark_gone(struct mailbox_index *x)
{
    struct index_key key = {x->account_id, x->mailbox_id};

    if (!x->is_gone && map_get(indexes, key_str(&key)) == x)
        map_remove(indexes, key_str(&key));
    x->is_gone = true;
}

static void apply_mailbox(struct mailbox_index *x, const struct pg_rows *rows)
{
    uint32_t uid_next = pg_get_u32(rows, 0, "uid_next");

    x->uid_validity = pg_get_u32(rows, 0, "uid_validity");
    x->modseq = (uint64_t)pg_get_i64(rows, 0, "modseq");
    x->changed_modseq = (uint64_t)pg_get_i64(rows, 0, "changed_modseq");
    if (uid_next > x->uid_next)
        x->uid_next = uid_next;
}

/* A new state read while the old one, if any, is still looked at. */
static void add_slice(struct mailbox_index *fresh, const struct pg_rows *rows)
{
    struct index_columns c = find_columns(rows);

    for (size_t i = 0; i < rows->count; i++) {
        struct index_row row = read_row(fresh, rows, i, &c);

        append_row(fresh, (uint32_t)pg_i64_at(rows, i, c.uid), &row);
        fiber_pause();
    }
}

/* The rest of the messages, whose first slice is in *rows; frees it. */
static int read_slices(struct mailbox_index *fresh, struct pg_rows *rows, struct error *err)
{
    struct pg_arg args[4];

    for (;;) {
        bool is_last = rows->count < SLICE_COUNT;

        add_slice(fresh, rows);
        pg_rows_free(rows);
        if (is_last)
            return 0;
        if (pg_run(pg_pool(), &sql_index_load, set_args(fresh, fresh->uid_next, SLICE_COUNT, args),
                   rows, err) < 0)
            return -1;
    }
}

static int read_all(struct mailbox_index *fresh, struct error *err)
{
    struct pg_arg of_mailbox[2], of_set[4];
    struct pg_call calls[] = {
        {&sql_index_mailbox, mailbox_args(fresh, of_mailbox)},
        {&sql_index_load, set_args(fresh, 0, SLICE_COUNT, of_set)},
    };
    struct pg_rows rows[2] = {{0}};
    int rc;

    if (pg_run_batch(pg_pool(), calls, 2, rows, err) < 0)
        return -1;
    rc = read_slices(fresh, &rows[1], err);
    fresh->is_gone = rows[0].count == 0;
    if (!fresh->is_gone)
        apply_mailbox(fresh, &rows[0]);
    pg_rows_free(&rows[0]);
    return rc;
}

/* ---- loading and refreshing ------------------------------------------------------------------ */

/* Entries given out point to the sets that x has, so those stay and the numbers of the new rows
 * change. */
static void adopt_keywords(struct mailbox_index *x, struct mailbox_index *fresh)
{
    uint32_t *numbers = memory_array((size_t)fresh->sets.n + 1, sizeof numbers[0]);

    for (uint32_t i = 1; i <= fresh->sets.n; i++) {
        const struct keywords *k = keyword_sets_get(&fresh->sets, i);

        numbers[i] = keyword_sets_intern(&x->sets, k->v, k->n);
    }
    for (size_t i = 0; i < fresh->list->n; i++)
        fresh->rows[i].keywords = numbers[fresh->rows[i].keywords];
    free(numbers);
}

/* Puts what was read in the place of what was known. */
static void take_over(struct mailbox_index *x, struct mailbox_index *fresh)
{
    adopt_keywords(x, fresh);
    forget_rows(x);
    x->list = uid_list_ref(fresh->list);
    x->rows = fresh->rows;
    x->rows_cap = fresh->rows_cap;
    fresh->rows = NULL;
    x->modseq = fresh->modseq;
    x->changed_modseq = fresh->changed_modseq;
    x->uid_validity = fresh->uid_validity;
    if (fresh->uid_next > x->uid_next)
        x->uid_next = fresh->uid_next;
    forget_changes(x);
    x->is_loaded = true;
}

/* What others than the owner have seen is read behind the rows, so that whatever those say was
 * seen is not missing. */
static int index_load(struct mailbox_index *x, struct error *err)
{
    struct mailbox_index fresh = {.account_id = x->account_id, .mailbox_id = x->mailbox_id};
    struct arena *a = arena_new();
    struct pg_arg of_seen[4];
    struct pg_args asked = index_seen_args(x, a, true, of_seen);
    struct pg_rows seen = {0};
    int rc;

    keyword_sets_init(&fresh.sets);
    fresh.list = uid_list_new(0);
    rc = read_all(&fresh, err);
    if (rc == 0 && index_seen_count(&asked) > 0)
        rc = pg_run(pg_pool(), &sql_index_seen, asked, &seen, err);
    if (rc == 0 && fresh.is_gone) {
        mark_gone(x);
    } else if (rc == 0) {
        take_over(x, &fresh);
        index_seen_apply(x, &seen, &asked);
    }
    pg_rows_free(&seen);
    forget_rows(&fresh);
    keyword_sets_fini(&fresh.sets);
    arena_free(&a);
    return rc;
}

enum refreshed { REFRESH_FAILED, REFRESH_DONE, REFRESH_AGAIN, REFRESH_TOO_MUCH };

/* An index may have waited unused for longer than the journal is kept. How far it was forgotten is
 * read behind it. */
static bool misses_changes(const struct mailbox_index *x, const struct pg_rows *mailbox,
                           const struct pg_rows *floor)
{
    return (uint64_t)pg_get_i64(mailbox, 0, "modseq") > x->modseq &&
           (uint64_t)pg_get_i64(floor, 0, "unlogged_modseq") > x->modseq;
}

static size_t changed_count_max(const struct mailbox_index *x)
{
    return CHANGED_COUNT_MIN + x->list->n / 8;
}

/* rows: as refresh_by_modseq has them. Of very many arrivals the lowest are taken, and the rest
 * is asked for again. */
static enum refreshed apply_refresh(struct mailbox_index *x, const struct pg_rows *rows,
                                    const struct pg_args *seen_asked)
{
    struct changed_rows changed;

    if (rows[0].count == 0) {
        mark_gone(x);
        return REFRESH_DONE;
    }
    if (rows[2].count == changed_count_max(x) || rows[3].count == VANISHED_RANGES_MAX ||
        misses_changes(x, &rows[0], &rows[4]))
        return REFRESH_TOO_MUCH;
    if (rows[1].count == ARRIVED_COUNT_MAX) {
        apply_arrived(x, &rows[1]);
        return REFRESH_AGAIN;
    }
    changed = find_changed(x, &rows[2]);
    apply_arrived(x, &rows[1]);
    apply_changed(x, &changed);
    apply_vanished(x, &rows[3]);
    index_seen_apply(x, &rows[5], seen_asked);
    apply_mailbox(x, &rows[0]);
    free(changed.v);
    return REFRESH_DONE;
}

static enum refreshed refresh_by_modseq(struct mailbox_index *x, struct error *err)
{
    struct arena *a = arena_new();
    struct pg_arg of_mailbox[2], of_arrived[4], of_changed[4], of_vanished[4], of_seen[4];
    struct pg_args seen = index_seen_args(x, a, false, of_seen);
    int64_t since = (int64_t)x->modseq;
    struct pg_call calls[REFRESH_CALLS] = {
        {&sql_index_mailbox, mailbox_args(x, of_mailbox)},
        {&sql_index_load, set_args(x, x->uid_next, ARRIVED_COUNT_MAX, of_arrived)},
        {&sql_index_changed, set_args(x, since, changed_count_max(x), of_changed)},
        {&sql_index_vanished, set_args(x, since, VANISHED_RANGES_MAX, of_vanished)},
        {&sql_index_floor, PG_ARGS(pg_i64(x->account_id))},
        {&sql_index_seen, seen},
    };
    size_t count = REFRESH_CALLS - (index_seen_count(&seen) == 0);
    struct pg_rows rows[REFRESH_CALLS] = {{0}};
    enum refreshed result = REFRESH_FAILED;

    if (pg_run_batch(pg_pool(), calls, count, rows, err) == 0)
        result = apply_refresh(x, rows, &seen);
    for (size_t i = 0; i < count; i++)
        pg_rows_free(&rows[i]);
    arena_free(&a);
    return result;
}

static enum refreshed refresh_until_done(struct mailbox_index *x, struct error *err)
{
    enum refreshed result;

    do
        result = refresh_by_modseq(x, err);
    while (result == REFRESH_AGAIN);
    return result;
}

/* What was committed between the slices of a load is caught by the refresh behind it. */
static int load_and_settle(struct mailbox_index *x, struct error *err)
{
    enum refreshed result;

    do {
        if (index_load(x, err) < 0)
            return -1;
        if (x->is_gone || x->list->n < SLICE_COUNT)
            return 0;
        result = refresh_until_done(x, err);
    } while (result == REFRESH_TOO_MUCH);
    return result == REFRESH_DONE ? 0 : -1;
}

/* Most notices are about other mailboxes of the account, and most mailboxes that are opened again have not
 * changed: the mailbox's own modseq tells. */
static enum refreshed look_and_refresh(struct mailbox_index *x, struct error *err)
{
    struct pg_arg args[2];
    struct pg_rows rows;
    bool is_current;

    if (pg_run(pg_pool(), &sql_index_mailbox, mailbox_args(x, args), &rows, err) < 0)
        return REFRESH_FAILED;
    is_current = rows.count > 0 && (uint64_t)pg_get_i64(&rows, 0, "modseq") == x->modseq &&
                 index_seen_is_loaded(x);
    if (rows.count == 0)
        mark_gone(x);
    pg_rows_free(&rows);
    return is_current || x->is_gone ? REFRESH_DONE : refresh_until_done(x, err);
}

static int refresh(struct mailbox_index *x, struct error *err)
{
    enum refreshed result = x->is_loaded ? look_and_refresh(x, err) : REFRESH_TOO_MUCH;

    if (result == REFRESH_TOO_MUCH)
        return load_and_settle(x, err);
    return result == REFRESH_DONE ? 0 : -1;
}

void index_forget_keywords(struct mailbox_index *x)
{
    uint32_t oldest = x->sets.generation;

    if (x->sets.replaced == NULL)
        return;
    LIST_EACH_SAFE (at, &x->views) {
        struct mailbox_view *v = CONTAINER_OF(at, struct mailbox_view, link);

        if (v->holds != 0 && v->holds < oldest)
            oldest = v->holds;
    }
    keyword_sets_forget(&x->sets, oldest);
}

static void drop_if_unused(struct mailbox_index *x);

static void refresh_fiber(void *arg)
{
    struct mailbox_index *x = arg;
    uint64_t wanted = x->wanted;
    struct error err = {0};

    if (refresh(x, &err) < 0) {
        x->failure = err;
        x->failures++;
    } else {
        x->reached = wanted;
        keyword_sets_tidy(&x->sets, x->rows, x->list->n);
        index_forget_keywords(x);
    }
    x->is_refreshing = false;
    wait_queue_wake_all(&x->refreshed);
    drop_if_unused(x);
}

static void start_refresh(struct mailbox_index *x)
{
    x->is_refreshing = true;
    fiber_start("mailbox_refresh", refresh_fiber, x);
}

/* Returns when everything announced before the call is in the index. */
int index_catch_up(struct mailbox_index *x, struct error *err)
{
    uint64_t goal = x->wanted;
    unsigned failures = x->failures;

    while (!x->is_gone && x->reached < goal) {
        enum wake wake;

        if (!x->is_refreshing)
            start_refresh(x);
        wake = wait_queue_wait(&x->refreshed, NO_DEADLINE);
        if (wake != WAKE_READY)
            return fiber_wake_error(wake, err);
        if (x->failures != failures)
            return fail(err, x->failure.kind, "%s", x->failure.text);
    }
    return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void heard(struct bus_subscription *s)
{
    struct mailbox_index *x = CONTAINER_OF(s, struct mailbox_index, subscription);

    CHECK_OBJ(x, MAILBOX_INDEX_MAGIC);
    x->wanted++;
    LIST_EACH_SAFE (at, &x->views) {
        struct mailbox_view *v = CONTAINER_OF(at, struct mailbox_view, link);

        if (v->changed != NULL)
            v->changed(v->arg);
    }
}

static struct mailbox_index *index_new(int64_t account_id, int64_t mailbox_id)
{
    struct mailbox_index *x = memory_alloc(sizeof *x);

    *x = (struct mailbox_index){
        .magic = MAILBOX_INDEX_MAGIC, .account_id = account_id, .mailbox_id = mailbox_id};
    x->list = uid_list_new(0);
    keyword_sets_init(&x->sets);
    wait_queue_init(&x->refreshed);
    list_init(&x->views);
    return x;
}

static void index_free(struct mailbox_index *x)
{
    assert(list_is_empty(&x->views));
    assert(!x->is_refreshing);
    assert(x->seen == NULL);
    forget_rows(x);
    keyword_sets_fini(&x->sets);
    free(x->changes);
    x->magic = 0;
    free(x);
}

static size_t index_size(const struct mailbox_index *x)
{
    return sizeof *x + x->rows_cap * sizeof x->rows[0] + x->list->cap * sizeof x->list->v[0] +
           (x->changes != NULL ? MAILBOX_CHANGES_KEPT * sizeof x->changes[0] : 0) +
           arena_size(x->sets.arena);
}

static void leave_cache(struct mailbox_index *x)
{
    if (!list_is_linked(&x->cache_link))
        return;
    list_remove(&x->cache_link);
    cached_count--;
    cached_bytes -= index_size(x);
}

static void discard(struct mailbox_index *x)
{
    struct index_key key = {x->account_id, x->mailbox_id};

    leave_cache(x);
    if (map_get(indexes, key_str(&key)) == x)
        map_remove(indexes, key_str(&key));
    index_free(x);
}

static void enter_cache(struct mailbox_index *x)
{
    list_append(&cached, &x->cache_link);
    cached_count++;
    cached_bytes += index_size(x);
    while (cached_count > CACHE_COUNT_MAX || cached_bytes > CACHE_BYTES_MAX)
        discard(CONTAINER_OF(cached.next, struct mailbox_index, cache_link));
}

static void drop_if_unused(struct mailbox_index *x)
{
    if (!list_is_empty(&x->views) || x->is_refreshing || list_is_linked(&x->cache_link))
        return;
    if (x->is_gone || !x->is_loaded || index_size(x) > CACHE_BYTES_MAX)
        discard(x);
    else
        enter_cache(x);
}

/* Whoever opens a mailbox has something to catch up with: an index that nobody looked at has not
 * listened, and the notice of what another worker acknowledged a moment ago may still be on its
 * way. */
struct mailbox_index *index_acquire(int64_t account_id, int64_t mailbox_id)
{
    struct index_key key = {account_id, mailbox_id};
    struct mailbox_index *x;

    if (indexes == NULL) {
        indexes = map_new();
        list_init(&cached);
    }
    x = map_get(indexes, key_str(&key));
    if (x == NULL) {
        x = index_new(account_id, mailbox_id);
        map_put(indexes, key_str(&key), x);
    }
    leave_cache(x);
    x->wanted++;
    if (list_is_empty(&x->views))
        bus_subscribe(&x->subscription, (uint64_t)account_id, heard);
    return x;
}

void index_release(struct mailbox_index *x)
{
    if (!list_is_empty(&x->views))
        return;
    bus_unsubscribe(&x->subscription);
    drop_if_unused(x);
}

void mailbox_index_cache_clear(void)
{
    if (indexes == NULL)
        return;
    while (!list_is_empty(&cached))
        discard(CONTAINER_OF(cached.next, struct mailbox_index, cache_link));
    if (map_count(indexes) == 0)
        map_free(&indexes);
}
