/* pg_fixture.h - a private PostgreSQL for one test program: made in a temporary folder, gone at the end.
 *
 * As root the process becomes an unprivileged user first, as PostgreSQL demands. Static functions in a
 * header, since every test is a program of its own. */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <grp.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/pg/cluster.h"
#include "server/pg/pg.h"
#include "server/run/config.h"
#include "server/run/fiber.h"
#include "server/run/loop.h"

static char fixture_dir[64];
static pid_t fixture_pid;

static void fixture_fail(const char *what, const struct error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->text);
    exit(1);
}

/* Dumpable again, because LeakSanitizer traces its own process. */
static void fixture_drop_root(void)
{
    struct passwd *user;

    if (geteuid() != 0)
        return;
    user = getpwnam("postgres");
    if (user == NULL)
        user = getpwnam("nobody");
    if (user == NULL || setgroups(0, NULL) < 0 || setgid(user->pw_gid) < 0 ||
        setuid(user->pw_uid) < 0) {
        perror("cannot become an unprivileged user");
        exit(1);
    }
    prctl(PR_SET_DUMPABLE, 1);
}

static void fixture_start_cluster(void)
{
    struct error err = {0};

    fixture_pid = cluster_start(&err);
    if (fixture_pid < 0)
        fixture_fail("cluster_start", &err);
}

static int fixture_start(void **state)
{
    fixture_drop_root();
    log_set_level(getenv("TEST_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1);
    config_defaults();
    strcpy(fixture_dir, "/tmp/merpati-test-XXXXXX");
    if (mkdtemp(fixture_dir) == NULL || chdir(fixture_dir) < 0) {
        perror(fixture_dir);
        exit(1);
    }
    config.data_dir = fixture_dir;
    config.database_shared_buffers = 32 << 20;
    fixture_start_cluster();
    return 0;
}

static int fixture_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static int fixture_stop(void **state)
{
    cluster_stop(fixture_pid);
    nftw(fixture_dir, fixture_remove, 16, FTW_DEPTH | FTW_PHYS);
    config_fini();
    return 0;
}

/* A second client, with plain blocking libpq. */
static PGconn *fixture_connect(void)
{
    PGconn *pq = PQconnectdb(cluster_conninfo());

    if (PQstatus(pq) != CONNECTION_OK) {
        fprintf(stderr, "%s", PQerrorMessage(pq));
        exit(1);
    }
    return pq;
}

/* Runs SQL beside the code under test and returns the first value as a number, 0 if there is none. */
static inline int64_t fixture_sql(const char *sql)
{
    PGconn *pq = fixture_connect();
    PGresult *r = PQexec(pq, sql);
    ExecStatusType status = PQresultStatus(r);
    int64_t value = 0;

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        fprintf(stderr, "%s: %s", sql, PQerrorMessage(pq));
        exit(1);
    }
    if (status == PGRES_TUPLES_OK && PQntuples(r) > 0)
        value = atoll(PQgetvalue(r, 0, 0));
    PQclear(r);
    PQfinish(pq);
    return value;
}
