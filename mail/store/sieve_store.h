/* sieve_store.h - Sieve scripts in the database, and what their runs remember.
 *
 * An account has any number of scripts, of which at most one is active: it runs when mail comes. Domains have scripts that run
 * before or after those of their people, and scripts for them to include. Contents are taken as they are: whoever
 * stores one compiles it first. Names are NFC without control characters (RFC 5804, 1.6). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

#define SIEVE_NAME_SIZE_MAX 512                         /* bytes of a name (RFC 5804, 1.6 wants 128 characters) */
#define SIEVE_SCRIPTS_MAX 100                           /* of an account */
#define SIEVE_BYTES_MAX (4 << 20)                       /* of all scripts of an account */

/* What changed on the bus (server/pg/notify.h); 0019_sieve.sql has these numbers, too. */
#define SIEVE_TOPIC(account_id) ((uint64_t)(account_id) ^ UINT64_C(0x5349455645000000))
#define SIEVE_DOMAINS_TOPIC     UINT64_C(0x53494556452d444f)

/* ERR_SYNTAX: it cannot be the name of a script, and why. */
int sieve_name_check(struct str name, struct error *err);

/* --- of an account --------------------------------------------------------------------------------- */
struct sieve_listed { struct str name; bool is_active; int64_t size; int64_t changed_us; };
PARKS int sieve_store_list(struct arena *a, int64_t account_id, struct sieve_listed **out, size_t *count, struct error *err);
PARKS int sieve_store_get(struct arena *a, int64_t account_id, struct str name, struct str *content, struct error *err);   /* ERR_NOT_FOUND */
/* ERR_LIMIT: too many scripts; ERR_OVER_QUOTA: too many bytes; ERR_TOO_BIG: larger than any script may be. */
PARKS int sieve_store_check_room(int64_t account_id, struct str name, uint64_t size, struct error *err);
PARKS int sieve_store_put(int64_t account_id, struct str name, struct str content, struct error *err);
PARKS int sieve_store_activate(int64_t account_id, struct str name, struct error *err);    /* empty: none is active */
PARKS int sieve_store_remove(int64_t account_id, struct str name, struct error *err);      /* ERR_CONFLICT: it is active */
PARKS int sieve_store_rename(int64_t account_id, struct str name, struct str new_name, struct error *err);    /* ERR_EXISTS */

/* --- of a domain ----------------------------------------------------------------------------------- */
enum sieve_place { SIEVE_PLACE_BEFORE, SIEVE_PLACE_AFTER, SIEVE_PLACE_INCLUDE };
const char *sieve_place_name(enum sieve_place place);    /* "before", "after", "include" */
bool sieve_place_parse(struct str name, enum sieve_place *out);

struct sieve_domain_listed { struct str name; enum sieve_place place; int64_t size; int64_t changed_us; };
PARKS int sieve_store_domain_list(struct arena *a, struct str domain, struct sieve_domain_listed **out, size_t *count, struct error *err);
PARKS int sieve_store_domain_get(struct arena *a, struct str domain, struct str name, struct str *content, struct error *err);
/* ERR_NOT_FOUND: the domain is not ours. */
PARKS int sieve_store_domain_put(struct str domain, struct str name, enum sieve_place place, struct str content, struct error *err);
PARKS int sieve_store_domain_remove(struct str domain, struct str name, struct error *err);

/* --- for runs -------------------------------------------------------------------------------------- */
enum sieve_turn { SIEVE_TURN_BEFORE = 1, SIEVE_TURN_OWN, SIEVE_TURN_AFTER };
struct sieve_running { enum sieve_turn turn; struct str name, content; };
/* What runs when mail comes, in that order; most accounts have nothing. */
PARKS int sieve_store_running(struct arena *a, int64_t account_id, struct sieve_running **out, size_t *count, struct error *err);
/* A script of the account's domain that others may include (any place). ERR_NOT_FOUND. */
PARKS int sieve_store_get_global(struct arena *a, int64_t account_id, struct str name, struct str *content, struct error *err);

/* What is remembered is a list of texts, told apart whatever they hold: {"vacation", handle, address}. */
PARKS int sieve_store_remembers(int64_t account_id, const struct str *parts, size_t count, bool *out, struct error *err);
/* *is_new: it was not remembered, and now is: of two that ask at once, one hears true. */
PARKS int sieve_store_remember(int64_t account_id, const struct str *parts, size_t count, int64_t expires_us, bool *is_new,
                         struct error *err);
/* Whether it was remembered or not, it is until then. */
PARKS int sieve_store_remember_anew(int64_t account_id, const struct str *parts, size_t count, int64_t expires_us,
                              struct error *err);
PARKS int sieve_store_forget(int64_t account_id, const struct str *parts, size_t count, struct error *err);
/* A portion of what is over; *count 0: nothing was left. */
PARKS int sieve_store_forget_expired(int64_t *count, struct error *err);
