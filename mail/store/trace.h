/* trace.h - what became of a message: one timeline from its arrival to each recipient's end, for 90 days.
 *
 * Whoever works on a message says so in a word and a sentence. Writing is behind the work and never in its way: events
 * wait in the worker's memory, bounded, and go to the database in batches, without waiting for its disk. A crash of the
 * worker loses the last 200 ms of them; while the database stays away for long the newest are dropped and counted.
 *
 * Every message and every event has an id: 63 bits, which grow with time and are unique over workers and hosts. An id holds
 * its time, so none is kept beside it. As text it is 13 characters of Crockford's base32, which sort like the number. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

/* --- ids -------------------------------------------------------------------------------------------- */
#define TRACE_ID_TEXT_SIZE 14                           /* with its NUL */

int64_t trace_id_new(void);
const char *trace_id_text(int64_t trace_id, char out[TRACE_ID_TEXT_SIZE]);     /* returns out */
bool trace_id_parse(struct str text, int64_t *trace_id);       /* any case; I, L and O are read as 1, 1 and 0 */
int64_t trace_id_time_us(int64_t trace_id);                    /* Unix time */
int64_t trace_id_at(int64_t unix_us);                          /* the lowest id of that time: for ranges */

/* --- telling ---------------------------------------------------------------------------------------- */
/* Numbers are kept in the database: new ones go to the end. */
enum trace_direction { TRACE_IN = 1, TRACE_SUBMITTED, TRACE_LOCAL, TRACE_SYSTEM };
enum trace_kind {
    TRACE_VERDICT = 1,   /* SPF, DKIM, DMARC, filters: what they said              */
    TRACE_ROUTED,        /* which accounts or remote addresses a recipient led to  */
    TRACE_DELIVERED,     /* in a mailbox here, or taken by the remote server       */
    TRACE_QUEUED,
    TRACE_ATTEMPT,
    TRACE_DEFERRED,      /* an attempt failed for now                              */
    TRACE_FAILED,        /* for good                                               */
    TRACE_BOUNCED,       /* the sender was told                                    */
    TRACE_HELD,
    TRACE_RELEASED,
    TRACE_EXPIRED,
    TRACE_DELETED,
    TRACE_FORWARDED,
    TRACE_FILTERED,      /* a rule of the recipient did something                  */
    TRACE_REFUSED,       /* told so in the session; nobody has the message         */
    TRACE_EXPANDED,      /* a group's members                                      */
    TRACE_REROUTED,
    TRACE_NOTE,
    TRACE_KIND_COUNT
};
const char *trace_kind_name(enum trace_kind kind);            /* "delivered" */
const char *trace_direction_name(enum trace_direction d);

/* Texts are copied, cut to a few hundred bytes and cleaned; empty where unknown. */
struct trace_facts {
    enum trace_direction direction;
    struct str client_ip, client_name, helo;
    struct str protocol, tls;                           /* "ESMTPS", "TLSv1.3 ..." */
    int64_t account_id;                                 /* who submitted; 0: nobody logged in */
    struct str sender;                                  /* of the envelope; empty: the null path */
    const struct str *recipients;                       /* of the envelope; the first TRACE_RECIPIENTS_MAX are kept */
    size_t recipient_count;
    struct str subject, message_id;                     /* raw field values, as trace_header_facts() gives them */
    uint64_t size;
};
#define TRACE_RECIPIENTS_MAX 20                         /* in the facts; every recipient has events of its own */

/* Subject and Message-ID, in one pass over the header at the front of a message. Borrowed from it. */
void trace_header_facts(struct str message, struct trace_facts *f);

/* Each recipient of a message needs at least one event, for that is where recipients are searched. */
void trace_received(int64_t trace_id, const struct trace_facts *f);
void trace_event(int64_t trace_id, enum trace_kind kind, struct str recipient, struct str text);
/* Into a mailbox of an account; text: its name, and what else is to be said. */
void trace_delivered(int64_t trace_id, struct str recipient, int64_t account_id, struct str text);

/* --- the writer of this worker ----------------------------------------------------------------------- */
void trace_start(void);                                 /* without it, what is told is forgotten */
PARKS void trace_stop(void);                            /* writes what waits, within a few seconds */
PARKS int trace_flush(struct error *err);               /* now, for tests */

/* --- searching --------------------------------------------------------------------------------------- */
struct trace_query {                                    /* what is empty or 0 is not asked for */
    int64_t trace_id;
    struct str sender, recipient;                       /* an address, or a domain with or without "@" before it */
    struct str subject;                                 /* words that must all be there, in any case */
    struct str message_id;                              /* with or without angle brackets */
    int64_t account_id;                                 /* submitted by it, or delivered to it */
    int64_t since_us, until_us;                         /* when the message came */
    int64_t before_id;                                  /* paging: the lowest trace_id of the page before */
    size_t limit;                                       /* the newest so many; at most TRACE_LIMIT_MAX */
};
#define TRACE_LIMIT_MAX 1000

struct trace_line {
    int64_t time_us;
    enum trace_kind kind;
    struct str recipient, account, text;                /* account: the primary address of one of ours, or empty */
};
struct trace_message {
    int64_t trace_id;
    struct trace_facts facts;                           /* recipients: none here, see recipient_list */
    struct str recipient_list;                          /* separated by commas */
    struct str account;                                 /* who submitted: the primary address */
    struct trace_line *lines;                           /* oldest first; NULL until trace_read_lines() */
    size_t line_count;
    bool has_more_lines;
};
#define TRACE_LINES_MAX 5000                            /* of one message */

/* Oldest first. ERR_SYNTAX when nothing is asked for. */
PARKS int trace_search(struct arena *a, const struct trace_query *q, struct trace_message **out, size_t *count,
                       struct error *err);
PARKS int trace_read_lines(struct arena *a, struct trace_message *m, struct error *err);

/* --- upkeep ------------------------------------------------------------------------------------------- */
/* Makes the partitions of the days ahead and drops those older than that. */
PARKS int trace_upkeep(int64_t retention_ms, struct error *err);
