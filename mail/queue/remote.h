/* remote.h - one message to some recipients of one destination: finds the hosts, takes or makes a connection, sends,
 * says what became of each recipient.
 *
 * Hosts are tried in the order of RFC 5321, 5.1 until one has answered for every recipient; recipients that one host
 * put off are tried with the next (up to delivery_hosts_max). TLS follows tls_policy.h. Nothing here writes to the
 * queue: whoever calls decides what a deferral means. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

/* RFC 3461, 4.1; 0 where the sender said nothing. */
enum { REMOTE_NOTIFY_NEVER = 1, REMOTE_NOTIFY_SUCCESS = 2, REMOTE_NOTIFY_FAILURE = 4, REMOTE_NOTIFY_DELAY = 8 };
enum { REMOTE_RET_UNSET, REMOTE_RET_FULL, REMOTE_RET_HDRS };
/* What the body holds; UNSET: looked at. */
enum { REMOTE_BODY_UNSET, REMOTE_BODY_7BIT, REMOTE_BODY_8BITMIME, REMOTE_BODY_BINARYMIME };

enum remote_status { REMOTE_DEFERRED, REMOTE_DELIVERED, REMOTE_FAILED };

struct remote_recipient {
    struct str address;                                 /* local@domain, as for RCPT TO */
    struct str orcpt;                                   /* "rfc822;..." as the sender gave it (xtext), or empty */
    unsigned notify;
    /* the answer; texts live in the arena: */
    enum remote_status status;
    int code;                                           /* of the peer, or ours where we never got so far; 0: no answer */
    struct str enhanced;                                /* "5.1.1"; never empty */
    struct str text;                                    /* one line */
    bool is_remote_answer;                              /* the peer said so (Diagnostic-Code: smtp), not we */
    bool was_dsn_relayed;                               /* the peer takes over NOTIFY (RFC 3461, 5.2.2) */
};

struct remote_job {
    struct str destination;                             /* domain (A-labels or UTF-8), or [address] */
    struct str route;                                   /* "": as the settings say, else by MX; ROUTE_MX; or "host:port" of a smarthost (route_hosts.h) */
    struct str sender, envid, trace_id;                 /* sender empty: <> */
    unsigned ret, body;
    bool is_utf8;                                       /* SMTPUTF8 was asked for (RFC 6531) */
    bool requires_tls;                                  /* REQUIRETLS (RFC 8689) */
    bool tls_optional;                                  /* "TLS-Required: No" stands in the header (RFC 8689, 5) */
    int priority;                                       /* MT-PRIORITY (RFC 6710); 0: not sent */
    int64_t deliver_by_us;                              /* unix time; 0: none (RFC 2852) */
    bool deliver_by_notify;                             /* by-mode N: late is not wrong; else R */
    struct str message;                                 /* CR LF line ends; borrowed, must stay until the call returns */
    struct remote_recipient *rcpts;
    size_t rcpt_count;
    /* the answer: */
    struct str host;                                    /* the last one asked: "mx1.example.net [192.0.2.1]:25"; may be empty */
    struct str tls;                                     /* "TLSv1.3 with cipher ..., verified by DANE"; empty: plaintext */
    bool has_session;                                   /* a host greeted us and is in conversation: told as soon as it is so */
    bool is_destination_down;                           /* nothing of this destination can be delivered now: all its mail waits */
};

PARKS void remote_deliver(struct arena *a, struct remote_job *job);

void remote_start(void);                                /* once per worker: looks at the settings */
void remote_stop(void);                                 /* closes idle connections; before listener_fini() and offload_fini() */

/* What a connection's TLS came to, for reports (RFC 8460): called on the fiber that delivers, once per attempt at a
 * session with a peer found by MX. Strings are borrowed for the call. */
struct remote_tls_event {
    struct str domain;                                  /* of the recipients */
    enum { REMOTE_POLICY_NONE, REMOTE_POLICY_TLSA, REMOTE_POLICY_STS } policy_type;
    struct str policy_domain;                           /* the TLSA base domain, or the domain of the STS policy */
    struct str policy_text;                             /* the STS policy as fetched, or TLSA records one a line; may be empty */
    struct str mx_patterns;                             /* of the STS policy, one a line; may be empty */
    const char *result_type;                            /* NULL: success; else a word of RFC 8460, 4.3 */
    struct str host;                                    /* MX name */
    struct str ip;                                      /* empty: there was no connection */
    struct str local_ip;
    struct str reason;                                  /* one sentence; empty on success */
};
void remote_set_tls_observer(void (*observe)(const struct remote_tls_event *event));
