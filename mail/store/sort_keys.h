/* sort_keys.h - what a message is sorted and threaded by (RFC 5256; RFC 5957), in few bytes.
 *
 * Made once from the header, when the message is delivered, and kept beside it; it never
 * changes. Texts are collation forms (i;unicode-casemap): to be compared by their bytes, not
 * shown; only their first SORT_TEXT_SIZE_MAX bytes count. Message-IDs are hashes of their
 * normalised form. Pure: no I/O. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/str.h"

#define SORT_TEXT_SIZE_MAX 500
#define SORT_REFS_MAX      100 /* of an endless References field its two ends are kept */

enum sort_text {
    SORT_SUBJECT, /* the base subject */
    SORT_FROM,    /* addr-mailbox of the first address */
    SORT_TO,
    SORT_CC,
    SORT_DISPLAY_FROM, /* its name, or else the whole address */
    SORT_DISPLAY_TO,
    SORT_TEXT_COUNT
};

struct sort_keys {
    bool is_reply;  /* or a forward, by its subject */
    uint64_t msgid; /* 0: none */
    const char *refs;
    unsigned ref_count; /* its ancestors, the oldest first: sort_keys_ref() */
    struct str texts[SORT_TEXT_COUNT];
};

void sort_keys_add(struct buf *out, struct arena *a, struct str header);
/* The result points into `packed`. What is no packed form reads as a message without header. */
void sort_keys_read(struct str packed, struct sort_keys *out);
uint64_t sort_keys_ref(const struct sort_keys *k, unsigned index);
