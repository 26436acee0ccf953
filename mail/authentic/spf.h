/* spf.h - may this client send mail in the name of this domain? (RFC 7208)
 *
 * One call checks one identity: the envelope sender, or the name of HELO when there is no sender
 * (bounces). A domain name that cannot be looked up now is a temperror, never "none". Limits are the
 * RFC's: 10 terms that ask DNS, 2 of them in vain, 10 hosts of an MX, 10 names of an address. */
#pragma once
#include <sys/socket.h>
#include "server/base/arena.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

enum spf_result { SPF_NONE, SPF_NEUTRAL, SPF_PASS, SPF_FAIL, SPF_SOFTFAIL, SPF_TEMPERROR, SPF_PERMERROR };

struct spf_query {
    const struct sockaddr_storage *client;              /* IPv4 inside IPv6 counts as IPv4 */
    struct str helo;
    struct str sender;                                  /* local@domain; empty: postmaster@helo */
    struct str receiver;                                /* our name, for %{r}; empty: "unknown" */
};

struct spf_answer {
    enum spf_result result;
    struct str domain;                                  /* that was checked */
    struct str mechanism;                               /* that matched, as its record writes it; may be empty */
    struct str explanation;                             /* of a fail, by the domain's owner: printable ASCII; may be empty */
    struct str problem;                                 /* of a temperror, permerror or none: one clause */
};

/* Texts live in the arena or in the query. Takes 20 seconds and one DNS wait at most. */
PARKS void spf_check(struct arena *a, const struct spf_query *q, struct spf_answer *out);

const char *spf_result_name(enum spf_result r);         /* "softfail" (RFC 8601, 2.7.2) */
