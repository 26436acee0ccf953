/* dsn.h - delivery status notifications: the reports that tell a sender what became of a message.
 *
 * RFC 3464 in RFC 6522's envelope, RFC 6533 for internationalized mail; what ORCPT, ENVID and RET mean is RFC 3461's.
 * Whether somebody is to be told at all (NOTIFY, the null sender) is the caller's to decide; the report's own envelope
 * sender is the null path, so that no report answers a report. One report may speak of many recipients and of several
 * outcomes. Nothing in it grows with what a remote server said. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/str.h"

enum dsn_action { DSN_FAILED, DSN_DELAYED, DSN_DELIVERED, DSN_RELAYED, DSN_EXPANDED };
enum dsn_ret { DSN_RET_ANY, DSN_RET_FULL, DSN_RET_HDRS };      /* of MAIL; ANY: not said */

#define DSN_RECIPIENTS_MAX    1000                      /* the rest is counted in a sentence */
#define DSN_ORIGINAL_SIZE_MAX 102400                    /* of a larger original the header alone comes back */
#define DSN_HEADER_SIZE_MAX   65536                     /* and so much of it */
#define DSN_DIAGNOSTIC_MAX    600                       /* bytes of what a server said */

struct dsn_recipient {
    enum dsn_action action;
    struct str address;                                 /* as the envelope had it */
    struct str orcpt;                                   /* "rfc822;ani@example.org", xtext decoded; empty: none given */
    struct str status;                                  /* "5.1.1"; anything else becomes x.0.0 */
    struct str remote_host;                             /* that said it; empty: we said it ourselves */
    int code;                                           /* SMTP's; 0: none */
    struct str text;                                    /* all that was said behind the code: of any length and kind */
    int64_t last_attempt_us;                            /* 0: none */
    int64_t retry_until_us;                             /* DSN_DELAYED */
};

struct dsn {
    struct str reporting_host;
    struct str from;                                    /* whom to write to about it; empty: postmaster@reporting_host */
    struct str recipient;                               /* the sender of the message: who is told. Never empty */
    struct str envid;                                   /* xtext decoded; empty: none */
    struct str trace_id;                                /* text form; empty: none */
    int64_t arrival_us, now_us;
    const char *language;                               /* "en", "id"; anything else reads as "en" */
    const struct dsn_recipient *v;
    size_t count;
    struct str original;                                /* the message as it was sent, without our Return-Path */
    enum dsn_ret ret;
    bool is_utf8;                                       /* it came with SMTPUTF8: UTF-8 stands in the report as it is */
    bool is_7bit;                                       /* who is told may not take 8BITMIME: nothing above 127 */
};

/* The whole message, lines end in CR LF. Where it holds bytes above 127 (never with is_7bit) it is to be sent with
 * BODY=8BITMIME, and with SMTPUTF8 when is_utf8. */
struct str dsn_build(struct arena *a, const struct dsn *d);
