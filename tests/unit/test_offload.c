/* test_offload.c - helper threads: the loop goes on, the answer comes back, cancellation waits. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "server/run/loop.h"
#include "server/run/offload.h"

static int setup(void **state)
{
    loop_init();
    return 0;
}

static int teardown(void **state)
{
    offload_fini();
    loop_fini();
    fiber_pool_fini();
    return 0;
}

struct work {
    int input, output;
    pthread_t thread;
    int gate[2]; /* the thread waits until a byte comes */
};

static void square(void *arg)
{
    struct work *w = arg;

    w->output = w->input * w->input;
    w->thread = pthread_self();
}

static void wait_at_gate(void *arg)
{
    struct work *w = arg;
    char c;

    w->output = (int)read(w->gate[0], &c, 1);
}

static int squares_done;

static void offload_square(void *arg)
{
    struct work w = {.input = (int)(intptr_t)arg};

    offload(square, &w);
    assert_int_equal(w.output, w.input * w.input);
    assert_false(pthread_equal(w.thread, pthread_self()));
    squares_done++;
}

static void body_many(void *arg)
{
    squares_done = 0;
    for (intptr_t i = 0; i < 100; i++)
        fiber_start("square", offload_square, (void *)i);
    while (squares_done < 100)
        fiber_sleep(1);
}

static void many_fibers_share_the_helpers(void **state)
{
    loop_run_fiber("test", body_many, NULL);
}

static struct work gated;
static struct fiber *gated_fiber;
static bool gated_returned;

static void offload_gated(void *arg)
{
    gated_fiber = fiber_self();
    offload(wait_at_gate, &gated);
    gated_returned = true;
    assert_true(fiber_cancelled());
    assert_int_equal(fiber_park(NO_DEADLINE), WAKE_CANCELLED);
}

static void body_cancel(void *arg)
{
    assert_int_equal(pipe(gated.gate), 0);
    gated_returned = false;
    fiber_start("gated", offload_gated, NULL);
    fiber_sleep(2); /* the loop turns while the helper is stuck */
    fiber_cancel(gated_fiber);
    fiber_wake(gated_fiber);
    fiber_sleep(2);
    assert_false(gated_returned);
    assert_int_equal(write(gated.gate[1], "x", 1), 1);
    while (!gated_returned)
        fiber_sleep(1);
    assert_int_equal(gated.output, 1);
    fiber_yield();
    close(gated.gate[0]);
    close(gated.gate[1]);
}

static void cancellation_waits_for_the_helper(void **state)
{
    loop_run_fiber("test", body_cancel, NULL);
}

static void outside_a_fiber_the_work_is_done_in_place(void **state)
{
    struct work w = {.input = 3};

    offload(square, &w);
    assert_int_equal(w.output, 9);
    assert_true(pthread_equal(w.thread, pthread_self()));
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(many_fibers_share_the_helpers),
        CASE(cancellation_waits_for_the_helper),
        CASE(outside_a_fiber_the_work_is_done_in_place),
    };

    return cmocka_run_group_tests_name("offload", tests, NULL, NULL);
}
