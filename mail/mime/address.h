/* address.h - address lists of message headers (RFC 5322, 3.4 with 4.4), as forgiving as mail demands.
 *
 * Words that are no address are a name without local part and domain, a single one a local part without domain.
 * Every group start is followed by its end, also where the message forgot it. */
#pragma once
#include <stdbool.h>
#include "server/base/arena.h"
#include "server/base/str.h"

#define ADDRESS_COUNT_MAX 10000

struct address {
    struct str name;                  /* display name, unquoted, still with RFC 2047 words; empty when none */
    struct str route;                 /* obsolete source route, "@a,@b" or empty */
    struct str local;                 /* unquoted local part; of a group start: the group's name */
    struct str domain;                /* empty: missing in the message */
    bool is_group_start, is_group_end;
};
struct addresses { struct address *v; size_t n; };

void address_parse_list(struct arena *a, struct str value, struct addresses *out);
