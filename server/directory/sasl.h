/* sasl.h - the server side of SASL: PLAIN, LOGIN, SCRAM-SHA-256(-PLUS), OAUTHBEARER, XOAUTH2, apart from any protocol.
 *
 *   s = sasl_new(arena, mechanism, &context);
 *   loop: sasl_step(s, client bytes (decoded), &challenge, &err)  ->  SASL_CONTINUE: send challenge; SASL_DONE; SASL_FAILED
 *
 * The initial response's "=" belongs to the protocol. A client that cannot start with data gets an
 * empty first challenge by calling step with initial = false. (RFC 4422, 4616, 5802, 7628, 7677, 9266.) */
#pragma once
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/error.h"
#include "server/directory/credential.h"

struct conn;
struct sasl;
enum sasl_status { SASL_CONTINUE, SASL_DONE, SASL_FAILED };

/* "PLAIN LOGIN SCRAM-SHA-256 ..." as may be offered on this connection now: those that carry a secret only when it
 * is secure, -PLUS only under TLS, those with tokens only when bearer.h has a verifier. Appends words separated by spaces, each with `prefix` ("AUTH=" for IMAP). */
void sasl_add_mechanisms(struct buf *out, const struct conn *c, const char *prefix);

/* NULL on ERR_UNSUPPORTED (unknown mechanism) or ERR_DENIED (needs TLS first). conn gives TLS, bindings and origin. */
struct sasl *sasl_new(struct arena *a, struct str mechanism, struct conn *c, struct str service, struct error *err);
/* A response as IMAP, POP3 and SMTP send it: base64 in a line of SASL_LINE_SIZE_MAX bytes at most. ERR_SYNTAX. */
#define SASL_LINE_SIZE_MAX 16384
int sasl_decode_response(struct arena *a, struct str base64, struct str *out, struct error *err);
/* has_input: false for "no initial response". err is set on SASL_FAILED only. The challenge lives in the arena. */
PARKS enum sasl_status sasl_step(struct sasl *s, bool has_input, struct str input, struct str *challenge, struct error *err);
/* After SASL_DONE: who logged in. An authorization identity that is not the account's own was refused with ERR_DENIED, unless the
 * protocol lets people act for other accounts: then it says who may. 0, or -1 with the error that the client hears. */
typedef PARKS int sasl_authorize(struct arena *a, const struct account *who, const struct account *for_whom, struct error *err);
void sasl_set_authorizer(struct sasl *s, sasl_authorize *authorize);
const struct account *sasl_account(const struct sasl *s);
const struct account *sasl_acts_for(const struct sasl *s);   /* the other account; NULL: it is its own */
/* After SASL_FAILED with ERR_AUTH: the credential was right once (RFC 5530: EXPIRED). */
bool sasl_has_expired(const struct sasl *s);
