/* mailbox_watch.c - one picture of an account's mailboxes for all of a worker's watches.
 *
 * A hub counts its changes in ticks. Each mailbox carries the tick of its last change of each kind,
 * and those that changed last come first in the hub's list, so that a take walks only over what is
 * new to it. Removed mailboxes and old paths stay until every watch has passed them. */
#include "mail/store/mailbox_watch.h"

#include <assert.h>
#include <stdlib.h>
#include "server/base/list.h"
#include "server/base/map.h"
#include "server/base/memory.h"
#include "server/base/object.h"
#include "server/pg/notify.h"
#include "server/pg/pg.h"
#include "server/run/channel.h"
#include "server/run/config.h"
#include "sql_queries.h"

#define WATCH_HUB_MAGIC     0x77687562u
#define MAILBOX_WATCH_MAGIC 0x6d777463u
#define KIND_COUNT          8

struct old_path {
    struct old_path *older;
    uint64_t until; /* the tick of the renaming */
    struct str path;
};

struct watched {
    struct list link;       /* hub->mailboxes, latest change first */
    struct mailbox mailbox; /* path and role are its own memory */
    uint64_t changed_modseq;
    uint64_t tick;              /* of its last change */
    uint64_t ticks[KIND_COUNT]; /* of its last change of each kind; 0: never */
    struct old_path *old_paths; /* latest first */
};

struct watch_hub {
    unsigned magic;
    int64_t account_id;
    struct bus_subscription subscription;
    struct map *by_id;
    struct list mailboxes;
    struct list watches;
    uint64_t tick;
    uint64_t modseq;            /* the picture is complete up to here */
    uint64_t annotation_modseq; /* of the account's last annotation */
    uint64_t wanted, reached;   /* notices heard, and how many of them were followed */
    size_t leftovers;           /* removed mailboxes and old paths that are kept */
    bool is_loaded, is_refreshing;
    struct wait_queue refreshed;
};

struct mailbox_watch {
    unsigned magic;
    struct watch_hub *hub;
    struct list link;
    uint64_t tick; /* everything up to here was taken */
    uint64_t annotation_modseq;
    void (*changed)(void *arg);
    void *arg;
};

static struct map *hubs; /* by account number */

/* ---- mailboxes of the picture ---------------------------------------------------------------- */

static unsigned kind_index(enum mailbox_event_kind kind)
{
    return (unsigned)__builtin_ctz((unsigned)kind);
}

static uint64_t tick_of(const struct watched *m, enum mailbox_event_kind kind)
{
    return m->ticks[kind_index(kind)];
}

static void mark(struct watch_hub *hub, struct watched *m, unsigned kinds)
{
    if (kinds == 0 || !hub->is_loaded)
        return;
    m->tick = hub->tick;
    for (unsigned i = 0; i < KIND_COUNT; i++)
        if (kinds & 1u << i)
            m->ticks[i] = hub->tick;
    list_remove(&m->link);
    list_prepend(&hub->mailboxes, &m->link);
}

static struct str own_copy(struct str s)
{
    return str_of(memory_copy_str(s), s.n);
}

static void old_paths_free(struct watch_hub *hub, struct old_path **at)
{
    while (*at != NULL) {
        struct old_path *gone = *at;

        *at = gone->older;
        free((char *)gone->path.p);
        free(gone);
        hub->leftovers--;
    }
}

static void watched_free(struct watch_hub *hub, struct watched *m)
{
    uint64_t key = (uint64_t)m->mailbox.mailbox_id;

    map_remove(hub->by_id, map_key_u64(&key));
    list_remove(&m->link);
    old_paths_free(hub, &m->old_paths);
    free((char *)m->mailbox.path.p);
    free((char *)m->mailbox.role.p);
    free(m);
}

static struct watched *find_watched(const struct watch_hub *hub, int64_t mailbox_id)
{
    uint64_t key = (uint64_t)mailbox_id;

    return map_get(hub->by_id, map_key_u64(&key));
}

static bool is_removed(const struct watched *m)
{
    return tick_of(m, EVENT_REMOVED) > 0;
}

static struct str parent_of(struct str path)
{
    struct str parent, leaf;

    return str_rcut(path, '/', &parent, &leaf) ? parent : STR("");
}

static void mark_parent(struct watch_hub *hub, struct str path)
{
    struct str parent = parent_of(path);

    if (parent.n == 0)
        return;
    LIST_EACH (at, &hub->mailboxes) {
        struct watched *m = CONTAINER_OF(at, struct watched, link);

        if (!is_removed(m) && str_eq(m->mailbox.path, parent)) {
            if (tick_of(m, EVENT_CREATED) < hub->tick) /* else it is told anyhow */
                mark(hub, m, EVENT_CHILDREN);
            return;
        }
    }
}

/* ---- applying what the database says --------------------------------------------------------- */

static void read_numbers(const struct pg_rows *rows, size_t row, struct mailbox *out)
{
    out->mailbox_id = pg_get_i64(rows, row, "mailbox_id");
    out->uid_validity = pg_get_u32(rows, row, "uid_validity");
    out->uid_next = pg_get_u32(rows, row, "uid_next");
    out->modseq = (uint64_t)pg_get_i64(rows, row, "modseq");
    out->message_count = pg_get_u32(rows, row, "message_count");
    out->unseen_count = pg_get_u32(rows, row, "unseen_count");
    out->deleted_count = pg_get_u32(rows, row, "deleted_count");
    out->bytes = (uint64_t)pg_get_i64(rows, row, "bytes");
    out->is_subscribed = pg_get_bool(rows, row, "is_subscribed");
}

static struct watched *add_watched(struct watch_hub *hub, const struct pg_rows *rows, size_t row)
{
    struct watched *m = memory_alloc(sizeof *m);
    uint64_t key;

    read_numbers(rows, row, &m->mailbox);
    m->mailbox.path = own_copy(pg_get_str(rows, row, "path"));
    m->mailbox.role = own_copy(pg_get_str(rows, row, "role"));
    m->changed_modseq = (uint64_t)pg_get_i64(rows, row, "changed_modseq");
    key = (uint64_t)m->mailbox.mailbox_id;
    map_put(hub->by_id, map_key_u64(&key), m);
    list_prepend(&hub->mailboxes, &m->link);
    mark(hub, m, EVENT_CREATED | (m->mailbox.uid_next > 1 ? (unsigned)EVENT_MESSAGES : 0));
    return m;
}

static void replace_text(struct str *to, struct str s)
{
    free((char *)to->p);
    *to = own_copy(s);
}

static void keep_old_path(struct watch_hub *hub, struct watched *m)
{
    struct old_path *old = memory_alloc(sizeof *old);

    *old = (struct old_path){
        .older = m->old_paths, .until = hub->tick, .path = own_copy(m->mailbox.path)};
    m->old_paths = old;
    hub->leftovers++;
}

/* What of it changed. */
static unsigned apply_row(struct watch_hub *hub, struct watched *m, const struct pg_rows *rows,
                          size_t row)
{
    struct mailbox before = m->mailbox;
    uint64_t changed_modseq = (uint64_t)pg_get_i64(rows, row, "changed_modseq");
    struct str role = pg_get_str(rows, row, "role"), path = pg_get_str(rows, row, "path");
    unsigned kinds = 0;

    read_numbers(rows, row, &m->mailbox);
    if (before.modseq == m->mailbox.modseq)
        return 0;
    if (before.uid_next != m->mailbox.uid_next || before.message_count != m->mailbox.message_count)
        kinds |= EVENT_MESSAGES;
    if (pg_get_bool(rows, row, "has_message_change"))
        kinds |= EVENT_FLAGS;
    if (before.is_subscribed != m->mailbox.is_subscribed)
        kinds |= EVENT_SUBSCRIPTION;
    else if (changed_modseq != m->changed_modseq)
        kinds |= EVENT_PROPERTIES;
    m->changed_modseq = changed_modseq;
    if (!str_eq(role, m->mailbox.role))
        replace_text(&m->mailbox.role, role);
    if (!str_eq(path, m->mailbox.path)) {
        keep_old_path(hub, m);
        replace_text(&m->mailbox.path, path);
        kinds |= EVENT_RENAMED;
    }
    return kinds;
}

static void apply_changed(struct watch_hub *hub, const struct pg_rows *rows)
{
    for (size_t row = 0; row < rows->count; row++) {
        struct watched *m = find_watched(hub, pg_get_i64(rows, row, "mailbox_id"));

        if (m != NULL) {
            mark(hub, m, apply_row(hub, m, rows, row));
            continue;
        }
        m = add_watched(hub, rows, row);
        if (hub->is_loaded)
            mark_parent(hub, m->mailbox.path);
    }
}

static void apply_removed(struct watch_hub *hub, const struct pg_rows *rows)
{
    for (size_t row = 0; row < rows->count; row++) {
        struct watched *m = find_watched(hub, pg_get_i64(rows, row, "mailbox_id"));

        if (m == NULL || is_removed(m))
            continue;
        mark(hub, m, EVENT_REMOVED);
        hub->leftovers++;
        mark_parent(hub, m->mailbox.path);
    }
}

/* ---- following the account ------------------------------------------------------------------- */

static int too_many(struct error *err)
{
    return fail(err, ERR_LIMIT, "more than %lld mailboxes cannot be watched",
                (long long)config.imap_notify_mailboxes_max);
}

static int apply(struct watch_hub *hub, const struct pg_rows rows[3], struct error *err)
{
    size_t count_max = (size_t)config.imap_notify_mailboxes_max;

    if (rows[0].count == 0)
        return fail(err, ERR_NOT_FOUND, "there is no such account");
    if (rows[1].count > count_max || map_count(hub->by_id) + rows[1].count > 2 * count_max)
        return too_many(err);
    hub->tick++;
    apply_changed(hub, &rows[1]);
    apply_removed(hub, &rows[2]);
    hub->modseq = (uint64_t)pg_get_i64(&rows[0], 0, "modseq");
    hub->annotation_modseq = (uint64_t)pg_get_i64(&rows[0], 0, "annotation_modseq");
    hub->is_loaded = true;
    return 0;
}

static int refresh(struct watch_hub *hub, struct error *err)
{
    struct pg_arg args[] = {pg_i64(hub->account_id), pg_i64((int64_t)hub->modseq),
                            pg_i64(config.imap_notify_mailboxes_max + 1)};
    struct pg_call calls[] = {{&sql_watch_account, {args, 1}},
                              {&sql_watch_changed, {args, 3}},
                              {&sql_watch_removed, {args, 2}}};
    struct pg_rows rows[3] = {{0}};
    int rc;

    if (pg_run_batch(pg_pool(), calls, 3, rows, err) < 0)
        return -1;
    rc = apply(hub, rows, err);
    for (size_t i = 0; i < 3; i++)
        pg_rows_free(&rows[i]);
    return rc;
}

/* Returns when everything announced before the call is in the picture. */
static int catch_up(struct watch_hub *hub, struct error *err)
{
    uint64_t goal = hub->wanted;

    while (hub->reached < goal) {
        uint64_t wanted = hub->wanted;
        int rc;

        if (hub->is_refreshing) {
            enum wake wake = wait_queue_wait(&hub->refreshed, NO_DEADLINE);

            if (wake != WAKE_READY)
                return fiber_wake_error(wake, err);
            continue;
        }
        hub->is_refreshing = true;
        rc = refresh(hub, err);
        hub->is_refreshing = false;
        if (rc == 0)
            hub->reached = wanted;
        wait_queue_wake_all(&hub->refreshed);
        if (rc < 0)
            return -1;
    }
    return 0;
}

static void heard(struct bus_subscription *s)
{
    struct watch_hub *hub = CONTAINER_OF(s, struct watch_hub, subscription);

    CHECK_OBJ(hub, WATCH_HUB_MAGIC);
    hub->wanted++;
    LIST_EACH_SAFE (at, &hub->watches) {
        struct mailbox_watch *w = CONTAINER_OF(at, struct mailbox_watch, link);

        if (w->changed != NULL)
            w->changed(w->arg);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

static struct watch_hub *hub_acquire(int64_t account_id)
{
    uint64_t key = (uint64_t)account_id;
    struct watch_hub *hub;

    if (hubs == NULL)
        hubs = map_new();
    hub = map_get(hubs, map_key_u64(&key));
    if (hub == NULL) {
        hub = memory_alloc(sizeof *hub);
        hub->magic = WATCH_HUB_MAGIC;
        hub->account_id = account_id;
        hub->by_id = map_new();
        list_init(&hub->mailboxes);
        list_init(&hub->watches);
        wait_queue_init(&hub->refreshed);
        map_put(hubs, map_key_u64(&key), hub);
        bus_subscribe(&hub->subscription, key, heard);
    }
    hub->wanted++; /* the notice of what was acknowledged a moment ago may still be on its way */
    return hub;
}

static void hub_free(struct watch_hub *hub)
{
    uint64_t key = (uint64_t)hub->account_id;

    assert(!hub->is_refreshing);
    bus_unsubscribe(&hub->subscription);
    LIST_EACH_SAFE (at, &hub->mailboxes)
        watched_free(hub, CONTAINER_OF(at, struct watched, link));
    map_free(&hub->by_id);
    map_remove(hubs, map_key_u64(&key));
    if (map_count(hubs) == 0)
        map_free(&hubs);
    hub->magic = 0;
    free(hub);
}

/* What every watch has taken. */
static uint64_t passed_by_all(const struct watch_hub *hub)
{
    uint64_t tick = hub->tick;

    LIST_EACH (at, &hub->watches) {
        const struct mailbox_watch *w = CONTAINER_OF(at, struct mailbox_watch, link);

        if (w->tick < tick)
            tick = w->tick;
    }
    return tick;
}

static void drop_leftovers(struct watch_hub *hub)
{
    uint64_t passed;

    if (hub->leftovers == 0)
        return;
    passed = passed_by_all(hub);
    LIST_EACH_SAFE (at, &hub->mailboxes) {
        struct watched *m = CONTAINER_OF(at, struct watched, link);
        struct old_path **old = &m->old_paths;

        while (*old != NULL && (*old)->until > passed)
            old = &(*old)->older;
        old_paths_free(hub, old);
        if (is_removed(m) && tick_of(m, EVENT_REMOVED) <= passed) {
            watched_free(hub, m);
            hub->leftovers--;
        }
    }
}

struct mailbox_watch *mailbox_watch_open(int64_t account_id, void (*changed)(void *arg), void *arg,
                                         struct error *err)
{
    struct mailbox_watch *w = memory_alloc(sizeof *w);

    *w = (struct mailbox_watch){.magic = MAILBOX_WATCH_MAGIC,
                                .hub = hub_acquire(account_id),
                                .changed = changed,
                                .arg = arg};
    w->tick = w->hub->tick;
    list_append(&w->hub->watches, &w->link);
    if (catch_up(w->hub, err) < 0) {
        mailbox_watch_close(&w);
        return NULL;
    }
    w->tick = w->hub->tick;
    w->annotation_modseq = w->hub->annotation_modseq;
    return w;
}

void mailbox_watch_close(struct mailbox_watch **watch)
{
    struct mailbox_watch *w = *watch;

    *watch = NULL;
    if (w == NULL)
        return;
    CHECK_OBJ(w, MAILBOX_WATCH_MAGIC);
    list_remove(&w->link);
    if (list_is_empty(&w->hub->watches))
        hub_free(w->hub);
    else
        drop_leftovers(w->hub);
    w->magic = 0;
    free(w);
}

/* ---- taking ---------------------------------------------------------------------------------- */

static void copy_mailbox(struct arena *a, const struct mailbox *from, struct mailbox *to)
{
    *to = *from;
    to->path = arena_str(a, from->path);
    to->role = arena_str(a, from->role);
}

/* The path that a watch at `tick` knows. */
static struct str known_path(const struct watched *m, uint64_t tick)
{
    struct str path = m->mailbox.path;

    for (const struct old_path *old = m->old_paths; old != NULL && old->until > tick;
         old = old->older)
        path = old->path;
    return path;
}

/* Of what came and went, a watch that never heard of it hears nothing. */
static unsigned kinds_since(const struct watched *m, uint64_t tick)
{
    bool is_new = tick_of(m, EVENT_CREATED) > tick;
    unsigned kinds = 0;

    if (is_removed(m))
        return is_new || tick_of(m, EVENT_REMOVED) <= tick ? 0 : EVENT_REMOVED;
    for (unsigned i = 0; i < KIND_COUNT; i++)
        if (m->ticks[i] > tick)
            kinds |= 1u << i;
    if (is_new)
        kinds &= ~(unsigned)(EVENT_RENAMED | EVENT_SUBSCRIPTION | EVENT_PROPERTIES);
    if ((kinds & EVENT_RENAMED) && str_eq(known_path(m, tick), m->mailbox.path))
        kinds &= ~(unsigned)EVENT_RENAMED;
    return kinds;
}

static bool make_event(const struct watched *m, uint64_t tick, struct arena *a,
                       struct mailbox_event *out)
{
    *out = (struct mailbox_event){.kinds = kinds_since(m, tick)};
    if (out->kinds == 0)
        return false;
    copy_mailbox(a, &m->mailbox, &out->mailbox);
    out->old_path = arena_str(a, known_path(m, tick));
    if (out->kinds & EVENT_REMOVED)
        out->mailbox.path = out->old_path;
    return true;
}

static void set_has_children(const struct watch_hub *hub, struct mailbox_event *v, size_t count)
{
    const unsigned named =
        EVENT_CREATED | EVENT_RENAMED | EVENT_CHILDREN | EVENT_SUBSCRIPTION | EVENT_PROPERTIES;
    struct map *parents = NULL;

    for (size_t i = 0; i < count; i++) {
        if (!(v[i].kinds & named))
            continue;
        if (parents == NULL) {
            parents = map_new();
            LIST_EACH (at, &hub->mailboxes) {
                struct watched *m = CONTAINER_OF(at, struct watched, link);

                if (!is_removed(m))
                    map_put(parents, parent_of(m->mailbox.path), m);
            }
        }
        v[i].mailbox.has_children = map_get(parents, v[i].mailbox.path) != NULL;
    }
    if (parents != NULL)
        map_free(&parents);
}

static size_t count_changed(const struct watch_hub *hub, uint64_t tick)
{
    size_t count = 0;

    LIST_EACH (at, &hub->mailboxes) {
        if (CONTAINER_OF(at, struct watched, link)->tick <= tick)
            break;
        count++;
    }
    return count;
}

/* Oldest change first. */
static size_t collect(const struct watch_hub *hub, uint64_t tick, struct arena *a,
                      struct mailbox_event **out)
{
    size_t count = count_changed(hub, tick), made = 0;
    const struct watched **changed = ARENA_ARRAY(a, count + 1, const struct watched *);
    const struct list *at = hub->mailboxes.next;

    for (size_t i = count; i > 0; i--, at = at->next)
        changed[i - 1] = CONTAINER_OF(at, struct watched, link);
    *out = ARENA_ARRAY(a, count + 1, struct mailbox_event);
    for (size_t i = 0; i < count; i++)
        if (make_event(changed[i], tick, a, &(*out)[made]))
            made++;
    set_has_children(hub, *out, made);
    return made;
}

/* ---- the order of names ----------------------------------------------------------------------
 *
 * Several events are told one after the other, and at no time may a name stand for two mailboxes:
 * first what is gone, then renamings, each when its new name is free, then everything else. */

struct renamings {
    struct map *by_old_path; /* those not told yet */
    struct mailbox_event **v;
    size_t count;
};

static struct renamings find_renamings(struct arena *a, struct mailbox_event *v, size_t count)
{
    struct renamings r = {.by_old_path = map_new(),
                          .v = ARENA_ARRAY(a, count + 1, struct mailbox_event *)};

    for (size_t i = 0; i < count; i++)
        if (v[i].kinds & EVENT_RENAMED) {
            map_put(r.by_old_path, v[i].old_path, &v[i]);
            r.v[r.count++] = &v[i];
        }
    return r;
}

/* A renaming moves everything below, which need not be told one by one (RFC 5465, 5.4) to who hears
 * of the renaming. */
static bool moves_with_parent(const struct renamings *r, const struct mailbox_event *event)
{
    struct str from = event->old_path, to = event->mailbox.path;
    struct str from_parent = parent_of(from), to_parent = parent_of(to);
    const struct mailbox_event *parent =
        from_parent.n > 0 ? map_get(r->by_old_path, from_parent) : NULL;

    return parent != NULL && str_eq(parent->mailbox.path, to_parent) &&
           str_eq(str_from(from, from_parent.n), str_from(to, to_parent.n));
}

static void leave_out_what_moves_along(struct renamings *r)
{
    size_t kept = 0;

    for (size_t i = 0; i < r->count; i++)
        if (moves_with_parent(r, r->v[i]))
            r->v[i]->kinds = (r->v[i]->kinds & ~(unsigned)EVENT_RENAMED) | EVENT_MOVED;
    for (size_t i = 0; i < r->count; i++)
        if (r->v[i]->kinds & EVENT_RENAMED)
            r->v[kept++] = r->v[i];
        else
            map_remove(r->by_old_path, r->v[i]->old_path);
    r->count = kept;
}

/* Tells those whose new name is free; returns how many are left. */
static size_t tell_free_ones(struct renamings *r, struct mailbox_event *out, size_t *told)
{
    size_t kept = 0;

    for (size_t i = 0; i < r->count; i++) {
        struct mailbox_event *event = r->v[i];

        if (map_get(r->by_old_path, event->mailbox.path) != NULL) {
            r->v[kept++] = event;
            continue;
        }
        map_remove(r->by_old_path, event->old_path);
        out[(*told)++] = *event;
        event->kinds = 0;
    }
    r->count = kept;
    return kept;
}

/* Names that went round in a circle: one mailbox goes and comes again. */
static void break_circle(struct renamings *r, struct mailbox_event *out, size_t *told)
{
    struct mailbox_event *event = r->v[--r->count];
    struct mailbox_event gone = *event;

    gone.kinds = EVENT_REMOVED;
    gone.mailbox.path = event->old_path;
    out[(*told)++] = gone;
    map_remove(r->by_old_path, event->old_path);
    event->kinds = (event->kinds & ~(unsigned)EVENT_RENAMED) | EVENT_CREATED | EVENT_MESSAGES;
}

static void tell_renamings(struct arena *a, struct mailbox_event *v, size_t count,
                           struct mailbox_event *out, size_t *told)
{
    struct renamings r = find_renamings(a, v, count);
    size_t left = r.count;

    if (r.count > 0)
        leave_out_what_moves_along(&r);
    while (r.count > 0) {
        left = r.count;
        if (tell_free_ones(&r, out, told) == left)
            break_circle(&r, out, told);
    }
    map_free(&r.by_old_path);
}

static struct mailbox_event *put_in_order(struct arena *a, struct mailbox_event *v, size_t *count)
{
    struct mailbox_event *out = ARENA_ARRAY(a, 2 * *count + 1, struct mailbox_event);
    size_t told = 0;

    for (size_t i = 0; i < *count; i++)
        if (v[i].kinds & EVENT_REMOVED) {
            out[told++] = v[i];
            v[i].kinds = 0;
        }
    tell_renamings(a, v, *count, out, &told);
    for (size_t i = 0; i < *count; i++)
        if (v[i].kinds != 0)
            out[told++] = v[i];
    *count = told;
    return out;
}

int mailbox_watch_take(struct mailbox_watch *w, struct arena *a, struct mailbox_event **out,
                       size_t *count, struct error *err)
{
    CHECK_OBJ(w, MAILBOX_WATCH_MAGIC);
    *count = 0;
    if (catch_up(w->hub, err) < 0)
        return -1;
    if (w->tick == w->hub->tick)
        return 0;
    *count = collect(w->hub, w->tick, a, out);
    *out = put_in_order(a, *out, count);
    w->tick = w->hub->tick;
    drop_leftovers(w->hub);
    return 0;
}

int mailbox_watch_take_annotations(struct mailbox_watch *w, struct arena *a, int64_t user_id,
                                   struct annotation **out, size_t *count, struct error *err)
{
    uint64_t until = w->hub->annotation_modseq;

    *count = 0;
    if (w->annotation_modseq >= until)
        return 0;
    if (metadata_changed(a, w->hub->account_id, user_id, w->annotation_modseq, until, out, count,
                         err) < 0)
        return -1;
    w->annotation_modseq = until;
    return *count < METADATA_CHANGES_MAX
               ? 0
               : fail(err, ERR_LIMIT, "more than %d annotations changed at once",
                      METADATA_CHANGES_MAX);
}

bool mailbox_watch_find(const struct mailbox_watch *w, struct arena *a, int64_t mailbox_id,
                        struct mailbox *out)
{
    const struct watched *m = find_watched(w->hub, mailbox_id);

    if (m == NULL || is_removed(m))
        return false;
    copy_mailbox(a, &m->mailbox, out);
    return true;
}

struct mailbox *mailbox_watch_all(const struct mailbox_watch *w, struct arena *a, size_t *count)
{
    struct mailbox *v = ARENA_ARRAY(a, map_count(w->hub->by_id) + 1, struct mailbox);

    *count = 0;
    LIST_EACH (at, &w->hub->mailboxes) {
        const struct watched *m = CONTAINER_OF(at, struct watched, link);

        if (!is_removed(m))
            copy_mailbox(a, &m->mailbox, &v[(*count)++]);
    }
    return v;
}
