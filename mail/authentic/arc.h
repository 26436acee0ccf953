/* arc.h - the Authenticated Received Chain (RFC 8617): what those who forwarded a message saw of it.
 *
 * Who forwards a message adds a set of three fields: its Authentication-Results, a signature of the
 * message as it leaves, and a seal of all sets so far. */
#pragma once
#include <stdbool.h>
#include "mail/authentic/dkim.h"

#define ARC_SETS_MAX 50                                 /* RFC 8617, 4.2.1 */

enum arc_result { ARC_NONE, ARC_PASS, ARC_FAIL };

struct arc_verdict {
    enum arc_result result;
    unsigned count;                                     /* the highest instance; 0 when the fields cannot be read */
    unsigned oldest_pass;                               /* the oldest signature that still holds; 0: all (RFC 8617, 5.2) */
    struct str *domains;                                /* d= of the seals of instance 1 to count; set when the chain passes */
    struct str results;                                 /* of a chain that passes: what the newest sealer saw, its authserv-id first */
    struct str problem;                                 /* why it failed; a clause without a final dot */
    bool covers_author;                                 /* From, by the newest message signature of a chain that passes */
    bool is_temporary;                                  /* it failed because DNS did not answer */
    bool is_ended;                                      /* the newest seal says cv=fail: nothing can be added */
};

const char *arc_result_name(enum arc_result result);   /* "pass" */

PARKS void arc_verify(struct arena *a, struct str message, struct arc_verdict *out);

/* The ARC-Seal, ARC-Message-Signature and ARC-Authentication-Results of the next instance with their line ends, to be
 * put in front of the message, after everything else was done to it. results: what our Authentication-Results say
 * behind the authserv-id ("spf=pass smtp.mailfrom=...; dkim=..."), folded as one likes. Empty fields and success when there is
 * nothing to add: the chain has ended or is full, or DNS could not tell whether it holds, and cv=fail would end it for
 * those who will know. Errors as in dkim_sign. */
PARKS int arc_seal(struct arena *a, struct str message, const struct dkim_signer *signer, const struct arc_verdict *verdict,
                   struct str authserv_id, struct str results, int64_t now_s, struct str *fields, struct error *err);
