/* offload.h - what burns CPU or blocks, on a few helper threads while the fiber waits.
 *
 * The function runs on another thread: it touches only its argument, and calls nothing that
 * belongs to the loop, a connection, the log context or an arena in use elsewhere. The wait
 * is not cut short by cancellation, because the thread still uses the caller's stack. */
#pragma once
#include "server/run/fiber.h"

PARKS void offload(void (*run)(void *arg), void *arg);
void offload_fini(void);                                /* at exit: joins the idle threads */
