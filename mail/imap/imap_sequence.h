/* imap_sequence.h - sets of message numbers, "1:5,7,*" (RFC 9051, 9: sequence-set).
 *
 * As parsed, "*" is 0 and ranges stand as written. imap_set_resolve() makes them ascending and
 * disjoint, after which a set is walked or searched; the empty set is possible then. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/imap/imap_parse.h"
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/error.h"

struct imap_range {
    uint32_t from, to;
};
struct imap_set {
    struct imap_range *v;
    size_t n;
    bool is_saved; /* "$": the result of the last SEARCH (RFC 5182) */
};

int imap_set_parse(struct imap_parser *p, struct arena *a, struct imap_set *out, struct error *err);
/* `largest` is what "*" means; 0 (an empty mailbox): "*" is nothing. */
void imap_set_resolve(struct imap_set *set, uint32_t largest);
bool imap_set_contains(const struct imap_set *set, uint32_t number); /* resolved sets only */
uint64_t imap_set_count(const struct imap_set *set);                 /* resolved sets only */

/* Prints numbers in the order given, with runs as ranges: 4,5,6,9 -> "4:6,9". */
void imap_set_print(struct buf *out, const uint32_t *numbers, size_t count);
