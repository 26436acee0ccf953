/* spam_classifier.h - the statistical filter of a server: what everybody taught it, and what each account thinks otherwise.
 *
 * Learning stores the message's features beside what it was called, once for each account and message; a message that is
 * called otherwise later is learnt as that and nothing else. Models are made of these examples behind the work: an
 * account's own within seconds, that of all every few minutes, in one place for all hosts. Each host keeps the model of all
 * in one file that its workers map. A filter that has learnt too little has no opinion. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/spam/spam_token.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/run/fiber.h"

#define SPAM_SCORE_THRESHOLD 2.5    /* odds of twelve to one; chosen by cross-validation, see docs/spam.md */
#define SPAM_REASONS_MAX     5
#define SPAM_OWN_MIN         5      /* examples of either kind that an account alone must give for an opinion */

struct spam_opinion {
    bool is_known;                  /* false: too little was learnt, the rest means nothing */
    bool is_spam;
    double score;                   /* natural logarithm of the odds that it is spam */
    unsigned percent;               /* the same as a probability */
    struct { struct str text; double weight; } reasons[SPAM_REASONS_MAX];   /* the heaviest first, in words, in the arena */
    size_t reason_count;            /* those that speak for the opinion */
};

void spam_classifier_start(void);   /* a fiber that keeps the models new; in every worker */
void spam_classifier_stop(void);

/* account_id 0: nobody's, by the model of all alone. */
PARKS int spam_classify(struct arena *a, const struct spam_features *features, int64_t account_id, struct spam_opinion *out,
                        struct error *err);

/* message: the bytes that the features are of. */
PARKS int spam_learn(int64_t account_id, const struct spam_features *features, struct str message, bool is_spam,
                     struct error *err);
PARKS int spam_unlearn(int64_t account_id, struct str message, struct error *err);

/* What the fiber does by and by, at once: for tests and commands. */
PARKS int spam_classifier_refresh(struct error *err);
