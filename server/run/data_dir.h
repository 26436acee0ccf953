/* data_dir.h - the directory that holds everything of a server: made, owned, held by one process at a time. */
#pragma once
#include <pwd.h>
#include "server/base/error.h"

/* The unprivileged user that it belongs to when root starts us: config.user. NULL when there is none of that name. */
struct passwd *data_dir_owner(struct error *err);

/* Makes it, with owner and mode. As root, an empty directory of root's is given to that user; any other must be theirs. */
int data_dir_prepare(struct error *err);

/* After privileges were dropped: can we get there at all? The sentence names the directory that is closed. */
int data_dir_check_reachable(struct error *err);

/* One process per data directory: fcntl locks on DIR/lock that die with their holder. ERR_EXISTS names the holder's pid. */
int data_dir_lock(struct error *err);
/* For a server, which should not fail to start because a command is using the directory just then. So it
 * waits half a minute for a command, and not at all for another server. */
int data_dir_lock_to_serve(struct error *err);
