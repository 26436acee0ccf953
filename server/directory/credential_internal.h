/* credential_internal.h - what stands behind a log-in, shared by passwords, SASL and the making of accounts. */
#pragma once
#include "server/directory/credential.h"
#include "server/directory/digest.h"

#define PASSWORD_SIZE_MAX 500                           /* below CRYPT_MAX_PASSPHRASE_SIZE */

/* --- hashing --------------------------------------------------------------------------------------- */

/* The stored forms of one password. */
struct password_forms {
    struct str password;                                /* empty: nothing is made */
    struct str salt;                                    /* SCRAM salt to share; empty: a new one */
    bool is_random;                                     /* an app password: nobody can guess it, so a cheap hash will do */
    struct str crypt, scram;                            /* out; scram is empty when SASLprep refuses the password */
};
/* Makes them on the helper threads, several at once. On failure *done have been made. */
PARKS int password_forms_make(struct arena *a, struct password_forms *forms, size_t count, size_t *done, struct error *err);

/* A hash from another server: strips Dovecot's {SCHEME}; ERR_UNSUPPORTED names what cannot be verified here. */
int password_hash_import(struct arena *a, struct str given, struct str *crypt_string, struct error *err);

/* Which of the hashes the password belongs to, or -1; one visit to a helper thread. Empty hashes never match. */
PARKS ptrdiff_t password_find_match(struct str password, const struct str *hashes, size_t count);

/* --- log-ins --------------------------------------------------------------------------------------- */

struct stored {
    int64_t id;                                         /* 0: the main password */
    int64_t created_us;
    struct str crypt, scram;
    struct str old_scram;                               /* of the password before, or empty */
    bool is_use_due;                                    /* used_at is NULL or old */
};

struct login {
    struct arena *arena;
    const struct login_origin *origin;
    struct str name;                                    /* for limiter and log: primary address, or what was typed */
    bool is_known;
    struct account account;                             /* when known */
    struct stored *stored;
    size_t stored_count;
};

/* One round trip. A name that nobody has is no failure here. ERR_LIMIT was counted and logged already. */
PARKS int login_find(struct arena *a, struct str typed, const struct login_origin *origin, struct login *out, struct error *err);
/* Counts and logs a good log-in, remembers when; `guess` as in limiter_succeeded. */
PARKS void login_succeeded(struct login *login, const struct stored *used, struct str guess);
/* Counts, logs the true reason, pauses, and fails with the one sentence of ERR_AUTH. */
PARKS int login_failed(struct login *login, const char *reason, struct error *err);
/* The same for ERR_LIMIT; err holds the sentence. */
PARKS int login_limited(const struct login *login, const struct error *err);
