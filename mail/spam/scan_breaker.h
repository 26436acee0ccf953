/* scan_breaker.h - whether a scanner that failed is asked again yet, so that not each message waits for it in vain.
 *
 * Where nobody listens, one failure is enough; a scanner that was too slow, hung up or talked nonsense has three in a row, for
 * that may be one message's doing. It is then left alone for SCAN_REST_MS, each time twice as long up to SCAN_REST_MAX_MS, after
 * which one message asks first, and the others follow when it was answered. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define SCAN_FAILURES_MAX 3
#define SCAN_REST_MS      5000
#define SCAN_REST_MAX_MS  60000

struct scan_breaker {                                   /* all zero: well */
    unsigned failures;                                  /* in a row */
    int64_t rest_ms;                                    /* of the last rest; 0: it is well */
    int64_t until_ms;
    bool is_asking;                                     /* the first after a rest is on its way */
};

/* False: it is away. True: ask, and tell one of the three that follow. */
bool scan_breaker_admits(struct scan_breaker *b, int64_t now_ms);
void scan_breaker_succeeded(struct scan_breaker *b);
void scan_breaker_failed(struct scan_breaker *b, bool is_nobody_there, int64_t now_ms);
void scan_breaker_forget(struct scan_breaker *b);       /* it was asked, and nothing was learnt */
