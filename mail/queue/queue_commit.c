/* queue_commit.c - results go to the database, many in one transaction.
 *
 * One fiber: while a commit runs, results pile up, and the next one takes them all. So a batch is as large as the database
 * is slow, and nothing ever waits for a batch to fill. What cannot be committed now is kept and tried again: a result that
 * is lost would be a message delivered twice. */
#include "mail/queue/queue_internal.h"
#include "mail/queue/queue_retry.h"

#include <stdlib.h>
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/run/config.h"
#include "server/run/loop.h"

#define BATCH_JOBS_MAX 500
#define AGAIN_MIN_MS   20
#define AGAIN_MAX_MS   2000

struct news {
    struct list link;
    struct outbound_hop_news v; /* texts on the heap */
};

static struct {
    struct list jobs, news;
    struct map *due; /* hops for which something waits; values are unused */
    bool is_stopping;
    size_t batch_max;
} commit = {.jobs = {&commit.jobs, &commit.jobs}, .news = {&commit.news, &commit.news}};

/* ---- taking in -------------------------------------------------------------------------------- */

static bool is_idle(void)
{
    return list_is_empty(&commit.jobs) && list_is_empty(&commit.news) && map_count(commit.due) == 0;
}

static void wake(void)
{
    if (queue.is_committer_waiting)
        fiber_wake(queue.committer);
}

void commit_job(struct job *j)
{
    list_append(&commit.jobs, &j->link);
    wake();
}

void commit_hop_news(struct str hop, bool is_blocked, struct str why)
{
    struct news *n = memory_alloc(sizeof *n);

    n->v = (struct outbound_hop_news){.hop = {memory_copy_str(hop), hop.n},
                                      .error = {memory_copy_str(why), why.n},
                                      .is_blocked = is_blocked};
    list_append(&commit.news, &n->link);
    wake();
}

void commit_note_due(struct str hop)
{
    map_put(commit.due, hop, &commit);
    wake();
}

/* ---- one batch --------------------------------------------------------------------------------- */

struct batch {
    struct arena *arena;
    struct list jobs, news;
    struct outbound_result *results;
    struct outbound_hop_news *hop_news;
    struct str *due;
    size_t job_count, result_count, news_count, due_count;
};

static void take_jobs(struct batch *b)
{
    struct list *at;

    while (b->job_count < commit.batch_max && (at = list_take_first(&commit.jobs)) != NULL) {
        list_append(&b->jobs, at);
        b->job_count++;
        b->result_count += CONTAINER_OF(at, struct job, link)->result_count;
    }
}

/* A worker that lost its lease has no say any more in what waits; what was delivered is delivered. */
static void gather_results(struct batch *b)
{
    size_t n = 0;

    b->results = ARENA_ARRAY(b->arena, b->result_count, struct outbound_result);
    LIST_EACH (at, &b->jobs) {
        const struct job *j = CONTAINER_OF(at, struct job, link);

        for (size_t i = 0; i < j->result_count; i++)
            if (j->results[i].is_done || j->worker_id == queue.worker_id)
                b->results[n++] = j->results[i];
    }
    b->result_count = n;
}

static void take_news(struct batch *b)
{
    size_t n = 0;

    LIST_EACH (at, &commit.news)
        b->news_count++;
    b->hop_news = ARENA_ARRAY(b->arena, b->news_count, struct outbound_hop_news);
    for (struct list *at; (at = list_take_first(&commit.news)) != NULL;) {
        b->hop_news[n++] = CONTAINER_OF(at, struct news, link)->v;
        list_append(&b->news, at);
    }
}

static void take_due(struct batch *b)
{
    size_t at = 0;
    struct str hop;
    void *value;

    b->due = ARENA_ARRAY(b->arena, map_count(commit.due), struct str);
    while (map_each(commit.due, &at, &hop, &value)) {
        b->due[b->due_count] = arena_str(b->arena, hop);
        map_remove(commit.due, b->due[b->due_count++]);
    }
}

static void take(struct batch *b)
{
    *b = (struct batch){.arena = arena_new()};
    list_init(&b->jobs);
    list_init(&b->news);
    take_jobs(b);
    gather_results(b);
    take_news(b);
    take_due(b);
}

static void news_free(struct list *at)
{
    struct news *n = CONTAINER_OF(at, struct news, link);

    free((char *)n->v.hop.p);
    free((char *)n->v.error.p);
    free(n);
}

static void batch_free(struct batch *b)
{
    struct list *at;

    while ((at = list_take_first(&b->jobs)) != NULL)
        job_free(CONTAINER_OF(at, struct job, link));
    while ((at = list_take_first(&b->news)) != NULL)
        news_free(at);
    arena_free(&b->arena);
}

/* To the front, in their order. */
static void put_back(struct batch *b)
{
    while (!list_is_empty(&b->jobs)) {
        struct list *at = b->jobs.prev;
        list_remove(at);
        list_prepend(&commit.jobs, at);
    }
    while (!list_is_empty(&b->news)) {
        struct list *at = b->news.prev;
        list_remove(at);
        list_prepend(&commit.news, at);
    }
    for (size_t i = 0; i < b->due_count; i++)
        map_put(commit.due, b->due[i], &commit);
    batch_free(b);
}

static int run(struct batch *b, struct error *err)
{
    int64_t delays_ms[QUEUE_BACKOFF_STEPS];

    queue_backoff_delays_ms(delays_ms);
    if (outbound_finish(queue.worker_id, b->results, b->result_count, b->hop_news, b->news_count,
                        delays_ms, QUEUE_BACKOFF_STEPS, err) < 0)
        return -1;
    if (b->due_count == 0)
        return 0;
    queue_wake_scheduler();
    return outbound_note_due(b->due, b->due_count, err);
}

static void learn(const struct batch *b)
{
    for (size_t i = 0; i < b->news_count; i++) {
        struct hop *h = hop_find(b->hop_news[i].hop);

        if (h != NULL && b->hop_news[i].is_blocked && b->hop_news[i].failures > 0)
            hop_block(h, b->hop_news[i].failures, b->hop_news[i].blocked_ms);
    }
}

/* A transaction that PostgreSQL refuses is our bug. The rest must not suffer: each job alone then, and the one that is
 * refused again is left to the end of our lease. */
static void give_up(struct batch *b, const struct error *err)
{
    log_error(NULL, "queue_commit_refused", KV("jobs", b->job_count), KV_ERR(err));
    if (b->job_count > 1) {
        commit.batch_max = 1;
        put_back(b);
    } else
        batch_free(b);
}

static void commit_some(int64_t *again_ms)
{
    struct error err = {0};
    struct batch b;

    take(&b);
    if (run(&b, &err) == 0) {
        learn(&b);
        batch_free(&b);
        *again_ms = 0;
        if (list_is_empty(&commit.jobs))
            commit.batch_max = BATCH_JOBS_MAX;
        return;
    }
    if (err.kind != ERR_TRY_LATER && err.kind != ERR_CANCELLED) {
        give_up(&b, &err);
        return;
    }
    put_back(&b);
    *again_ms = *again_ms == 0                 ? AGAIN_MIN_MS
                : *again_ms * 2 < AGAIN_MAX_MS ? *again_ms * 2
                                               : AGAIN_MAX_MS;
    fiber_sleep(*again_ms);
}

/* ---- life ------------------------------------------------------------------------------------- */

static void commit_run(void *arg)
{
    int64_t again_ms = 0;

    while (!fiber_cancelled() && !(commit.is_stopping && is_idle())) {
        if (!is_idle()) {
            commit_some(&again_ms);
            continue;
        }
        queue.is_committer_waiting = true;
        fiber_park(NO_DEADLINE);
        queue.is_committer_waiting = false;
    }
    queue.committer = NULL;
    wait_queue_wake_all(&queue.ended);
}

void commit_start(void)
{
    commit.due = map_new();
    commit.is_stopping = false;
    commit.batch_max = BATCH_JOBS_MAX;
    queue.committer = fiber_start("queue_commit", commit_run, NULL);
}

void commit_stop(void)
{
    int64_t deadline_ms = loop_deadline(config.drain_timeout);
    struct batch b;

    commit.is_stopping = true;
    wake();
    while (queue.committer != NULL && wait_queue_wait(&queue.ended, deadline_ms) == WAKE_READY)
        ;
    if (queue.committer != NULL) {
        fiber_cancel(queue.committer);
        while (queue.committer != NULL && wait_queue_wait(&queue.ended, NO_DEADLINE) == WAKE_READY)
            ;
    }
    do {
        take(&b);
        batch_free(&b);
    } while (!is_idle());
    map_free(&commit.due);
}
