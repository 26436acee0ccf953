/* guard_keeper.c - the guard's fiber: shares counts, learns whose mail is held, and does what follows from a hold.
 *
 *   trips -> the database -> the queue holds what waits, everybody looks, people are told
 *   every second: counts to the database, everybody's sums back, and those are judged again
 *   every minute: the records are read anew, in case a notice was lost
 *
 * A hold or a release is repeated a little later by each worker that learns of it: what was admitted just before is in the
 * queue by then. Whatever fails is done again. */
#include "mail/queue/guard_internal.h"

#include <stdlib.h>
#include <string.h>

#include "mail/queue/queue.h"
#include "server/base/date.h"
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/pg/notify.h"
#include "server/run/config.h"
#include "server/run/geoip.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"

#define SHARE_INTERVAL_MS  1000
#define HOUSE_INTERVAL_MS  60000
#define FORGET_INTERVAL_MS 3600000
#define RETRY_MS           1000
#define BATCH_COUNT        200
#define PLACE_SHARE_US     60000000 /* how exactly others know when a place was used last */
#define HOUR_MS            3600000

static const int64_t again_ms[] = {2000, 15000};

static struct bus_subscription subscription;
static int64_t share_ms, house_ms, forget_ms; /* when next */
static bool has_complained;

/* ---- counts -------------------------------------------------------------------------------------- */

static bool is_place_due(const struct guard_place *p)
{
    return p->last_us > p->shared_us + PLACE_SHARE_US;
}

static void add_counts(const struct guard_entry *e, struct sending_share *s)
{
    struct sending_counts *c = &s->counts[s->count];
    bool is_any = false;

    *c = (struct sending_counts){.account_id = e->account_id, .hour = e->hour};
    for (size_t k = 0; k < SENDING_COUNTS; k++) {
        c->add[k] = e->add[k];
        is_any |= e->add[k] != 0;
    }
    s->count += is_any;
}

static bool add_places(struct arena *a, const struct guard_entry *e, struct sending_place *seen,
                       struct sending_share *s)
{
    size_t before = s->seen_count;

    for (size_t i = 0; i < e->place_count; i++)
        if (is_place_due(&e->places[i]))
            seen[s->seen_count++] = (struct sending_place){
                .account_id = e->account_id, .place = arena_str(a, str_c(e->places[i].text))};
    return s->seen_count > before;
}

static int64_t version_of(int64_t account_id)
{
    const struct guard_record *r = guard_record_of(account_id);

    return r != NULL ? r->version : 0;
}

static void fill(struct arena *a, struct guard_entry *const *v, size_t count, bool is_adding,
                 struct sending_share *s)
{
    int64_t *ask_past = ARENA_ARRAY(a, count, int64_t);
    int64_t *ask_places = ARENA_ARRAY(a, count, int64_t);
    struct sending_place *seen;
    size_t place_count = 0;

    for (size_t i = 0; i < count; i++)
        place_count += v[i]->place_count;
    seen = ARENA_ARRAY(a, place_count, struct sending_place);
    *s = (struct sending_share){
        .counts = ARENA_ARRAY(a, count, struct sending_counts),
        .seen = seen,
        .ask_past = ask_past,
        .ask_places = ask_places,
        .hour = guard_hour(time_now_us()),
        .hours_kept = config.guard_retention / HOUR_MS,
    };
    for (size_t i = 0; i < count; i++) {
        bool is_wanting = !v[i]->is_loaded || v[i]->is_stale, has_moved = false;

        guard_entry_roll(v[i], s->hour);
        if (is_adding) {
            add_counts(v[i], s);
            has_moved = add_places(a, v[i], seen, s);
        }
        v[i]->asked_version = version_of(v[i]->account_id);
        if (is_wanting)
            ask_past[s->ask_past_count++] = v[i]->account_id;
        if (is_wanting || has_moved)
            ask_places[s->ask_places_count++] = v[i]->account_id;
    }
}

static void take_sums(const struct sending_share *s)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct sending_counts *c = &s->counts[i];
        struct guard_entry *e = guard_entry_of(c->account_id);

        for (size_t k = 0; k < SENDING_COUNTS; k++) {
            e->add[k] -= c->add[k];
            if (e->hour == c->hour)
                e->current[k] = c->sum[k];
        }
    }
}

/* All but those that nobody else knows yet. */
static void drop_shared_places(struct guard_entry *e)
{
    size_t kept = 0;

    for (size_t i = 0; i < e->place_count; i++)
        if (e->places[i].shared_us == 0)
            e->places[kept++] = e->places[i];
    e->place_count = kept;
}

static void take_past(const struct sending_share *s)
{
    for (size_t i = 0; i < s->past_count; i++) {
        const struct sending_past *p = &s->past[i];
        struct guard_entry *e = guard_entry_of(p->account_id);
        const struct guard_record *r = guard_record_of(p->account_id);

        if (e->hour != s->hour)
            continue; /* the hour has just ended: once more */
        memcpy(e->current, p->current, sizeof e->current);
        memcpy(e->before, p->before, sizeof e->before);
        memcpy(e->most, p->most, sizeof e->most);
        e->day_away = p->day_away;
        e->day_bounces = p->day_bounces;
        drop_shared_places(e); /* they follow */
        e->is_loaded = true;
        e->version = e->asked_version;
        e->is_stale = r != NULL && r->version != e->version;
    }
}

static void take_places(const struct sending_share *s)
{
    for (size_t i = 0; i < s->place_count; i++) {
        const struct sending_place *from = &s->places[i];
        struct guard_place *to = guard_entry_place(guard_entry_of(from->account_id), from->place);

        if (to == NULL)
            continue;
        if (to->first_us > from->first_us)
            to->first_us = from->first_us;
        if (to->last_us < from->last_us)
            to->last_us = from->last_us;
        to->shared_us = from->last_us;
    }
}

static void hold_fast(struct guard_entry *const *v, size_t count, int by)
{
    for (size_t i = 0; i < count; i++)
        v[i]->away += (unsigned)by;
}

int guard_share(struct guard_entry *const *v, size_t count, bool is_adding, struct error *err)
{
    struct arena *a = arena_new();
    struct sending_share s;
    int rc;

    fill(a, v, count, is_adding, &s);
    hold_fast(v, count, 1);
    rc = sending_share(a, &s, err);
    if (rc == 0) {
        take_sums(&s);
        take_past(&s);
        take_places(&s);
    }
    hold_fast(v, count, -1);
    arena_free(&a);
    return rc;
}

static size_t take_batch(struct guard_entry **batch)
{
    struct list *at;
    size_t n = 0;

    while (n < BATCH_COUNT && (at = list_take_first(&guard.changed)) != NULL)
        batch[n++] = CONTAINER_OF(at, struct guard_entry, changed);
    return n;
}

/* Whatever was counted by others, too: that may be a jump. */
static int share_batch(struct guard_entry **batch, size_t count, struct error *err)
{
    int rc = guard_share(batch, count, true, err);

    for (size_t i = 0; i < count; i++)
        if (rc < 0 || batch[i]->is_stale)
            guard_entry_mark_changed(batch[i]);
        else
            guard_entry_evaluate(batch[i]);
    return rc;
}

static int share_all(struct error *err)
{
    struct guard_entry **batch = memory_array(BATCH_COUNT, sizeof *batch);
    size_t count = BATCH_COUNT;
    int rc = 0;

    share_ms = loop_deadline(SHARE_INTERVAL_MS);
    while (rc == 0 && count == BATCH_COUNT) {
        count = take_batch(batch);
        if (count > 0)
            rc = share_batch(batch, count, err);
    }
    free(batch);
    return rc;
}

/* ---- whose mail is held --------------------------------------------------------------------------- */

static void do_again(int64_t account_id, bool is_hold)
{
    for (size_t i = 0; i < sizeof again_ms / sizeof *again_ms; i++) {
        struct guard_again *w = memory_alloc(sizeof *w);

        *w = (struct guard_again){
            .account_id = account_id, .is_hold = is_hold, .due_ms = loop_deadline(again_ms[i])};
        list_append(&guard.again, &w->link);
    }
}

static bool is_held_in(const struct map *records, int64_t account_id)
{
    uint64_t key = (uint64_t)account_id;
    const struct guard_record *r = records == NULL ? NULL : map_get(records, map_key_u64(&key));

    return r != NULL && r->held_us != 0;
}

/* Held in one set of records, and not in the other. A worker that begins takes all of them for news. */
static void note_news(const struct map *from, const struct map *to, bool is_hold)
{
    struct str key;
    size_t at = 0;
    void *value;

    while (map_each(from, &at, &key, &value)) {
        const struct guard_record *r = value;

        if (r->held_us != 0 && !is_held_in(to, r->account_id))
            do_again(r->account_id, is_hold);
    }
}

static void adopt(struct map *records, struct arena *a)
{
    note_news(records, guard.records, true);
    if (guard.records != NULL) {
        note_news(guard.records, records, false);
        map_free(&guard.records);
        arena_free(&guard.records_arena);
    }
    guard.records = records;
    guard.records_arena = a;
}

int guard_read_records(struct error *err)
{
    struct arena *a = arena_new();
    struct guard_record *v;
    struct map *records;
    size_t count;

    guard_init();
    guard.is_outdated = false;
    if (guard_record_list(a, &v, &count, err) < 0) {
        guard.is_outdated = true;
        arena_free(&a);
        return -1;
    }
    records = map_new();
    for (size_t i = 0; i < count; i++) {
        uint64_t key = (uint64_t)v[i].account_id;
        struct guard_entry *e = guard_entry_of(v[i].account_id);

        map_put(records, map_key_u64(&key), &v[i]);
        if (e != NULL && e->is_loaded && e->version != v[i].version) {
            e->is_stale = true;
            guard_entry_mark_changed(e);
        }
    }
    adopt(records, a);
    return 0;
}

/* ---- what follows from a hold ----------------------------------------------------------------------- */

static void log_trip(const struct guard_record *r, int64_t count)
{
    char reason[200];

    guard_reason(r, reason, sizeof reason);
    log_warn(NULL, "account_held", KV("account", r->account_id), KV("cause", r->cause),
             KV("seen", r->seen), KV("usual", r->usual), KV("recipients", count),
             KV("why", reason));
    metric_inc(METRIC_guard_accounts_held);
}

static int hold_queue(const struct guard_record *r, int64_t *count, struct error *err)
{
    char reason[200];

    guard_reason(r, reason, sizeof reason);
    return queue_hold_account(r->account_id, str_c(reason), count, err);
}

static int settle_trip(const struct guard_trip *t, struct error *err)
{
    char reason[200];
    int64_t count = 0;
    bool is_new;

    if (guard_record_hold(&t->record, t->levels, &is_new, err) < 0)
        return -1;
    if (is_new) {
        if (hold_queue(&t->record, &count, NULL) < 0)
            count = 0; /* it is done again soon */
        log_trip(&t->record, count);
        guard_reason(&t->record, reason, sizeof reason);
        guard_trace(t->record.account_id, true, TRACE_HELD, str_c(reason));
    }
    return guard_read_records(err);
}

/* A trip holds on its own until the records say so. */
static int settle_trips(struct error *err)
{
    while (!list_is_empty(&guard.trips)) {
        struct guard_trip *t = CONTAINER_OF(guard.trips.next, struct guard_trip, link);

        if (settle_trip(t, err) < 0)
            return -1;
        list_remove(&t->link);
        free(t);
    }
    return 0;
}

static int settle_again(const struct guard_again *w, struct error *err)
{
    const struct guard_record *r = guard_record_of(w->account_id);
    struct outbound_filter f = {.account_id = w->account_id, .is_held = true};
    int64_t count;

    if (w->is_hold != guard_is_held(w->account_id))
        return 0; /* it is otherwise by now */
    return w->is_hold ? hold_queue(r, &count, err) : outbound_release(&f, &count, err);
}

static int64_t again_due_ms(void)
{
    int64_t due_ms = NO_DEADLINE;

    LIST_EACH (at, &guard.again) {
        const struct guard_again *w = CONTAINER_OF(at, struct guard_again, link);
        due_ms = w->due_ms < due_ms ? w->due_ms : due_ms;
    }
    return due_ms;
}

static struct guard_again *take_due(void)
{
    LIST_EACH (at, &guard.again) {
        struct guard_again *w = CONTAINER_OF(at, struct guard_again, link);

        if (w->due_ms <= loop_now_ms()) {
            list_remove(&w->link);
            return w;
        }
    }
    return NULL;
}

static int settle_due(struct error *err)
{
    struct guard_again *w;
    int rc = 0;

    while (rc == 0 && (w = take_due()) != NULL) {
        rc = settle_again(w, err);
        if (rc < 0)
            list_append(&guard.again, &w->link);
        else
            free(w);
    }
    return rc;
}

/* ---- people ------------------------------------------------------------------------------------------- */

static struct guard_record *find_untold(void)
{
    struct str key;
    size_t at = 0;
    void *value;

    while (guard.records != NULL && map_each(guard.records, &at, &key, &value)) {
        struct guard_record *r = value;

        if (r->held_us != 0 && !r->is_told)
            return r;
    }
    return NULL;
}

static int tell(const struct guard_record *r, struct error *err)
{
    bool is_mine;

    if (guard_record_tell(r->account_id, &is_mine, err) < 0)
        return -1;
    if (!is_mine || guard_tell_people(r, err) == 0)
        return 0;
    guard_record_untell(r->account_id, NULL);
    guard.is_outdated = true;
    return -1;
}

static int tell_all(struct error *err)
{
    struct guard_record *r;
    int rc = 0;

    while (rc == 0 && (r = find_untold()) != NULL) {
        struct arena *a = arena_new();
        struct guard_record copy = *r;

        r->is_told = true;
        copy.cause = arena_str(a, r->cause);
        copy.detail = arena_str(a, r->detail);
        copy.language = arena_str(a, r->language);
        rc = tell(&copy, err);
        arena_free(&a);
    }
    return rc;
}

/* ---- the keeper ------------------------------------------------------------------------------------ */

static int keep_house(struct error *err)
{
    int64_t hours = config.guard_retention / HOUR_MS;

    house_ms = loop_deadline(HOUSE_INTERVAL_MS);
    geoip_refresh();
    guard.is_outdated = true;
    if (guard.worker_index != 0 || loop_now_ms() < forget_ms)
        return 0;
    forget_ms = loop_deadline(FORGET_INTERVAL_MS);
    return sending_forget(guard_hour(time_now_us()) - hours, hours, err);
}

/* Before a trip, so that who purges the account finds all that it sent. */
static bool is_share_due(void)
{
    return loop_now_ms() >= share_ms || !list_is_empty(&guard.trips);
}

static int turn(bool is_all, struct error *err)
{
    if ((is_all || loop_now_ms() >= house_ms) && keep_house(err) < 0)
        return -1;
    if ((guard.is_outdated || guard.records == NULL) && guard_read_records(err) < 0)
        return -1;
    if ((is_all || is_share_due()) && share_all(err) < 0)
        return -1;
    if (settle_trips(err) < 0 || settle_due(err) < 0)
        return -1;
    return tell_all(err);
}

int guard_reconcile(struct error *err)
{
    guard_init();
    return turn(true, err);
}

static int64_t next_ms(void)
{
    int64_t next = house_ms < again_due_ms() ? house_ms : again_due_ms();

    return !list_is_empty(&guard.changed) && share_ms < next ? share_ms : next;
}

static void wait_for_work(void)
{
    if (guard.is_outdated || !list_is_empty(&guard.trips) || fiber_cancelled())
        return;
    guard.is_keeper_waiting = true;
    fiber_park(next_ms());
    guard.is_keeper_waiting = false;
}

/* Without a database everybody is judged by what this worker knows; once is enough to say so. */
static void keeper_run(void *arg)
{
    while (!fiber_cancelled()) {
        struct error err = {0};

        if (turn(false, &err) == 0) {
            has_complained = false;
            wait_for_work();
            continue;
        }
        if (!has_complained && !fiber_cancelled())
            log_warn(NULL, "guard_not_shared", KV_ERR(&err));
        has_complained = true;
        fiber_sleep(RETRY_MS);
    }
    guard.keeper = NULL;
    wait_queue_wake_all(&guard.ended);
}

static void on_notice(struct bus_subscription *s)
{
    guard.is_outdated = true;
    guard_wake();
}

void guard_start(unsigned worker_index)
{
    guard_init();
    guard.worker_index = worker_index;
    if (!config.guard)
        return;
    house_ms = share_ms = forget_ms = loop_now_ms();
    bus_subscribe(&subscription, GUARD_TOPIC, on_notice);
    guard.keeper = fiber_start("guard", keeper_run, NULL);
}

static void free_links(struct list *head, size_t offset)
{
    struct list *at;

    while ((at = list_take_first(head)) != NULL)
        free((char *)at - offset);
}

void guard_fini(void)
{
    struct list *at;

    if (guard.entries == NULL)
        return;
    while ((at = guard.used.next) != &guard.used)
        guard_entry_free(CONTAINER_OF(at, struct guard_entry, used));
    free_links(&guard.trips, offsetof(struct guard_trip, link));
    free_links(&guard.again, offsetof(struct guard_again, link));
    map_free(&guard.entries);
    if (guard.records != NULL)
        map_free(&guard.records);
    if (guard.records_arena != NULL)
        arena_free(&guard.records_arena);
    geoip_close();
}

void guard_stop(void)
{
    if (guard.entries == NULL)
        return;
    bus_unsubscribe(&subscription);
    if (guard.keeper != NULL)
        fiber_cancel(guard.keeper);
    while (guard.keeper != NULL && !fiber_cancelled())
        wait_queue_wait(&guard.ended, NO_DEADLINE);
    if (share_all(NULL) == 0)
        settle_trips(NULL);
    guard_fini();
}
