/* migrate.h - brings the schema up to date: numbered, forward only, each in its own transaction.
 *
 * sql/migrations/NNNN_name.sql are embedded at build time. An advisory lock makes it safe that several hosts
 * start at once. A schema newer than this program is refused, with both numbers in the sentence. */
#pragma once
#include "server/base/error.h"

struct sql_migration {
    int number;
    const char *name;
    const char *text;
};
extern const struct sql_migration sql_migrations[];
extern const int sql_migration_count;

/* Blocking (libpq without fibers): for the supervisor and command-line tools before their loop runs. */
int pg_migrate(const char *conninfo, struct error *err);
