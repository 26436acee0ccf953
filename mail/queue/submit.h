/* submit.h - hands a message over to whom it is for: copies for accounts here, queue entries for everybody else, all in
 * one transaction.
 *
 * Everything that sends mail comes through here: SMTP and LMTP, what is released from the queue, reports. When it returns
 * 0, all that was taken is committed with fsync, and the answers say what was not. What leaves this server is signed
 * (DKIM) where it is ours, and sealed (ARC) where it is passed on, with a return address of our own (SRS) where the
 * sender's would fail. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/authentic/arc.h"
#include "mail/store/message.h"
#include "mail/store/outbound.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/directory/routing.h"
#include "server/run/fiber.h"

enum submit_status { SUBMIT_TAKEN, SUBMIT_OVER_QUOTA, SUBMIT_GONE, SUBMIT_REFUSED };

struct submit_recipient {
    struct str address;                                 /* of the envelope, as it goes into RCPT */
    struct str orcpt;                                   /* as it was given (xtext); may be empty */
    unsigned notify;                                    /* OUTBOUND_NOTIFY_*; 0: nothing was said */
    const struct route *routes;                         /* where it leads: directory_route, or submit_route_away; none: nothing is left to do */
    size_t route_count;
    bool is_group;                                      /* it was expanded (RFC 3461, 5.2.7) */
    enum submit_status status;                          /* the answer */
    struct str reason;                                  /* of SUBMIT_REFUSED: what the recipient's filter says. Set beforehand where
                                                           nobody stands behind the address: why that is refused */
};

/* A copy beside those of the recipients: what somebody sent, in their Sent. */
struct submit_copy {
    int64_t account_id;
    int64_t mailbox;                                    /* MAILBOX_SENT and the like (delivery.h) */
    uint32_t flags;
};

struct submit {
    int64_t trace_id;
    int64_t account_id;                                 /* who submitted it; 0: nobody who had logged in */
    struct str sender;                                  /* of the envelope; empty: the null path */
    struct str envid, language;                         /* language: of reports to the sender; may be empty */
    unsigned ret, body;                                 /* OUTBOUND_RET_*, OUTBOUND_BODY_* */
    bool is_utf8, requires_tls;
    int priority;
    int64_t deliver_by_us;                              /* 0: whenever */
    bool deliver_by_notify;
    int64_t hold_until_us;                              /* nobody gets it before; 0: at once */
    struct str held;                                    /* nobody gets it until an administrator releases it; empty: no */
    bool may_exceed_quota;                              /* room was promised already */
    bool waits_for_queue;                               /* what goes to accounts here is left to the queue: for who is a filter
                                                           itself, so that one does not run within another */
    bool answers_each;                                  /* LMTP: the client hears of each recipient, and needs no report of it */
    bool is_junk;                                       /* copies here go to Junk */
    bool is_ours;                                       /* written here: signed with the keys of its author's domain */
    const struct arc_verdict *arc;                      /* of a message from outside, with what we say of it: passing it */
    struct str results;                                 /* on adds a seal; NULL and empty: nothing was checked */
    struct str passed_on_for;                           /* the address of ours whose filter passes it on; empty: none does */
    struct str client_ip, client_name;                  /* who brought it; empty: nobody from outside */
    struct str return_path;                             /* the field with its CRLF: only for copies that stay here */
    struct str head;                                    /* fields in front for everybody: Received, Authentication-Results */
    struct str message;                                 /* header and body, CRLF */
    size_t room_size;                                   /* bytes before message.p that may be overwritten with fields */
    struct submit_recipient *rcpts;
    size_t rcpt_count;
    const struct submit_copy *copies;
    size_t copy_count;
    const struct outbound_ends *ends;                   /* what the same transaction ends (outbound.h); NULL: nothing */
};

PARKS int submit_message(struct submit *s, struct error *err);

/* --- filters --------------------------------------------------------------------------------------- */
/* What an account's filter makes of its copy of a message. */

struct submit_filing {
    int64_t mailbox_id;                                 /* or MAILBOX_JUNK and the like */
    struct str mailbox;                                 /* its name, for the trace */
    uint32_t flags;
    struct keywords keywords;
    struct str message;                                 /* other bytes than those that came; p NULL: as it came */
};
struct submit_decision {
    bool is_made;                                       /* false: there is no filter; the copy goes where it would go */
    struct submit_filing *filings;                      /* none: it is filed nowhere */
    size_t filing_count;
    struct str refusal;                                 /* the sender is told; empty: nothing is refused */
    struct str told;                                    /* for the trace: which rules did what */
    void *more;                                         /* the filter's own */
};

/* Whose copy. */
struct submit_filtered {
    int64_t account_id;
    const struct submit_recipient *rcpt;
    struct str message;                                 /* with the fields that are added on the way, without Return-Path */
};

struct submit_filter {
    /* Is there anything to decide for this account? If so, the others are called. */
    PARKS int (*is_wanted)(int64_t account_id, bool *out, struct error *err);
    /* Everything in the arena. An error puts the message off, for everybody. */
    PARKS int (*decide)(struct arena *a, const struct submit *s, const struct submit_filtered *f, struct submit_decision *out,
                        struct error *err);
    /* When all is decided and before anything is filed: what goes to others goes out. So a crash in between sends it twice,
     * and loses nothing. An error puts the message off. */
    PARKS int (*before)(struct arena *a, const struct submit *s, const struct submit_filtered *f, struct submit_decision *d,
                        struct error *err);
    /* Once it is filed. */
    PARKS void (*after)(const struct submit *s, const struct submit_filtered *f, struct submit_decision *d);
};
/* In the worker, before anything is submitted. NULL: none. */
void submit_set_filter(const struct submit_filter *filter);

/* The route of an address that is not ours. In the arena. */
struct route *submit_route_away(struct arena *a, struct str address);

/* Delivers held mail of accounts here when the queue releases it, in the transaction that takes it out of the queue. What
 * cannot be delivered is told in the job's recipients, as remote_deliver() does. */
struct remote_job;
PARKS void submit_released(struct arena *a, const struct outbound_claim *claim, int64_t worker_id, struct remote_job *job);
