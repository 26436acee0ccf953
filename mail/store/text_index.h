/* text_index.h - which messages of an account can contain a text, without reading them.
 *
 * The index holds the trigrams of every message's text (mail/mime/message_text.h), so its answer
 * to a text of three bytes or more is a superset of the messages that contain it; the caller
 * looks into those. It is made after the delivery (text_indexer.h): messages above
 * indexed_message_id are not in it yet and always candidates.
 *
 * An account's index is a handful of segments, small young ones and large old ones
 * (text_segment.h); a question reads the buckets of a few trigrams from each, all in one query. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/store/text_segment.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

#define PLACE_BIT(place) (1u << (place))
#define PLACES_ALL       ((1u << PLACE_COUNT) - 1)

struct text_candidates {
    bool is_everything;         /* the index cannot tell */
    int64_t indexed_message_id; /* above it: candidates */
    int64_t *ids;               /* of the others; ascending */
    size_t count;
    size_t at; /* where the last question was answered: questions mostly ascend */
};

/* In which place is this header field? */
enum text_place text_place_of_field(struct str name);

/* `folded` by text_fold.h; places: where the text may be, PLACE_BITs. */
PARKS int text_index_candidates(struct arena *a, int64_t account_id, struct str folded,
                                unsigned places, struct text_candidates *out, struct error *err);
/* Messages that have most of the word's trigrams: all but `missing_max` of them. */
PARKS int text_index_similar(struct arena *a, int64_t account_id, struct str folded_word,
                             unsigned missing_max, unsigned places, struct text_candidates *out,
                             struct error *err);

/* Leaves in c what is in both. */
void text_candidates_intersect(struct text_candidates *c, const struct text_candidates *other);
bool text_candidates_contain(struct text_candidates *c, int64_t message_id);
