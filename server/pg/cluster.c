/* cluster.c - the embedded PostgreSQL as a process of ours.
 *
 * postgres itself is the child, without pg_ctl between: the supervisor sees it end, and the kernel tells it
 * when the supervisor ends. Whoever calls holds the data directory's lock, so every postgres that works in
 * DIR/pg already is left over from a supervisor or postmaster that was killed, and is stopped first. */
#include "server/pg/cluster.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "server/base/log.h"
#include "server/pg/cluster_internal.h"
#include "server/run/config.h"
#include "server/run/startup.h"

#define DATABASE             "merpati"
#define POLL_MS              20
#define START_ROUNDS_MAX     10
#define RECOVERY_MAX_MS      (10 * 60 * 1000) /* a crash with max_wal_size of work to repeat */
#define SILENCE_MAX_MS       (60 * 1000)      /* alive, yet not even saying "starting up" */
#define STOP_MAX_MS          (60 * 1000)
#define LEFTOVER_STOP_MAX_MS (30 * 1000)
#define QUIT_MAX_MS          (10 * 1000)

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void sleep_ms(int64_t ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&ts, NULL);
}

static void make_conninfo(char out[CLUSTER_PATH_MAX + 128], const char *database)
{
    snprintf(out, CLUSTER_PATH_MAX + 128,
             "host='%s/run' port=5432 user=" CLUSTER_USER " dbname=%s connect_timeout=10",
             config.data_dir, database);
}

const char *cluster_conninfo(void)
{
    static char conninfo[CLUSTER_PATH_MAX + 128];

    make_conninfo(conninfo, DATABASE);
    return conninfo;
}

/* ---- what a killed supervisor or postmaster left behind ------------------------------------------------ */

/* Every process of PostgreSQL has its data directory as working directory. */
static bool works_in(pid_t pid, const char *real_dir)
{
    char link[64];
    char comm[32] = "";
    char cwd[PATH_MAX];
    ssize_t n;
    FILE *f;

    snprintf(link, sizeof link, "/proc/%d/cwd", (int)pid);
    n = readlink(link, cwd, sizeof cwd - 1);
    if (n < 0)
        return false;
    cwd[n] = '\0';
    if (strcmp(cwd, real_dir) != 0)
        return false;
    snprintf(link, sizeof link, "/proc/%d/comm", (int)pid);
    f = fopen(link, "re");
    if (f == NULL)
        return false;
    if (fgets(comm, sizeof comm, f) == NULL)
        comm[0] = '\0';
    fclose(f);
    return strncmp(comm, "postgres", 8) == 0;
}

/* Sends a signal (0: none) to each of them; returns how many there are. */
static unsigned signal_leftovers(const char *real_dir, int signal_number)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    unsigned count = 0;

    if (proc == NULL)
        return 0;
    while ((entry = readdir(proc)) != NULL) {
        pid_t pid = (pid_t)atoi(entry->d_name);

        if (pid <= 1 || pid == getpid() || !works_in(pid, real_dir))
            continue;
        count++;
        if (signal_number != 0)
            kill(pid, signal_number);
    }
    closedir(proc);
    return count;
}

static pid_t postmaster_pid(void)
{
    char path[CLUSTER_PATH_MAX];
    int pid = 0;
    FILE *f;

    cluster_path(path, "pg/postmaster.pid");
    f = fopen(path, "re");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%d", &pid) != 1)
        pid = 0;
    fclose(f);
    return pid;
}

static bool leftovers_end(const char *real_dir, int64_t wait_ms)
{
    int64_t end_ms = now_ms() + wait_ms;

    while (signal_leftovers(real_dir, 0) > 0) {
        if (now_ms() >= end_ms)
            return false;
        sleep_ms(POLL_MS);
    }
    return true;
}

/* Of a process that is ending only the number and the name are left. */
static bool is_dying_postgres(pid_t pid)
{
    char path[64];
    char text[32] = "";
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/cwd", (int)pid);
    if (readlink(path, text, sizeof text) >= 0 || errno != ENOENT)
        return false;
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    f = fopen(path, "re");
    if (f == NULL)
        return false;
    if (fgets(text, sizeof text, f) == NULL)
        text[0] = '\0';
    fclose(f);
    return strncmp(text, "postgres", 8) == 0;
}

/* A killed postmaster keeps its number until somebody has waited for it, and its successor takes a number in use
 * for a sign of life. Where nobody waits, as in a container without init, the lock file has to go. */
static void bury(pid_t postmaster)
{
    int64_t end_ms = now_ms() + QUIT_MAX_MS;
    char path[CLUSTER_PATH_MAX];

    if (postmaster <= 1)
        return;
    while (is_dying_postgres(postmaster) && now_ms() < end_ms)
        sleep_ms(POLL_MS);
    if (!is_dying_postgres(postmaster))
        return;
    cluster_path(path, "pg/postmaster.pid");
    unlink(path);
}

/* The postmaster is asked to end in good order; without one its children have nothing to finish. */
static bool end_leftovers(pid_t postmaster, const char *real_dir)
{
    log_warn(NULL, "cluster_leftover", KV("dir", real_dir), KV("pid", postmaster));
    if (postmaster > 1 && works_in(postmaster, real_dir)) {
        kill(postmaster, SIGINT);
        if (leftovers_end(real_dir, LEFTOVER_STOP_MAX_MS))
            return true;
    }
    signal_leftovers(real_dir, SIGQUIT);
    if (leftovers_end(real_dir, QUIT_MAX_MS))
        return true;
    signal_leftovers(real_dir, SIGKILL);
    return leftovers_end(real_dir, QUIT_MAX_MS);
}

/* A postmaster that was killed may be dying still when its last child is gone, so it is buried in any case. */
static int stop_leftovers(struct error *err)
{
    char dir[CLUSTER_PATH_MAX];
    char real_dir[PATH_MAX];
    pid_t postmaster = postmaster_pid();

    cluster_path(dir, "pg");
    if (realpath(dir, real_dir) != NULL && signal_leftovers(real_dir, 0) > 0 &&
        !end_leftovers(postmaster, real_dir))
        return fail(err, ERR_INTERNAL, "another PostgreSQL works in %s and does not end: stop it",
                    dir);
    bury(postmaster);
    return 0;
}

/* ---- starting -------------------------------------------------------------------------------------------- */

/* Its own process group: a terminal's ^C is for the supervisor, which then ends us in good order. */
static void postgres_exec(const char *program, const char *dir, int log_fd, pid_t parent)
{
    sigset_t none;

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGINT);
    if (getppid() != parent)
        _exit(1);
    sigemptyset(&none);
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    close_range(STDERR_FILENO + 1, UINT_MAX, 0);
    setenv("LC_ALL", "C", 1);
    execl(program, program, "-D", dir, (char *)NULL);
    _exit(127);
}

static pid_t postgres_fork(struct error *err)
{
    char program[CLUSTER_PATH_MAX];
    char dir[CLUSTER_PATH_MAX];
    pid_t parent = getpid();
    pid_t pid;
    int log_fd;

    if (cluster_program(program, "postgres", err) < 0)
        return -1;
    cluster_path(dir, "pg");
    log_fd = cluster_open_log();
    if (log_fd < 0)
        return fail(err, ERR_INTERNAL, "cannot write %s/log/postgres.log: %s", config.data_dir,
                    strerror(errno));
    pid = fork();
    if (pid == 0)
        postgres_exec(program, dir, log_fd, parent);
    close(log_fd);
    if (pid < 0)
        return fail(err, ERR_INTERNAL, "cannot start PostgreSQL: %s", strerror(errno));
    log_info(NULL, "cluster_started", KV("pid", pid));
    return pid;
}

static pid_t cluster_spawn(struct error *err)
{
    if (cluster_make(err) < 0 || stop_leftovers(err) < 0)
        return -1;
    return postgres_fork(err);
}

/* Looks without reaping: that is for whoever started it. */
static bool is_running(pid_t pid)
{
    siginfo_t info = {0};

    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

static int fail_start(struct error *err)
{
    char reason[128];

    cluster_log_reason(reason, sizeof reason);
    return fail(err, ERR_INTERNAL, "PostgreSQL did not start%s%s; see %s/log/postgres.log",
                reason[0] ? ": " : "", reason, config.data_dir);
}

static int wait_accepting(pid_t pid, const char *conninfo, struct error *err)
{
    int64_t start_ms = now_ms();
    int64_t heard_ms = start_ms;

    for (;;) {
        PGPing ping = PQping(conninfo);

        if (ping == PQPING_OK)
            return 0;
        if (!is_running(pid))
            return fail_start(err);
        if (startup_is_called_off())
            return fail(err, ERR_CANCELLED, "told to stop while PostgreSQL was starting");
        if (ping == PQPING_REJECT)
            heard_ms = now_ms(); /* recovering */
        if (now_ms() - heard_ms > SILENCE_MAX_MS || now_ms() - start_ms > RECOVERY_MAX_MS)
            return fail(err, ERR_TIMED_OUT, "PostgreSQL does not come up: see %s/log/postgres.log",
                        config.data_dir);
        sleep_ms(POLL_MS);
    }
}

static int make_database(const char *conninfo, struct error *err)
{
    PGconn *pq = PQconnectdb(conninfo);
    PGresult *r = PQexec(pq, "SELECT 1 FROM pg_database WHERE datname = '" DATABASE "'");
    int rc = 0;

    if (PQresultStatus(r) != PGRES_TUPLES_OK || PQntuples(r) == 0) {
        PQclear(r);
        r = PQexec(pq, "CREATE DATABASE " DATABASE);
        if (PQresultStatus(r) != PGRES_COMMAND_OK)
            rc = fail(err, PQstatus(pq) == CONNECTION_BAD ? ERR_TRY_LATER : ERR_INTERNAL,
                      "cannot make the database: %.*s",
                      STR_ARG(str_trim(str_c(PQerrorMessage(pq)))));
    }
    PQclear(r);
    PQfinish(pq);
    return rc;
}

static int cluster_wait_ready(pid_t pid, struct error *err)
{
    char conninfo[CLUSTER_PATH_MAX + 128];

    make_conninfo(conninfo, "postgres");
    for (int round = 0;; round++) {
        struct error cause = {0};

        if (wait_accepting(pid, conninfo, err) < 0)
            return -1;
        if (make_database(conninfo, &cause) == 0)
            return 0;
        /* It went into crash recovery between the two: wait for it again. */
        if (cause.kind != ERR_TRY_LATER || round == START_ROUNDS_MAX)
            return fail(err, cause.kind, "%s", cause.text);
    }
}

pid_t cluster_start(struct error *err)
{
    pid_t pid = cluster_spawn(err);

    if (pid < 0)
        return -1;
    if (cluster_wait_ready(pid, err) == 0)
        return pid;
    cluster_stop(pid);
    return -1;
}

/* ---- stopping -------------------------------------------------------------------------------------------- */

/* True when it has ended, reaped by us or by somebody before. */
static bool reaped_within(pid_t pid, int64_t wait_ms)
{
    int64_t end_ms = now_ms() + wait_ms;
    pid_t ended;

    while ((ended = waitpid(pid, NULL, WNOHANG)) == 0) {
        if (now_ms() >= end_ms)
            return false;
        sleep_ms(POLL_MS);
    }
    return ended == pid || errno == ECHILD;
}

void cluster_stop(pid_t pid)
{
    if (kill(pid, SIGINT) < 0 || reaped_within(pid, STOP_MAX_MS))
        return;
    log_warn(NULL, "cluster_stop_slow", KV("pid", pid));
    kill(pid, SIGQUIT);
    if (reaped_within(pid, QUIT_MAX_MS))
        return;
    kill(pid, SIGKILL);
    reaped_within(pid, QUIT_MAX_MS);
}

const struct companion cluster_companion = {
    .name = "postgres",
    .spawn = cluster_spawn,
    .wait_ready = cluster_wait_ready,
    .stop = cluster_stop,
};
