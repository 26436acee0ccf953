/* cluster_make.c - the embedded cluster on disk: folders, initdb, settings.
 *
 * initdb works in DIR/pg.new, which becomes DIR/pg when it is whole: a half-made cluster is never used.
 * The settings are ours and written at every start; what an administrator adds to postgresql.conf behind
 * the include line wins. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "server/base/buf.h"
#include "server/base/log.h"
#include "server/pg/cluster_internal.h"
#include "server/run/config.h"

#define PACKAGES_DIR  "/usr/lib/postgresql"
#define LOG_SIZE_MAX  ((off_t)64 << 20)
#define LOG_TAIL_SIZE 8192
#define SOCKET_NAME   "/.s.PGSQL.5432.lock" /* the longest name that PostgreSQL makes there */

void cluster_path(char out[CLUSTER_PATH_MAX], const char *name)
{
    snprintf(out, CLUSTER_PATH_MAX, "%s%s%s", config.data_dir, name[0] ? "/" : "", name);
}

/* ---- which PostgreSQL ------------------------------------------------------------------------------ */

static int file_version(const char *path)
{
    FILE *f = fopen(path, "re");
    int version = 0;

    if (f == NULL)
        return 0;
    if (fscanf(f, "%d", &version) != 1)
        version = 0;
    fclose(f);
    return version;
}

static int made_by_version(void)
{
    char path[CLUSTER_PATH_MAX];

    cluster_path(path, "pg/PG_VERSION");
    return file_version(path);
}

static int newest_version(void)
{
    DIR *dir = opendir(PACKAGES_DIR);
    struct dirent *entry;
    int newest = 0;

    if (dir == NULL)
        return 0;
    while ((entry = readdir(dir)) != NULL) {
        char path[CLUSTER_PATH_MAX];
        int version = atoi(entry->d_name);

        snprintf(path, sizeof path, PACKAGES_DIR "/%d/bin/initdb", version);
        if (version > newest && access(path, X_OK) == 0)
            newest = version;
    }
    closedir(dir);
    return newest;
}

int cluster_program(char out[CLUSTER_PATH_MAX], const char *name, struct error *err)
{
    int version = made_by_version();

    if (config.database_bin != NULL && config.database_bin[0] != '\0') {
        snprintf(out, CLUSTER_PATH_MAX, "%s/%s", config.database_bin, name);
        if (access(out, X_OK) == 0)
            return 0;
        return fail(err, ERR_NOT_FOUND, "%s cannot be run: correct database_bin", out);
    }
    snprintf(out, CLUSTER_PATH_MAX, PACKAGES_DIR "/%d/bin/%s", version ? version : newest_version(),
             name);
    if (access(out, X_OK) == 0)
        return 0;
    if (version != 0)
        return fail(err, ERR_NOT_FOUND,
                    "%s/pg was made by PostgreSQL %d: install the package postgresql-%d",
                    config.data_dir, version, version);
    return fail(err, ERR_NOT_FOUND, "PostgreSQL is not installed: install the package postgresql");
}

/* ---- folders and files ----------------------------------------------------------------------------- */

static int make_dir(const char *name, struct error *err)
{
    char path[CLUSTER_PATH_MAX];

    cluster_path(path, name);
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    return fail(err, ERR_INTERNAL, "cannot make %s: %s", path, strerror(errno));
}

static int fsync_path(const char *path, int flags)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    int rc;

    if (fd < 0)
        return -1;
    rc = fsync(fd);
    close(fd);
    return rc;
}

/* Whole or not at all, and on the disk. */
static int replace_file(const char *path, const char *text, struct error *err)
{
    char new_path[CLUSTER_PATH_MAX + 8];
    FILE *f;
    int rc;

    snprintf(new_path, sizeof new_path, "%s.new", path);
    f = fopen(new_path, "we");
    if (f == NULL)
        return fail(err, ERR_INTERNAL, "cannot write %s: %s", new_path, strerror(errno));
    rc = fputs(text, f) < 0 || fflush(f) != 0 || fsync(fileno(f)) != 0;
    rc |= fclose(f) != 0;
    if (rc != 0 || rename(new_path, path) < 0)
        return fail(err, ERR_INTERNAL, "cannot write %s: %s", path, strerror(errno));
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

/* ---- settings -------------------------------------------------------------------------------------- */

static int64_t worker_count(void)
{
    return config.workers > 0 ? config.workers : sysconf(_SC_NPROCESSORS_ONLN);
}

/* Errors are logged by us, with what PostgreSQL must not write down left out: so its own log begins at LOG. */
static const char settings_format[] = "# Written by merpati at every start; put changes into "
                                      "postgresql.conf, below the include line.\n"
                                      "listen_addresses = ''\n"
                                      "port = 5432\n"
                                      "unix_socket_directories = '%s/run'\n"
                                      "unix_socket_permissions = 0700\n"
                                      "max_connections = %lld\n"
                                      "shared_buffers = '%lldkB'\n"
                                      "effective_cache_size = '%lldkB'\n"
                                      "huge_pages = try\n"
                                      "work_mem = '16MB'\n"
                                      "maintenance_work_mem = '128MB'\n"
                                      "fsync = on\n"
                                      "synchronous_commit = on\n"
                                      "full_page_writes = on\n"
                                      "wal_level = replica\n"
                                      "wal_compression = %s\n"
                                      "default_toast_compression = lz4\n"
                                      "max_wal_size = '4GB'\n"
                                      "min_wal_size = '256MB'\n"
                                      "checkpoint_timeout = '15min'\n"
                                      "restart_after_crash = on\n"
                                      "jit = off\n"
                                      "random_page_cost = 1.1\n"
                                      "max_parallel_workers_per_gather = 0\n"
                                      "autovacuum_naptime = '15s'\n"
                                      "autovacuum_vacuum_scale_factor = 0.05\n"
                                      "autovacuum_vacuum_insert_scale_factor = 0.05\n"
                                      "autovacuum_analyze_scale_factor = 0.02\n"
                                      "autovacuum_vacuum_cost_limit = 2000\n"
                                      "timezone = 'UTC'\n"
                                      "log_timezone = 'UTC'\n"
                                      "log_destination = 'stderr'\n"
                                      "logging_collector = off\n"
                                      "log_line_prefix = '%%m [%%p] '\n"
                                      "log_min_messages = log\n"
                                      "log_min_error_statement = panic\n"
                                      "log_error_verbosity = terse\n"
                                      "log_checkpoints = off\n";

static int write_settings(struct error *err)
{
    char path[CLUSTER_PATH_MAX];
    struct buf text;
    long long buffers_kb = config.database_shared_buffers / 1024;
    long long connections = worker_count() * (config.database_connections + 2) + 20;
    int rc;

    buf_init(&text, 64 * 1024);
    buf_addf(&text, settings_format, config.data_dir, connections, buffers_kb, 3 * buffers_kb,
             made_by_version() >= 15 ? "lz4" : "on");
    cluster_path(path, "pg/merpati.conf");
    rc = replace_file(path, buf_c(&text), err);
    buf_fini(&text);
    return rc;
}

/* ---- initdb ---------------------------------------------------------------------------------------- */

static const char *locale_option(void)
{
    locale_t locale = newlocale(LC_ALL_MASK, "C.UTF-8", (locale_t)0);

    if (locale == (locale_t)0)
        return "--locale=C";
    freelocale(locale);
    return "--locale=C.UTF-8";
}

static void initdb_exec(const char *program, const char *new_dir)
{
    int log_fd = cluster_open_log();

    dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
    if (log_fd >= 0) {
        dup2(log_fd, STDOUT_FILENO);
        dup2(log_fd, STDERR_FILENO);
    }
    setenv("LC_ALL", "C", 1);
    execl(program, program, "-D", new_dir, "-U", CLUSTER_USER, "-A", "trust", "-E", "UTF8",
          locale_option(), "--data-checksums", (char *)NULL);
    _exit(127);
}

static int initdb_run(const char *new_dir, struct error *err)
{
    char program[CLUSTER_PATH_MAX];
    int status = -1;
    pid_t pid;

    if (cluster_program(program, "initdb", err) < 0)
        return -1;
    pid = fork();
    if (pid == 0)
        initdb_exec(program, new_dir);
    if (pid < 0)
        return fail(err, ERR_INTERNAL, "cannot start initdb: %s", strerror(errno));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return fail(err, ERR_INTERNAL, "initdb failed: see %s/log/postgres.log", config.data_dir);
    return 0;
}

static int include_settings(const char *new_dir, struct error *err)
{
    char path[CLUSTER_PATH_MAX + 32];
    FILE *f;
    int rc;

    snprintf(path, sizeof path, "%s/postgresql.conf", new_dir);
    f = fopen(path, "ae");
    if (f == NULL)
        return fail(err, ERR_INTERNAL, "cannot write %s: %s", path, strerror(errno));
    rc = fputs("\ninclude = 'merpati.conf'\n", f) < 0 || fflush(f) != 0 || fsync(fileno(f)) != 0;
    rc |= fclose(f) != 0;
    return rc == 0 ? 0 : fail(err, ERR_INTERNAL, "cannot write %s: %s", path, strerror(errno));
}

static int make_new_cluster(const char *dir, struct error *err)
{
    char new_dir[CLUSTER_PATH_MAX];
    struct stat st;

    cluster_path(new_dir, "pg.new");
    if (lstat(new_dir, &st) == 0 && nftw(new_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS) < 0)
        return fail(err, ERR_INTERNAL, "cannot remove the unfinished %s: %s", new_dir,
                    strerror(errno));
    log_info(NULL, "cluster_initdb", KV("dir", dir));
    if (initdb_run(new_dir, err) < 0 || include_settings(new_dir, err) < 0)
        return -1;
    if (rename(new_dir, dir) < 0 || fsync_path(config.data_dir, O_DIRECTORY) < 0)
        return fail(err, ERR_INTERNAL, "cannot move %s to %s: %s", new_dir, dir, strerror(errno));
    return 0;
}

static int check_data_dir(struct error *err)
{
    size_t path_max = sizeof((struct sockaddr_un *)NULL)->sun_path - 1;

    if (geteuid() == 0)
        return fail(err, ERR_DENIED,
                    "PostgreSQL does not run as root: set user to an unprivileged one");
    if (strpbrk(config.data_dir, ",'\\\n") != NULL)
        return fail(err, ERR_UNSUPPORTED,
                    "the data directory's name must not hold a comma, quote or backslash");
    if (strlen(config.data_dir) + strlen("/run" SOCKET_NAME) > path_max)
        return fail(err, ERR_UNSUPPORTED,
                    "the data directory's name is too long for a socket below it: use one of at "
                    "most %zu bytes",
                    path_max - strlen("/run" SOCKET_NAME));
    return 0;
}

int cluster_make(struct error *err)
{
    char dir[CLUSTER_PATH_MAX];
    struct stat st;

    if (check_data_dir(err) < 0 || make_dir("run", err) < 0 || make_dir("log", err) < 0)
        return -1;
    cluster_path(dir, "pg");
    if (stat(dir, &st) < 0 && make_new_cluster(dir, err) < 0)
        return -1;
    return write_settings(err);
}

/* ---- the log --------------------------------------------------------------------------------------- */

/* One older log is kept; the size is looked at when PostgreSQL starts. */
int cluster_open_log(void)
{
    char path[CLUSTER_PATH_MAX];
    char old_path[CLUSTER_PATH_MAX];
    struct stat st;

    cluster_path(path, "log/postgres.log");
    cluster_path(old_path, "log/postgres.log.1");
    if (stat(path, &st) == 0 && st.st_size > LOG_SIZE_MAX)
        rename(path, old_path);
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static size_t read_log_tail(char *out, size_t size)
{
    char path[CLUSTER_PATH_MAX];
    ssize_t n = -1;
    struct stat st;
    int fd;

    cluster_path(path, "log/postgres.log");
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    if (fstat(fd, &st) == 0)
        n = pread(fd, out, size, st.st_size > (off_t)size ? st.st_size - (off_t)size : 0);
    close(fd);
    return n > 0 ? (size_t)n : 0;
}

void cluster_log_reason(char *out, size_t size)
{
    char tail[LOG_TAIL_SIZE];
    struct str rest = str_of(tail, read_log_tail(tail, sizeof tail));
    struct str line;

    out[0] = '\0';
    while (str_next_token(&rest, '\n', &line)) {
        ptrdiff_t at = str_find(line, STR("FATAL:"));

        if (at < 0)
            at = str_find(line, STR("PANIC:"));
        if (at >= 0)
            snprintf(out, size, "%.*s",
                     STR_ARG(str_trim(str_from(line, (size_t)at + strlen("FATAL:")))));
    }
}
