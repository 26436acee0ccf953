/* dns_cache.h - answers that this worker had lately: a name that is asked for again costs no trip to libunbound's thread.
 *
 * One message asks for some ten names, and the next one often for the same. Kept are answers, "no such name" and "no such
 * data", never failures, for as long as they allow and at most DNS_CACHE_TIME_MAX_S. Bounded in count and bytes; the
 * oldest go first. */
#pragma once
#include <stdbool.h>
#include "server/run/dns.h"

#define DNS_CACHE_COUNT_MAX  10000
#define DNS_CACHE_BYTES_MAX  (8 << 20)
#define DNS_CACHE_ANSWER_MAX (16 << 10)                 /* bytes of one answer; larger ones are not kept */
#define DNS_CACHE_TIME_MAX_S 300

/* The answer lives in the arena. */
bool dns_cache_find(struct arena *a, struct str name, enum dns_type type, struct dns_answer *out);
void dns_cache_add(struct str name, enum dns_type type, const struct dns_answer *answer);
void dns_cache_clear(void);
