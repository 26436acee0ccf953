/* scan_breaker.c - three states: well (rest_ms is 0), resting (until_ms), and asking whether it is back. */
#include "mail/spam/scan_breaker.h"

bool scan_breaker_admits(struct scan_breaker *b, int64_t now_ms)
{
    if (b->rest_ms == 0)
        return true;
    if (b->is_asking || now_ms < b->until_ms)
        return false;
    b->is_asking = true;
    return true;
}

void scan_breaker_succeeded(struct scan_breaker *b)
{
    *b = (struct scan_breaker){0};
}

static void rest(struct scan_breaker *b, int64_t now_ms)
{
    b->rest_ms = b->rest_ms == 0 ? SCAN_REST_MS : 2 * b->rest_ms;
    if (b->rest_ms > SCAN_REST_MAX_MS)
        b->rest_ms = SCAN_REST_MAX_MS;
    b->until_ms = now_ms + b->rest_ms;
}

void scan_breaker_failed(struct scan_breaker *b, bool is_nobody_there, int64_t now_ms)
{
    bool is_resting = b->rest_ms > 0 && now_ms < b->until_ms;

    b->is_asking = false;
    b->failures++;
    if (is_resting) /* asked before it began; many that fail together are one failure */
        return;
    if (is_nobody_there || b->rest_ms > 0 || b->failures >= SCAN_FAILURES_MAX)
        rest(b, now_ms);
}

void scan_breaker_forget(struct scan_breaker *b)
{
    b->is_asking = false;
}
