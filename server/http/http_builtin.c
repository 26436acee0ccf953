/* http_builtin.c - /healthz for load balancers and /metrics for Prometheus. */
#include <stdlib.h>
#include "server/base/memory.h"
#include "server/base/net.h"
#include "server/http/http_internal.h"
#include "server/pg/pg.h"
#include "server/run/config.h"
#include "server/run/metrics.h"
#include "sql_queries.h"

#define HEALTH_MS        1000
#define METRICS_SIZE_MAX (256 * 1024)

/* The query runs in a fiber of its own, because it may wait for PostgreSQL longer than we want to.
 * Whoever is done last frees it. */
struct health_check {
    struct fiber *fiber; /* NULL when it has ended */
    bool is_abandoned;
    int result;
    struct error err;
    struct wait_queue done;
};

static PARKS void run_check(void *arg)
{
    struct health_check *check = arg;

    check->result = pg_run(pg_pool(), &sql_health_check, PG_NO_ARGS, NULL, &check->err);
    check->fiber = NULL;
    if (check->is_abandoned)
        free(check);
    else
        wait_queue_wake_all(&check->done);
}

static PARKS int check_database(struct error *err)
{
    struct health_check *check = memory_alloc(sizeof *check);
    int64_t deadline_ms = loop_deadline(HEALTH_MS);
    enum wake wake = WAKE_READY;
    int result;

    wait_queue_init(&check->done);
    check->fiber = fiber_start("health", run_check, check);
    while (check->fiber != NULL && wake == WAKE_READY)
        wake = wait_queue_wait(&check->done, deadline_ms);
    if (check->fiber != NULL) {
        check->is_abandoned = true;
        fiber_cancel(check->fiber);
        return fail(err, ERR_TRY_LATER, "the database did not answer within a second");
    }
    result = check->result;
    if (result < 0)
        fail(err, ERR_TRY_LATER, "the database is away: %s", check->err.text);
    free(check);
    return result;
}

static PARKS void handle_health(struct http_request *r)
{
    struct error err = {0};

    http_set_header(r, "Cache-Control", STR("no-store"));
    if (http_server_is_draining())
        fail(&err, ERR_CANCELLED, "the server is shutting down");
    if (err.kind != ERR_NONE || check_database(&err) < 0)
        http_answer_error(r, &err);
    else
        http_answer(r, 200, "text/plain; charset=utf-8", STR("ok\n"));
}

static void handle_metrics(struct http_request *r)
{
    struct buf text;

    if (!net_list_contains(str_c(config.http_metrics_networks), &r->client.address)) {
        http_answer_error(
            r, &(struct error){ERR_DENIED,
                               "metrics are for the networks named in http_metrics_networks"});
        return;
    }
    buf_init(&text, METRICS_SIZE_MAX);
    metrics_print(&text);
    http_set_header(r, "Cache-Control", STR("no-store"));
    http_answer(r, 200, "text/plain; version=0.0.4; charset=utf-8", buf_str(&text));
    buf_fini(&text);
}

const struct http_route http_builtin_routes[] = {
    {"GET", "/healthz", handle_health, 0},
    {"GET", "/metrics", handle_metrics, 0},
};
const size_t http_builtin_route_count = sizeof http_builtin_routes / sizeof *http_builtin_routes;
