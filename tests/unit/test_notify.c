/* test_notify.c - the bus: subscribers of this worker, and notices to and from others over PostgreSQL.
 *
 * "The others" are a plain libpq connection here, and once a whole second process. */
#include "tests/unit/pg_fixture.h"

#include <sys/wait.h>

#include "server/pg/notify.h"
#include "server/run/offload.h"

struct counted {
    struct bus_subscription subscription;
    int count;
};

static void count_it(struct bus_subscription *s)
{
    CONTAINER_OF(s, struct counted, subscription)->count++;
}

/* ---- without PostgreSQL ------------------------------------------------------------------------------ */

static void only_the_topic_is_told(void **state)
{
    struct counted a = {0}, b = {0}, other = {0};

    bus_subscribe(&a.subscription, 1, count_it);
    bus_subscribe(&b.subscription, 1, count_it);
    bus_subscribe(&other.subscription, 2, count_it);
    bus_publish(1);
    assert_int_equal(a.count, 1);
    assert_int_equal(b.count, 1);
    assert_int_equal(other.count, 0);
    bus_unsubscribe(&a.subscription);
    bus_unsubscribe(&a.subscription);
    bus_publish(1);
    assert_int_equal(a.count, 1);
    assert_int_equal(b.count, 2);
    bus_unsubscribe(&b.subscription);
    bus_unsubscribe(&other.subscription);
    bus_publish(1);
}

static struct counted victims[3];

static void unsubscribe_all(struct bus_subscription *s)
{
    count_it(s);
    for (int i = 0; i < 3; i++)
        bus_unsubscribe(&victims[i].subscription);
}

static void a_subscriber_may_unsubscribe_the_others(void **state)
{
    memset(victims, 0, sizeof victims);
    for (int i = 0; i < 3; i++)
        bus_subscribe(&victims[i].subscription, 7, unsubscribe_all);
    bus_publish(7);
    assert_int_equal(victims[0].count + victims[1].count + victims[2].count, 1);
}

static void come_back(struct bus_subscription *s)
{
    count_it(s);
    bus_subscribe(s, s->topic, come_back);
}

static void a_subscriber_that_comes_back_is_told_once(void **state)
{
    struct counted a = {0};

    bus_subscribe(&a.subscription, 7, come_back);
    bus_publish(7);
    assert_int_equal(a.count, 1);
    bus_unsubscribe(&a.subscription);
}

static void publish_the_other(struct bus_subscription *s)
{
    count_it(s);
    if (s->topic == 7 && CONTAINER_OF(s, struct counted, subscription)->count == 1)
        bus_publish(7);
}

static void a_subscriber_may_publish(void **state)
{
    struct counted a = {0}, b = {0};

    bus_subscribe(&a.subscription, 7, count_it);
    bus_subscribe(&b.subscription, 7, publish_the_other);
    bus_publish(7);
    assert_int_equal(a.count, 2);
    assert_int_equal(b.count, 2);
    bus_unsubscribe(&a.subscription);
    bus_unsubscribe(&b.subscription);
}

/* ---- with PostgreSQL --------------------------------------------------------------------------------- */

static PGconn *other; /* listens like another worker */

static void run_case(void *arg)
{
    void (*body)(void) = (void (*)(void))arg;

    bus_start();
    body();
    bus_stop();
}

static void in_fiber(void (*body)(void))
{
    other = fixture_connect();
    PQclear(PQexec(other, "LISTEN merpati_changes"));
    loop_init();
    loop_run_fiber("case", run_case, (void *)body);
    offload_fini();
    fiber_pool_fini();
    loop_fini();
    PQfinish(other);
}

#define CASE(name)                                                                                 \
    static void name##_body(void);                                                                 \
    static void name(void **state)                                                                 \
    {                                                                                              \
        in_fiber(name##_body);                                                                     \
    }                                                                                              \
    static void name##_body(void)

static void wait_for(const int *count, int at_least)
{
    while (*count < at_least)
        fiber_sleep(2);
}

/* The next notice that the others see; NULL when none is there yet. */
static PGnotify *other_hears(void)
{
    PQconsumeInput(other);
    return PQnotifies(other);
}

static PGnotify *other_waits(void)
{
    PGnotify *n;

    while ((n = other_hears()) == NULL)
        fiber_sleep(2);
    return n;
}

static void other_says(const char *payload)
{
    const char *values[] = {payload};

    PQclear(PQexecParams(other, "SELECT pg_notify('merpati_changes', $1)", 1, NULL, values, NULL,
                         NULL, 0));
}

/* Everybody is told when the connection stands, so a first call says that it does. */
static void subscribe(struct counted *c, uint64_t topic)
{
    bus_subscribe(&c->subscription, topic, count_it);
    wait_for(&c->count, 1);
    c->count = 0;
}

CASE(a_notice_of_another_worker_reaches_its_subscribers)
{
    struct counted a = {0}, b = {0};

    subscribe(&a, 5);
    bus_subscribe(&b.subscription, UINT64_MAX, count_it);
    other_says("0000000000000000:4,5,18446744073709551615");
    wait_for(&b.count, 1);
    assert_int_equal(a.count, 1);
    bus_unsubscribe(&a.subscription);
    bus_unsubscribe(&b.subscription);
}

CASE(malformed_notices_are_harmless)
{
    static const char *const payloads[] = {
        "", ":", "x", "0:", "0:,", "0:-5", "0:5x,99999999999999999999999", "0:x,5"};
    struct counted a = {0};

    subscribe(&a, 5);
    for (size_t i = 0; i < sizeof payloads / sizeof payloads[0]; i++)
        other_says(payloads[i]);
    wait_for(&a.count, 1); /* the last one names it after all */
    fiber_sleep(30);
    assert_int_equal(a.count, 1);
    bus_unsubscribe(&a.subscription);
}

CASE(what_is_published_reaches_the_others_and_us_once)
{
    struct counted a = {0};
    PGnotify *n;

    subscribe(&a, 12345);
    bus_publish(12345);
    assert_int_equal(a.count, 1);
    n = other_waits();
    assert_non_null(strstr(n->extra, ":12345"));
    assert_int_equal(strlen(n->extra), 16 + strlen(":12345"));
    PQfreemem(n);
    fiber_sleep(50); /* our own notice has come back by now, and is not heard */
    assert_int_equal(a.count, 1);
    bus_unsubscribe(&a.subscription);
}

CASE(many_changes_are_merged_into_few_notices)
{
    struct counted ready = {0};
    unsigned topics = 0, notices = 0;

    subscribe(&ready, 1);
    for (unsigned round = 0; round < 5; round++)
        for (uint64_t topic = 1; topic <= 1000; topic++)
            bus_publish(UINT64_C(18000000000000000000) + topic);
    while (topics < 1000) {
        PGnotify *n = other_waits();

        assert_true(strlen(n->extra) < 8000);
        for (const char *p = n->extra; *p; p++)
            topics += *p == ':' || *p == ',';
        notices++;
        PQfreemem(n);
    }
    assert_int_equal(topics, 1000);
    assert_true(notices <= 4);
    bus_unsubscribe(&ready.subscription);
}

CASE(stopping_sends_what_is_due)
{
    struct counted ready = {0};

    subscribe(&ready, 1);
    bus_publish(1);
    bus_publish(2);
    bus_stop();
    for (unsigned topics = 0; topics < 2;) {
        PGnotify *n = other_waits();

        for (const char *p = n->extra; *p; p++)
            topics += *p == ':' || *p == ',';
        PQfreemem(n);
    }
    bus_unsubscribe(&ready.subscription);
}

CASE(everybody_looks_after_a_lost_connection)
{
    struct counted a = {0};

    subscribe(&a, 5);
    PQclear(PQexec(other, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                          "application_name = 'merpati'"));
    wait_for(&a.count, 1);
    other_says("0:5");
    wait_for(&a.count, 2);
    bus_unsubscribe(&a.subscription);
}

CASE(what_is_published_while_it_is_away_is_sent_later)
{
    struct counted a = {0};
    PGnotify *n;

    subscribe(&a, 5);
    cluster_stop(fixture_pid);
    bus_publish(77);
    fiber_sleep(100);
    fixture_start_cluster();
    PQreset(other);
    PQclear(PQexec(other, "LISTEN merpati_changes"));
    n = other_waits();
    assert_non_null(strstr(n->extra, ":77"));
    PQfreemem(n);
    bus_unsubscribe(&a.subscription);
}

/* ---- two processes ------------------------------------------------------------------------------------- */

static void publish_and_end(void *arg)
{
    bus_start();
    bus_publish(42);
    bus_stop();
}

static void child_main(void)
{
    loop_init();
    loop_run_fiber("child", publish_and_end, NULL);
    _exit(0);
}

/* Forked before there is a loop to inherit; it waits until the parent listens. */
static int start_pipe[2];

static pid_t fork_child(void)
{
    pid_t pid;
    char byte;

    assert_int_equal(pipe(start_pipe), 0);
    pid = fork();
    if (pid == 0) {
        if (read(start_pipe[0], &byte, 1) == 1)
            child_main();
        _exit(1);
    }
    return pid;
}

static void wait_for_child_body(void)
{
    struct counted a = {0};

    subscribe(&a, 42);
    assert_int_equal(write(start_pipe[1], "", 1), 1);
    wait_for(&a.count, 1);
    bus_unsubscribe(&a.subscription);
}

static void two_processes_hear_each_other(void **state)
{
    pid_t pid = fork_child();
    int status;

    in_fiber(wait_for_child_body);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(start_pipe[0]);
    close(start_pipe[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_topic_is_told),
        cmocka_unit_test(a_subscriber_may_unsubscribe_the_others),
        cmocka_unit_test(a_subscriber_that_comes_back_is_told_once),
        cmocka_unit_test(a_subscriber_may_publish),
        cmocka_unit_test(a_notice_of_another_worker_reaches_its_subscribers),
        cmocka_unit_test(malformed_notices_are_harmless),
        cmocka_unit_test(what_is_published_reaches_the_others_and_us_once),
        cmocka_unit_test(many_changes_are_merged_into_few_notices),
        cmocka_unit_test(stopping_sends_what_is_due),
        cmocka_unit_test(everybody_looks_after_a_lost_connection),
        cmocka_unit_test(what_is_published_while_it_is_away_is_sent_later),
        cmocka_unit_test(two_processes_hear_each_other),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
