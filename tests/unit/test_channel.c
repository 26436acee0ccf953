/* test_channel.c - waiting for each other: order, limits, deadlines, and wakes that must not get lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "server/run/channel.h"
#include "server/run/loop.h"

static int setup(void **state)
{
    loop_init();
    return 0;
}

static int teardown(void **state)
{
    loop_fini();
    fiber_pool_fini();
    return 0;
}

static struct wait_queue queue;
static int order[8], order_count;
static struct fiber *waiters[8];
static enum wake wakes[8];

static void wait_in_line(void *arg)
{
    int number = (int)(intptr_t)arg;

    waiters[number] = fiber_self();
    wakes[number] = wait_queue_wait(&queue, NO_DEADLINE);
    order[order_count++] = number;
}

static void line_up(int count)
{
    wait_queue_init(&queue);
    order_count = 0;
    for (intptr_t i = 0; i < count; i++)
        fiber_start("waiter", wait_in_line, (void *)i);
    fiber_yield();
}

static void body_order(void *arg)
{
    line_up(3);
    assert_true(wait_queue_wake_one(&queue));
    fiber_yield();
    assert_int_equal(order_count, 1);
    wait_queue_wake_all(&queue);
    fiber_yield();
    assert_false(wait_queue_wake_one(&queue));
    for (int i = 0; i < 3; i++)
        assert_int_equal(order[i], i);
}

static void the_longest_waiting_is_woken_first(void **state)
{
    loop_run_fiber("test", body_order, NULL);
}

static void body_cancelled(void *arg)
{
    line_up(2);
    wait_queue_wake_one(&queue);
    fiber_cancel(waiters[0]); /* in the same turn: it cannot use its wake any more */
    fiber_yield();
    fiber_yield();
    assert_int_equal(order_count, 2);
    assert_int_equal(wakes[0], WAKE_CANCELLED);
    assert_int_equal(wakes[1], WAKE_READY);
}

static void a_cancelled_waiter_passes_its_wake_on(void **state)
{
    loop_run_fiber("test", body_cancelled, NULL);
}

static void body_stray(void *arg)
{
    wait_queue_init(&queue);
    fiber_wake(fiber_self());
    assert_int_equal(wait_queue_wait(&queue, loop_deadline(2)), WAKE_TIMED_OUT);
    assert_true(list_is_empty(&queue.waiters));
}

static void a_stray_wake_does_not_end_a_wait(void **state)
{
    loop_run_fiber("test", body_stray, NULL);
}

#define ITEM_COUNT 100

static void produce(void *arg)
{
    for (intptr_t i = 1; i <= ITEM_COUNT; i++)
        assert_int_equal(channel_send(arg, (void *)i, NO_DEADLINE), WAKE_READY);
}

static void body_channel(void *arg)
{
    struct channel *c = channel_new(3);
    void *item;

    fiber_start("producer", produce, c);
    for (intptr_t i = 1; i <= ITEM_COUNT; i++) {
        assert_int_equal(channel_receive(c, &item, NO_DEADLINE), WAKE_READY);
        assert_int_equal((intptr_t)item, i);
        assert_true(channel_count(c) <= 3);
        if (i % 7 == 0)
            fiber_sleep(0);
    }
    assert_int_equal(channel_receive(c, &item, loop_deadline(2)), WAKE_TIMED_OUT);
    channel_free(&c);
    assert_null(c);
    channel_free(&c);
}

static void items_arrive_in_order_through_a_small_channel(void **state)
{
    loop_run_fiber("test", body_channel, NULL);
}

static void body_full(void *arg)
{
    struct channel *c = channel_new(1);
    void *item;

    assert_true(channel_try_send(c, &item));
    assert_false(channel_try_send(c, &item));
    assert_int_equal(channel_send(c, &item, loop_deadline(2)), WAKE_TIMED_OUT);
    assert_int_equal(channel_count(c), 1);
    fiber_cancel(fiber_self());
    assert_int_equal(channel_send(c, &item, NO_DEADLINE), WAKE_CANCELLED);
    assert_int_equal(channel_receive(c, &item, NO_DEADLINE), WAKE_READY); /* needs no wait */
    assert_int_equal(channel_receive(c, &item, NO_DEADLINE), WAKE_CANCELLED);
    channel_free(&c);
}

static void a_full_channel_makes_the_sender_wait(void **state)
{
    loop_run_fiber("test", body_full, NULL);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(the_longest_waiting_is_woken_first),
        CASE(a_cancelled_waiter_passes_its_wake_on),
        CASE(a_stray_wake_does_not_end_a_wait),
        CASE(items_arrive_in_order_through_a_small_channel),
        CASE(a_full_channel_makes_the_sender_wait),
    };

    return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
