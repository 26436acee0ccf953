/* sieve_match.h - a value compared with a prepared key: comparators and match types (RFC 5228, 2.7; RFC 5231; RFC 5051).
 *
 * "*" is any run of characters, the shortest that will do, from left to right; "?" is one character: an octet, or a
 * code point under i;unicode-casemap. What the wildcards and groups stood for is cut from the value as it came. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "mail/sieve/sieve.h"
#include "mail/sieve/sieve_key.h"
#include "server/base/arena.h"
#include "server/base/str.h"

#define SIEVE_MATCH_STEPS_MAX (8u << 20)                /* places tried in one :matches */

/* A value, folded once however many keys it meets. Starts as {.text = ...}; what is folded lies in `arena`. */
struct sieve_value {
    struct str text;
    struct str lower, casemap;                          /* p NULL: not yet folded */
};

struct sieve_captures {
    size_t n;                                           /* 0: nothing */
    struct str v[SIEVE_MATCH_VARIABLES_MAX];            /* v[0] is all that matched; borrowed from the value */
};

struct sieve_match_room {
    struct arena *kept;                                 /* where folded forms live: as long as the values do */
    struct arena *scratch;                              /* serves one call */
    bool may_take_long;                                 /* not on a worker's own thread */
};
#define SIEVE_MATCH_LATER (-2)

/* 1: matches; 0: does not; -1: it would take too long; SIEVE_MATCH_LATER: ask again with may_take_long. captures (may be NULL) is
 * filled by MATCHES and REGEX only, on 1. COUNT_OF and LIST are not for this function. Pure: safe on a helper thread. */
int sieve_match_value(struct sieve_match_how how, struct sieve_value *value, const struct sieve_key *key, struct sieve_match_room *room,
                      struct sieve_captures *captures);

/* The order of two texts under a comparator: below, at or above 0. */
int sieve_match_order(enum sieve_comparator comparator, struct str value_folded, const struct sieve_key *key);
bool sieve_match_relation(enum sieve_relation relation, int order);
