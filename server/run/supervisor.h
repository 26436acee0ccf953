/* supervisor.h - the processes of `merpati serve` and who watches whom.
 *
 *   guard -- starts the supervisor again when it dies
 *     supervisor -- binds sockets, starts companions (PostgreSQL), prepares, forks workers
 *       companion (postgres)
 *       worker 0 .. n-1 -- one loop each; replaced when it dies or stops answering
 *
 * When a parent dies its children are told by the kernel (PR_SET_PDEATHSIG), so nothing is left behind.
 * SIGTERM drains and exits 0; SIGHUP reads certificates again. Privileges are dropped after binding. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>
#include "server/base/error.h"
#include "server/run/service.h"

/* A process that must run while we run. */
struct companion {
    const char *name;
    pid_t (*spawn)(struct error *err);                  /* forks it and returns at once; -1 on failure */
    int (*wait_ready)(pid_t pid, struct error *err);    /* at start only: blocks until it is usable (startup.h) */
    void (*stop)(pid_t pid);                            /* ends it in good order and waits */
};

struct server_plan {
    const struct endpoint *endpoints;
    size_t endpoint_count;
    const struct companion *companion;                  /* NULL: none */
    int (*prepare)(struct error *err);                  /* in the supervisor, companions running: migrations, certificates */
    PARKS int (*worker_start)(unsigned index, struct error *err);   /* in a fiber of the new worker, before it accepts */
    PARKS void (*worker_stop)(void);                    /* in a fiber, after the last connection has ended */
    void (*on_ready)(void);                             /* in the supervisor: every listener accepts */
};

/* Runs until SIGTERM or SIGINT; returns the exit status. Call it from main() with config read. */
int supervisor_run(const struct server_plan *plan);

/* Becomes config.user when root, for the supervisor and for command-line tools; the data directory must belong to it. */
int supervisor_drop_privileges(struct error *err);
