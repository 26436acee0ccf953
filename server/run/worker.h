/* worker.h - one worker process: its loop, its signals, its end. Only the supervisor starts one. */
#pragma once
#include "server/run/supervisor.h"

/* Runs in the forked process until it is told to end; returns the exit status. One byte is written
 * to ready_fd (unless it is -1) when it accepts connections. */
int worker_run(const struct server_plan *plan, unsigned index, int ready_fd);
