/* supervisor.c - the processes of `merpati serve`: guard, supervisor, companion and workers.
 *
 * The guard does nothing but wait: when the supervisor is killed it starts another, so the service
 * comes back even where no service manager watches. The supervisor owns the listening sockets
 * and replaces workers and the companion; it never touches a client or a message. What a
 * process does when its parent dies is settled by PR_SET_PDEATHSIG, so no orphan keeps a port. */
#include "server/run/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/run/config.h"
#include "server/run/crash.h"
#include "server/run/data_dir.h"
#include "server/run/listener.h"
#include "server/run/metrics.h"
#include "server/run/worker.h"

#define TICK_S               1
#define RESTART_DELAY_MAX_MS 5000
#define LIVED_LONG_MS        10000

/* A child that is kept running. A child that dies young is started again later and later. */
struct child {
    pid_t pid; /* 0: not running */
    int64_t started_ms;
    int64_t start_at_ms; /* when pid is 0: not before */
    int64_t delay_ms;
    bool was_asked_to_end;
};

static struct {
    const struct server_plan *plan;
    struct child companion;
    struct child *workers;
    unsigned worker_count;
    pid_t guard;
    sigset_t signals;
    struct log log;
} sup;

static int64_t monotonic_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- privileges ---------------------------------------------------------------------------- */

int supervisor_drop_privileges(struct error *err)
{
    struct passwd *pw;

    if (geteuid() != 0)
        return 0;
    if ((pw = data_dir_owner(err)) == NULL)
        return -1;
    if (pw->pw_uid == 0)
        return fail(err, ERR_DENIED, "the setting user names root: name an unprivileged user");
    if (initgroups(pw->pw_name, pw->pw_gid) < 0 || setgid(pw->pw_gid) < 0 || setuid(pw->pw_uid) < 0)
        return fail(err, ERR_INTERNAL, "cannot become the user %s: %s", config.user,
                    strerror(errno));
    /* Changing the user made the process undumpable; a crash should leave a core all the same. */
    prctl(PR_SET_DUMPABLE, 1);
    return data_dir_check_reachable(err);
}

/* As many as we may have: a client is one descriptor, or three where TLS meets HTTP. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- children ------------------------------------------------------------------------------ */

static void child_started(struct child *c, pid_t pid)
{
    c->pid = pid;
    c->started_ms = monotonic_ms();
    c->was_asked_to_end = false;
}

/* Settles when to start it again: at once after a long life, later and later after short ones. */
static void child_ended(struct child *c)
{
    int64_t now = monotonic_ms();

    if (now - c->started_ms >= LIVED_LONG_MS)
        c->delay_ms = 0;
    c->pid = 0;
    c->start_at_ms = now + c->delay_ms;
    c->delay_ms = c->delay_ms == 0 ? 100 : c->delay_ms * 2;
    if (c->delay_ms > RESTART_DELAY_MAX_MS)
        c->delay_ms = RESTART_DELAY_MAX_MS;
}

static void log_child_end(const char *event, const char *name, pid_t pid, int status)
{
    if (WIFSIGNALED(status))
        log_error(&sup.log, event, KV("name", name), KV("pid", pid),
                  KV("signal", WTERMSIG(status)));
    else
        log_error(&sup.log, event, KV("name", name), KV("pid", pid),
                  KV("status", WEXITSTATUS(status)));
}

/* The kernel tells us when our parent dies; when it died before we asked, nobody would. */
static void end_with(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
}

/* Its signals stay blocked until it watches them: one that comes early is not lost, and kills nobody. */
static void worker_fork(unsigned index, int ready_fd)
{
    pid_t supervisor = getpid(), pid = fork();

    if (pid < 0) {
        log_error(&sup.log, "worker_fork_failed", KV("reason", strerror(errno)));
        child_ended(&sup.workers[index]);
        return;
    }
    if (pid == 0) {
        end_with(supervisor);
        _exit(worker_run(sup.plan, index, ready_fd));
    }
    child_started(&sup.workers[index], pid);
    metric_inc(METRIC_workers_started);
}

/* The first workers: all must accept before we call ourselves ready. Each writes one byte. */
static int workers_start(struct error *err)
{
    int ready[2];
    unsigned ready_count = 0;
    char bytes[64];
    ssize_t n;

    if (pipe2(ready, O_CLOEXEC) < 0)
        return fail(err, ERR_INTERNAL, "cannot make a pipe: %s", strerror(errno));
    for (unsigned i = 0; i < sup.worker_count; i++)
        worker_fork(i, ready[1]);
    close(ready[1]);
    while ((n = read(ready[0], bytes, sizeof bytes)) > 0 || (n < 0 && errno == EINTR)) {
        ready_count += n > 0 ? (unsigned)n : 0;
        if (ready_count == sup.worker_count)
            break;
    }
    close(ready[0]);
    if (ready_count < sup.worker_count)
        return fail(err, ERR_INTERNAL, "a worker could not start; the lines above say why");
    return 0;
}

static int companion_spawn(struct error *err)
{
    pid_t pid = sup.plan->companion->spawn(err);

    if (pid < 0) {
        child_ended(&sup.companion);
        return -1;
    }
    child_started(&sup.companion, pid);
    return 0;
}

static void start_what_is_due(void)
{
    int64_t now = monotonic_ms();
    struct error err = {0};

    if (sup.plan->companion != NULL && sup.companion.pid == 0 && now >= sup.companion.start_at_ms &&
        companion_spawn(&err) < 0)
        log_error(&sup.log, "companion_start_failed", KV("name", sup.plan->companion->name),
                  KV_ERR(&err));
    for (unsigned i = 0; i < sup.worker_count; i++)
        if (sup.workers[i].pid == 0 && now >= sup.workers[i].start_at_ms)
            worker_fork(i, -1);
}

static void reap(void)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == sup.companion.pid) {
            log_child_end("companion_lost", sup.plan->companion->name, pid, status);
            child_ended(&sup.companion);
        }
        for (unsigned i = 0; i < sup.worker_count; i++)
            if (pid == sup.workers[i].pid) {
                log_child_end("worker_lost", "worker", pid, status);
                metric_inc(METRIC_workers_lost);
                child_ended(&sup.workers[i]);
            }
    }
}

/* A worker that shows no sign of life is aborted, so that its backtrace tells where it hangs. */
static void watch(void)
{
    int64_t now = monotonic_ms();

    for (unsigned i = 0; i < sup.worker_count; i++) {
        struct child *w = &sup.workers[i];
        int64_t beat_ms = metrics_last_heartbeat(i);
        int64_t silent_ms = now - (beat_ms > w->started_ms ? beat_ms : w->started_ms);

        if (w->pid == 0 || silent_ms < config.watchdog_timeout)
            continue;
        log_error(&sup.log, "worker_hangs", KV("index", i), KV("pid", w->pid),
                  KV("silent_ms", silent_ms));
        kill(w->pid, w->was_asked_to_end ? SIGKILL : SIGABRT);
        w->was_asked_to_end = true;
        w->started_ms = now; /* another whole timeout before SIGKILL */
    }
}

static void signal_workers(int signal_number)
{
    for (unsigned i = 0; i < sup.worker_count; i++)
        if (sup.workers[i].pid != 0)
            kill(sup.workers[i].pid, signal_number);
}

static unsigned workers_alive(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < sup.worker_count; i++)
        count += sup.workers[i].pid != 0;
    return count;
}

static void drain(void)
{
    int64_t end_ms = monotonic_ms() + config.drain_timeout + 5000;
    struct timespec tick = {.tv_nsec = 100 * 1000 * 1000};

    sd_notify(0, "STOPPING=1");
    if (workers_alive() > 0)
        log_info(&sup.log, "draining");
    signal_workers(SIGTERM);
    listener_fini(); /* who comes now is refused at once, not left to wait */
    while (workers_alive() > 0 && monotonic_ms() < end_ms) {
        int status;
        pid_t pid;

        sigtimedwait(&sup.signals, NULL, &tick);
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
            if (pid == sup.companion.pid)
                sup.companion.pid = 0;
            for (unsigned i = 0; i < sup.worker_count; i++)
                if (pid == sup.workers[i].pid)
                    sup.workers[i].pid = 0;
        }
    }
    signal_workers(SIGKILL);
    if (sup.companion.pid != 0)
        sup.plan->companion->stop(sup.companion.pid);
    log_info(&sup.log, "stopped");
}

/* ---- the supervisor ------------------------------------------------------------------------ */

static int supervisor_start(struct error *err)
{
    if (data_dir_prepare(err) < 0)
        return -1;
    if (listener_bind_all(sup.plan->endpoints, sup.plan->endpoint_count, sup.worker_count, err) < 0)
        return -1;
    if (supervisor_drop_privileges(err) < 0)
        return -1;
    end_with(sup.guard); /* again: setuid cleared it */
    if (data_dir_lock_to_serve(err) < 0)
        return -1;
    if (sup.plan->companion != NULL &&
        (companion_spawn(err) < 0 || sup.plan->companion->wait_ready(sup.companion.pid, err) < 0))
        return -1;
    if (sup.plan->prepare(err) < 0)
        return -1;
    return workers_start(err);
}

static void supervise(void)
{
    for (;;) {
        struct timespec tick = {.tv_sec = TICK_S};
        siginfo_t info;
        int signal_number = sigtimedwait(&sup.signals, &info, &tick);

        if (signal_number == SIGTERM || signal_number == SIGINT)
            return;
        if (signal_number == SIGHUP)
            signal_workers(SIGHUP);
        reap();
        start_what_is_due();
        watch();
    }
}

static int supervisor_main(void)
{
    struct error err = {0};
    int status = 0;

    crash_handlers_install();
    metrics_init(sup.worker_count);
    sup.workers = calloc(sup.worker_count, sizeof *sup.workers);
    if (sup.workers == NULL)
        abort();
    if (supervisor_start(&err) < 0) {
        if (err.kind != ERR_CANCELLED)
            fprintf(stderr, "merpati: %s\n", err.text);
        status = err.kind != ERR_CANCELLED;
    } else {
        sup.plan->on_ready();
        printf("merpati: ready\n");
        fflush(stdout);
        sd_notify(0, "READY=1");
        supervise();
    }
    drain();
    listener_fini();
    free(sup.workers);
    return status;
}

/* ---- the guard ----------------------------------------------------------------------------- */

/* Waits for the supervisor, passing signals on. Returns its wait status. */
static int guard_wait(pid_t pid, bool *is_stopping)
{
    int status;

    for (;;) {
        siginfo_t info;
        int signal_number = sigwaitinfo(&sup.signals, &info);

        if (signal_number == SIGTERM || signal_number == SIGINT) {
            *is_stopping = true;
            kill(pid, SIGTERM);
        }
        if (signal_number == SIGHUP)
            kill(pid, SIGHUP);
        if (waitpid(pid, &status, WNOHANG) == pid)
            return status;
    }
}

/* Between two supervisors a signal to stop counts as well. */
static void guard_pause(int64_t pause_ms, bool *is_stopping)
{
    int64_t end_ms = monotonic_ms() + pause_ms;

    while (!*is_stopping && monotonic_ms() < end_ms) {
        struct timespec tick = {.tv_nsec = 20 * 1000 * 1000};
        int signal_number = sigtimedwait(&sup.signals, NULL, &tick);

        *is_stopping = signal_number == SIGTERM || signal_number == SIGINT;
    }
}

static pid_t supervisor_fork(void)
{
    pid_t pid;

    sup.guard = getpid();
    pid = fork();
    if (pid != 0)
        return pid;
    end_with(sup.guard);
    exit(supervisor_main());
}

int supervisor_run(const struct server_plan *plan)
{
    struct child child = {0};
    bool is_stopping = false, is_first = true;

    sup.plan = plan;
    sup.worker_count =
        config.workers > 0 ? (unsigned)config.workers : (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    log_init(&sup.log, NULL);
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    sigemptyset(&sup.signals);
    sigaddset(&sup.signals, SIGTERM);
    sigaddset(&sup.signals, SIGINT);
    sigaddset(&sup.signals, SIGHUP);
    sigaddset(&sup.signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &sup.signals, NULL);

    for (;;) {
        pid_t pid = supervisor_fork();
        int status;

        if (pid < 0) {
            fprintf(stderr, "merpati: cannot start a process: %s\n", strerror(errno));
            return 1;
        }
        child_started(&child, pid);
        status = guard_wait(pid, &is_stopping);
        /* A first start that fails is for the operator to mend; later ones are tried again. */
        if (WIFEXITED(status) && (WEXITSTATUS(status) == 0 || is_first || is_stopping))
            return WEXITSTATUS(status);
        log_child_end("supervisor_lost", "supervisor", pid, status);
        if (is_stopping)
            return 1;
        is_first = false;
        child_ended(&child);
        guard_pause(child.start_at_ms - monotonic_ms(), &is_stopping);
        if (is_stopping)
            return 0;
    }
}
