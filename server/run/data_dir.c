/* data_dir.c - the data directory's owner, mode and lock. */
#include "server/run/data_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/run/config.h"

#define LOCK_POLL_MS    50
#define COMMAND_WAIT_MS 30000 /* a command is done by then, or its user hears of it */

struct passwd *data_dir_owner(struct error *err)
{
    struct passwd *pw = getpwnam(config.user);

    if (pw == NULL)
        fail(err, ERR_NOT_FOUND,
             "the user \"%s\" does not exist: create it with \"useradd --system %s\", "
             "or name another with the setting user",
             config.user, config.user);
    return pw;
}

static bool is_empty(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    bool empty = dir != NULL;

    while (empty && (entry = readdir(dir)) != NULL)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    if (dir != NULL)
        closedir(dir);
    return empty;
}

static int give_to(const struct passwd *pw, struct error *err)
{
    if (lchown(config.data_dir, pw->pw_uid, pw->pw_gid) < 0)
        return fail(err, ERR_INTERNAL, "cannot give %s to %s: %s", config.data_dir, config.user,
                    strerror(errno));
    return 0;
}

/* One that is there already. */
static int check_owner(const struct passwd *pw, struct error *err)
{
    struct stat st;

    if (stat(config.data_dir, &st) < 0 || !S_ISDIR(st.st_mode))
        return fail(err, ERR_DENIED, "%s is not a directory: choose another with --data",
                    config.data_dir);
    if (pw == NULL || st.st_uid == pw->pw_uid)
        return 0;
    if (st.st_uid == 0 && is_empty(config.data_dir))
        return give_to(pw, err);
    return fail(err, ERR_DENIED,
                "%s does not belong to the user %s: run \"chown -R %s %s\" or choose another "
                "directory with --data",
                config.data_dir, config.user, config.user, config.data_dir);
}

int data_dir_prepare(struct error *err)
{
    struct passwd *pw = NULL;

    if (geteuid() == 0 && (pw = data_dir_owner(err)) == NULL)
        return -1;
    if (mkdir(config.data_dir, 0700) == 0)
        return pw != NULL ? give_to(pw, err) : 0;
    if (errno == EEXIST)
        return check_owner(pw, err);
    return fail(err, ERR_DENIED, "cannot make the data directory %s: %s", config.data_dir,
                strerror(errno));
}

int data_dir_check_reachable(struct error *err)
{
    char path[PATH_MAX];

    if (access(config.data_dir, R_OK | W_OK | X_OK) == 0)
        return 0;
    snprintf(path, sizeof path, "%s", config.data_dir);
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (access(path, X_OK) < 0)
            return fail(
                err, ERR_DENIED,
                "the user %s cannot reach %s: open the way with \"chmod o+x %s\", or choose "
                "another directory with --data",
                config.user, config.data_dir, path);
        *slash = '/';
    }
    return fail(err, ERR_DENIED, "the user %s cannot use %s: %s", config.user, config.data_dir,
                strerror(EACCES));
}

/* ---- locks --------------------------------------------------------------------------------- */

/* Of DIR/lock: who uses the directory has its first byte, a server the second one too. */
enum { BYTE_IN_USE, BYTE_SERVER };

static int open_lock(int *fd, struct error *err)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/lock", config.data_dir);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd < 0)
        return fail(err, ERR_DENIED, "cannot open %s: %s", path, strerror(errno));
    return 0;
}

static int lock_byte(int fd, int byte, struct error *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    struct flock held = lock;

    if (fcntl(fd, F_SETLK, &lock) == 0)
        return 0;
    fcntl(fd, F_GETLK, &held);
    return fail(err, ERR_EXISTS,
                "the data directory %s is in use by process %d: stop that one first, or choose "
                "another directory with --data",
                config.data_dir, (int)held.l_pid);
}

static int lock_byte_soon(int fd, int byte, int wait_ms, struct error *err)
{
    for (int waited_ms = 0; lock_byte(fd, byte, err) < 0; waited_ms += LOCK_POLL_MS) {
        if (waited_ms >= wait_ms)
            return -1;
        error_clear(err);
        nanosleep(&(struct timespec){.tv_nsec = LOCK_POLL_MS * 1000000L}, NULL);
    }
    return 0;
}

static int write_pid(int fd, struct error *err)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%d\n", (int)getpid());

    if (ftruncate(fd, 0) == 0 && write(fd, text, (size_t)n) == n)
        return 0;
    return fail(err, ERR_TRY_LATER, "cannot write %s/lock: %s", config.data_dir, strerror(errno));
}

/* The descriptor stays open: closing it would unlock. */
int data_dir_lock(struct error *err)
{
    int fd;

    if (open_lock(&fd, err) < 0)
        return -1;
    if (lock_byte(fd, BYTE_IN_USE, err) == 0)
        return write_pid(fd, err);
    close(fd);
    return -1;
}

int data_dir_lock_to_serve(struct error *err)
{
    int fd;

    if (open_lock(&fd, err) < 0)
        return -1;
    if (lock_byte(fd, BYTE_SERVER, err) == 0 &&
        lock_byte_soon(fd, BYTE_IN_USE, COMMAND_WAIT_MS, err) == 0)
        return write_pid(fd, err);
    close(fd);
    return -1;
}
