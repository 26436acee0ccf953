/* cluster.h - the embedded PostgreSQL: initdb in DIR/pg, one postgres process, a unix socket in DIR/run only.
 *
 * Runs as the unprivileged user that owns the data directory. Durable settings always. Used as the supervisor's
 * companion; a postgres left behind by a killed supervisor is stopped first (we hold the data directory's lock).
 * All blocking: for the supervisor and command-line tools before their loop runs. */
#pragma once
#include <sys/types.h>
#include "server/base/error.h"
#include "server/run/supervisor.h"

extern const struct companion cluster_companion;

pid_t cluster_start(struct error *err); /* initdb if new; back when it accepts connections */
void cluster_stop(pid_t pid);           /* fast shutdown */
const char *cluster_conninfo(void);     /* "host=DIR/run port=5432 user=... dbname=merpati" */
