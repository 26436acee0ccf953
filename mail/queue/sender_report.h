/* sender_report.h - a report to the sender of a message: put together, and on its way.
 *
 * Who is to hear of what is decided by those who know what happened (queue_report.c, submit_report.c). The report's own
 * sender is the null path. A sender of ours finds it in the mailbox, another gets it through the queue, that of mail we
 * passed on under a name of ours (SRS) at the real address. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/queue/dsn.h"
#include "mail/store/outbound.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

struct sender_report {
    struct str sender;                                  /* of the message: who is told. Not the null path */
    struct str envid;                                   /* xtext, as it was given */
    struct str language;                                /* empty: the message's own, or report_language */
    int64_t trace_id, arrival_us;                       /* of the message */
    unsigned ret;                                       /* OUTBOUND_RET_* */
    bool is_utf8, requires_tls;                         /* requires_tls: so does the report, and it has headers only (RFC 8689, 5) */
    struct str original;                                /* without our Return-Path */
    const struct dsn_recipient *v;
    size_t count;
    const struct outbound_ends *ends;                   /* what ends with it, in one transaction; NULL: nothing */
};

/* is_away (may be NULL): it goes to another server. ERR_DENIED: there is nobody to tell, and why; ERR_NOT_FOUND: what would end was ended by
 * somebody else; anything else: try again. */
PARKS int sender_report_send(const struct sender_report *r, bool *is_away, struct error *err);
