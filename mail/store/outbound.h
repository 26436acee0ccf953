/* outbound.h - the outbound queue in the database: what goes in, who works on it, what became of it.
 *
 * A message goes in with mail_deliver() (delivery.h), in the same transaction as its local copies. It waits for each of its
 * recipients on its own. A recipient is claimed by one worker, which delivers and then finishes it: it is removed, or
 * deferred. A claim is good as long as its worker renews itself (OUTBOUND_LEASE_MS); then it returns to the queue. So
 * whatever is killed when, nothing is lost; a message arrives twice only when the crash came between the other server's
 * answer and our commit. One by which workers die again and again comes back later each time (queue_crash_pause() of
 * 0012_outbound.sql), so that it cannot keep them from all other mail.
 *
 * Scheduling is by hop: the recipient's domain or [address], or "host:port" of the smarthost on the way there. It is only that:
 * where a message goes is decided anew at each attempt. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/pg/pg.h"
#include "server/run/fiber.h"

#define OUTBOUND_LEASE_MS 30000
#define OUTBOUND_ROUTE_HERE "here:"                     /* a route: to accounts of ours, once it is released (mail/queue/submit.h) */
#define OUTBOUND_ROUTE_MX   "mx:"                       /* a route: by MX, whatever the settings say */

/* RFC 3461, 4.1; 0 where the sender said nothing. */
enum { OUTBOUND_NOTIFY_NEVER = 1, OUTBOUND_NOTIFY_SUCCESS = 2, OUTBOUND_NOTIFY_FAILURE = 4, OUTBOUND_NOTIFY_DELAY = 8 };
enum { OUTBOUND_RET_UNSET, OUTBOUND_RET_FULL, OUTBOUND_RET_HDRS };
enum { OUTBOUND_BODY_UNSET, OUTBOUND_BODY_7BIT, OUTBOUND_BODY_8BITMIME, OUTBOUND_BODY_BINARYMIME };

struct outbound_recipient {
    struct str address;                                 /* local@domain, as for RCPT TO */
    struct str orcpt;                                   /* "rfc822;..." (xtext) as the sender gave it, or empty */
    unsigned notify;
    struct str destination;                             /* empty: the address's domain; else A-labels in lower case, or [address] */
    struct str route;                                   /* empty: as the settings say, else by MX; "host:port" of a smarthost; or one of the two above */
    struct str hop;                                     /* by which it is scheduled; empty: route, else destination */
    int32_t no;                                         /* of a claim: its number in the message */
    int32_t attempts;                                   /* of a claim: how many there were */
    int32_t last_code;                                  /* of a claim: the last attempt's answer; 0: none */
    struct str last_enhanced, last_text, last_host;
    bool is_refused;                                    /* of a claim: an administrator ends it */
};

/* Recipients that end with a report: see outbound.ends. */
struct outbound_ends {
    int64_t worker_id, queue_id;
    const int32_t *nos;
    size_t count;
    bool is_warning;                                    /* they do not end: their sender was warned, and is no more */
    const struct report_claim *report;                  /* not NULL: this ends instead, with ERR_CONFLICT (report_store.h) */
};
#define OUTBOUND_ENDS_PARAMS 5

struct outbound {
    int64_t trace_id;                                   /* 0: none */
    int64_t account_id;                                 /* who submitted it; 0: nobody who had logged in */
    struct str sender;                                  /* empty: the null path */
    struct str envid, language;
    unsigned ret, body;
    bool is_utf8, requires_tls;
    int priority;                                       /* RFC 6710, -9..9 */
    int64_t deliver_by_us;                              /* Unix time; 0: whenever (RFC 2852) */
    bool deliver_by_notify;                             /* late is not wrong: the sender is told, and we go on */
    int64_t hold_until_us;                              /* not before then (RFC 4865, undo send); 0: at once */
    struct str held;                                    /* why it waits for an administrator; empty: it does not */
    size_t blob_offset;                                 /* leading bytes of the blob that are not sent (Return-Path of local copies) */
    struct outbound_recipient *rcpts;
    size_t rcpt_count;                                  /* 0: the message is not queued */
    struct arena *arena;                                /* takes the destinations that are found out; not NULL when there are rcpts */
    int64_t claimed_by;                                 /* a worker's id: it delivers from memory; 0: whoever comes first */
    /* What the same transaction ends: a report and the recipients it tells of come and go together. ERR_NOT_FOUND, and nothing
     * happened, when one of them is not that worker's any more. NULL: nothing. */
    const struct outbound_ends *ends;
    struct outbound *next;                              /* of the same message, in the same transaction: under another sender */
    int64_t queue_id;                                   /* the answer */
};

#define OUTBOUND_RCPTS_MAX 100000                       /* of one message */

/* Numbers recipients and fills in the destinations that are empty. mail_deliver() does it, too. */
void outbound_settle(struct outbound *o);
static inline struct str outbound_hop(const struct outbound_recipient *r)
{
    if (!str_empty(r->hop))
        return r->hop;
    return str_empty(r->route) ? r->destination : r->route;
}

/* --- for mail_deliver() ------------------------------------------------------------------------ */
#define OUTBOUND_INSERT_PARAMS 28
/* Numbers the entry: before the next two. */
PARKS int outbound_prepare(struct outbound *o, struct error *err);
void outbound_insert_args(struct arena *a, const struct outbound *o, int64_t blob_id, size_t blob_size,
                          struct pg_arg args[OUTBOUND_INSERT_PARAMS]);
/* The statement for o->ends and its arguments; their count. */
size_t outbound_ends_args(struct arena *a, const struct outbound_ends *ends, const struct sql_query **query,
                          struct pg_arg args[OUTBOUND_ENDS_PARAMS]);

/* --- workers ----------------------------------------------------------------------------------- */
/* host: a number of the data directory's own; what a dead worker of the same slot held is released. */
PARKS int outbound_worker_begin(int64_t host, int slot, int64_t *worker_id, struct error *err);
/* is_alive false: too late, its claims are others' by now; begin anew. */
PARKS int outbound_worker_renew(int64_t worker_id, bool *is_alive, struct error *err);
PARKS int outbound_worker_end(int64_t worker_id, struct error *err);   /* releases what it still holds */
/* What a crash left anywhere. Every worker may do it at any time; every few seconds somebody should. */
PARKS int outbound_sweep(struct error *err);

/* --- claims ------------------------------------------------------------------------------------ */
/* One message to recipients of one hop; texts in the arena. */
struct outbound_claim {
    struct outbound o;                                  /* rcpts: those claimed */
    int64_t blob_id;
    size_t size;                                        /* of the message as it is sent */
    int64_t created_us, expires_us;
    int failures;                                       /* of the hop, in a row */
    bool is_over;                                       /* of outbound_claim_late(): expired; else its sender is to be warned */
};
struct outbound_claims {
    struct outbound_claim *v;
    size_t count;
    size_t rcpt_count;
};

struct outbound_claim_limits {
    int hops, rcpts;
    int rcpts_per_hop;                                  /* of those that are known to take mail */
    int rcpts_per_new_hop;                              /* of others; 0: none of these */
    int64_t probe_ms;                                   /* of a hop that failed: no second recipient for so long */
    const struct str *skip;                             /* hops that are not wanted */
    size_t skip_count;
    const struct str *proven;                           /* hops that take mail, as far as the worker knows */
    size_t proven_count;
};
PARKS int outbound_claim(struct arena *a, int64_t worker_id, const struct outbound_claim_limits *limits,
                         struct outbound_claims *out, struct error *err);
/* Messages that expired (claimed) or whose senders are to be told of the delay (not claimed: told of, they are no more).
 * By message, not by hop. What is not finished comes again. */
PARKS int outbound_claim_late(struct arena *a, int64_t worker_id, int count_max, struct outbound_claims *out,
                              struct error *err);
/* The message of a claim, and which of its recipients still are the worker's and not held: the others are dropped from the
 * claim. ERR_NOT_FOUND when there are none. worker_id 0: whosever they are. */
PARKS int outbound_read(struct arena *a, int64_t worker_id, struct outbound_claim *c, struct buf *message, struct error *err);

/* Nobody wants to hear of its delay. */
PARKS int outbound_set_warned(int64_t queue_id, struct error *err);

/* --- what became of them ----------------------------------------------------------------------- */
struct outbound_result {
    int64_t queue_id;
    int32_t no;
    bool is_done;                                       /* remove it; else it waits for delay_ms */
    int64_t delay_ms;
    int code;                                           /* 0: tried without an answer; negative: not tried */
    struct str enhanced, text, host;
};
/* News of a hop: it takes nothing now (error says why), or it does again. */
struct outbound_hop_news {
    struct str hop, error;
    bool is_blocked;
    int failures;                                       /* the answer, when blocked */
    int64_t blocked_ms;                                 /* and for how long from now */
};
/* All in one transaction. delays_ms: how long a hop is left alone after its n-th failure in a row. */
PARKS int outbound_finish(int64_t worker_id, const struct outbound_result *v, size_t count, struct outbound_hop_news *news,
                          size_t news_count, const int64_t *delays_ms, size_t delay_count, struct error *err);
/* Something waits for these hops now. After the commit of what made it wait. */
PARKS int outbound_note_due(const struct str *hops, size_t count, struct error *err);

/* --- administration ----------------------------------------------------------------------------- */
/* What an administrator means; empty and 0: any. Addresses may be "*@domain"; a destination is a domain, [address] or
 * smarthost. */
struct outbound_filter {
    int64_t queue_id, account_id;
    struct str sender, recipient, destination;
    bool is_held;                                       /* only held ones */
};
struct outbound_entry {                                 /* a recipient */
    int64_t queue_id, trace_id, account_id;
    int32_t no;
    int32_t attempts, last_code;
    size_t size;
    struct str sender, address, destination, hop, held, last_enhanced, last_text, last_host, envid;
    int64_t created_us, next_us, expires_us, last_us;   /* next_us INT64_MAX: held; last_us 0: never tried */
    bool is_claimed;                                    /* in delivery at this moment */
};
/* Ordered by queue_id and number, after those given (0, 0: from the start). */
PARKS int outbound_list(struct arena *a, const struct outbound_filter *f, int64_t after_id, int32_t after_no,
                        size_t count_max, struct outbound_entry **out, size_t *count, struct error *err);
/* How many recipients it concerned. Those in delivery at the moment finish their attempt. */
PARKS int outbound_hold(const struct outbound_filter *f, struct str reason, int64_t *count, struct error *err);
PARKS int outbound_release(const struct outbound_filter *f, int64_t *count, struct error *err);   /* held ones: due now, and they live as long as new ones */
PARKS int outbound_retry(const struct outbound_filter *f, int64_t *count, struct error *err);     /* due now, hops unblocked; not the held ones */
PARKS int outbound_reroute(const struct outbound_filter *f, struct str route, int64_t *count, struct error *err);   /* route empty: as the settings say */
PARKS int outbound_delete(const struct outbound_filter *f, int64_t *count, struct error *err);    /* nobody is told */
/* The sender is told: the recipients expire now. */
PARKS int outbound_bounce(const struct outbound_filter *f, int64_t *count, struct error *err);

struct outbound_counts { int64_t messages, recipients, held, deferred, hops; int64_t oldest_us; };
PARKS int outbound_count(struct outbound_counts *out, struct error *err);

/* The topic of the bus (server/pg/notify.h) when an administrator made something due: workers look at once. */
#define OUTBOUND_TOPIC UINT64_C(0x7175657565)           /* queue_tell() of 0012_outbound.sql has it, too */
