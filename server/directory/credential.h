/* credential.h - passwords: set, verified, never kept.
 *
 * A password is stored as a crypt(3) string (yescrypt for new ones; bcrypt, sha512-crypt and what else libcrypt
 * knows are verified, so that accounts move in) and as a SCRAM-SHA-256 verifier (RFC 5803 form). Accounts that came
 * with a foreign hash get both anew at their first log-in. App passwords: made by us, 24 letters, one per device, never the main password.
 * A worker remembers for config.auth_cache that a password matched a stored hash: a digest under a key that
 * never leaves the process, so a changed password is a different entry and a memory dump shows no password. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/log.h"
#include "server/base/str.h"
#include "server/directory/directory.h"
#include "server/run/fiber.h"

PARKS int credential_set_password(int64_t account_id, struct str password, struct error *err);
PARKS int credential_set_hash(int64_t account_id, struct str crypt_string, struct error *err);

/* The clear text is in *password once, in the arena. */
PARKS int app_password_add(struct arena *a, int64_t account_id, struct str label, int64_t *id, struct str *password, struct error *err);
PARKS int app_password_remove(int64_t account_id, int64_t id, struct error *err);
struct app_password { int64_t id; struct str label; int64_t created_us, used_us; };
PARKS int app_password_list(struct arena *a, int64_t account_id, struct app_password **out, size_t *count, struct error *err);

/* Who asks, for the limiter and the log. log may be NULL; mechanism is for the log, empty: "PASSWORD". */
struct login_origin { struct str service; struct str address; const struct log *log; struct str mechanism; };

/* Verifies a name (any address of the account, or a bare local part when the server has one domain) and a password. ERR_AUTH: wrong, one
 * sentence for every cause; ERR_LIMIT: too many guesses, with the wait in the sentence; ERR_TRY_LATER: no database. */
PARKS int credential_verify(struct arena *a, struct str name, struct str password, const struct login_origin *origin,
                            struct account *out, struct error *err);

/* Frees what the process remembers of verified passwords: for leak checkers. */
void credential_fini(void);

/* Hashing on a helper thread; exposed for imports and tests. */
PARKS int password_hash(struct arena *a, struct str password, struct str *crypt_string, struct error *err);
PARKS bool password_matches(struct str password, struct str crypt_string);
bool password_hash_supported(struct str crypt_string);
int scram_verifier_make(struct arena *a, struct str password, struct str *verifier, struct error *err);   /* SASLprep applied */
