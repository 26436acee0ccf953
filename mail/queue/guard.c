/* guard.c - what each account sends, counted in memory and judged at every submission.
 *
 * An entry is made when its account first submits here, with its past from the database, and is forgotten when it has not
 * been used for long. Nothing here writes: the keeper does. */
#include "mail/queue/guard.h"
#include "mail/queue/guard_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/date.h"
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/base/net.h"
#include "server/run/config.h"
#include "server/run/geoip.h"
#include "server/run/metrics.h"

#define ENTRIES_MAX    20000
#define DAY_US         (24 * GUARD_HOUR_US)
#define NETWORK_BITS_4 24
#define NETWORK_BITS_6 48

struct guard guard;

void guard_init(void)
{
    if (guard.entries != NULL)
        return;
    guard.entries = map_new();
    list_init(&guard.changed);
    list_init(&guard.used);
    list_init(&guard.trips);
    list_init(&guard.again);
    wait_queue_init(&guard.ended);
}

void guard_wake(void)
{
    if (guard.is_keeper_waiting)
        fiber_wake(guard.keeper);
}

/* ---- entries ------------------------------------------------------------------------------------- */

struct guard_entry *guard_entry_of(int64_t account_id)
{
    uint64_t key = (uint64_t)account_id;

    return guard.entries == NULL ? NULL : map_get(guard.entries, map_key_u64(&key));
}

void guard_entry_free(struct guard_entry *e)
{
    uint64_t key = (uint64_t)e->account_id;

    map_remove(guard.entries, map_key_u64(&key));
    list_remove(&e->changed);
    list_remove(&e->used);
    free(e->places);
    free(e);
}

void guard_entry_mark_changed(struct guard_entry *e)
{
    if (list_is_linked(&e->changed))
        return;
    list_append(&guard.changed, &e->changed);
    guard_wake();
}

/* The longest unused of those that nobody needs just now. */
static void make_room(void)
{
    if (map_count(guard.entries) < ENTRIES_MAX)
        return;
    LIST_EACH (at, &guard.used) {
        struct guard_entry *e = CONTAINER_OF(at, struct guard_entry, used);

        if (e->away == 0 && !list_is_linked(&e->changed)) {
            guard_entry_free(e);
            return;
        }
    }
}

/* What is not shared yet counts as of the new hour: about a second's worth. */
void guard_entry_roll(struct guard_entry *e, int64_t hour)
{
    if (e->hour == hour)
        return;
    e->day_away += e->current[SENDING_AWAY];
    e->day_bounces += e->current[SENDING_BOUNCES];
    for (size_t k = 0; k < SENDING_VOLUMES; k++)
        e->before[k] = hour == e->hour + 1 ? e->current[k] : 0;
    memset(e->current, 0, sizeof e->current);
    e->hour = hour;
    e->is_stale = true;
    guard_entry_mark_changed(e);
}

static struct guard_entry *get_entry(int64_t account_id)
{
    uint64_t key = (uint64_t)account_id;
    struct guard_entry *e;

    guard_init();
    e = guard_entry_of(account_id);
    if (e == NULL) {
        make_room();
        e = memory_alloc(sizeof *e);
        e->account_id = account_id;
        e->hour = guard_hour(time_now_us());
        map_put(guard.entries, map_key_u64(&key), e);
    }
    list_remove(&e->used);
    list_append(&guard.used, &e->used);
    guard_entry_roll(e, guard_hour(time_now_us()));
    return e;
}

/* ---- places --------------------------------------------------------------------------------------- */

struct guard_place *guard_entry_place(struct guard_entry *e, struct str text)
{
    struct guard_place *p;

    for (size_t i = 0; i < e->place_count; i++)
        if (str_eq(str_c(e->places[i].text), text))
            return &e->places[i];
    if (e->place_count == SENDING_PLACES_MAX || text.n >= sizeof p->text)
        return NULL;
    e->places = memory_resize(e->places, (e->place_count + 1) * sizeof *e->places);
    p = &e->places[e->place_count++];
    *p = (struct guard_place){.first_us = INT64_MAX};
    memcpy(p->text, text.p, text.n);
    return p;
}

static void note_place(struct guard_entry *e, struct str text)
{
    struct guard_place *p = guard_entry_place(e, text);
    int64_t now_us = time_now_us();

    if (p == NULL)
        return;
    p->last_us = now_us;
    if (p->first_us > now_us)
        p->first_us = now_us;
}

static void note_client(struct guard_entry *e, const struct sockaddr_storage *client)
{
    struct arena *a;
    uint8_t address[16];
    char country[3];

    if (client == NULL || !net_address(client, address))
        return;
    a = arena_new();
    note_place(e, net_text(a, client, NETWORK_BITS_4, NETWORK_BITS_6));
    arena_free(&a);
    if (geoip_country(client, country))
        note_place(e, str_c(country));
}

static bool is_country(const struct guard_place *p)
{
    return strlen(p->text) == 2;
}

/* ---- judging -------------------------------------------------------------------------------------- */

const struct guard_record *guard_record_of(int64_t account_id)
{
    uint64_t key = (uint64_t)account_id;

    return guard.records == NULL ? NULL : map_get(guard.records, map_key_u64(&key));
}

static const struct guard_trip *trip_of(int64_t account_id)
{
    LIST_EACH (at, &guard.trips) {
        const struct guard_trip *t = CONTAINER_OF(at, struct guard_trip, link);

        if (t->record.account_id == account_id)
            return t;
    }
    return NULL;
}

/* Of the hour before, the part that is still within 60 minutes. */
static void view_counts(const struct guard_entry *e, int64_t now_us, struct guard_view *v)
{
    double share = 1.0 - (double)(now_us % GUARD_HOUR_US) / (double)GUARD_HOUR_US;

    for (size_t k = 0; k < SENDING_VOLUMES; k++) {
        v->levels[k] = e->add[k] + e->current[k] + (int64_t)((double)e->before[k] * share);
        v->usual[k] = e->most[k];
    }
    v->day_away = e->add[SENDING_AWAY] + e->current[SENDING_AWAY] + e->day_away;
    v->levels[SENDING_BOUNCES] =
        e->add[SENDING_BOUNCES] + e->current[SENDING_BOUNCES] + e->day_bounces;
}

static void view_places(const struct guard_entry *e, int64_t now_us, int64_t forgiven_us,
                        struct guard_view *v)
{
    bool has_home = false, is_elsewhere = false;

    for (size_t i = 0; i < e->place_count; i++) {
        const struct guard_place *p = &e->places[i];
        bool is_known = p->first_us <= now_us - DAY_US || p->first_us <= forgiven_us;

        if (p->last_us > now_us - config.guard_window * 1000)
            v->levels[is_country(p) ? LEVEL_COUNTRIES : LEVEL_NETWORKS]++;
        has_home |= is_country(p) && is_known;
        is_elsewhere |= is_country(p) && !is_known;
    }
    v->is_abroad = has_home && is_elsewhere;
}

static struct guard_view view_of(const struct guard_entry *e, const struct guard_record *r)
{
    int64_t now_us = time_now_us();
    struct guard_view v = {.day_away = 0};

    view_counts(e, now_us, &v);
    view_places(e, now_us, r != NULL ? r->forgiven_us : 0, &v);
    if (r != NULL && r->forgiven_us + config.guard_forgiveness * 1000 > now_us)
        memcpy(v.forgiven, r->forgiven, sizeof v.forgiven);
    return v;
}

/* The countries of the time that counts; after a new one, only those that are new. */
static void name_countries(const struct guard_entry *e, bool only_new, char *out, size_t size)
{
    int64_t now_us = time_now_us();
    size_t n = 0;

    for (size_t i = 0; i < e->place_count && n + 5 < size; i++) {
        const struct guard_place *p = &e->places[i];

        if (is_country(p) && p->last_us > now_us - config.guard_window * 1000 &&
            (!only_new || p->first_us > now_us - DAY_US))
            n += (size_t)snprintf(out + n, size - n, "%s%s", n > 0 ? ", " : "", p->text);
    }
}

static void trip(struct guard_entry *e, const struct guard_view *v, const struct guard_finding *f)
{
    struct guard_trip *t = memory_alloc(sizeof *t);

    memcpy(t->language, e->language, sizeof t->language);
    if (f->cause == GUARD_COUNTRIES || f->cause == GUARD_NEW_COUNTRY)
        name_countries(e, f->cause == GUARD_NEW_COUNTRY, t->detail, sizeof t->detail);
    t->record = (struct guard_record){
        .account_id = e->account_id,
        .held_us = time_now_us(),
        .cause = str_c(guard_cause_name(f->cause)),
        .seen = f->seen,
        .usual = f->usual,
        .detail = str_c(t->detail),
        .language = str_c(t->language),
    };
    memcpy(t->levels, v->levels, sizeof t->levels);
    list_append(&guard.trips, &t->link);
    guard_wake();
}

void guard_entry_evaluate(struct guard_entry *e)
{
    const struct guard_record *r = guard_record_of(e->account_id);
    struct guard_finding found;
    struct guard_view v;

    if (!e->is_loaded || e->is_stale || guard_is_held(e->account_id) || (r != NULL && r->is_off))
        return;
    v = view_of(e, r);
    found = guard_judge(&v);
    if (found.cause != GUARD_NOTHING)
        trip(e, &v, &found);
}

bool guard_is_held(int64_t account_id)
{
    const struct guard_record *r;

    if (!config.guard || account_id == 0 || guard.entries == NULL)
        return false;
    r = guard_record_of(account_id);
    return (r != NULL && r->held_us != 0) || trip_of(account_id) != NULL;
}

/* ---- what others ask ------------------------------------------------------------------------------- */

void guard_reason(const struct guard_record *r, char *out, size_t size)
{
    struct guard_finding f = {guard_cause_parse(r->cause), r->seen, r->usual};
    struct arena *a = arena_new();
    struct str sentence = guard_sentence(a, "en", &f, r->detail);

    snprintf(out, size, "account misused? %.*s", STR_ARG(sentence));
    arena_free(&a);
}

static void answer(int64_t account_id, struct guard_answer *out)
{
    const struct guard_trip *t = trip_of(account_id);
    const struct guard_record *r = t != NULL ? &t->record : guard_record_of(account_id);

    out->is_held = true;
    guard_reason(r, out->reason, sizeof out->reason);
    metric_inc(METRIC_guard_messages_held);
}

/* At the first submission, and at the first of an hour. What others count for it meanwhile is not lost: only what is read
 * is set. */
static int load(int64_t account_id, struct error *err)
{
    struct guard_entry *e = get_entry(account_id);

    if (guard.records == NULL && guard_read_records(err) < 0)
        return -1;
    e = get_entry(account_id);
    return e->is_loaded && !e->is_stale ? 0 : guard_share(&e, 1, false, err);
}

static void count(struct guard_entry *e, const struct guard_submission *in)
{
    e->add[SENDING_MESSAGES]++;
    e->add[SENDING_RECIPIENTS] += (int64_t)in->recipients;
    e->add[SENDING_AWAY] += (int64_t)in->recipients_away;
    if (in->language != NULL)
        snprintf(e->language, sizeof e->language, "%.2s", in->language);
    note_client(e, in->client);
    guard_entry_mark_changed(e);
}

int guard_admit(const struct guard_submission *in, struct guard_answer *out, struct error *err)
{
    struct guard_entry *e;

    *out = (struct guard_answer){.is_held = false};
    if (!config.guard || in->account_id == 0)
        return 0;
    if (load(in->account_id, err) < 0)
        return -1;
    e = get_entry(in->account_id);
    count(e, in);
    guard_entry_evaluate(e);
    if (guard_is_held(in->account_id))
        answer(in->account_id, out);
    return 0;
}

/* Judged when it is shared: nobody waits here. */
void guard_note_bounce(int64_t account_id)
{
    struct guard_entry *e;

    if (!config.guard || account_id == 0)
        return;
    e = get_entry(account_id);
    e->add[SENDING_BOUNCES]++;
    guard_entry_mark_changed(e);
}
