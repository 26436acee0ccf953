/* guard_internal.h - shared by the files of the guard.
 *
 * guard.c         counting and judging          guard_keeper.c  the fiber: sharing, states, what follows from a hold
 * guard_notice.c  what people are told          guard_admin.c   release, purge
 *
 * An entry is what a worker knows of an account that sends; a record (sending_guard.h) is whose mail is held, of which every
 * worker knows all; a trip is a hold that this worker found and the database does not have yet. */
#pragma once
#include "mail/queue/guard.h"
#include "mail/queue/guard_judge.h"
#include "mail/store/trace.h"
#include "server/base/list.h"
#include "server/base/map.h"
#include "server/run/channel.h"

#define GUARD_HOUR_US INT64_C(3600000000)

struct guard_place {
    char text[48];                                      /* "ID", "2001:db8:1::/48" */
    int64_t first_us, last_us;
    int64_t shared_us;                                  /* last_us as others know it */
};

struct guard_entry {
    struct list changed;                                /* linked: there is something to share or to read */
    struct list used;                                   /* the longest unused first */
    int64_t account_id, hour;
    int64_t add[SENDING_COUNTS];                        /* not shared yet */
    int64_t current[SENDING_COUNTS], before[SENDING_VOLUMES];
    int64_t day_away, day_bounces;                      /* of the 23 hours before */
    int64_t most[SENDING_VOLUMES];
    struct guard_place *places;                         /* on the heap; at most SENDING_PLACES_MAX */
    size_t place_count;
    int64_t version;                                    /* of the record when the past was read */
    int64_t asked_version;                              /* when the question for it began */
    bool is_loaded, is_stale;                           /* stale: the hour is another, or an administrator changed something */
    unsigned away;                                      /* batches on their way that it is part of: it must not go */
    char language[3];                                   /* of its last message, or "" */
};

struct guard_trip {
    struct list link;
    struct guard_record record;                         /* texts below */
    int64_t levels[SENDING_LEVELS];
    char detail[100], language[3];
};

/* What is done again after others have learned of it: what they admitted a moment ago is in the queue by then. */
struct guard_again {
    struct list link;
    int64_t account_id;
    bool is_hold;                                       /* else a release */
    int64_t due_ms;
};

struct guard {
    bool is_running;
    unsigned worker_index;
    struct map *entries;                                /* by account_id */
    struct list changed, used;
    struct map *records;                                /* by account_id; NULL: not read yet */
    struct arena *records_arena;
    struct list trips, again;
    bool is_outdated;                                   /* the records are */
    struct fiber *keeper;
    bool is_keeper_waiting;
    struct wait_queue ended;
};
extern struct guard guard;

void guard_init(void);                                  /* harmless when it was done */
void guard_fini(void);
void guard_wake(void);
const struct guard_record *guard_record_of(int64_t account_id);       /* NULL: none. Until the next park */

/* --- guard.c --------------------------------------------------------------------------------------- */
void guard_entry_mark_changed(struct guard_entry *e);
void guard_entry_free(struct guard_entry *e);
struct guard_entry *guard_entry_of(int64_t account_id); /* NULL: none */
struct guard_place *guard_entry_place(struct guard_entry *e, struct str text);      /* added when it is new; NULL: no room */
void guard_entry_roll(struct guard_entry *e, int64_t hour);
void guard_entry_evaluate(struct guard_entry *e);       /* trips when there is reason */
void guard_reason(const struct guard_record *r, char *out, size_t size);
static inline int64_t guard_hour(int64_t now_us) { return now_us / GUARD_HOUR_US; }

/* --- guard_keeper.c -------------------------------------------------------------------------------- */
/* Reads the past of entries; is_adding: and what they counted goes to the database. Only the keeper adds. */
PARKS int guard_share(struct guard_entry *const *v, size_t count, bool is_adding, struct error *err);
PARKS int guard_read_records(struct error *err);

/* --- guard_notice.c -------------------------------------------------------------------------------- */
PARKS int guard_tell_people(const struct guard_record *r, struct error *err);

/* --- guard_admin.c ----------------------------------------------------------------------------------- */
/* A line in the trace for each recipient of its mail in the queue, or of what is held. */
PARKS void guard_trace(int64_t account_id, bool only_held, enum trace_kind kind, struct str text);
