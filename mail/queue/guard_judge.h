/* guard_judge.h - does an account send as its owner would? Numbers in, a cause out: no I/O.
 *
 * Volumes are judged against the account's own past: more than guard_factor times its busiest hour, and more than what is
 * no jump for anybody. What an administrator forgave counts as usual. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/store/sending_guard.h"
#include "server/base/arena.h"
#include "server/base/str.h"

/* Names are kept in the database: see guard_cause_name(). */
enum guard_cause {
    GUARD_NOTHING,
    GUARD_MESSAGES,
    GUARD_RECIPIENTS,
    GUARD_AWAY,                                         /* recipients on other servers */
    GUARD_BOUNCES,
    GUARD_COUNTRIES,
    GUARD_NETWORKS,
    GUARD_NEW_COUNTRY,                                  /* and more than usual from there */
    GUARD_CAUSES
};
const char *guard_cause_name(enum guard_cause cause);  /* "messages" */
enum guard_cause guard_cause_parse(struct str name);   /* GUARD_NOTHING when there is none */

/* Places in the order of levels behind the counts (sending_guard.h). */
enum { LEVEL_COUNTRIES = SENDING_COUNTS, LEVEL_NETWORKS };

struct guard_view {
    int64_t levels[SENDING_LEVELS];                     /* volumes of the last 60 minutes, bounces of the last day, countries and */
                                                        /* networks of guard_window */
    int64_t usual[SENDING_VOLUMES];                     /* the busiest hour before */
    int64_t day_away;                                   /* recipients on other servers, of the last day */
    bool is_abroad;                                     /* it sent today from a country it never sent from before */
    int64_t forgiven[SENDING_LEVELS];                   /* 0: nothing */
};

struct guard_finding {
    enum guard_cause cause;
    int64_t seen, usual;                                /* usual: of GUARD_COUNTRIES and GUARD_NETWORKS the limit, of GUARD_BOUNCES the */
};                                                      /* recipients among which they are */

struct guard_finding guard_judge(const struct guard_view *v);

/* What was seen, as a sentence without its full stop: "1204 recipients on other servers within an hour, ...". detail: the
 * countries. language: "id", else English. */
struct str guard_sentence(struct arena *a, const char *language, const struct guard_finding *f, struct str detail);
