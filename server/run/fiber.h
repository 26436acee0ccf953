/* fiber.h - stackful fibers: straight-line code that waits without blocking its worker.
 *
 * A worker has one loop and any number of fibers, one of which runs at a time; there are no locks.
 * PARKS marks a function that may switch to other fibers. After a park others have run: look
 * shared state up again. Stacks come from a pool, lie between guard pages and are FIBER_STACK_SIZE
 * bytes, so large buffers belong in an arena and recursion carries a depth limit.
 *
 * A fiber's pointer is valid until its function returns; whoever keeps one must be told by the
 * fiber itself. Every wait can be cancelled: from fiber_cancel() on, each park returns
 * WAKE_CANCELLED at once, so that the fiber unwinds by ordinary error returns. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PARKS                                           /* may switch fibers: read the note above */

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_STACK_SIZE (256 * 1024)                   /* redzones make frames several times larger */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_STACK_SIZE (256 * 1024)
#endif
#endif
#ifndef FIBER_STACK_SIZE
#define FIBER_STACK_SIZE (64 * 1024)
#endif

struct fiber;
struct error;

enum wake {
    WAKE_READY,          /* somebody called fiber_wake() */
    WAKE_TIMED_OUT,
    WAKE_CANCELLED,
};

#define NO_DEADLINE INT64_MAX                           /* deadlines are loop_now_ms() values */

/* Starts a fiber at the end of this turn of the loop. `name` is a literal, for logs and backtraces. */
struct fiber *fiber_start(const char *name, void (*run)(void *arg), void *arg);
struct fiber *fiber_self(void);                         /* NULL on the loop's own stack */
const char *fiber_name(const struct fiber *f);
unsigned fiber_count(void);                             /* alive in this worker */

/* Parks until woken, cancelled or past the deadline. A wake sent before the park is not lost. */
PARKS enum wake fiber_park(int64_t deadline_ms);
void fiber_wake(struct fiber *f);                       /* from a fiber or the loop; idempotent */
void fiber_cancel(struct fiber *f);
bool fiber_cancelled(void);                             /* was the running fiber cancelled? */

PARKS void fiber_yield(void);                           /* lets everyone else run once */
PARKS enum wake fiber_sleep(int64_t duration_ms);       /* WAKE_TIMED_OUT when it slept through */
/* Yields only when this fiber has held the worker for more than about 2 ms: cheap to call in a loop. */
PARKS void fiber_pause(void);

/* WAKE_TIMED_OUT -> ERR_TIMED_OUT, WAKE_CANCELLED -> ERR_CANCELLED, both with a sentence; -1. READY -> 0. */
int fiber_wake_error(enum wake wake, struct error *err);

void fiber_pool_trim(void);                             /* gives idle stacks back to the system */
void fiber_pool_fini(void);                             /* at exit, for leak checkers */
