/* worker.c - the life of a worker: start the services, serve, drain, end. */
#include "server/run/worker.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/run/config.h"
#include "server/run/crash.h"
#include "server/run/dns.h"
#include "server/run/listener.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"
#include "server/run/offload.h"
#include "server/run/tls.h"

#define HEARTBEAT_MS   1000
#define DRAIN_POLL_MS  20
#define CUT_MAX_MS     2000
#define ALARM_GRACE_S  15
#define HEAP_BLOCK_MAX (512 * 1024)
#define HEAP_SLACK_MAX (1024 * 1024)

static struct {
    const struct server_plan *plan;
    unsigned index;
    int ready_fd;
    int status;
    bool is_draining;
    struct loop_fd signals;
    struct timer heartbeat;
    struct timer certificates;
    struct log log;
    char name[32];
} worker;

static void beat(struct timer *t)
{
    metrics_heartbeat(loop_now_ms());
    metrics_slot[METRIC_fibers] = fiber_count();
    timer_set(t, loop_deadline(HEARTBEAT_MS));
}

static void look_at_certificates(struct timer *t)
{
    tls_reload_if_changed();
    timer_set(t, loop_deadline(config.tls_reload_interval));
}

static void wait_for_connections(int64_t deadline_ms)
{
    while (listener_connection_count() > 0 && loop_now_ms() < deadline_ms)
        fiber_sleep(DRAIN_POLL_MS);
}

/* Ends in good order: commands in progress finish, sessions at rest say goodbye. The alarm is for the case that the
 * supervisor is gone, which otherwise kills who does not end. */
static void drain(void *unused)
{
    alarm((unsigned)(config.drain_timeout / 1000) + ALARM_GRACE_S);
    listener_drain();
    wait_for_connections(loop_deadline(config.drain_timeout));
    if (listener_connection_count() > 0) {
        log_warn(&worker.log, "drain_cut_short", KV("connections", listener_connection_count()));
        listener_cut();
        wait_for_connections(loop_deadline(CUT_MAX_MS));
    }
    worker.plan->worker_stop();
    timer_clear(&worker.heartbeat);
    timer_clear(&worker.certificates);
    loop_stop();
}

static void on_signal(struct loop_fd *lfd, uint32_t events)
{
    struct signalfd_siginfo info;

    while (read(lfd->fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGHUP)
            tls_reload_if_changed();
        if (info.ssi_signo == SIGTERM && !worker.is_draining) {
            worker.is_draining = true;
            fiber_start("drain", drain, NULL);
        }
    }
}

static void watch_signals(void)
{
    sigset_t set;

    signal(SIGINT, SIG_IGN); /* a terminal's ^C goes to all of us; the supervisor decides */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_SETMASK, &set, NULL); /* the supervisor had blocked more */
    worker.signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    worker.signals.ready = on_signal;
    loop_fd_set(&worker.signals, EPOLLIN);
}

static void start(void *unused)
{
    struct error err = {0};

    if (worker.plan->worker_start(worker.index, &err) < 0 ||
        listener_start(worker.index, &err) < 0) {
        log_error(&worker.log, "worker_start_failed", KV_ERR(&err));
        worker.status = 1;
        loop_stop();
        return;
    }
    log_info(&worker.log, "worker_ready", KV("pid", getpid()));
    if (worker.ready_fd < 0)
        return;
    if (write(worker.ready_fd, "r", 1) != 1)
        log_warn(&worker.log, "supervisor_does_not_listen");
    close(worker.ready_fd);
}

/* What a burst took goes back to the system. Left to itself, malloc moves these bounds up with each large block it
 * sees, and a worker that once carried a large message holds its memory for ever. */
static void bound_the_heap(void)
{
    mallopt(M_MMAP_THRESHOLD, HEAP_BLOCK_MAX);
    mallopt(M_TRIM_THRESHOLD, HEAP_SLACK_MAX);
    mallopt(M_ARENA_MAX, 2);
}

int worker_run(const struct server_plan *plan, unsigned index, int ready_fd)
{
    worker.plan = plan;
    worker.index = index;
    worker.ready_fd = ready_fd;
    snprintf(worker.name, sizeof worker.name, "worker-%u", index);
    bound_the_heap();
    prctl(PR_SET_NAME, worker.name);
    log_set_process(worker.name);
    log_init(&worker.log, NULL);
    crash_handlers_install();
    metrics_use_slot(index);
    loop_init();
    watch_signals();
    worker.heartbeat.fire = beat;
    beat(&worker.heartbeat);
    worker.certificates.fire = look_at_certificates;
    timer_set(&worker.certificates, loop_deadline(config.tls_reload_interval));
    fiber_start("start", start, NULL);
    loop_run();

    loop_fd_set(&worker.signals, 0);
    close(worker.signals.fd);
    listener_fini();
    dns_fini();
    offload_fini();
    tls_fini();
    loop_fini();
    fiber_pool_fini();
    return worker.status;
}
