/* sending_guard.h - what accounts send, hour by hour, and whose outgoing mail is held, as the database has it.
 *
 * Nothing here decides: mail/queue/guard.h does. Counts are added by all workers of all hosts. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

/* What is counted of an hour. */
enum sending_count { SENDING_MESSAGES, SENDING_RECIPIENTS, SENDING_AWAY, SENDING_BOUNCES, SENDING_COUNTS };
#define SENDING_VOLUMES 3                               /* all but the bounces */
/* Levels are these counts, then countries and networks. */
#define SENDING_LEVELS 6

#define SENDING_PLACES_MAX 100                          /* of one account, as sending_share() gives them */

struct sending_counts {
    int64_t account_id, hour;                           /* hours since 1970 */
    int64_t add[SENDING_COUNTS];
    int64_t sum[SENDING_COUNTS];                        /* the answer: of everybody */
};
struct sending_place {
    int64_t account_id;
    struct str place;                                   /* a country, "ID"; or a network, "192.0.2.0/24" */
    int64_t first_us, last_us;
};
struct sending_past {
    int64_t account_id;
    int64_t current[SENDING_COUNTS], before[SENDING_VOLUMES];   /* of this hour and of the one before */
    int64_t day_away, day_bounces;                      /* of the 23 hours before this one */
    int64_t most[SENDING_VOLUMES];                      /* of the busiest hour, those 23 left out */
};

/* One transaction: counts and places go in; what is asked for comes out, in the arena, after it. Pairs of account and hour
 * must differ. */
struct sending_share {
    struct sending_counts *counts;
    size_t count;
    const struct sending_place *seen;                   /* places used just now: times are not read */
    size_t seen_count;
    const int64_t *ask_past, *ask_places;               /* accounts */
    size_t ask_past_count, ask_places_count;
    int64_t hour;                                       /* now */
    int64_t hours_kept;
    struct sending_past *past;                          /* answers; of places ordered by account */
    size_t past_count;
    struct sending_place *places;
    size_t place_count;
};
PARKS int sending_share(struct arena *a, struct sending_share *s, struct error *err);
PARKS int sending_forget(int64_t before_hour, int64_t hours_kept, struct error *err);

/* --- whose mail is held --------------------------------------------------------------------------- */
struct guard_record {
    int64_t account_id;
    bool is_off;                                        /* never held */
    int64_t held_us;                                    /* 0: it is not held */
    bool is_told;
    struct str cause, detail, language;
    int64_t seen, usual;
    int64_t forgiven_us;                                /* 0: never */
    int64_t forgiven[SENDING_LEVELS];
    int64_t version;                                    /* another one: counts may have changed, too */
};
PARKS int guard_record_list(struct arena *a, struct guard_record **out, size_t *count, struct error *err);
/* *is_new: it was not held before, and may be. cause, detail, language, seen, usual of the record are kept. */
PARKS int guard_record_hold(const struct guard_record *r, const int64_t levels[SENDING_LEVELS], bool *is_new,
                            struct error *err);
/* *is_mine: nobody else tells. is_told false: it could not be told after all. */
PARKS int guard_record_tell(int64_t account_id, bool *is_mine, struct error *err);
PARKS int guard_record_untell(int64_t account_id, struct error *err);
PARKS int guard_record_release(int64_t account_id, int64_t hour, int64_t window_ms, bool *was_held, struct error *err);
PARKS int guard_record_purge(int64_t account_id, bool *was_held, struct error *err);
PARKS int guard_record_set_off(int64_t account_id, bool is_off, struct error *err);

struct guard_held {
    int64_t account_id, held_us, seen, usual;
    struct str address, cause, detail;
    int64_t messages, recipients, size;                 /* that are held */
};
PARKS int guard_record_list_held(struct arena *a, struct guard_held **out, size_t *count, struct error *err);

/* The topic of the bus (server/pg/notify.h) when any of it changed. */
#define GUARD_TOPIC UINT64_C(0x6775617264)              /* sending_guard_tell() of 0018_guard.sql has it, too */
