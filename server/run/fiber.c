/* fiber.c - the scheduler: a ready queue, a pool of stacks, and the switch between them.
 *
 * A fiber is always resumed by the loop and always returns to it, so there are two kinds of
 * switch only: loop to fiber (fiber_resume) and fiber to loop (switch_to_loop). The switch itself
 * is boost.context's, two assembly functions with a C interface. A fiber's struct lies at the
 * top of its own stack, above everything that could overflow:
 *
 *   mapping                                                         mapping + MAPPING_SIZE
 *   | guard pages |  <- stack grows down ------------- | struct fiber |
 *
 * AddressSanitizer and LeakSanitizer are told of each stack and switch, valgrind of each stack. */
#include "server/run/fiber.h"

#include <assert.h>
#include <limits.h>
#include <sys/mman.h>

#include "server/base/error.h"
#include "server/base/memory.h"
#include "server/base/object.h"
#include "server/run/loop.h"
#include "server/run/run_internal.h"

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(low, high) 0
#define VALGRIND_STACK_DEREGISTER(id)      ((void)(id))
#endif

#define FIBER_MAGIC     0xf1be51edu
#define GUARD_SIZE      (16 * 1024) /* several pages: a large frame of a library cannot step over them */
#define MAPPING_SIZE    (GUARD_SIZE + FIBER_STACK_SIZE)
#define POOL_COUNT_MAX  1024 /* stacks beyond go back to the system at once */
#define POOL_COUNT_IDLE 8    /* so many survive a trim, emptied */
#define POOL_LOOK_MS    5000
#define PAUSE_AFTER_US  2000
#define STACK_ALIGNMENT 64

/* boost.context's C interface (transfer_t, fcontext_t). */
struct transfer {
    void *context;
    void *data;
};
struct transfer jump_fcontext(void *to, void *data);
void *make_fcontext(void *stack_top, size_t size, void (*run)(struct transfer));

struct fiber {
    unsigned magic;
    bool is_parked;
    bool is_woken; /* a wake came that no park has returned yet */
    bool is_cancelled;
    bool is_shielded; /* parked where cancellation must not reach */
    bool has_ended;
    unsigned valgrind_id;
    const char *name;
    void (*run)(void *arg);
    void *arg;
    void *context;    /* where it stopped */
    void *fake_stack; /* AddressSanitizer's */
    char *mapping;
    int64_t park_deadline_ms;
    struct list queue_link; /* in the ready queue or the pool */
    struct list mapping_link;
    struct timer deadline;
};

static struct {
    struct fiber *current; /* NULL on the loop's own stack */
    void *loop_context;
    void *loop_fake_stack;
    const void *loop_stack_low;
    size_t loop_stack_size;
    int64_t resumed_at_us;
    unsigned alive_count;
    struct list ready;
    struct list pool;
    unsigned pool_count;
    unsigned pool_unused_count; /* the smallest pool_count since the last look at the pool */
    struct timer pool_idle;
    struct list mappings; /* every stack there is, for the crash handler */
} sched = {
    .ready = {&sched.ready, &sched.ready},
    .pool = {&sched.pool, &sched.pool},
    .mappings = {&sched.mappings, &sched.mappings},
};

/* ---- stacks -------------------------------------------------------------------------------- */

static char *stack_low(const struct fiber *f)
{
    return f->mapping + GUARD_SIZE;
}
static size_t stack_size(const struct fiber *f)
{
    return (size_t)((const char *)f - stack_low(f));
}

static void announce_stack(struct fiber *f)
{
    f->valgrind_id = VALGRIND_STACK_REGISTER(stack_low(f), (char *)f);
#ifdef WITH_ASAN
    __lsan_register_root_region(stack_low(f), FIBER_STACK_SIZE);
#endif
}

static struct fiber *stack_map(void)
{
    char *mapping = mmap(NULL, MAPPING_SIZE, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    size_t offset = (MAPPING_SIZE - sizeof(struct fiber)) / STACK_ALIGNMENT * STACK_ALIGNMENT;
    struct fiber *f;

    if (mapping == MAP_FAILED)
        memory_exhausted("fiber stack", MAPPING_SIZE);
    if (mprotect(mapping + GUARD_SIZE, FIBER_STACK_SIZE, PROT_READ | PROT_WRITE) < 0)
        memory_exhausted("fiber stack", MAPPING_SIZE);
    f = (struct fiber *)(mapping + offset);
    f->mapping = mapping;
    list_append(&sched.mappings, &f->mapping_link);
    announce_stack(f);
    return f;
}

static void stack_unmap(struct fiber *f)
{
    list_remove(&f->mapping_link);
    VALGRIND_STACK_DEREGISTER(f->valgrind_id);
#ifdef WITH_ASAN
    __lsan_unregister_root_region(stack_low(f), FIBER_STACK_SIZE);
    __asan_unpoison_memory_region(stack_low(f), FIBER_STACK_SIZE);
#endif
    munmap(f->mapping, MAPPING_SIZE);
}

/* The page with the struct stays; the rest reads as zeroes when it is used again. */
static void stack_empty(struct fiber *f)
{
    size_t page = 4096, size = stack_size(f) / page * page;

    madvise(stack_low(f), size, MADV_DONTNEED);
}

/* Gives up to `count` of the longest unused stacks back, but keeps a few, emptied. */
static void pool_trim(unsigned count, unsigned keep_count)
{
    struct list *at = sched.pool.prev;

    while (count-- > 0 && at != &sched.pool) {
        struct fiber *f = CONTAINER_OF(at, struct fiber, queue_link);

        at = at->prev;
        if (sched.pool_count <= keep_count) {
            stack_empty(f);
            continue;
        }
        list_remove(&f->queue_link);
        sched.pool_count--;
        stack_unmap(f);
    }
    sched.pool_unused_count = sched.pool_count;
}

void fiber_pool_trim(void)
{
    pool_trim(UINT_MAX, POOL_COUNT_IDLE);
}

void fiber_pool_fini(void)
{
    timer_clear(&sched.pool_idle);
    pool_trim(UINT_MAX, 0);
}

/* The pool is last in, first out: its tail is what nobody needed since the last look. */
static void pool_look(struct timer *t)
{
    bool was_busy = sched.pool_unused_count < sched.pool_count;

    pool_trim(sched.pool_unused_count, POOL_COUNT_IDLE);
    if (was_busy || sched.pool_count > POOL_COUNT_IDLE)
        timer_set(t, loop_deadline(POOL_LOOK_MS));
}

static void pool_put(struct fiber *f)
{
    if (sched.pool_count == POOL_COUNT_MAX) {
        stack_unmap(f);
        return;
    }
    list_prepend(&sched.pool, &f->queue_link);
    sched.pool_count++;
    sched.pool_idle.fire = pool_look;
    if (!timer_is_set(&sched.pool_idle))
        timer_set(&sched.pool_idle, loop_deadline(POOL_LOOK_MS));
}

static struct fiber *pool_take(void)
{
    struct list *newest = list_take_first(&sched.pool);
    struct fiber *f;

    if (newest == NULL)
        return stack_map();
    sched.pool_count--;
    if (sched.pool_unused_count > sched.pool_count)
        sched.pool_unused_count = sched.pool_count;
    f = CONTAINER_OF(newest, struct fiber, queue_link);
#ifdef WITH_ASAN
    /* The last frames of the previous fiber never returned and left their redzones behind. */
    __asan_unpoison_memory_region(stack_low(f), stack_size(f));
#endif
    return f;
}

/* ---- the switch ---------------------------------------------------------------------------- */

static void before_switch_to_loop(struct fiber *f)
{
#ifdef WITH_ASAN
    /* NULL says that this stack will not be returned to. */
    __sanitizer_start_switch_fiber(f->has_ended ? NULL : &f->fake_stack, sched.loop_stack_low,
                                   sched.loop_stack_size);
#endif
}

static void after_switch_to_fiber(struct fiber *f)
{
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(f->fake_stack, &sched.loop_stack_low, &sched.loop_stack_size);
#endif
}

static void switch_to_loop(struct fiber *f)
{
    struct transfer back;

    before_switch_to_loop(f);
    back = jump_fcontext(sched.loop_context, f);
    sched.loop_context = back.context;
    after_switch_to_fiber(f);
}

static void fiber_main(struct transfer from)
{
    struct fiber *f = from.data;

    sched.loop_context = from.context;
    after_switch_to_fiber(f);
    f->run(f->arg);
    f->has_ended = true;
    switch_to_loop(f);
    assert(!"an ended fiber was resumed");
}

static void fiber_retire(struct fiber *f)
{
    timer_clear(&f->deadline);
    f->magic = 0;
    sched.alive_count--;
    pool_put(f);
}

static void fiber_resume(struct fiber *f)
{
    struct transfer back;

    CHECK_OBJ(f, FIBER_MAGIC);
    sched.resumed_at_us = loop_read_clock();
    sched.current = f;
    f->is_parked = false;
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(&sched.loop_fake_stack, stack_low(f), stack_size(f));
#endif
    back = jump_fcontext(f->context, f);
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(sched.loop_fake_stack, NULL, NULL);
#endif
    f->context = back.context;
    sched.current = NULL;
    if (f->has_ended)
        fiber_retire(f);
}

/* ---- the ready queue ----------------------------------------------------------------------- */

static void make_ready(struct fiber *f)
{
    if (f->is_parked && !list_is_linked(&f->queue_link))
        list_append(&sched.ready, &f->queue_link);
}

bool fiber_any_ready(void)
{
    return !list_is_empty(&sched.ready);
}

void fiber_run_ready(void)
{
    struct list turn;

    if (list_is_empty(&sched.ready))
        return;
    /* The queue becomes this turn's; what gets ready meanwhile belongs to the next. */
    turn = sched.ready;
    turn.next->prev = &turn;
    turn.prev->next = &turn;
    list_init(&sched.ready);
    while (!list_is_empty(&turn))
        fiber_resume(CONTAINER_OF(list_take_first(&turn), struct fiber, queue_link));
}

void fiber_forget_all(void)
{
    sched.current = NULL;
    sched.alive_count = 0;
    sched.pool_idle.heap_index = 0;
    list_init(&sched.ready);
}

/* ---- life ---------------------------------------------------------------------------------- */

static void deadline_passed(struct timer *t)
{
    struct fiber *f = CONTAINER_OF(t, struct fiber, deadline);

    /* Timers are left set when a park ends early, so this may be the deadline of an older one. */
    if (f->is_parked && f->park_deadline_ms <= loop_now_ms())
        make_ready(f);
}

struct fiber *fiber_start(const char *name, void (*run)(void *arg), void *arg)
{
    struct fiber *f = pool_take();
    struct fiber blank = {
        .magic = FIBER_MAGIC,
        .is_parked = true,
        .valgrind_id = f->valgrind_id,
        .name = name,
        .run = run,
        .arg = arg,
        .mapping = f->mapping,
        .park_deadline_ms = NO_DEADLINE,
        .mapping_link = f->mapping_link,
        .deadline = {.fire = deadline_passed},
    };

    *f = blank;
    f->context = make_fcontext((char *)f, stack_size(f), fiber_main);
    sched.alive_count++;
    make_ready(f);
    return f;
}

struct fiber *fiber_self(void)
{
    return sched.current;
}

const char *fiber_name(const struct fiber *f)
{
    return f == NULL ? "loop" : f->name;
}

unsigned fiber_count(void)
{
    return sched.alive_count;
}

const struct fiber *fiber_of_guard(const void *address)
{
    const char *p = address;

    LIST_EACH (at, &sched.mappings) {
        const struct fiber *f = CONTAINER_OF(at, struct fiber, mapping_link);

        if (p >= f->mapping && p < f->mapping + GUARD_SIZE)
            return f;
    }
    return NULL;
}

/* ---- waiting ------------------------------------------------------------------------------- */

/* Leaves the processor until make_ready(). */
static void stop_running(struct fiber *f, int64_t deadline_ms)
{
    f->is_parked = true;
    f->park_deadline_ms = deadline_ms;
    switch_to_loop(f);
}

PARKS enum wake fiber_park(int64_t deadline_ms)
{
    struct fiber *f = sched.current;

    assert(f != NULL); /* the loop's own stack must not wait */
    if (!f->is_cancelled && !f->is_woken) {
        if (deadline_ms <= loop_now_ms())
            return WAKE_TIMED_OUT;
        if (deadline_ms != NO_DEADLINE)
            timer_set(&f->deadline, deadline_ms);
        stop_running(f, deadline_ms);
    }
    if (f->is_cancelled)
        return WAKE_CANCELLED;
    if (!f->is_woken)
        return WAKE_TIMED_OUT;
    f->is_woken = false;
    return WAKE_READY;
}

PARKS void fiber_park_shielded(void)
{
    struct fiber *f = sched.current;

    assert(f != NULL);
    f->is_shielded = true;
    if (!f->is_woken)
        stop_running(f, NO_DEADLINE);
    f->is_woken = false;
    f->is_shielded = false;
}

void fiber_wake(struct fiber *f)
{
    CHECK_OBJ(f, FIBER_MAGIC);
    f->is_woken = true;
    make_ready(f);
}

void fiber_cancel(struct fiber *f)
{
    CHECK_OBJ(f, FIBER_MAGIC);
    f->is_cancelled = true;
    if (!f->is_shielded)
        make_ready(f);
}

bool fiber_cancelled(void)
{
    return sched.current != NULL && sched.current->is_cancelled;
}

PARKS void fiber_yield(void)
{
    struct fiber *f = sched.current;

    assert(f != NULL);
    f->is_parked = true;
    make_ready(f);
    stop_running(f, NO_DEADLINE);
}

PARKS enum wake fiber_sleep(int64_t duration_ms)
{
    int64_t deadline_ms = loop_deadline(duration_ms);

    if (deadline_ms <= loop_now_ms() && !fiber_cancelled())
        fiber_yield();
    return fiber_park(deadline_ms);
}

PARKS void fiber_pause(void)
{
    if (loop_now_us() - sched.resumed_at_us > PAUSE_AFTER_US)
        fiber_yield();
}

int fiber_wake_error(enum wake wake, struct error *err)
{
    switch (wake) {
    case WAKE_READY:
        return 0;
    case WAKE_TIMED_OUT:
        return fail(err, ERR_TIMED_OUT, "the time for this is over");
    case WAKE_CANCELLED:
        return fail(err, ERR_CANCELLED, "the server is stopping this work");
    }
    return 0;
}
