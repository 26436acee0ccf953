/* notify.c - the bus: who wants to know of a topic here, and one connection to tell and hear the others.
 *
 * A notice is "<origin>:<topic>,<topic>,..." on one channel. The origin is drawn per process, so that our own
 * notices, which PostgreSQL sends back to us, are known and skipped. A NOTIFY commits under a lock of the
 * whole server; so topics are merged, and that commit does not wait for the disk: what it tells of is
 * committed already, and a notice lost with the server is healed by the reconnect. */
#include "server/pg/notify.h"
#include <inttypes.h>
#include <stdio.h>
#include "server/base/encode.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/pg/pg_internal.h"
#include "server/run/channel.h"
#include "server/run/metrics.h"

#define BUCKET_BITS        12
#define MERGE_MS           20
#define TOPICS_PER_NOTICE  370 /* 20 digits and a comma each: below the 8000 bytes allowed */
#define CONNECT_TIMEOUT_MS 10000
#define BACKOFF_MIN_MS     50
#define BACKOFF_MAX_MS     500
#define STOP_TIMEOUT_MS    1000

static struct list buckets[1 << BUCKET_BITS];

static struct bus {
    struct map *outbox; /* topics to tell the others; NULL while there is no bus */
    struct fiber *fiber;
    char origin[17];
    int64_t sent_ms;
    bool is_waiting; /* the fiber waits for input, or for something to send */
    bool is_stopping;
    struct wait_queue ended;
} bus;

/* ---- subscribers of this worker ------------------------------------------------------------------ */

static struct list *bucket_of(uint64_t topic)
{
    struct list *bucket = &buckets[(topic * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - BUCKET_BITS)];

    if (bucket->next == NULL)
        list_init(bucket);
    return bucket;
}

/* At the front, so that a subscriber who leaves and comes back while being told is not told for ever. */
void bus_subscribe(struct bus_subscription *s, uint64_t topic,
                   void (*changed)(struct bus_subscription *))
{
    bus_unsubscribe(s);
    s->topic = topic;
    s->changed = changed;
    list_prepend(bucket_of(topic), &s->link);
}

void bus_unsubscribe(struct bus_subscription *s)
{
    list_remove(&s->link);
}

/* A marker keeps the place, since `changed` may unsubscribe anybody and publish again. */
static void tell_bucket(struct list *bucket, const uint64_t *topic)
{
    struct bus_subscription marker = {.changed = NULL};
    struct list *at = bucket->next;

    while (at != bucket) {
        struct bus_subscription *s = CONTAINER_OF(at, struct bus_subscription, link);

        if (s->changed == NULL || (topic != NULL && s->topic != *topic)) {
            at = at->next;
            continue;
        }
        list_insert_before(at->next, &marker.link);
        s->changed(s);
        at = marker.link.next;
        list_remove(&marker.link);
    }
}

static void tell(uint64_t topic)
{
    tell_bucket(bucket_of(topic), &topic);
}

static void tell_everybody(void)
{
    for (size_t i = 0; i < sizeof buckets / sizeof buckets[0]; i++)
        if (buckets[i].next != NULL)
            tell_bucket(&buckets[i], NULL);
}

/* ---- the outbox ------------------------------------------------------------------------------------ */

static void outbox_add(uint64_t topic)
{
    map_put(bus.outbox, map_key_u64(&topic), &bus); /* a set: any value will do */
}

void bus_publish(uint64_t topic)
{
    tell(topic);
    if (bus.outbox == NULL)
        return;
    outbox_add(topic);
    if (bus.is_waiting)
        fiber_wake(bus.fiber);
}

static int64_t outbox_due_ms(void)
{
    if (map_count(bus.outbox) == 0)
        return NO_DEADLINE;
    return bus.is_stopping ? loop_now_ms() : bus.sent_ms + MERGE_MS;
}

static size_t outbox_take(uint64_t *topics, size_t count_max)
{
    size_t count = 0, at = 0;
    struct str key;
    void *value;

    while (count < count_max && map_each(bus.outbox, &at, &key, &value)) {
        memcpy(&topics[count++], key.p, sizeof *topics);
        map_remove(bus.outbox, map_key_u64(&topics[count - 1]));
    }
    return count;
}

static int send_notice(struct pg_conn *c, struct str payload, struct error *err)
{
    const char *value = payload.p;
    int size = (int)payload.n;

    if (PQsendQueryParams(c->pq, "SELECT pg_notify('merpati_changes', $1)", 1, NULL, &value, &size,
                          pg_binary_formats, 1) != 1 ||
        pg_conn_sync(c) < 0)
        return fail(err, ERR_TRY_LATER, "the connection broke");
    return pg_conn_finish(c, err);
}

/* What could not be sent stays due. */
static int outbox_send_some(struct pg_conn *c, struct error *err)
{
    static uint64_t topics[TOPICS_PER_NOTICE];
    size_t count = outbox_take(topics, TOPICS_PER_NOTICE);
    struct buf payload;
    int rc;

    bus.sent_ms = loop_now_ms();
    buf_init(&payload, 8000);
    buf_adds(&payload, bus.origin);
    for (size_t i = 0; i < count; i++) {
        buf_addc(&payload, i == 0 ? ':' : ',');
        buf_add_u64(&payload, topics[i]);
    }
    rc = send_notice(c, buf_str(&payload), err);
    buf_fini(&payload);
    for (size_t i = 0; i < count && rc < 0; i++)
        outbox_add(topics[i]);
    if (rc == 0)
        metric_add(METRIC_bus_notices_sent, (int64_t)count);
    return rc;
}

/* ---- the connection ---------------------------------------------------------------------------------- */

static void receive(struct str payload)
{
    struct str origin, topics, token;
    uint64_t topic;

    str_cut(payload, ':', &origin, &topics);
    if (str_eq(origin, str_c(bus.origin)))
        return;
    while (str_next_token(&topics, ',', &token))
        if (str_to_u64(token, &topic)) {
            metric_inc(METRIC_bus_notices_received);
            tell(topic);
        }
}

static void receive_all(struct pg_conn *c)
{
    PGnotify *notice;

    while ((notice = PQnotifies(c->pq)) != NULL) {
        receive(str_c(notice->extra));
        PQfreemem(notice);
    }
}

static int listen_begin(struct pg_conn *c, struct error *err)
{
    if (PQsendQueryParams(c->pq, "SET synchronous_commit = off", 0, NULL, NULL, NULL, NULL, 0) !=
            1 ||
        PQsendQueryParams(c->pq, "LISTEN merpati_changes", 0, NULL, NULL, NULL, NULL, 0) != 1 ||
        pg_conn_sync(c) < 0)
        return fail(err, ERR_TRY_LATER, "the connection broke");
    return pg_conn_finish(c, err);
}

static bool is_over(void)
{
    return fiber_cancelled() || (bus.is_stopping && map_count(bus.outbox) == 0);
}

static int serve(struct pg_conn *c, struct error *err)
{
    while (!is_over()) {
        receive_all(c);
        if (!pg_conn_is_alive(c))
            return fail(err, ERR_TRY_LATER, "the connection broke");
        if (outbox_due_ms() <= loop_now_ms()) {
            if (outbox_send_some(c, err) < 0)
                return -1;
            continue;
        }
        bus.is_waiting = true;
        pg_conn_wait(c, outbox_due_ms());
        bus.is_waiting = false;
    }
    return 0;
}

/* Returns when the connection has ended. Everybody looks once it stands: something may have been missed. */
static int serve_connection(int64_t *backoff_ms, struct error *err)
{
    struct pg_conn *c = pg_conn_open(pg_conninfo(), loop_deadline(CONNECT_TIMEOUT_MS), err);
    int rc;

    if (c == NULL)
        return -1;
    rc = listen_begin(c, err);
    if (rc == 0) {
        *backoff_ms = 0;
        tell_everybody();
        rc = serve(c, err);
    }
    pg_conn_close(&c);
    return rc;
}

static int64_t backoff_next(int64_t backoff_ms)
{
    if (backoff_ms < BACKOFF_MIN_MS)
        return BACKOFF_MIN_MS;
    return backoff_ms * 2 < BACKOFF_MAX_MS ? backoff_ms * 2 : BACKOFF_MAX_MS;
}

static void bus_run(void *arg)
{
    int64_t backoff_ms = 0;

    while (!is_over()) {
        struct error err = {0};
        bool was_well = backoff_ms == 0;

        if (serve_connection(&backoff_ms, &err) == 0 || fiber_cancelled())
            break;
        if (was_well)
            log_warn(NULL, "bus_disconnected", KV_ERR(&err));
        backoff_ms = backoff_next(backoff_ms);
        fiber_sleep(backoff_ms);
    }
    bus.fiber = NULL;
    wait_queue_wake_all(&bus.ended);
}

/* ---- life -------------------------------------------------------------------------------------------- */

void bus_start(void)
{
    bus = (struct bus){.outbox = map_new(), .sent_ms = loop_now_ms() - MERGE_MS};
    snprintf(bus.origin, sizeof bus.origin, "%016" PRIx64, random_u64());
    wait_queue_init(&bus.ended);
    bus.fiber = fiber_start("bus", bus_run, NULL);
}

void bus_stop(void)
{
    int64_t deadline_ms = loop_deadline(STOP_TIMEOUT_MS);

    if (bus.outbox == NULL)
        return;
    bus.is_stopping = true;
    if (bus.is_waiting)
        fiber_wake(bus.fiber);
    while (bus.fiber != NULL) {
        if (wait_queue_wait(&bus.ended, deadline_ms) == WAKE_READY)
            continue;
        if (deadline_ms == NO_DEADLINE)
            return; /* cancelled ourselves */
        fiber_cancel(bus.fiber);
        deadline_ms = NO_DEADLINE;
    }
    map_free(&bus.outbox);
}
