/* cluster_internal.h - the embedded cluster's files on disk, for cluster.c. */
#pragma once
#include <stddef.h>
#include "server/base/error.h"

#define CLUSTER_USER     "merpati" /* the database's superuser, known only inside the socket folder */
#define CLUSTER_PATH_MAX 1024

void cluster_path(char out[CLUSTER_PATH_MAX],
                  const char *name); /* below the data directory; "" for itself */

/* Path of a program of the PostgreSQL that made DIR/pg, or of the newest one when there is none yet. */
int cluster_program(char out[CLUSTER_PATH_MAX], const char *name, struct error *err);

/* Makes what is missing: folders, DIR/pg by initdb; writes DIR/pg/merpati.conf from the settings. */
int cluster_make(struct error *err);

int cluster_open_log(void); /* DIR/log/postgres.log, to append; -1 with errno */
/* The last line of the log with "FATAL" or "PANIC" in it, without its time; "" if there is none. */
void cluster_log_reason(char *out, size_t size);
