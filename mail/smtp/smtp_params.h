/* smtp_params.h - what the parameters of MAIL and RCPT mean; no I/O.
 *
 * SIZE (RFC 1870), BODY (6152, 3030), SMTPUTF8 (6531), AUTH (4954), RET, ENVID, NOTIFY and ORCPT (3461, 6533), BY (2852),
 * MT-PRIORITY (6710), REQUIRETLS (8689), HOLDFOR and HOLDUNTIL (4865). A parameter that was not offered, is unknown or is
 * given twice is refused, and a value must match its RFC's grammar to the byte: it may be sent on as it came. One thing more is
 * understood: an ORCPT of the type rfc822 may hold UTF-8 in xtext, as Postfix sends it, and with SMTPUTF8 as it is. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/smtp/smtp_parse.h"

enum smtp_body { SMTP_BODY_UNSAID, SMTP_BODY_7BIT, SMTP_BODY_8BITMIME, SMTP_BODY_BINARYMIME };
enum smtp_ret { SMTP_RET_UNSAID, SMTP_RET_FULL, SMTP_RET_HDRS };
enum smtp_by_mode { SMTP_BY_UNSAID, SMTP_BY_NOTIFY, SMTP_BY_RETURN };

/* A set; empty: not said, which means failure and perhaps delay (RFC 3461, 4.1). NEVER stands alone. */
enum smtp_notify { SMTP_NOTIFY_NEVER = 1, SMTP_NOTIFY_SUCCESS = 2, SMTP_NOTIFY_FAILURE = 4, SMTP_NOTIFY_DELAY = 8 };

#define SMTP_ENVID_SIZE_MAX 100                         /* RFC 3461, 4.4 and 4.2 */
#define SMTP_ORCPT_SIZE_MAX 500
#define SMTP_PRIORITY_MAX   9                           /* and -9 (RFC 6710) */

/* What this session may ask for. */
struct smtp_offer {
    int64_t now_us;
    int64_t size_max;
    int64_t hold_max_s;                                 /* 0: FUTURERELEASE is not offered */
    bool is_tls;                                        /* REQUIRETLS is offered */
    bool is_trusted;                                    /* AUTH= and a priority above 0 are believed */
};

struct smtp_mail_params {
    int64_t size_declared;                              /* 0: not */
    enum smtp_body body;
    bool is_utf8;
    bool requires_tls;
    enum smtp_ret ret;
    struct str envid;                                   /* xtext as it came; empty: none */
    struct str submitter;                               /* of AUTH=, decoded; "<>": unknown or not believed; empty: not given */
    int64_t hold_until_us;                              /* 0: now */
    int64_t deliver_by_us;                              /* with SMTP_BY_UNSAID: never mind */
    enum smtp_by_mode by_mode;
    bool by_trace;                                      /* relays are to be reported, too (RFC 2852, 4) */
    int priority;                                       /* -9 to 9; 0 is ordinary */
    bool is_priority_lowered;                           /* more was asked for than this client gets */
};

struct smtp_rcpt_params {
    unsigned notify;                                    /* enum smtp_notify */
    struct str orcpt;                                   /* "type;text", ASCII: as it came, or "utf-8;" and utf-8-addr-xtext;
                                                           empty: none */
};

/* Values stay borrowed from params, decoded ones come from the arena. ERR_UNSUPPORTED: a parameter that is not known or not
 * offered now (555); ERR_SYNTAX: a bad value (501); ERR_TOO_BIG. */
int smtp_read_mail_params(struct arena *a, const struct smtp_params *params, const struct smtp_offer *offer,
                          struct smtp_mail_params *out, struct error *err);
int smtp_read_rcpt_params(struct arena *a, const struct smtp_params *params, bool is_utf8, struct smtp_rcpt_params *out,
                          struct error *err);
