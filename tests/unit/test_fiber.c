/* test_fiber.c - what fiber.h promises: parks, wakes, cancellation, the pool, and the guard page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "server/base/error.h"
#include "server/run/crash.h"
#include "server/run/fiber.h"
#include "server/run/loop.h"

static char trail[64];

static void note(const char *s)
{
    assert_true(strlen(trail) + strlen(s) < sizeof trail);
    strcat(trail, s);
}

static int setup(void **state)
{
    trail[0] = '\0';
    loop_init();
    return 0;
}

static int teardown(void **state)
{
    loop_fini();
    fiber_pool_fini();
    return 0;
}

static void run(void (*body)(void *))
{
    loop_run_fiber("test", body, NULL);
}

static void note_name(void *arg)
{
    note(arg);
    fiber_yield();
    note(arg);
}

static void body_yield(void *arg)
{
    fiber_start("a", note_name, "a");
    fiber_start("b", note_name, "b");
    note("t");
    fiber_yield();
    note("t");
    fiber_yield();
    fiber_yield();
}

static void fibers_take_turns_in_the_order_they_became_ready(void **state)
{
    run(body_yield);
    assert_string_equal(trail, "tabtab");
}

static void body_wake_before_park(void *arg)
{
    fiber_wake(fiber_self());
    fiber_wake(fiber_self());
    assert_int_equal(fiber_park(NO_DEADLINE), WAKE_READY);
    assert_int_equal(fiber_park(loop_deadline(1)), WAKE_TIMED_OUT);
}

static void a_wake_before_the_park_is_kept_once(void **state)
{
    run(body_wake_before_park);
}

static struct fiber *parked;
static enum wake parked_wake;

static void park_once(void *arg)
{
    int64_t *duration_ms = arg;

    parked = fiber_self();
    parked_wake = fiber_park(duration_ms == NULL ? NO_DEADLINE : loop_deadline(*duration_ms));
    note(parked_wake == WAKE_READY ? "r" : parked_wake == WAKE_TIMED_OUT ? "t" : "c");
    parked = NULL;
}

static void body_wake_other(void *arg)
{
    fiber_start("parked", park_once, NULL);
    fiber_yield();
    assert_non_null(parked);
    assert_string_equal(fiber_name(parked), "parked");
    assert_int_equal(fiber_count(), 2);
    fiber_wake(parked);
    fiber_wake(parked);
    fiber_yield();
    assert_null(parked);
    assert_int_equal(fiber_count(), 1);
}

static void a_parked_fiber_is_woken_by_another(void **state)
{
    run(body_wake_other);
    assert_string_equal(trail, "r");
}

static void body_cancel(void *arg)
{
    fiber_start("parked", park_once, NULL);
    fiber_yield();
    fiber_cancel(parked);
    fiber_yield();
    assert_null(parked);
}

static void cancelling_ends_a_park(void **state)
{
    run(body_cancel);
    assert_string_equal(trail, "c");
}

static void park_thrice(void *arg)
{
    struct error err = {0};

    parked = fiber_self();
    assert_int_equal(fiber_park(NO_DEADLINE), WAKE_CANCELLED);
    assert_true(fiber_cancelled());
    assert_int_equal(fiber_park(NO_DEADLINE), WAKE_CANCELLED);
    assert_int_equal(fiber_sleep(1000000), WAKE_CANCELLED);
    fiber_yield(); /* a yield is no park: it may be used to unwind */
    assert_int_equal(fiber_wake_error(WAKE_CANCELLED, &err), -1);
    assert_int_equal(err.kind, ERR_CANCELLED);
    note("done");
}

static void body_cancel_sticks(void *arg)
{
    fiber_start("parked", park_thrice, NULL);
    fiber_yield();
    fiber_wake(parked);
    fiber_cancel(parked);
    for (int i = 0; i < 3; i++)
        fiber_yield();
    assert_string_equal(trail, "done");
}

static void every_park_after_a_cancel_returns_at_once(void **state)
{
    run(body_cancel_sticks);
}

static void body_deadlines(void *arg)
{
    int64_t far_ms = 1000000, near_ms = 2;

    assert_int_equal(fiber_park(loop_now_ms() - 1), WAKE_TIMED_OUT);
    assert_int_equal(fiber_sleep(3), WAKE_TIMED_OUT);
    assert_int_equal(fiber_sleep(0), WAKE_TIMED_OUT);
    fiber_start("parked", park_once, &far_ms);
    fiber_yield();
    fiber_wake(parked);
    fiber_start("parked", park_once, &near_ms);
    while (strlen(trail) < 2)
        fiber_sleep(1);
}

static void a_deadline_ends_a_park_and_only_its_own(void **state)
{
    run(body_deadlines);
    assert_string_equal(trail, "rt");
}

/* The deadline of the first park passes during the second one, which has none. */
static void park_short_then_long(void *arg)
{
    parked = fiber_self();
    assert_int_equal(fiber_park(loop_deadline(5)), WAKE_READY);
    assert_int_equal(fiber_park(NO_DEADLINE), WAKE_READY);
    note("kept");
}

static void body_stale_deadline(void *arg)
{
    fiber_start("parked", park_short_then_long, NULL);
    fiber_yield();
    fiber_wake(parked);
    fiber_sleep(20);
    assert_string_equal(trail, "");
    fiber_wake(parked);
    fiber_yield();
}

static void the_deadline_of_an_earlier_park_does_not_end_a_later_one(void **state)
{
    run(body_stale_deadline);
    assert_string_equal(trail, "kept");
}

static void nap(void *arg)
{
    char frame[8 * 1024];

    memset(frame, (int)(intptr_t)arg, sizeof frame);
    fiber_sleep((intptr_t)arg % 5);
    for (size_t i = 0; i < sizeof frame; i++)
        assert_int_equal((unsigned char)frame[i], (intptr_t)arg & 0xff);
}

static void body_many(void *arg)
{
    for (int round = 0; round < 3; round++) {
        for (intptr_t i = 0; i < 300; i++)
            fiber_start("nap", nap, (void *)i);
        while (fiber_count() > 1)
            fiber_sleep(1);
        fiber_pool_trim();
    }
}

static void stacks_are_reused_and_given_back_without_mixing(void **state)
{
    run(body_many);
}

static void spin_and_pause(void *arg)
{
    int64_t end_us = loop_now_us() + 30000000;

    while (loop_now_us() < end_us && trail[0] == '\0')
        fiber_pause();
    assert_string_equal(trail, "x");
}

static void note_x(void *arg)
{
    note("x");
}

static void body_pause(void *arg)
{
    fiber_start("x", note_x, NULL);
    spin_and_pause(NULL);
}

static void a_busy_fiber_lets_others_run_when_it_pauses(void **state)
{
    run(body_pause);
}

/* ---- a stack that overflows ---------------------------------------------------------------- */

static volatile int depth_seen, depth_max = 1000000;

static __attribute__((noinline)) int dig(int depth)
{
    volatile char frame[512];

    frame[0] = (char)depth;
    depth_seen = depth;
    return depth == depth_max ? 0 : dig(depth + 1) + frame[0];
}

static void overflow(void *arg)
{
    depth_seen = dig(0);
}

static void crash_in_child(int errors_to)
{
    dup2(errors_to, STDERR_FILENO);
    crash_handlers_install();
    loop_init();
    loop_run_fiber("digger", overflow, NULL);
    _exit(0);
}

static size_t read_all(int fd, char *to, size_t size)
{
    size_t n = 0;
    ssize_t got;

    while (n < size - 1 && (got = read(fd, to + n, size - 1 - n)) > 0)
        n += (size_t)got;
    to[n] = '\0';
    return n;
}

static void an_overflow_kills_its_process_and_names_the_fiber(void **state)
{
    char said[16384];
    int fds[2], status;
    pid_t child;

    assert_int_equal(pipe(fds), 0);
    child = fork();
    if (child == 0)
        crash_in_child(fds[1]);
    close(fds[1]);
    read_all(fds[0], said, sizeof said);
    close(fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
#ifndef __SANITIZE_ADDRESS__ /* there cmocka has taken the signal from the sanitizer */
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    assert_non_null(strstr(said, "fiber=digger"));
    assert_non_null(strstr(said, "stack overflow"));
    assert_non_null(strstr(said, "test_fiber")); /* frames follow */
#endif
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(fibers_take_turns_in_the_order_they_became_ready),
        CASE(a_wake_before_the_park_is_kept_once),
        CASE(a_parked_fiber_is_woken_by_another),
        CASE(cancelling_ends_a_park),
        CASE(every_park_after_a_cancel_returns_at_once),
        CASE(a_deadline_ends_a_park_and_only_its_own),
        CASE(the_deadline_of_an_earlier_park_does_not_end_a_later_one),
        CASE(stacks_are_reused_and_given_back_without_mixing),
        CASE(a_busy_fiber_lets_others_run_when_it_pauses),
        CASE(an_overflow_kills_its_process_and_names_the_fiber),
    };

    return cmocka_run_group_tests_name("fiber", tests, NULL, NULL);
}
