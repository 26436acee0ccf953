/* spam.h - is this message spam, how sure is that, and why: classifier, rules, links and look-alikes in one verdict.
 *
 * The score is the logarithm of the odds: 0 is even, 2.3 ten to one, below 0 it is more likely not. A classifier that
 * has learnt too little has no say: then findings alone decide, against SPAM_SCORE_UNLEARNT. Nothing here sends a query
 * to the network: what DNS lists, SPF, DKIM and DMARC said are facts that the caller gives (spam_rules.h). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/mime/part.h"
#include "mail/spam/spam_classifier.h"
#include "mail/spam/spam_links.h"
#include "mail/spam/spam_rules.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/run/fiber.h"

#define SPAM_SCORE_UNLEARNT     (-3.0)
#define SPAM_VERDICT_REASONS_MAX 12

struct spam_reason_said {
    const char *name;                   /* of the finding, or "LEARNT" */
    double weight;                      /* above 0 it speaks for spam */
    struct str english, indonesian;     /* one sentence each */
};

struct spam_verdict {
    double score;
    unsigned percent;                   /* the same as a probability */
    bool is_spam;                       /* above the setting spam_threshold */
    bool is_learnt;                     /* the classifier had a say */
    struct spam_reason_said reasons[SPAM_VERDICT_REASONS_MAX];     /* the heaviest first, either way */
    size_t reason_count;
};

/* Pure, safe on a helper thread: all findings, and the hosts of links (for host_lists of a second call; may be NULL). */
void spam_inspect(struct arena *a, const struct mime_part *root, struct str message, const struct spam_circumstances *facts,
                  struct spam_findings *out, struct spam_hosts *hosts);

/* Pure. opinion: NULL when the classifier was not asked. */
void spam_judge(struct arena *a, const struct spam_opinion *opinion, const struct spam_findings *findings, double threshold,
                struct spam_verdict *out);

/* All of it: features, classifier, findings. account_id 0: by what all taught. Large messages go to a helper thread. */
PARKS int spam_check(struct arena *a, const struct mime_part *root, struct str message, int64_t account_id,
                     const struct spam_circumstances *facts, struct spam_verdict *out, struct error *err);
