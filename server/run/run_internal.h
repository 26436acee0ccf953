/* run_internal.h - what the scheduler (fiber.c), the loop (loop.c) and their closest users share. */
#pragma once

/* gcc and clang name AddressSanitizer differently. */
#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#include <stdbool.h>
#include <stdint.h>
#include "server/run/fiber.h"

/* --- fiber.c, for the loop --- */
void fiber_run_ready(void);                             /* each fiber that was ready when called, once */
bool fiber_any_ready(void);
void fiber_forget_all(void);                            /* after a fork: the parent's fibers are not ours */

/* --- fiber.c, for helper threads: a wait that cancellation does not end --- */
PARKS void fiber_park_shielded(void);

/* --- fiber.c, for the crash handler --- */
/* The fiber whose guard pages hold this address, or NULL. */
const struct fiber *fiber_of_guard(const void *address);

/* --- loop.c, for the scheduler --- */
int64_t loop_read_clock(void);                          /* microseconds; loop_now_ms() follows */
