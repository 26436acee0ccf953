/* loop.c - epoll, a heap of timers and the order of things within one turn:
 *
 *   wait -> callbacks of descriptors -> timers that are due -> fibers that are ready -> deferred work
 *
 * Nothing here parks. A timer's key in the heap may lie before its deadline: moving a timer to
 * later changes only the struct, and the heap learns of it when the old time comes. Connections
 * move theirs at every command, so that is the case that must cost nothing. */
#include "server/run/loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/run/run_internal.h"

#define BATCH_MAX   256
#define WAIT_MAX_MS 60000

struct heap_entry {
    int64_t key_ms; /* never later than timer->deadline_ms */
    struct timer *timer;
};

static struct {
    int epoll_fd;
    int64_t now_ms;
    bool is_stopping;
    struct epoll_event batch[BATCH_MAX]; /* what the last wait returned ... */
    int batch_at, batch_count;           /* ... and how far it was handed out */
    struct heap_entry *heap;             /* 1 .. heap_count; children of i are 2i and 2i + 1 */
    unsigned heap_count, heap_cap;
    struct list deferred;
} loop = {.epoll_fd = -1, .deferred = {&loop.deferred, &loop.deferred}};

static void die(const char *what, int fd)
{
    log_error(NULL, "loop_failed", KV("call", what), KV("fd", fd), KV("errno", errno));
    abort();
}

/* ---- the clock ----------------------------------------------------------------------------- */

int64_t loop_now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t loop_read_clock(void)
{
    int64_t now_us = loop_now_us();

    loop.now_ms = now_us / 1000;
    return now_us;
}

int64_t loop_now_ms(void)
{
    return loop.now_ms;
}

/* ---- descriptors --------------------------------------------------------------------------- */

/* Events of this batch that were not handed out yet must not reach a descriptor that left. */
static void forget_pending_events(struct loop_fd *lfd)
{
    for (int i = loop.batch_at; i < loop.batch_count; i++)
        if (loop.batch[i].data.ptr == lfd)
            loop.batch[i].data.ptr = NULL;
}

static void fd_remove(struct loop_fd *lfd)
{
    if (lfd->events == 0)
        return;
    /* A library may have closed its descriptor already; then the kernel has forgotten it. */
    epoll_ctl(loop.epoll_fd, EPOLL_CTL_DEL, lfd->fd, NULL);
    lfd->events = 0;
    forget_pending_events(lfd);
}

static int fd_add(struct loop_fd *lfd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = lfd};

    if (epoll_ctl(loop.epoll_fd, EPOLL_CTL_ADD, lfd->fd, &event) < 0)
        return -1;
    lfd->events = events;
    return 0;
}

/* ENOENT: a library closed its descriptor and was given the same number again (libpq's reset). */
static void fd_modify(struct loop_fd *lfd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = lfd};

    if (epoll_ctl(loop.epoll_fd, EPOLL_CTL_MOD, lfd->fd, &event) == 0)
        lfd->events = events;
    else if (errno != ENOENT || fd_add(lfd, events) < 0)
        die("epoll_ctl", lfd->fd);
}

void loop_fd_set(struct loop_fd *lfd, uint32_t events)
{
    assert(loop.epoll_fd >= 0);
    if (events == 0) {
        fd_remove(lfd);
        return;
    }
    if ((events | lfd->events) & EPOLLEXCLUSIVE) /* cannot be modified, says epoll_ctl(2) */
        fd_remove(lfd);
    if (lfd->events != 0)
        fd_modify(lfd, events);
    else if (fd_add(lfd, events) < 0)
        die("epoll_ctl", lfd->fd);
}

struct fd_wait {
    struct loop_fd lfd;
    struct fiber *waiter;
    bool is_ready;
};

static void fd_wait_ready(struct loop_fd *lfd, uint32_t events)
{
    struct fd_wait *wait = CONTAINER_OF(lfd, struct fd_wait, lfd);

    wait->is_ready = true;
    fiber_wake(wait->waiter);
    loop_fd_set(lfd, 0);
}

PARKS enum wake loop_wait_fd(int fd, uint32_t events, int64_t deadline_ms)
{
    struct fd_wait wait = {
        .lfd = {.fd = fd, .ready = fd_wait_ready},
        .waiter = fiber_self(),
    };
    enum wake wake = WAKE_READY;

    if (fd_add(&wait.lfd, events) < 0) {
        if (errno == EPERM) /* a plain file: always ready */
            return WAKE_READY;
        die("epoll_ctl", fd);
    }
    while (!wait.is_ready && wake == WAKE_READY)
        wake = fiber_park(deadline_ms);
    loop_fd_set(&wait.lfd, 0);
    return wait.is_ready && wake == WAKE_TIMED_OUT ? WAKE_READY : wake;
}

/* ---- timers -------------------------------------------------------------------------------- */

static void heap_place(unsigned at, struct heap_entry entry)
{
    loop.heap[at] = entry;
    entry.timer->heap_index = at;
}

static void heap_rise(unsigned at, struct heap_entry entry)
{
    while (at > 1 && loop.heap[at / 2].key_ms > entry.key_ms) {
        heap_place(at, loop.heap[at / 2]);
        at /= 2;
    }
    heap_place(at, entry);
}

static void heap_sink(unsigned at, struct heap_entry entry)
{
    for (unsigned child; (child = 2 * at) <= loop.heap_count; at = child) {
        if (child < loop.heap_count && loop.heap[child + 1].key_ms < loop.heap[child].key_ms)
            child++;
        if (loop.heap[child].key_ms >= entry.key_ms)
            break;
        heap_place(at, loop.heap[child]);
    }
    heap_place(at, entry);
}

static void heap_insert(struct timer *t)
{
    if (loop.heap_count + 2 > loop.heap_cap) {
        loop.heap_cap = loop.heap_cap == 0 ? 64 : 2 * loop.heap_cap;
        loop.heap = memory_resize(loop.heap, loop.heap_cap * sizeof *loop.heap);
    }
    heap_rise(++loop.heap_count, (struct heap_entry){t->deadline_ms, t});
}

void timer_set(struct timer *t, int64_t deadline_ms)
{
    t->deadline_ms = deadline_ms;
    if (t->heap_index == 0)
        heap_insert(t);
    else if (deadline_ms < loop.heap[t->heap_index].key_ms)
        heap_rise(t->heap_index, (struct heap_entry){deadline_ms, t});
}

void timer_clear(struct timer *t)
{
    unsigned at = t->heap_index;
    struct heap_entry last;

    if (at == 0)
        return;
    assert(at <= loop.heap_count);
    assert(loop.heap[at].timer == t);
    t->heap_index = 0;
    last = loop.heap[loop.heap_count--];
    if (last.timer == t)
        return;
    if (at > 1 && loop.heap[at / 2].key_ms > last.key_ms)
        heap_rise(at, last);
    else
        heap_sink(at, last);
}

/* Timers set to a time already past while this runs wait for the next turn. */
static void timers_fire(void)
{
    int64_t now_ms = loop.now_ms;

    for (unsigned left = 2 * loop.heap_count; left > 0 && loop.heap_count > 0; left--) {
        struct timer *t = loop.heap[1].timer;

        if (loop.heap[1].key_ms > now_ms)
            return;
        if (t->deadline_ms > loop.heap[1].key_ms) { /* it was moved to later */
            heap_sink(1, (struct heap_entry){t->deadline_ms, t});
            continue;
        }
        timer_clear(t);
        t->fire(t);
    }
}

/* ---- deferred work ------------------------------------------------------------------------- */

void loop_defer(struct deferred *d)
{
    if (!list_is_linked(&d->link))
        list_append(&loop.deferred, &d->link);
}

/* What is put off while this runs waits for the next turn; hence the marker. */
static void deferred_run(void)
{
    struct list marker;

    list_append(&loop.deferred, &marker);
    while (loop.deferred.next != &marker) {
        struct deferred *d = CONTAINER_OF(list_take_first(&loop.deferred), struct deferred, link);

        d->run(d);
    }
    list_remove(&marker);
}

/* ---- a turn -------------------------------------------------------------------------------- */

static int wait_ms(void)
{
    int64_t left_ms;

    if (fiber_any_ready() || !list_is_empty(&loop.deferred))
        return 0;
    if (loop.heap_count == 0)
        return WAIT_MAX_MS;
    left_ms = loop.heap[1].key_ms - loop_now_us() / 1000;
    return left_ms < 0 ? 0 : left_ms > WAIT_MAX_MS ? WAIT_MAX_MS : (int)left_ms;
}

static void events_hand_out(void)
{
    while (loop.batch_at < loop.batch_count) {
        struct epoll_event *event = &loop.batch[loop.batch_at++];
        struct loop_fd *lfd = event->data.ptr;

        if (lfd != NULL)
            lfd->ready(lfd, event->events);
    }
    loop.batch_at = loop.batch_count = 0;
}

static void loop_turn(void)
{
    int count = epoll_wait(loop.epoll_fd, loop.batch, BATCH_MAX, wait_ms());

    if (count < 0 && errno != EINTR)
        die("epoll_wait", loop.epoll_fd);
    loop_read_clock();
    loop.batch_at = 0;
    loop.batch_count = count < 0 ? 0 : count;
    events_hand_out();
    timers_fire();
    fiber_run_ready();
    deferred_run();
}

void loop_run(void)
{
    assert(fiber_self() == NULL);
    loop_read_clock();
    while (!loop.is_stopping)
        loop_turn();
    loop.is_stopping = false;
}

void loop_stop(void)
{
    loop.is_stopping = true;
}

/* ---- life ---------------------------------------------------------------------------------- */

/* What a parent process had registered before the fork is none of ours: all begins anew. */
void loop_init(void)
{
    if (loop.epoll_fd >= 0)
        close(loop.epoll_fd);
    loop.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop.epoll_fd < 0)
        die("epoll_create1", -1);
    signal(SIGPIPE, SIG_IGN); /* a peer that left is an error of write(2), not a signal */
    loop.is_stopping = false;
    loop.batch_at = loop.batch_count = 0;
    loop.heap_count = 0;
    list_init(&loop.deferred);
    fiber_forget_all();
    loop_read_clock();
}

void loop_fini(void)
{
    if (loop.epoll_fd >= 0)
        close(loop.epoll_fd);
    loop.epoll_fd = -1;
    for (unsigned i = 1; i <= loop.heap_count; i++)
        loop.heap[i].timer->heap_index = 0;
    free(loop.heap);
    loop.heap = NULL;
    loop.heap_count = loop.heap_cap = 0;
}

struct errand {
    void (*run)(void *arg);
    void *arg;
};

static void errand_run(void *arg)
{
    struct errand *errand = arg;

    errand->run(errand->arg);
    loop_stop();
}

void loop_run_fiber(const char *name, void (*run)(void *arg), void *arg)
{
    struct errand errand = {run, arg};

    if (loop.epoll_fd < 0)
        loop_init();
    fiber_start(name, errand_run, &errand);
    loop_run();
}
