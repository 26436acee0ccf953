/* submission_fix.h - what a submission server does to a user's message (RFC 6409, 8).
 *
 *   submission_read: who it says it is from, as facts for the caller's check of addresses and grants
 *   submission_fix:  Date and Message-ID where missing, Bcc out, Sender where somebody else's name stands in From
 *
 * Only the header is made anew; the body is a slice of what the client sent. From is never invented: a message without one,
 * or with two, is refused with a sentence for the client. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/mime/address.h"
#include "mail/mime/header_edit.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define SUBMISSION_HEADER_SIZE_MAX (512 << 10)
#define SUBMISSION_AUTHORS_MAX     100                  /* addresses in From and its kin, each */

struct submission {
    struct header_edit header;                          /* may be edited between read and fix */
    struct addresses from, sender;                      /* sender.n 0: no Sender field */
    struct addresses resent_from, resent_sender;        /* of the newest (first) resending; n 0: none */
    bool has_date, has_message_id;
    struct str message_id;                              /* "<...>", or empty */
    struct str subject;                                 /* raw value, or empty */
};

/* ERR_SYNTAX: no header, no From, two From, no address in it; ERR_TOO_BIG. Each text says what to do. Who it is from is read
 * last: after an ERR_SYNTAX with s->header.count > 0 the rest is filled in and may be fixed. */
int submission_read(struct arena *a, struct str message, struct submission *s, struct error *err);

struct submission_plan {
    int64_t now_us;
    struct str message_id_left;                         /* unique, such as the trace id */
    struct str message_id_domain;                       /* the sender's, so that no inner name gets out */
    struct str sender;                                  /* who really sends, when not one of From; empty: Sender stays. As it
                                                           goes into the field, quoted where it must be */
    struct str resent_sender;                           /* the same of the newest resending */
};

/* The new header with its empty line; s->header.body goes behind it. The client's own bytes when there was nothing to do. */
struct str submission_fix(struct arena *a, struct submission *s, const struct submission_plan *plan);

/* The first address of a list that is one, skipping groups; local empty when there is none. */
struct address submission_first(const struct addresses *v);
