/* queue.c - the scheduler's life: its place among the workers, what it claims, what it accepts.
 *
 * A fiber looks for due mail whenever there is room for it, at least once in queue_poll_interval, and at once when an
 * administrator made something due or this worker put something into the queue. The first worker of each host also looks
 * for what is late and for what a crash left. */
#include "mail/queue/queue_internal.h"
#include "mail/queue/route_hosts.h"
#include "mail/queue/tls_policy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "server/base/date.h"
#include "server/base/encode.h"
#include "server/base/log.h"
#include "server/pg/notify.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"

#define RENEW_INTERVAL_MS (OUTBOUND_LEASE_MS / 3)
#define LEASE_SLACK_MS    5000
#define LATE_INTERVAL_MS  10000
#define SWEEP_INTERVAL_MS 15000
#define COUNT_INTERVAL_MS 60000
#define CLAIM_HOPS        50
#define CLAIM_RCPTS       500
#define PROBE_MS          900000 /* longer than any attempt */
#define ACCEPT_RCPTS_MAX  100
#define ACCEPT_SIZE_MAX   ((size_t)1 << 20)

struct queue queue = {.hop_list = {&queue.hop_list, &queue.hop_list},
                      .runnable = {&queue.runnable, &queue.runnable},
                      .runnable_new = {&queue.runnable_new, &queue.runnable_new}};
static int64_t host_number;
static int place_fd = -1; /* locked while this worker is at work */
static int64_t place_wait_until_ms;
static struct bus_subscription subscription;

void queue_wake_scheduler(void)
{
    if (queue.is_scheduler_waiting)
        fiber_wake(queue.scheduler);
}

/* ---- its place among the workers ------------------------------------------------------------------ */

static int read_number(const char *path, int64_t *number)
{
    FILE *f = fopen(path, "re");
    int found = f != NULL ? fscanf(f, "%" SCNx64, number) : 0;

    if (f != NULL)
        fclose(f);
    return found == 1 && *number > 0 ? 0 : -1;
}

/* Complete before it has its name, so that nobody ever reads half of it. */
static int write_number(const char *path, int64_t number)
{
    char draft[PATH_MAX + 8];
    FILE *f;
    bool is_good;

    snprintf(draft, sizeof draft, "%s.new", path);
    f = fopen(draft, "we");
    if (f == NULL)
        return -1;
    is_good = fprintf(f, "%016" PRIx64 "\n", number) > 0 && fflush(f) == 0 && fsync(fileno(f)) == 0;
    return fclose(f) == 0 && is_good && rename(draft, path) == 0 ? 0 : -1;
}

/* The data directory belongs to one server at a time, so its number does. */
int queue_prepare(struct error *err)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/queue-host", config.data_dir);
    if (read_number(path, &host_number) == 0)
        return 0;
    host_number = (int64_t)(random_u64() >> 1) | 1;
    if (write_number(path, host_number) < 0)
        return fail(err, ERR_INTERNAL, "cannot write %s: %s", path, strerror(errno));
    return 0;
}

/* Well before others may take what is ours. */
bool queue_lease_is_good(void)
{
    return queue.worker_id != 0 &&
           loop_now_ms() - queue.renewed_ms < OUTBOUND_LEASE_MS - LEASE_SLACK_MS;
}

/* A worker whose supervisor was killed finishes what it is sending while its successor starts. Until it is gone its claims are
 * not to be had: they would be sent twice. The system takes the lock from whoever ends, however. One that does not end has
 * lost its claims by the time its lease is over, for it renews nothing any more. */
static int take_place(struct error *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[PATH_MAX + 32];

    snprintf(path, sizeof path, "%s/queue-worker-%u", config.data_dir, queue.options.worker);
    if (place_fd < 0)
        place_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (place_fd < 0)
        return fail(err, ERR_INTERNAL, "cannot open %s: %s", path, strerror(errno));
    if (place_wait_until_ms == 0)
        place_wait_until_ms = loop_deadline(OUTBOUND_LEASE_MS);
    if (fcntl(place_fd, F_SETLK, &lock) < 0 && loop_now_ms() < place_wait_until_ms)
        return fail(err, ERR_TRY_LATER, "the worker that was here before is still delivering");
    return 0;
}

static void leave_place(void)
{
    if (place_fd >= 0)
        close(place_fd);
    place_fd = -1;
    place_wait_until_ms = 0;
}

static int begin(struct error *err)
{
    int64_t now_ms = loop_now_ms();
    int64_t worker_id;

    if (take_place(err) < 0)
        return -1;
    if (outbound_worker_begin(host_number, (int)queue.options.worker, &worker_id, err) < 0)
        return -1;
    queue.worker_id = worker_id;
    queue.renewed_ms = now_ms;
    return 0;
}

static int renew(struct error *err)
{
    int64_t now_ms = loop_now_ms();
    bool is_alive;

    if (queue.worker_id == 0)
        return begin(err);
    if (now_ms - queue.renewed_ms < RENEW_INTERVAL_MS)
        return 0;
    if (outbound_worker_renew(queue.worker_id, &is_alive, err) < 0)
        return -1;
    if (!is_alive) {
        log_warn(NULL, "queue_lease_lost", KV("worker", queue.worker_id));
        return begin(err);
    }
    queue.renewed_ms = now_ms;
    return 0;
}

/* ---- claiming -------------------------------------------------------------------------------------- */

static struct str copy(struct arena *a, struct str s)
{
    return arena_str(a, s);
}

static void copy_rcpt(struct arena *a, struct outbound_recipient *to,
                      const struct outbound_recipient *from)
{
    *to = *from;
    to->address = copy(a, from->address);
    to->orcpt = copy(a, from->orcpt);
    to->destination = copy(a, from->destination);
    to->route = copy(a, from->route);
    to->hop = copy(a, from->hop);
    to->last_enhanced = to->last_text = to->last_host = STR("");
}

/* The envelope without recipients, on its own. */
static struct outbound copy_envelope(struct arena *a, const struct outbound *from)
{
    struct outbound o = *from;

    o.sender = copy(a, from->sender);
    o.envid = copy(a, from->envid);
    o.language = copy(a, from->language);
    o.held = STR("");
    o.rcpts = NULL;
    o.rcpt_count = 0;
    o.arena = a;
    o.ends = NULL;
    o.next = NULL;
    return o;
}

/* Where it goes as the settings are now: all that a relay takes is one hop, whatever its domain. */
static struct str way_of(const struct outbound_recipient *r)
{
    struct str way = r->route;

    if (str_eq(way, STR(OUTBOUND_ROUTE_MX)))
        return r->destination;
    if (str_empty(way) && !str_starts(r->destination, STR("[")))
        way = route_of_domain(r->destination);
    return str_empty(way) ? r->destination : way;
}

/* In one job, and so in one transaction: of several domains only what goes over one relay under the same conditions. */
static bool goes_with(const struct outbound_recipient *r, const struct outbound_recipient *other)
{
    if (!str_eq(r->hop, other->hop))
        return false;
    if (str_eq(r->destination, other->destination))
        return !str_eq(r->hop, r->destination) || str_empty(r->route) == str_empty(other->route);
    return !str_eq(r->hop, r->destination) && !str_eq(other->hop, other->destination) &&
           !tls_is_ordered(r->destination) && !tls_is_ordered(other->destination);
}

static bool is_first_of_job(const struct outbound *o, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (goes_with(&o->rcpts[k], &o->rcpts[i]))
            return false;
    return true;
}

/* The i-th recipient and those that go with it, in an arena of their own: jobs of one message end at different times. */
static struct job *job_of(const struct outbound_claim *from, size_t i, int64_t worker_id)
{
    const struct outbound *o = &from->o;
    struct arena *a = arena_new();
    struct outbound_claim c = *from;

    c.o = copy_envelope(a, o);
    c.o.rcpts = ARENA_ARRAY(a, o->rcpt_count, struct outbound_recipient);
    for (size_t k = i; k < o->rcpt_count; k++)
        if (k == i || goes_with(&o->rcpts[k], &o->rcpts[i]))
            copy_rcpt(a, &c.o.rcpts[c.o.rcpt_count++], &o->rcpts[k]);
    return job_new(&c, a, worker_id);
}

/* What the database gives is to be tried, whatever we thought of the hop. The settings may have changed since it was put
 * under that hop. */
static void add_claimed(const struct outbound_claim *c)
{
    struct hop *h = hop_get(outbound_hop(&c->o.rcpts[0]));

    h->blocked_until_ms = 0;
    h->failures = c->failures;
    if (c->failures > 0)
        h->limit = 1;
    h->may_have_more = true;
    for (size_t i = 0; i < c->o.rcpt_count; i++)
        c->o.rcpts[i].hop = way_of(&c->o.rcpts[i]);
    for (size_t i = 0; i < c->o.rcpt_count; i++)
        if (is_first_of_job(&c->o, i))
            hop_add(h, job_of(c, i, queue.worker_id));
}

static int claim_some(struct error *err)
{
    struct arena *a = arena_new();
    struct outbound_claim_limits limits = {.hops = CLAIM_HOPS,
                                           .rcpts = CLAIM_RCPTS,
                                           .rcpts_per_hop = CLAIM_WINDOW,
                                           .rcpts_per_new_hop =
                                               hops_take_new() ? CLAIM_WINDOW_NEW : 0,
                                           .probe_ms = PROBE_MS};
    int64_t worker_id = queue.worker_id;
    struct outbound_claims claims;
    int rc;

    hops_sort(a, &limits);
    rc = outbound_claim(a, worker_id, &limits, &claims, err);
    for (size_t i = 0; rc == 0 && i < claims.count; i++)
        add_claimed(&claims.v[i]);
    queue.has_more = rc == 0 && claims.rcpt_count > 0;
    arena_free(&a);
    return rc;
}

static size_t in_hand(void)
{
    return queue.job_count - queue.slow;
}

static bool has_room(void)
{
    return in_hand() + CLAIM_RCPTS <= (size_t)config.queue_memory_messages ||
           in_hand() * 2 <= (size_t)config.queue_memory_messages;
}

/* ---- the scheduler's fiber -------------------------------------------------------------------------- */

static int64_t sweep_ms; /* when next */

static int keep_house(struct error *err)
{
    int64_t now_ms = loop_now_ms();

    if (now_ms < sweep_ms)
        return 0;
    sweep_ms = now_ms + SWEEP_INTERVAL_MS;
    hops_trim(false);
    return queue.options.worker == 0 ? outbound_sweep(err) : 0;
}

static int turn(struct error *err)
{
    if (renew(err) < 0 || keep_house(err) < 0)
        return -1;
    queue.has_more = false;
    return has_room() && !queue.is_stopping ? claim_some(err) : 0;
}

static void wait_for_work(void)
{
    if (queue.is_stopping || (queue.has_more && has_room()))
        return;
    queue.is_scheduler_waiting = true;
    fiber_park(loop_deadline(config.queue_poll_interval));
    queue.is_scheduler_waiting = false;
}

static void scheduler_run(void *arg)
{
    bool was_well = true;

    while (!queue.is_stopping && !fiber_cancelled()) {
        struct error err = {0};
        bool is_well = turn(&err) == 0;

        if (!is_well && was_well && err.kind != ERR_CANCELLED)
            log_warn(NULL, "queue_stalled", KV_ERR(&err));
        was_well = is_well;
        wait_for_work();
    }
    queue.scheduler = NULL;
    wait_queue_wake_all(&queue.ended);
}

/* ---- what is late ------------------------------------------------------------------------------------ */

/* A fiber of its own: thousands of messages that expire together must keep neither the lease nor the others waiting. Nor must
 * counting a large queue. */
static struct {
    struct fiber *fiber;
    bool is_waiting;
    int64_t count_ms; /* when next */
} late;

static void count_queue(void)
{
    static struct outbound_counts told;
    struct outbound_counts now;

    if (loop_now_ms() < late.count_ms || outbound_count(&now, NULL) < 0)
        return;
    late.count_ms = loop_deadline(COUNT_INTERVAL_MS);
    metric_add(METRIC_queue_messages, now.messages - told.messages);
    metric_add(METRIC_queue_recipients, now.recipients - told.recipients);
    metric_add(METRIC_queue_recipients_held, now.held - told.held);
    told = now;
}

static void late_run(void *arg)
{
    while (!queue.is_stopping && !fiber_cancelled()) {
        struct error err = {0};

        if (queue_lease_is_good() && late_look(&err) < 0 && err.kind != ERR_CANCELLED)
            log_warn(NULL, "queue_late_stalled", KV_ERR(&err));
        count_queue();
        if (queue.is_stopping)
            break;
        late.is_waiting = true;
        fiber_park(loop_deadline(LATE_INTERVAL_MS));
        late.is_waiting = false;
    }
    late.fiber = NULL;
    wait_queue_wake_all(&queue.ended);
}

static void wake_late(void)
{
    if (late.is_waiting)
        fiber_wake(late.fiber);
}

/* What an administrator refused is late, too. */
static void on_notice(struct bus_subscription *s)
{
    queue_wake_scheduler();
    wake_late();
}

/* ---- accepting --------------------------------------------------------------------------------------- */

static bool takes_more(struct str hop)
{
    const struct hop *h = hop_find(hop);

    if (h == NULL)
        return hops_take_new();
    if (!h->is_proven && (!hops_take_new() || !hop_takes_more(h)))
        return false;
    return h->failures == 0 && !hop_is_blocked(h) &&
           h->waiting_count < (size_t)config.queue_memory_messages / 2;
}

/* Whether this worker delivers it at once: then it is claimed as it is inserted, and nobody else sees it. */
static bool is_admitted(const struct outbound *o, size_t size)
{
    if (!queue.is_started || queue.is_stopping || !queue_lease_is_good() || o->hold_until_us != 0 ||
        !str_empty(o->held) || o->rcpt_count > ACCEPT_RCPTS_MAX || size > ACCEPT_SIZE_MAX ||
        in_hand() + o->rcpt_count > (size_t)config.queue_memory_messages ||
        queue.bytes + size > (size_t)config.queue_memory_max)
        return false;
    for (size_t i = 0; i < o->rcpt_count; i++)
        if (!takes_more(outbound_hop(&o->rcpts[i])))
            return false;
    return true;
}

static struct job *job_from_memory(const struct outbound *o, size_t i, size_t size)
{
    struct outbound_claim c = {.o = *o, .size = size, .created_us = time_now_us()};

    c.expires_us = c.created_us + config.queue_lifetime * 1000;
    return job_of(&c, i, o->claimed_by);
}

static void deliver_from_memory(const struct outbound *o, struct str text)
{
    struct queue_message *m = queue_message_new(text);

    for (size_t i = 0; i < o->rcpt_count; i++) {
        struct job *j;

        if (!is_first_of_job(o, i))
            continue;
        j = job_from_memory(o, i, text.n);
        j->message = m;
        m->refs++;
        hop_add(hop_get(outbound_hop(&o->rcpts[i])), j);
    }
    queue_message_unref(&m);
}

/* The answer was lost, perhaps not the commit: then it waits like any other. */
static void give_back_unsure(const struct outbound *o)
{
    for (size_t i = 0; i < o->rcpt_count; i++)
        if (is_first_of_job(o, i))
            commit_back(job_from_memory(o, i, 0));
}

static void wake_for(const struct outbound *o)
{
    if (!queue.is_started || !str_empty(o->held))
        return;
    for (size_t i = 0; i < o->rcpt_count; i++) {
        commit_note_due(outbound_hop(&o->rcpts[i]));
        fiber_pause();
    }
}

static void find_ways(struct outbound *o)
{
    for (size_t i = 0; i < o->rcpt_count; i++) {
        o->rcpts[i].hop = way_of(&o->rcpts[i]);
        fiber_pause();
    }
}

static void settle(struct outbound *o, size_t size)
{
    for (; o != NULL; o = o->next)
        if (o->rcpt_count > 0) {
            outbound_settle(o);
            find_ways(o);
            o->claimed_by = is_admitted(o, size) ? queue.worker_id : 0;
        }
}

static void send_on_its_way(const struct outbound *o, struct str raw)
{
    for (; o != NULL; o = o->next)
        if (o->rcpt_count > 0 && o->claimed_by != 0)
            deliver_from_memory(o, str_from(raw, o->blob_offset));
        else if (o->rcpt_count > 0)
            wake_for(o);
}

/* Entries whose commit may have happened. */
static void give_back_entries(const struct outbound *o)
{
    for (; o != NULL; o = o->next)
        if (o->rcpt_count > 0 && o->claimed_by != 0 && o->queue_id != 0)
            give_back_unsure(o);
}

int queue_deliver_all(struct mail_item *items, size_t count, struct error *err)
{
    struct error cause = {0};

    for (size_t i = 0; i < count; i++)
        settle(items[i].outbound, items[i].m->raw.n);
    if (mail_deliver_all(items, count, &cause) == 0) {
        for (size_t i = 0; i < count; i++)
            send_on_its_way(items[i].outbound, items[i].m->raw);
        return 0;
    }
    for (size_t i = 0; i < count && cause.kind == ERR_TRY_LATER; i++)
        give_back_entries(items[i].outbound);
    return fail(err, cause.kind, "%s", cause.text);
}

int queue_hold_account(int64_t account_id, struct str reason, int64_t *count, struct error *err)
{
    struct outbound_filter f = {.account_id = account_id};

    return outbound_hold(&f, reason, count, err);
}

/* ---- life --------------------------------------------------------------------------------------------- */

void queue_start(const struct queue_options *options)
{
    queue.options = *options;
    queue.is_started = true;
    queue.is_stopping = false;
    queue.worker_id = 0;
    queue.hops = map_new();
    wait_queue_init(&queue.room);
    wait_queue_init(&queue.ended);
    commit_start();
    bus_subscribe(&subscription, OUTBOUND_TOPIC, on_notice);
    sweep_ms = late.count_ms = 0;
    queue.scheduler = fiber_start("queue", scheduler_run, NULL);
    if (options->worker == 0)
        late.fiber = fiber_start("queue_late", late_run, NULL);
}

/* *fiber becomes NULL when it ends, and `ended` is woken. */
static void await_end(struct fiber **fiber)
{
    int64_t deadline_ms = loop_deadline(config.drain_timeout);

    while (*fiber != NULL && wait_queue_wait(&queue.ended, deadline_ms) == WAKE_READY)
        ;
    if (*fiber != NULL)
        fiber_cancel(*fiber);
    while (*fiber != NULL && wait_queue_wait(&queue.ended, NO_DEADLINE) == WAKE_READY)
        ;
}

static void await_deliveries(void)
{
    int64_t deadline_ms = loop_deadline(config.drain_timeout);

    while (queue.running > 0 && loop_now_ms() < deadline_ms)
        fiber_sleep(10);
}

static void give_back_all(void)
{
    LIST_EACH (at, &queue.hop_list)
        hop_give_back(CONTAINER_OF(at, struct hop, link));
}

void queue_stop(void)
{
    if (!queue.is_started)
        return;
    queue.is_stopping = true;
    bus_unsubscribe(&subscription);
    give_back_all();
    queue_wake_scheduler();
    wake_late();
    await_end(&queue.scheduler);
    await_end(&late.fiber);
    await_deliveries();
    give_back_all(); /* what a claim brought in meanwhile */
    commit_stop();
    if (queue.worker_id != 0)
        outbound_worker_end(queue.worker_id, NULL);
    leave_place();
    hops_trim(true);
    if (queue.running == 0)
        map_free(&queue.hops);
    queue.is_started = false;
}
