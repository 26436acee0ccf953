/* test_loop.c - descriptors, timers and deferred work, in the order the loop promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "server/run/fiber.h"
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

/* ---- timers -------------------------------------------------------------------------------- */

#define TIMER_COUNT 500

static struct numbered_timer {
    struct timer timer;
    int64_t wanted_ms; /* 0: cleared, must not fire */
    int fired_count;
} timers[TIMER_COUNT];

static int64_t last_fired_ms;
static int left_count;

static void timer_fired(struct timer *t)
{
    struct numbered_timer *n = CONTAINER_OF(t, struct numbered_timer, timer);

    n->fired_count++;
    assert_false(timer_is_set(t));
    assert_int_equal(t->deadline_ms, n->wanted_ms);
    assert_true(n->wanted_ms <= loop_now_ms());
    assert_true(n->wanted_ms >= last_fired_ms);
    last_fired_ms = n->wanted_ms;
    if (--left_count == 0)
        loop_stop();
}

static void arm(struct numbered_timer *n, int64_t deadline_ms)
{
    n->wanted_ms = deadline_ms;
    n->timer.fire = timer_fired;
    timer_set(&n->timer, deadline_ms);
}

/* Timers are armed, moved to earlier and to later, and cleared, by a fixed random sequence. */
static void timers_fire_in_order_however_they_were_moved(void **state)
{
    unsigned seed = 7;

    memset(timers, 0, sizeof timers);
    last_fired_ms = left_count = 0;
    for (int i = 0; i < 4 * TIMER_COUNT; i++) {
        struct numbered_timer *n = &timers[rand_r(&seed) % TIMER_COUNT];

        if (rand_r(&seed) % 5 == 0) {
            timer_clear(&n->timer);
            n->wanted_ms = 0;
        } else {
            arm(n, loop_now_ms() + 1 + rand_r(&seed) % 40);
        }
    }
    for (int i = 0; i < TIMER_COUNT; i++)
        left_count += timers[i].wanted_ms != 0;
    loop_run();
    for (int i = 0; i < TIMER_COUNT; i++)
        assert_int_equal(timers[i].fired_count, timers[i].wanted_ms != 0);
}

static int rearm_count;

static void rearm_at_once(struct timer *t)
{
    if (++rearm_count == 5)
        loop_stop();
    else
        timer_set(t, 0);
}

static void a_timer_that_rearms_itself_in_the_past_does_not_hang_the_turn(void **state)
{
    struct timer t = {.fire = rearm_at_once};

    rearm_count = 0;
    timer_set(&t, loop_now_ms());
    loop_run();
    assert_int_equal(rearm_count, 5);
    assert_false(timer_is_set(&t));
}

static void clearing_an_unset_timer_does_nothing(void **state)
{
    struct timer t = {.fire = timer_fired};

    timer_clear(&t);
    timer_set(&t, loop_now_ms() + 1000);
    timer_clear(&t);
    timer_clear(&t);
    assert_false(timer_is_set(&t));
}

/* ---- descriptors --------------------------------------------------------------------------- */

static struct pair_fd {
    struct loop_fd lfd;
    struct pair_fd *other;
    int ready_count;
} pair_fds[2];

static void remove_the_other(struct loop_fd *lfd, uint32_t events)
{
    struct pair_fd *p = CONTAINER_OF(lfd, struct pair_fd, lfd);

    p->ready_count++;
    loop_fd_set(&p->other->lfd, 0);
    memset(&p->other->lfd.ready, 0xff, sizeof p->other->lfd.ready); /* a call would crash */
    loop_fd_set(lfd, 0);
    loop_stop();
}

static void a_descriptor_taken_out_in_the_same_turn_hears_nothing(void **state)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (int i = 0; i < 2; i++) {
        pair_fds[i] = (struct pair_fd){
            .lfd = {.fd = fds[i], .ready = remove_the_other},
            .other = &pair_fds[1 - i],
        };
        loop_fd_set(&pair_fds[i].lfd, EPOLLOUT);
    }
    loop_run();
    assert_int_equal(pair_fds[0].ready_count + pair_fds[1].ready_count, 1);
    close(fds[0]);
    close(fds[1]);
}

/* As libpq does when it resets: closes behind the loop's back and gets the same number again. */
static void a_descriptor_reopened_under_its_number_is_registered_anew(void **state)
{
    int fds[2], again[2];

    assert_int_equal(pipe(fds), 0);
    pair_fds[0] =
        (struct pair_fd){.lfd = {.fd = fds[0], .ready = remove_the_other}, .other = &pair_fds[1]};
    pair_fds[1] = (struct pair_fd){0};
    loop_fd_set(&pair_fds[0].lfd, EPOLLIN);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(pipe(again), 0);
    assert_int_equal(again[0], fds[0]);
    loop_fd_set(&pair_fds[0].lfd, EPOLLIN | EPOLLRDHUP);
    assert_int_equal(write(again[1], "x", 1), 1);
    loop_run();
    assert_int_equal(pair_fds[0].ready_count, 1);
    close(again[0]);
    close(again[1]);
}

static int wait_fds[2];

static void write_later(void *arg)
{
    fiber_sleep(2);
    assert_int_equal(write(wait_fds[1], "x", 1), 1);
}

static void body_wait_fd(void *arg)
{
    char c;

    assert_int_equal(pipe(wait_fds), 0);
    assert_int_equal(loop_wait_fd(wait_fds[0], EPOLLIN, loop_deadline(2)), WAKE_TIMED_OUT);
    fiber_start("writer", write_later, NULL);
    assert_int_equal(loop_wait_fd(wait_fds[0], EPOLLIN, NO_DEADLINE), WAKE_READY);
    assert_int_equal(loop_wait_fd(wait_fds[0], EPOLLIN, NO_DEADLINE), WAKE_READY);
    assert_int_equal(read(wait_fds[0], &c, 1), 1);
    fiber_wake(fiber_self()); /* a stray wake is no reason to return */
    assert_int_equal(loop_wait_fd(wait_fds[0], EPOLLIN, loop_deadline(2)), WAKE_TIMED_OUT);
    close(wait_fds[1]);
    assert_int_equal(loop_wait_fd(wait_fds[0], EPOLLIN, NO_DEADLINE), WAKE_READY);
    fiber_cancel(fiber_self());
    assert_int_equal(loop_wait_fd(wait_fds[0], EPOLLPRI, NO_DEADLINE), WAKE_CANCELLED);
    close(wait_fds[0]);
}

static void a_fiber_waits_for_a_descriptor(void **state)
{
    loop_run_fiber("test", body_wait_fd, NULL);
}

/* ---- deferred work -------------------------------------------------------------------------- */

static int deferred_count;

static void defer_again(struct deferred *d)
{
    if (++deferred_count < 3)
        loop_defer(d);
}

static void body_deferred(void *arg)
{
    struct deferred d = {.run = defer_again};

    deferred_count = 0;
    loop_defer(&d);
    loop_defer(&d);
    assert_int_equal(deferred_count, 0);
    fiber_yield();
    assert_int_equal(deferred_count, 1);
    fiber_yield();
    fiber_yield();
    fiber_yield();
    assert_int_equal(deferred_count, 3);
}

static void deferred_work_runs_once_at_the_end_of_each_turn(void **state)
{
    loop_run_fiber("test", body_deferred, NULL);
}

static void the_loop_runs_again_after_a_stop(void **state)
{
    loop_run_fiber("test", body_deferred, NULL);
    loop_run_fiber("test", body_deferred, NULL);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(timers_fire_in_order_however_they_were_moved),
        CASE(a_timer_that_rearms_itself_in_the_past_does_not_hang_the_turn),
        CASE(clearing_an_unset_timer_does_nothing),
        CASE(a_descriptor_taken_out_in_the_same_turn_hears_nothing),
        CASE(a_descriptor_reopened_under_its_number_is_registered_anew),
        CASE(a_fiber_waits_for_a_descriptor),
        CASE(deferred_work_runs_once_at_the_end_of_each_turn),
        CASE(the_loop_runs_again_after_a_stop),
    };

    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
