/* loop.h - the worker's one epoll loop: descriptors, timers and work put off to the end of a turn.
 *
 * Callbacks run on the loop's own stack and must not park; they wake or start fibers. Above
 * server/run nobody needs this header except http (libmicrohttpd), pg (libpq) and dns. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include "server/base/list.h"
#include "server/run/fiber.h"

void loop_init(void);                                   /* once per process, after fork */
void loop_fini(void);
void loop_run(void);                                    /* until loop_stop() */
void loop_stop(void);

/* Runs `run` in a fiber and the loop until it has returned: for command-line tools and tests. */
void loop_run_fiber(const char *name, void (*run)(void *arg), void *arg);

int64_t loop_now_ms(void);                              /* monotonic, read once per turn of the loop */
int64_t loop_now_us(void);                              /* monotonic, read now */
static inline int64_t loop_deadline(int64_t duration_ms) { return loop_now_ms() + duration_ms; }

/* --- descriptors --------------------------------------------------------------------------- */
struct loop_fd {
    int fd;
    uint32_t events;                                    /* EPOLLIN | EPOLLOUT | EPOLLET | ... as registered; 0: none */
    void (*ready)(struct loop_fd *, uint32_t events);
};

void loop_fd_set(struct loop_fd *lfd, uint32_t events); /* adds or modifies; 0 takes it out. Do so before close(2) */
PARKS enum wake loop_wait_fd(int fd, uint32_t events, int64_t deadline_ms);   /* one-shot, level-triggered */

/* --- timers -------------------------------------------------------------------------------- */
struct timer {
    void (*fire)(struct timer *);
    int64_t deadline_ms;
    unsigned heap_index;                                /* 0: not set */
};

void timer_set(struct timer *t, int64_t deadline_ms);   /* sets or moves; O(log n), lazily cheap to move later */
void timer_clear(struct timer *t);
static inline bool timer_is_set(const struct timer *t) { return t->heap_index != 0; }

/* --- the end of this turn ------------------------------------------------------------------- */
struct deferred {
    struct list link;
    void (*run)(struct deferred *);
};
void loop_defer(struct deferred *d);                    /* once, however often it is asked for */
