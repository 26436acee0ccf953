/* queue_internal.h - shared by the files of the scheduler.
 *
 *   accepted or claimed -> job -> waits at its hop -> attempt (a fiber) -> results -> commit -> gone
 *
 * queue.c        life, claiming, accepting            queue_attempt.c  one job: send it, judge the answers
 * queue_hop.c    slots and back-off of each hop        queue_commit.c   results to the database, many at once
 * queue_report.c what senders are told                queue_late.c     warnings and expiry */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/queue/queue.h"
#include "mail/store/outbound.h"
#include "server/base/list.h"
#include "server/base/map.h"
#include "server/run/channel.h"
#include "server/run/loop.h"

/* A message in memory, shared by the jobs of its hops. */
struct queue_message {
    unsigned refs;
    struct str text;                                    /* as it is sent; on the heap */
    size_t charged;                                     /* bytes of queue_memory_max */
    bool is_slow;                                       /* charged to queue.slow_bytes */
};

/* Where mail goes next: a domain, [address] or smarthost. */
struct hop {
    struct list link;                                   /* of all hops, the longest unused first */
    struct list runnable;                               /* linked while it waits for a free slot: queue.runnable, runnable_new */
    struct str name;
    struct list waiting;                                /* jobs, the more urgent first */
    size_t waiting_count;
    unsigned running;                                   /* fibers */
    unsigned slow;                                      /* of them, set aside: they take no slot of others */
    unsigned limit;                                     /* of them, for now */
    bool is_proven;                                     /* it took something since it last failed */
    bool may_have_more;                                 /* waiting in the database */
    int64_t succeeded_ms;
    int failures;                                       /* in a row */
    int64_t blocked_until_ms;
    int64_t used_ms;
};

struct job {
    struct list link;                                   /* at its hop, or with its results */
    struct arena *arena;                                /* of everything here */
    struct hop *hop;
    int64_t worker_id;                                  /* who claimed it: this worker, unless its lease ended since */
    struct outbound_claim claim;
    struct queue_message *message;                      /* NULL: still to be read */
    struct outbound_result *results;                    /* what is to be committed */
    size_t result_count;
    struct timer timer;                                 /* until it is slow */
    int64_t began_ms;
    const struct remote_job *attempt;                   /* while it runs */
    bool is_slow;
};

struct queue {
    bool is_started, is_stopping;
    struct queue_options options;
    int64_t worker_id;                                  /* 0: not registered */
    int64_t renewed_ms;                                 /* the lease counts from here */
    struct map *hops;
    struct list hop_list;
    struct list runnable, runnable_new;                 /* hops with jobs and no slot, proven and not */
    unsigned running, running_unproven;                 /* with those that are slow, without them */
    unsigned slow;                                      /* set aside */
    size_t waiting_new;                                 /* jobs that wait at hops that are not proven */
    size_t job_count, bytes;                            /* in hand */
    size_t slow_bytes;
    bool has_more;                                      /* the last claim took as much as it asked for */
    struct wait_queue room;                             /* for attempts that wait for memory */
    struct fiber *scheduler, *committer;
    bool is_scheduler_waiting, is_committer_waiting;
    struct wait_queue ended;
};
extern struct queue queue;

#define CLAIM_WINDOW      100                           /* jobs of a proven hop that are claimed at once */
#define CLAIM_WINDOW_NEW  2                             /* and of others */

struct remote_job;

bool queue_lease_is_good(void);
void queue_wake_scheduler(void);

/* --- queue_hop.c --------------------------------------------------------------------------------- */
struct hop *hop_find(struct str name);                  /* NULL: nothing is known of it */
struct hop *hop_get(struct str name);
bool hop_is_blocked(const struct hop *h);
void hop_add(struct hop *h, struct job *j);             /* and starts a delivery when there is a slot */
struct job *hop_take(struct hop *h);                    /* for a delivery that has its slot; NULL: it ends */
void hop_slot_free(struct hop *h);                      /* it has ended: the slot is somebody's */
void hop_succeeded(struct hop *h);
void hop_failed(struct hop *h, struct str why);         /* its waiting jobs go back */
void hop_block(struct hop *h, int failures, int64_t blocked_ms);      /* as the database has it */
void hop_give_back(struct hop *h);
void hops_trim(bool all);
bool hop_takes_more(const struct hop *h);
bool hops_take_new(void);                               /* there is room for jobs of hops that are not proven */
/* For a claim: those that have enough to do, and those that are proven and have not. */
void hops_sort(struct arena *a, struct outbound_claim_limits *limits);
/* An attempt that began then has come to nothing yet. False: there is no room beside the slots, ask again later. */
bool hop_set_aside(struct hop *h, int64_t began_ms, bool has_session);
void hop_slow_ended(struct hop *h);

/* --- queue_attempt.c ------------------------------------------------------------------------------ */
struct job *job_new(struct outbound_claim *c, struct arena *a, int64_t worker_id);      /* takes the arena */
void job_free(struct job *j);
struct queue_message *queue_message_new(struct str text);      /* a copy */
struct queue_message *queue_message_take(struct buf *text);
void queue_message_unref(struct queue_message **m);
void commit_back(struct job *j);                        /* untried: it waits in the database again */
void commit_back_later(struct job *j, int64_t delay_ms);
void attempt_run(void *hop);                            /* the fiber: jobs of one hop until there are none */

/* --- queue_commit.c ------------------------------------------------------------------------------- */
void commit_start(void);
PARKS void commit_stop(void);                           /* everything that is known is committed, if it can be */
void commit_job(struct job *j);                         /* its results; the job is the committer's */
void commit_hop_news(struct str hop, bool is_blocked, struct str why);
void commit_note_due(struct str hop);

/* --- queue_report.c ------------------------------------------------------------------------------- */
/* One recipient that its sender is to be told of, or not. */
struct queue_fate {
    const struct outbound_recipient *rcpt;
    enum { FATE_FAILED, FATE_DELAYED, FATE_RELAYED } kind;
    int code;
    struct str enhanced, text;
    struct str host;                                    /* who said so; empty: we did */
    struct str hop_host;                                /* the last server that was asked; may be empty */
};
bool report_is_wanted(const struct outbound_claim *c, const struct queue_fate *f);
/* Sends one report of all of them, which end in the same transaction (FATE_DELAYED: are marked). What can never be sent ends,
 * too. False when it could not be for now: they stay claimed, and are the caller's to give back. */
PARKS bool report_send(int64_t worker_id, const struct outbound_claim *c, const struct queue_fate *v, size_t count,
                       struct str message);

/* --- queue_late.c --------------------------------------------------------------------------------- */
PARKS int late_look(struct error *err);

/* --- events: the log, the counters, the trace ------------------------------------------------------ */
struct str event_trace_id(struct arena *a, int64_t trace_id);
void event_delivered(const struct outbound_claim *c, const struct queue_fate *f, struct str tls);
void event_deferred(const struct outbound_claim *c, const struct queue_fate *f, int64_t delay_ms);
void event_failed(const struct outbound_claim *c, const struct queue_fate *f);
void event_reported(const struct outbound_claim *c, size_t count, const char *how);
void event_untold(const struct outbound_claim *c, size_t count, const char *why);      /* they ended, and nobody is told */
