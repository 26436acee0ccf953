/* remote_pool.c - a list, the oldest first, and a timer that closes what waited long enough.
 *
 * The key says everything that a connection was made for (host, address, proof, account), so whoever
 * finds one under his key would have made the same. */
#include "mail/queue/remote_pool.h"

#include <stdlib.h>

#include "server/base/list.h"
#include "server/base/memory.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"

struct idle {
    struct list link;
    struct remote_session *session;
    int64_t until_ms;
};

static struct {
    struct list idle;
    unsigned count;
    struct timer timer;
} pool = {.idle = {&pool.idle, &pool.idle}};

struct remote_session *remote_session_new(struct str key)
{
    struct remote_session *s = memory_alloc(sizeof *s);

    s->key = str_of(memory_copy_str(key), key.n);
    return s;
}

void remote_session_free(struct remote_session **s)
{
    struct remote_session *gone = *s;

    if (gone == NULL)
        return;
    *s = NULL;
    smtp_client_free(&gone->client);
    free((char *)(uintptr_t)gone->key.p);
    free((char *)(uintptr_t)gone->tls.p);
    free(gone);
}

static struct remote_session *unlink_idle(struct idle *idle)
{
    struct remote_session *s = idle->session;

    list_remove(&idle->link);
    free(idle);
    pool.count--;
    metric_add(METRIC_delivery_connections_idle, -1);
    return s;
}

static void close_oldest(void)
{
    struct remote_session *s = unlink_idle(CONTAINER_OF(pool.idle.next, struct idle, link));

    remote_session_free(&s);
}

static void time_passed(struct timer *t)
{
    while (pool.count > 0) {
        const struct idle *oldest = CONTAINER_OF(pool.idle.next, struct idle, link);

        if (oldest->until_ms > loop_now_ms()) {
            timer_set(t, oldest->until_ms);
            return;
        }
        close_oldest();
    }
}

struct remote_session *remote_pool_take(struct str key)
{
    LIST_EACH_SAFE (at, &pool.idle) {
        struct idle *idle = CONTAINER_OF(at, struct idle, link);
        struct remote_session *s;

        if (!str_eq(idle->session->key, key))
            continue;
        s = unlink_idle(idle);
        s->was_reused = true;
        if (smtp_client_is_reusable(s->client))
            return s;
        remote_session_free(&s);
    }
    return NULL;
}

void remote_pool_put(struct remote_session **s)
{
    struct idle *idle;

    if (config.delivery_idle == 0 || config.delivery_idle_connections == 0 ||
        !smtp_client_is_reusable((*s)->client)) {
        remote_session_free(s);
        return;
    }
    while (pool.count >= (unsigned)config.delivery_idle_connections)
        close_oldest();
    idle = memory_alloc(sizeof *idle);
    idle->session = *s;
    idle->until_ms = loop_deadline(config.delivery_idle);
    *s = NULL;
    list_append(&pool.idle, &idle->link);
    pool.count++;
    metric_add(METRIC_delivery_connections_idle, 1);
    pool.timer.fire = time_passed;
    if (!timer_is_set(&pool.timer))
        timer_set(&pool.timer, idle->until_ms);
}

void remote_pool_close(void)
{
    while (pool.count > 0)
        close_oldest();
    if (timer_is_set(&pool.timer))
        timer_clear(&pool.timer);
}
