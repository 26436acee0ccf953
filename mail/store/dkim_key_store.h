/* dkim_key_store.h - the signing keys of our domains, as the database keeps them.
 *
 * A key is new until its record is published, then active: it signs. When the next one takes its place it is
 * retired: its record must stay for the mail that is still under way. Of each algorithm a domain has one active key at
 * most, and one new one. What these mean in practice is mail/authentic/dkim_ring.h. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

enum dkim_key_state { DKIM_KEY_NEW, DKIM_KEY_ACTIVE, DKIM_KEY_RETIRED };
const char *dkim_key_state_name(enum dkim_key_state state);

struct dkim_key_row {
    struct str domain, selector, algorithm;             /* "rsa-sha256", "ed25519-sha256" */
    enum dkim_key_state state;
    struct str pem;                                     /* a secret */
    int64_t created_us, changed_us;                     /* changed: when it came into its state */
    int64_t seen_us;                                    /* when DNS had its record last; 0: never, or not any more */
};

/* Of one domain; ERR_NOT_FOUND when it is not ours. */
PARKS int dkim_key_store_of(struct arena *a, struct str domain, struct dkim_key_row **out, size_t *count, struct error *err);
/* Of the domains after `after` by name, so many rows at most; a domain without keys is a row with an empty selector. */
PARKS int dkim_key_store_list(struct arena *a, struct str after, size_t count_max, struct dkim_key_row **out, size_t *count,
                              struct error *err);
/* ERR_EXISTS when the selector is taken, another key of its algorithm is in this state, or the domain is not ours. */
PARKS int dkim_key_store_add(const struct dkim_key_row *row, struct error *err);
PARKS int dkim_key_store_set_seen(struct str domain, struct str selector, bool is_seen, struct error *err);
/* Both or neither are there afterwards: a domain's first keys, of two algorithms. What another host has made meanwhile stays. */
PARKS int dkim_key_store_add_first(const struct dkim_key_row rows[2], struct error *err);
/* The active one of its algorithm becomes retired. ERR_NOT_FOUND. */
PARKS int dkim_key_store_activate(struct str domain, struct str selector, struct error *err);
PARKS int dkim_key_store_retire(struct str domain, struct str selector, struct error *err);
PARKS int dkim_key_store_remove(struct str domain, struct str selector, struct error *err);    /* not the active one: ERR_CONFLICT */
