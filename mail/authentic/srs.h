/* srs.h - the Sender Rewriting Scheme: forwarded mail leaves with an envelope sender of our own domain.
 *
 * Otherwise SPF fails at the next host, for it knows only the original sender's servers. The new address
 * holds the old one, the day, and a keyed hash, so that a bounce finds its way back without a database:
 *
 *   SRS0=HHHHHH=TT=example.org=ani              of ani@example.org, by the first forwarder
 *   SRS1=HHHHHH=first.example==HHHHHH=TT=...    of an SRS0 or SRS1 address, by every later one; its hash
 *                                               covers the first forwarder, to whom the bounce goes at once
 *
 * There is no RFC; this is the form of "Sender Rewriting Scheme" by Wong and Nicholls that other servers use.
 * Hash and day are base32 and read in any case, for some servers change the case of local parts. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

/* The local part, to stand before one of our domains. The sender is not null and local is without quotes.
 * ERR_TOO_BIG: the address would be longer than a path may be. */
PARKS int srs_rewrite(struct arena *a, struct str local, struct str domain, int64_t now_s, struct str *out,
                      struct error *err);

bool srs_is_rewritten(struct str local);                /* looks like one of ours */

/* Back again. ERR_SYNTAX: malformed; ERR_DENIED: its hash is not ours, or it is older than srs_age. */
PARKS int srs_restore(struct arena *a, struct str srs_local, int64_t now_s, struct str *local, struct str *domain,
                      struct error *err);
