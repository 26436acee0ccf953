/* limiter.h - slows down guessing of passwords without locking anybody out.
 *
 * What counts is a *different* wrong password: the same wrong one again, from a phone whose owner changed it elsewhere,
 * is the same guess (a keyed digest is remembered, never the password). Guesses are counted per (account, network) and per
 * network (IPv4: /32, IPv6: /64), in the database, so every worker and host sees them. A name that logged in well from
 * a network within the window is no stranger there: only its own count can stop it. For strangers each such name adds the network's
 * limit once more, so that an office full of people is not shut out by a few wrong devices, and a guesser with one good account gains
 * little. Log-ins with the right password from a network where that account is not limited always pass.
 *
 * Over SCRAM the proof of the same wrong password differs each time and does not tell which password it was, so each counts. But
 * the verifier of the account's previous password is kept, and proofs of that one are one guess: the phone again.
 *
 * A guess is written down before it is verified and taken back when it was right: a thousand guesses at once
 * are admitted no further than a thousand in a row. All of this is quiet when config.auth_limit is off. */
#pragma once
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/directory/credential.h"

/* May this name be tried from there? ERR_LIMIT with the time to wait, ERR_TRY_LATER. Counts nothing. */
PARKS int limiter_admit(struct str name, const struct login_origin *origin, struct error *err);
/* Counts the password as a guess; the same failures. */
PARKS int limiter_guess(struct str name, struct str password, const struct login_origin *origin, struct error *err);
/* Counts what is known to be wrong; for SCRAM the proof stands for the password, or the verifier of the password before. */
PARKS void limiter_failed(struct str name, struct str password, const struct login_origin *origin);
/* guess: the password that limiter_guess counted, or empty when none was. */
PARKS void limiter_succeeded(struct str name, struct str guess, const struct login_origin *origin);
/* Frees what the process remembers: for leak checkers. */
void limiter_fini(void);
/* Before the answer to a failure. */
PARKS void limiter_pause(void);
