/* tls_policy.h - what a connection to a host must prove before mail goes over it: DANE (RFC 7672), MTA-STS (RFC 8461),
 * REQUIRETLS (RFC 8689), the administrator's word, or nothing.
 *
 * DANE wins over MTA-STS for a host that has usable records (RFC 8461, 2). A sender's "TLS-Required: No" turns failures
 * into warnings. Without any of them TLS is opportunistic (RFC 7435): used where offered, given up where it fails. */
#pragma once
#include <stdbool.h>
#include "mail/queue/mta_sts.h"
#include "mail/queue/remote.h"
#include "mail/queue/route_hosts.h"
#include "server/run/dial.h"

enum tls_level {
    TLS_LEVEL_OFF,
    TLS_LEVEL_MAY,        /* opportunistic */
    TLS_LEVEL_ENCRYPT,    /* TLS, whatever the certificate */
    TLS_LEVEL_VERIFY,     /* TLS and PKIX for the host's name */
    TLS_LEVEL_DANE,
};

bool tls_is_ordered(struct str domain);                 /* delivery_tls_domains has it */

struct tls_domain {
    struct str domain;
    struct sts_result sts;
    bool is_forced;                                     /* delivery_tls_domains */
};
/* Fetches the policy of the domain where hosts were found by MX. */
PARKS void tls_domain_find(struct arena *a, const struct route_hosts *hosts, struct tls_domain *out);

struct tls_host {
    enum tls_level level;
    struct dial_tls dial;                               /* for dial_start_tls() */
    bool is_sts;                                        /* MTA-STS asks for this level */
    bool is_testing;                                    /* an MTA-STS policy that is only tried out: failures are told */
    bool is_mx_mismatch;                                /* the host is not in the MTA-STS policy */
    const char *warning;                                /* a word of RFC 8460, 4.3 that is told although mail may go; NULL */
    struct str base;                                    /* TLSA base domain; empty: no TLSA records */
};
/* -1: this host must not be used; *why says so and *result is the word for the report (NULL: nothing to report). */
PARKS int tls_host_find(struct arena *a, const struct tls_domain *domain, const struct route_hosts *hosts,
                        const struct route_host *host, const struct route_addresses *addresses,
                        const struct remote_job *job, bool has_credentials, struct tls_host *out,
                        struct route_refusal *why, const char **result);

/* The word of RFC 8460, 4.3 for a session that failed. */
const char *tls_result_word(enum dial_tls_result result);
/* TLSA rdata as in a zone: "3 1 1 ab12..." */
struct str tls_tlsa_text(struct arena *a, const struct str *tlsa, size_t count);
