/* filter_scripts.h - the compiled scripts of an account: its domain's, its own, and those that they include.
 *
 * Compiled once per worker and kept until somebody changes them; most accounts have none, which is remembered, too. A set in
 * use stays whole whatever happens meanwhile. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/sieve/sieve.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

#define FILTER_SCRIPTS_MAX 20                           /* of a domain and an account that run */

struct filter_scripts {
    size_t count;                                       /* 0: none */
    struct sieve_script *v[FILTER_SCRIPTS_MAX];
    struct str names[FILTER_SCRIPTS_MAX];               /* for people: "main", "domain: before" */
};

/* The set, held until it is released. A stored script that does not compile (any more) is left out, with a line in the log. */
PARKS int filter_scripts_hold(int64_t account_id, const struct filter_scripts **out, struct error *err);
void filter_scripts_release(const struct filter_scripts **held);

/* A script that one of them includes, with a reference of its own; *out NULL: there is none. 1 and the fault when it does
 * not compile, -1 when the database is away. */
PARKS int filter_scripts_include(const struct filter_scripts *held, enum sieve_location location, struct str name,
                                 struct arena *a, struct sieve_script **out, struct sieve_fault *fault, struct error *err);

void filter_scripts_start(void);                        /* worker, after the bus */
void filter_scripts_stop(void);
