/* queue_retry.h - how long to wait after a failure. Pauses double from a least to a longest one, and each is up to a fifth
 * shorter or longer, so that what failed together does not come back together. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Before a recipient that was put off is tried again, after so many attempts (1: the first one). */
int64_t queue_retry_delay_ms(int attempts);

/* Before a destination that failed for the n-th time in a row is tried again: delays_ms[n - 1], or the last. */
#define QUEUE_BACKOFF_STEPS 16
void queue_backoff_delays_ms(int64_t delays_ms[QUEUE_BACKOFF_STEPS]);
