/* cli_session.h - a command with the database open.
 *
 * With no `database` setting the embedded PostgreSQL is used where it runs, else started for as long as the command
 * takes. As root the process becomes the data directory's owner first. */
#pragma once
#include "server/base/error.h"
#include "server/run/fiber.h"

/* Runs `run` in a fiber with pg_pool() ready and the schema up to date. -1 also when `run` says so. */
int cli_session_run(int (*run)(void *arg, struct error *err), void *arg, struct error *err);
