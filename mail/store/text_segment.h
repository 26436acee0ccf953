/* text_segment.h - which trigrams are in which messages: one immutable piece of an account's index.
 *
 * A segment covers messages that were indexed together, numbered from 0 in order of their
 * message_id. A term is a trigram of bytes of folded text without accents, in one of three
 * places of the message. The sorted terms are cut into 2^bits buckets, each stored by itself:
 *
 *   messages  version, count, then each id as (difference to the one before << 1 | is_opaque)
 *   bucket    per term: difference to the term before, then its messages:
 *               n << 2 | LIST    [size when n > 3] first number, differences - 1
 *               n << 2 | BITMAP  one bit per message
 *               ALL              in so many that the list was not worth keeping
 *
 * All numbers are varints (7 bits a byte, low ones first). An opaque message may contain
 * anything: its text was too rich to be indexed. Pure: safe on a helper thread. Stored bytes are
 * checked, never trusted. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define TERM_BITS             26
#define SEGMENT_BITS_MAX      16
#define SEGMENT_MESSAGES_MAX  (16u << 20)
#define SEGMENT_BUCKET_SIZE   8192   /* on average */
#define SEGMENT_TERMS_MAX     500000 /* of one message; with more it is opaque */

enum text_place {
    PLACE_ENVELOPE, /* subject and addresses  */
    PLACE_HEADER,   /* other header fields    */
    PLACE_BODY,
    PLACE_COUNT
};

/* The three places of one trigram lie side by side, so one bucket has them all. */
uint32_t text_term(uint32_t trigram, enum text_place place);
static inline uint32_t text_term_bucket(uint32_t term, unsigned bits)
{
    return term >> (TERM_BITS - bits);
}

/* Calls `each` for the trigrams of a folded text, repeats included, until it returns false. */
void text_trigrams(struct str folded, bool (*each)(void *arg, uint32_t trigram), void *arg);

/* --- making one ------------------------------------------------------------------------------- */
struct segment_builder;

struct segment_builder *segment_builder_new(void);
void segment_builder_free(struct segment_builder **b);
/* Ascending ids; the texts that follow are this message's. */
void segment_add_message(struct segment_builder *b, int64_t message_id);
void segment_add_text(struct segment_builder *b, enum text_place place, struct str folded);
void segment_make_opaque(struct segment_builder *b);
size_t segment_builder_size(const struct segment_builder *b); /* bytes held */
uint32_t segment_builder_count(const struct segment_builder *b);

struct segment {
    unsigned bits;
    uint32_t message_count;
    int64_t first_message_id, last_message_id;
    struct str messages;
    struct str *buckets; /* 2^bits */
};
void segment_finish(struct segment_builder *b, struct arena *a, struct segment *out);

/* --- reading ---------------------------------------------------------------------------------- */
struct segment_messages {
    int64_t *ids; /* ascending */
    bool *is_opaque;
    uint32_t count;
};
int segment_read_messages(struct arena *a, struct str bytes, struct segment_messages *out,
                          struct error *err);
struct str segment_write_messages(struct arena *a, const struct segment_messages *m);

/* Sets the bits of the messages that have the term; `bucket` is the one of that number. */
int segment_find(struct str bucket, unsigned bits, uint32_t number, uint32_t term,
                 uint32_t message_count, uint64_t *found, struct error *err);

/* --- merging ---------------------------------------------------------------------------------- */
#define SEGMENT_GONE UINT32_MAX

struct merge_input {
    unsigned bits;
    uint32_t message_count;
    const uint32_t *numbers;   /* of its messages in the new segment, ascending; or SEGMENT_GONE */
    const struct str *buckets; /* those that hold the range of terms */
    uint32_t first_bucket, bucket_count;
};
/* Buckets from..to-1 of the new segment, whose bits are not fewer than any input's. The
 * inputs' numbers must not overlap and ascend from input to input. */
int segment_merge(const struct merge_input *inputs, size_t count, unsigned bits,
                  uint32_t message_count, uint32_t from, uint32_t to, struct buf *out,
                  struct error *err);
