/* dkim_ring.h - the keys at hand: which ones sign for a domain, when new ones are made, and when they take over.
 *
 * A domain of ours gets its first keys (RSA and Ed25519) when they are first needed, and they sign at once. Later ones are
 * made dkim_rotate_interval after the active ones began, and take over only when DNS shows their record, so that rotating
 * needs nothing of the administrator but a record in time. A retired key is deleted some weeks later, when no mail that it
 * signed is under way any more. */
#pragma once
#include <stddef.h>
#include "mail/authentic/dkim.h"
#include "mail/store/dkim_key_store.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

struct dkim_ring;

struct dkim_signers {
    struct dkim_signer *v;
    size_t n;                                           /* 0: the domain is not ours */
    struct dkim_ring *ring;                             /* holds the keys */
};
/* The active keys of a domain (canonical), remembered by the worker for a minute. To be released. */
PARKS int dkim_ring_hold(struct arena *a, struct str domain, struct dkim_signers *out, struct error *err);
void dkim_ring_release(struct dkim_signers *signers);

/* The keys of a domain that has none: RSA and Ed25519, which sign at once. */
PARKS int dkim_ring_make_first(struct str domain, struct error *err);
/* A new key of an algorithm for a domain, to be published. selector may be NULL. ERR_EXISTS: one waits already. */
PARKS int dkim_ring_make_next(struct arena *a, struct str domain, enum dkim_algorithm algorithm, struct str *selector,
                              struct error *err);

/* Takes over a key (as dkim_key_new() reads it) under its selector. It signs at once when its record is in DNS, else as a
 * new one does. ERR_EXISTS: the selector is taken, or another new key of its algorithm waits. */
PARKS int dkim_ring_import(struct arena *a, struct str domain, struct str selector, struct str pem, bool *is_active,
                           struct error *err);

/* Is a key's record in DNS? Notes what it found. ERR_TRY_LATER when DNS did not answer. */
PARKS int dkim_ring_look(struct arena *a, const struct dkim_key_row *row, bool *is_published, struct error *err);

/* One round over all domains: new keys, what was published takes over, old ones go. */
PARKS int dkim_ring_rotate(struct error *err);
void dkim_ring_keeper_start(void);                      /* a round every hour, for one worker of a host */
void dkim_ring_keeper_stop(void);
void dkim_ring_fini(void);
