/* authentic.h - who vouches for a received message: iprev, SPF, DKIM, ARC and DMARC in one call, and the field
 * that says so. */
#pragma once
#include <stdbool.h>
#include <sys/socket.h>
#include "mail/authentic/arc.h"
#include "mail/authentic/dkim.h"
#include "mail/authentic/dmarc.h"
#include "mail/authentic/iprev.h"
#include "mail/authentic/spf.h"
#include "mail/report/dmarc_report.h"
#include "server/base/arena.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

#define AUTHENTIC_FROM_DOMAINS_MAX 4  /* different domains of the author that are checked; with more it is permerror */

struct authentic_query {
    const struct sockaddr_storage *client;
    struct str helo;
    struct str sender;                /* local@domain; empty: the null sender */
    struct str receiver;              /* our name */
    struct str message;               /* as received, CRLF, without what we put in front of it */
};

struct authentic {
    struct iprev_answer iprev;
    struct spf_answer spf;            /* MAIL FROM; of HELO when the sender is empty */
    struct spf_answer spf_helo;
    struct dkim_verdict dkim;
    struct arc_verdict arc;
    struct dmarc_verdict dmarc;       /* of several From domains: the strictest outcome (RFC 7489, 6.6.1) */
    struct str from_domain;           /* of the first author; empty: the message has none */
    bool has_unknowable_author;       /* no From, or one with a domain that is none: nobody can be asked about it */
    bool has_too_many_authors;        /* of more than AUTHENTIC_FROM_DOMAINS_MAX domains: some were not looked at */
    struct str client, sender, helo;  /* as asked, for the field; client as text */
};

PARKS void authentic_check(struct arena *a, const struct authentic_query *q, struct authentic *out);

/* What follows our name in Authentication-Results; arc_seal takes it too. account: the address that the client is
 * logged in as, empty when nobody is. With `v` NULL nothing was checked but the log-in. */
struct str authentic_payload(struct arena *a, const struct authentic *v, struct str account);
/* "Authentication-Results: ..." folded, with CRLF. */
struct str authentic_field(struct arena *a, struct str authserv_id, const struct authentic *v, struct str account);

/* What to tell the From domain's owner of this message (report_store_add_dmarc takes it): the policy as published,
 * and a record with count 1. applied: what was done to it in the end. False when the owner wants no reports, or
 * there is no verdict to tell. */
bool authentic_report(struct arena *a, const struct authentic *v, enum dmarc_policy applied, struct dmarc_report *policy,
                      struct dmarc_report_record *record);
