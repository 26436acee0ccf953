/* test_metrics.c - counters in shared memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "server/run/metrics.h"

static void in_child(unsigned slot, void (*run)(void))
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        metrics_use_slot(slot);
        run();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void counting_works_before_there_is_shared_memory(void **state)
{
    metric_add(METRIC_workers_started, 2);
    assert_int_equal(metrics_sum(METRIC_workers_started), 2);
    metrics_heartbeat(5);
    assert_int_equal(metrics_last_heartbeat(0), 5);
}

static void count_as_worker(void)
{
    metric_inc(METRIC_imap_commands);
    metric_add(METRIC_connections_open, 10);
    metrics_heartbeat(1234);
}

static void the_sum_is_over_all_processes(void **state)
{
    metrics_init(3);
    in_child(0, count_as_worker);
    in_child(2, count_as_worker);
    assert_int_equal(metrics_sum(METRIC_imap_commands), 2);
    assert_int_equal(metrics_sum(METRIC_connections_open), 20);
    assert_int_equal(metrics_sum(METRIC_workers_started), 2); /* counted before */
    assert_int_equal(metrics_last_heartbeat(0), 1234);
    assert_int_equal(metrics_last_heartbeat(1), 0);
}

static void do_nothing(void) {}

static void a_successor_zeroes_gauges_and_keeps_counters(void **state)
{
    metrics_init(2);
    in_child(1, count_as_worker);
    in_child(1, do_nothing);
    assert_int_equal(metrics_sum(METRIC_imap_commands), 1);
    assert_int_equal(metrics_sum(METRIC_connections_open), 0);
}

static void prometheus_reads_help_type_and_value(void **state)
{
    struct buf b;

    metrics_init(1);
    metric_add(METRIC_http_requests, 7);
    metric_add(METRIC_fibers, 3);
    buf_init(&b, 1 << 20);
    metrics_print(&b);
    assert_true(buf_ok(&b));
    assert_true(
        str_find(buf_str(&b), STR("# HELP merpati_http_requests_total HTTP requests answered.\n"
                                  "# TYPE merpati_http_requests_total counter\n"
                                  "merpati_http_requests_total 7\n")) >= 0);
    assert_true(str_find(buf_str(&b), STR("# TYPE merpati_fibers gauge\nmerpati_fibers 3\n")) >= 0);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counting_works_before_there_is_shared_memory),
        cmocka_unit_test(the_sum_is_over_all_processes),
        cmocka_unit_test(a_successor_zeroes_gauges_and_keeps_counters),
        cmocka_unit_test(prometheus_reads_help_type_and_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
