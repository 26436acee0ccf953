/* directory_internal.h - what the files of the directory share among themselves. */
#pragma once
#include "server/directory/directory.h"
#include "server/pg/pg.h"

/* Reads the columns account_id, kind, name, is_active, is_administrator, address, quota_bytes and quota_messages into the arena. */
void account_read(struct arena *a, const struct pg_rows *rows, size_t row, struct account *out);

struct pg_arg quota_arg(int64_t quota);                 /* a QUOTA_ value as the column holds it */

/* Canonical form of a whole address as an admin writes it; domain (may be NULL) is its canonical domain. */
int address_split(struct arena *a, struct str address, struct str *out, struct str *domain, struct error *err);
int local_part_canonical(struct arena *a, struct str local, struct str *out, struct error *err);

/* The name that a person typed to log in. An address becomes canonical; a bare local part too, and is_bare says
 * so. What cannot be an address stays as it is, clipped and printable: nobody has it, and the limiter counts it. */
struct str login_name(struct arena *a, struct str typed, bool *is_bare);
