/* spam_model.h - what was learnt from messages, as one weight for each slot of their hashed features.
 *
 * Logistic regression: each feature that a message has adds its weight, and the sum is the logarithm of the odds that it is
 * spam. Features of one group (spam_token.h) share the group's say: their sum is divided by the root of their number, so
 * that a long text cannot talk down what the header says. Features met in fewer than two messages count for nothing.
 *
 * A model is made anew from all examples, in a few passes, and is then only read: plain bytes without pointers, the same
 * for all workers. An account's own model is a small correction on top, made from that account's examples alone.
 * All of it is deterministic and pure; making a model takes about 0.1 ms per example: call it on a helper thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/spam/spam_token.h"
#include "server/base/arena.h"
#include "server/base/str.h"

#define SPAM_SLOT_BITS     20
#define SPAM_OWN_SLOT_BITS 14
#define SPAM_EXAMPLES_MIN  50          /* of either kind: a model of fewer has no opinion */
#define SPAM_SCORE_MAX     30.0

/* A message as models see it: slot << 3 | group, of each of its features. */
struct spam_example {
    const uint32_t *v;
    size_t n;
    bool is_spam;
};
struct spam_example spam_example_of(struct arena *a, const struct spam_features *features);

struct spam_model_head {
    uint32_t magic, version;           /* SPAM_MODEL_MAGIC, SPAM_FEATURES_VERSION: others are not used */
    uint32_t spam_count, ham_count;    /* examples it was made from */
    float bias, scale;                 /* weight = scale * weights[slot] */
};
struct spam_model {                    /* 2 MB: never on a stack */
    struct spam_model_head head;
    int16_t weights[1 << SPAM_SLOT_BITS];      /* 0: a slot that nothing is known of */
};
struct spam_own_model {                /* 16 KB */
    struct spam_model_head head;
    int8_t weights[1 << SPAM_OWN_SLOT_BITS];
};
#define SPAM_MODEL_MAGIC     0x6d617073u
#define SPAM_OWN_MODEL_MAGIC 0x6e777073u

void spam_model_make(struct spam_model *out, const struct spam_example *examples, size_t count);
/* On top of `base`, which may be NULL. */
void spam_own_model_make(struct spam_own_model *out, const struct spam_model *base, const struct spam_example *examples,
                         size_t count);

/* Are these bytes a model that can be used? Bytes come from the database: size, magic, version are checked. */
bool spam_model_is_valid(struct str bytes);
bool spam_own_model_is_valid(struct str bytes);
bool spam_model_has_opinion(const struct spam_model *m);       /* NULL has none */

/* Natural logarithm of the odds, within +-SPAM_SCORE_MAX. Either may be NULL. */
double spam_model_score(const struct spam_model *m, const struct spam_own_model *own, const struct spam_example *e);

/* Features that made most of the score, the heaviest first: those that speak for spam, or against it. Runs of letters
 * are left out, for they say nothing to people. Returns how many. */
struct spam_reason { const struct spam_feature *feature; double weight; };
size_t spam_model_reasons(const struct spam_model *m, const struct spam_own_model *own, const struct spam_features *features,
                          bool for_spam, struct spam_reason *out, size_t count_max);
