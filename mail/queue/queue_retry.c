/* queue_retry.c - pauses: doubling, bounded, jittered. */
#include "mail/queue/queue_retry.h"

#include "server/base/encode.h"
#include "server/run/config.h"

#define JITTER_PERCENT 20

static int64_t jittered(int64_t ms)
{
    int64_t span = ms * JITTER_PERCENT / 100;

    return ms - span + (int64_t)(random_u64() % (uint64_t)(2 * span + 1));
}

static int64_t doubled(int64_t min_ms, int64_t max_ms, int times)
{
    int64_t ms = min_ms;

    while (times-- > 0 && ms < max_ms)
        ms *= 2;
    return ms < max_ms ? ms : max_ms;
}

int64_t queue_retry_delay_ms(int attempts)
{
    return jittered(
        doubled(config.queue_retry_min, config.queue_retry_max, attempts > 1 ? attempts - 1 : 0));
}

void queue_backoff_delays_ms(int64_t delays_ms[QUEUE_BACKOFF_STEPS])
{
    for (int i = 0; i < QUEUE_BACKOFF_STEPS; i++)
        delays_ms[i] = jittered(doubled(config.queue_backoff_min, config.queue_backoff_max, i));
}
