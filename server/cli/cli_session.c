/* cli_session.c - finds or starts PostgreSQL, brings the schema up to date, runs one fiber. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libpq-fe.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/cli/cli_session.h"
#include "server/directory/credential.h"
#include "server/directory/limiter.h"
#include "server/pg/cluster.h"
#include "server/pg/migrate.h"
#include "server/pg/pg.h"
#include "server/run/config.h"
#include "server/run/data_dir.h"
#include "server/run/loop.h"
#include "server/run/offload.h"
#include "server/run/supervisor.h"

#define CONNECTIONS      2
#define STARTING_WAIT_MS 60000 /* a server that is about to answer; after a crash that takes long */
#define POLL_MS          100

struct session {
    int (*run)(void *arg, struct error *err);
    void *arg;
    struct error *err;
    int status;
};

static void run_in_fiber(void *arg)
{
    struct session *s = arg;

    pg_pool_init(pg_conninfo(), CONNECTIONS);
    s->status = s->run(s->arg, s->err);
    pg_pool_fini();
}

static int run_loop(struct session *s)
{
    loop_init();
    loop_run_fiber("command", run_in_fiber, s);
    offload_fini();
    credential_fini();
    limiter_fini();
    loop_fini();
    fiber_pool_fini();
    return s->status;
}

static int migrate_and_run(struct session *s)
{
    return pg_migrate(pg_conninfo(), s->err) < 0 ? -1 : run_loop(s);
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* A command may use a cluster that another command has started, and the starter must not stop it under the user's
 * hands: every command holds DIR/commands shared, and a starter waits until it holds it alone. */
static int join_commands(int *fd, struct error *err)
{
    struct flock shared = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/commands", config.data_dir);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd < 0)
        return fail(err, ERR_DENIED, "cannot open %s: %s", path, strerror(errno));
    while (fcntl(*fd, F_SETLKW, &shared) < 0)
        if (errno != EINTR)
            return fail(err, ERR_INTERNAL, "cannot lock %s: %s", path, strerror(errno));
    return 0;
}

static void await_other_commands(int fd)
{
    struct flock alone = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    while (fcntl(fd, F_SETLKW, &alone) < 0 && errno == EINTR)
        ;
}

/* Either a server has PostgreSQL running, or the data directory is ours; while neither is so, a server is
 * starting or stopping at this moment. */
static int claim(bool *is_running, struct error *err)
{
    struct error busy = {0};

    for (int waited_ms = 0;; waited_ms += POLL_MS) {
        *is_running = PQping(cluster_conninfo()) == PQPING_OK;
        if (*is_running)
            return 0;
        error_clear(&busy);
        if (data_dir_lock(&busy) == 0)
            return 0;
        if (busy.kind != ERR_EXISTS || waited_ms >= STARTING_WAIT_MS)
            return fail(err, busy.kind, "%s", busy.text);
        sleep_ms(POLL_MS);
    }
}

/* Whoever keeps the data directory is who we must be, whatever the settings of this call say. */
static int become_owner(const struct stat *dir, struct error *err)
{
    if (setgroups(0, NULL) < 0 || setgid(dir->st_gid) < 0 || setuid(dir->st_uid) < 0)
        return fail(err, ERR_INTERNAL, "cannot become the owner of %s: %s", config.data_dir,
                    strerror(errno));
    return data_dir_check_reachable(err);
}

static int enter_data_dir(struct error *err)
{
    struct stat dir;

    if (geteuid() == 0 && stat(config.data_dir, &dir) == 0 && S_ISDIR(dir.st_mode) &&
        dir.st_uid != 0)
        return become_owner(&dir, err);
    if (data_dir_prepare(err) < 0)
        return -1;
    return supervisor_drop_privileges(err);
}

static int run_with_cluster(struct session *s)
{
    bool is_running;
    int commands_fd; /* open until the process ends, like the directory's own lock */
    pid_t pid;
    int status;

    if (enter_data_dir(s->err) < 0 || join_commands(&commands_fd, s->err) < 0 ||
        claim(&is_running, s->err) < 0)
        return -1;
    if (is_running)
        return migrate_and_run(s);
    pid = cluster_start(s->err);
    if (pid < 0)
        return -1;
    status = migrate_and_run(s);
    await_other_commands(commands_fd);
    cluster_stop(pid);
    return status;
}

int cli_session_run(int (*run)(void *arg, struct error *err), void *arg, struct error *err)
{
    struct session s = {.run = run, .arg = arg, .err = err, .status = -1};

    return config.database[0] != '\0' ? migrate_and_run(&s) : run_with_cluster(&s);
}
