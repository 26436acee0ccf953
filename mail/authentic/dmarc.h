/* dmarc.h - does anything that was authenticated belong to the author's domain, and what does that domain ask for
 * when nothing does (RFC 9989, which replaced RFC 7489)?
 *
 * The organizational domain is found by walking up the DNS tree with at most 8 queries. A DNS failure is never "no
 * policy": as long as it could change the outcome, the outcome is temperror. No question
 * is asked later than dns_timeout after the first. */
#pragma once
#include "mail/authentic/dkim.h"
#include "mail/authentic/dmarc_record.h"
#include "mail/authentic/spf.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

#define DMARC_QUERIES_MAX 8           /* of one tree walk (RFC 9989, 4.10) */

enum dmarc_result { DMARC_NONE, DMARC_PASS, DMARC_FAIL, DMARC_TEMPERROR, DMARC_PERMERROR };

struct dmarc_verdict {
    enum dmarc_result result;         /* NONE: no record */
    enum dmarc_policy policy;         /* what is published for this domain: p, sp or np of the record */
    enum dmarc_policy disposition;    /* what the owner asks for now: NONE unless FAIL; milder by one step under t=y */
    enum dmarc_policy at_stake;       /* of TEMPERROR: the strictest disposition there may be once DNS answers */
    struct str from_domain;           /* in lower case, international names as A-labels */
    struct str organizational_domain; /* empty when nothing depended on it */
    struct str record_domain;         /* where the record was found; empty: nowhere */
    struct dmarc_record record;       /* when record_domain is not empty */
    bool is_spf_aligned, is_dkim_aligned;   /* passed, and for a domain that is aligned */
    bool is_nonexistent;              /* the From domain is not in DNS (NXDOMAIN): np was applied */
    struct str problem;               /* one sentence for temperror and permerror */
};

/* from_domain as in the header. spf is that of MAIL FROM, or of HELO where MAIL FROM was empty: HELO alone
 * authenticates nobody (RFC 9989, 4.4). */
PARKS void dmarc_check(struct arena *a, struct str from_domain, const struct spf_answer *spf,
                       const struct dkim_verdict *dkim, struct dmarc_verdict *out);

/* The organizational domain of a name (RFC 9989, 4.10.2); the name itself when no record says more. */
PARKS int dmarc_organizational_domain(struct arena *a, struct str domain, struct str *out, struct error *err);

/* The addresses that aggregate reports about policy_domain go to: those of rua that are of its own organization, and
 * those elsewhere whose domain agrees (RFC 9990, 3.5; RFC 7489, 7.1). ERR_TRY_LATER when that cannot be told now. */
PARKS int dmarc_report_addresses(struct arena *a, struct str policy_domain, const struct str *rua, size_t rua_count,
                                 struct str **out, size_t *count, struct error *err);

const char *dmarc_result_name(enum dmarc_result r);         /* as in Authentication-Results */
