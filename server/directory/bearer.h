/* bearer.h - log-ins with a token instead of a password (RFC 6750): who vouches for it, and what it is good for.
 *
 * A verifier knows the tokens of one issuer. They are registered when a worker starts; without one the mechanisms
 * OAUTHBEARER and XOAUTH2 are not offered. bearer_jwt.h is one for an issuer that shares a key with us. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/directory/credential.h"

#define BEARER_SCOPE "mail"                             /* what a token with scopes must have, unless it names the service */

struct bearer_claims {
    struct str name;                                    /* an address of the account */
    bool has_scope;                                     /* false: good for everything */
    struct str scope;                                   /* words divided by spaces: "mail", "imap", ... */
    int64_t expires_us;                                 /* Unix time; INT64_MAX: never */
};

struct bearer_verifier {
    /* ERR_NOT_FOUND: not this issuer's token, ask the next; ERR_AUTH: forged or not for us; ERR_TRY_LATER. Whether it
     * has expired and what it is good for is the caller's to judge. */
    PARKS int (*verify)(struct arena *a, struct str token, struct bearer_claims *out, struct error *err);
};

void bearer_register(const struct bearer_verifier *verifier);   /* borrowed */
void bearer_unregister_all(void);
bool bearer_is_accepted(void);                          /* somebody could verify one */

enum bearer_fault { BEARER_INVALID, BEARER_EXPIRED, BEARER_SCOPE_MISSING };

/* typed: the name that the client gave, or empty. By the rules of passwords: a false token is a guess, and counts once. An expired
 * one is no guess. ERR_AUTH with *fault; ERR_LIMIT, ERR_TRY_LATER, ERR_DENIED: it is another account's. */
PARKS int bearer_login(struct arena *a, struct str typed, struct str token, const struct login_origin *origin,
                       struct account *out, enum bearer_fault *fault, struct error *err);
