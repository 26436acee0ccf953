/* directory_internal.h - what the files of the directory share among themselves. */
#pragma once
#include "server/directory/directory.h"
#include "server/pg/pg.h"

/* Reads the columns account_id, kind, name, is_active, is_administrator, address, quota_bytes and quota_messages into the arena. */
void account_read(struct arena *a, const struct pg_rows *rows, size_t row, struct account *out);

struct pg_arg quota_arg(int64_t quota);                 /* a QUOTA_ value as the column holds it */

/* Canonical form of a whole address as an admin writes it; domain (may be NULL) is its canonical domain. */
int address_split(struct arena *a, struct str address, struct str *out, struct str *domain, struct error *err);
/* ani+shop@ -> ani@, "shop"; the address itself when it has no detail. */
struct str address_without_detail(struct arena *a, struct str address, struct str *detail);
int local_part_canonical(struct arena *a, struct str local, struct str *out, struct error *err);

/* The name that a person typed to log in. An address becomes canonical; a bare local part too, and is_bare says
 * so. What cannot be an address stays as it is, clipped and printable: nobody has it, and the limiter counts it. */
struct str login_name(struct arena *a, struct str typed, bool *is_bare);

/* --- what the managing files share ----------------------------------------------------------------- */

int directory_no_account(struct str address, struct error *err);                /* ERR_NOT_FOUND */
/* Why nothing can be made in a domain: it is not ours, or another's alias. */
PARKS int directory_no_home(struct str domain, struct error *err);
/* Runs a statement that answers with a row when it found what it should change. */
PARKS int directory_change_one(const struct sql_query *query, struct pg_args args, bool *is_changed, struct error *err);
/* Says a kind of failure in words of its own, which name the subject, and leaves the others as they are. */
int directory_say(struct error *err, struct error *cause, enum error_kind kind, const char *sentence, struct str subject);
/* One column of all rows, which are freed. */
struct str *directory_read_texts(struct arena *a, struct pg_rows *rows, const char *name, size_t *count);

/* What an address leads to when it is given as a target: an account, or an address elsewhere (account_id is 0). ERR_NOT_FOUND: in a
 * domain of ours, and nobody has it. */
struct directory_target { int64_t account_id; struct str address; };
PARKS int directory_find_target(struct arena *a, struct str address, struct directory_target *out, struct error *err);
/* The account when it is a group; ERR_NOT_FOUND and ERR_DENIED say how to make one. */
PARKS int directory_find_group(struct arena *a, struct str address, struct account *out, struct error *err);
