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
#include <unistd.h>

#include "server/run/config.h"

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

int data_dir_lock(struct error *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[4096], pid_text[32];
    int fd, n;

    snprintf(path, sizeof path, "%s/lock", config.data_dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fail(err, ERR_DENIED, "cannot open %s: %s", path, strerror(errno));
    if (fcntl(fd, F_SETLK, &lock) < 0) {
        struct flock held = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        fcntl(fd, F_GETLK, &held);
        close(fd);
        return fail(err, ERR_EXISTS,
                    "the data directory %s is in use by process %d: stop that one first, or choose "
                    "another directory with --data",
                    config.data_dir, (int)held.l_pid);
    }
    n = snprintf(pid_text, sizeof pid_text, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || write(fd, pid_text, (size_t)n) != n)
        return fail(err, ERR_TRY_LATER, "cannot write %s: %s", path, strerror(errno));
    return 0; /* the descriptor stays open: closing it would unlock */
}
