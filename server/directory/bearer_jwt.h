/* bearer_jwt.h - verifies JSON Web Tokens signed with HS256 (RFC 7519, 7515), for sites whose issuer shares a key with us.
 *
 * config.bearer_token_key names a file with one key a line, of 32 bytes or more; any of them verifies, so that keys can be
 * changed one after the other. A token must have "exp" and the claim that names the account; "nbf", "iss" and "aud" are held to. */
#pragma once
#include "server/directory/bearer.h"

/* Worker: reads the keys and registers the verifier; does nothing when there is no setting. */
int bearer_jwt_start(struct error *err);
void bearer_jwt_fini(void);

/* For tests: the verifier's own work, as of now_s. */
int bearer_jwt_verify(struct arena *a, struct str token, int64_t now_s, struct bearer_claims *out, struct error *err);
