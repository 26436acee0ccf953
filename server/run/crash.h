/* crash.h - a usable backtrace when a process dies of a signal or an assertion.
 *
 * Handlers run on a stack of their own, so that a fiber that ran into its guard page can still be
 * named. The line says process, signal, fiber and whether it was a stack overflow; then addresses
 * as file+offset for addr2line. The signal is raised again, so core dumps work. */
#pragma once

void crash_handlers_install(void);
