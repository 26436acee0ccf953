/* address_path.h - addresses as they stand in an envelope: local part, quoted where it must be, "@", domain (RFC 5321, 4.1.2). */
#pragma once
#include "server/base/arena.h"
#include "server/base/str.h"

/* Of a local part without quotes. Empty when local is; domain may be empty (<postmaster>). */
struct str address_path_of(struct arena *a, struct str local, struct str domain);
/* Of a whole address as the directory has it, with its local part unquoted. */
struct str address_path(struct arena *a, struct str address);
/* Takes one apart again; the quotes go. domain is empty when there is none. */
void address_path_split(struct arena *a, struct str path, struct str *local, struct str *domain);
