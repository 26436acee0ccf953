/* spam_token.h - a message as a set of features: what the statistical filter sees of it.
 *
 * A feature is one thing that can be said of a message in words: a word of its text, two words near each other, a word
 * of the subject or of the sender's name, a link's host, a header field and the one before it, a piece of markup. Each
 * is known by a 32-bit hash (stored in models, so what makes a feature never changes its hash lightly: then raise
 * SPAM_FEATURES_VERSION and everything is learnt anew) and says itself in words for "why is this here?".
 *
 * Passed over is what the recipient's side adds (verdicts of other filters, marks of mail programs, its own addresses),
 * dates, and whatever is counted up: such things tell how mail was collected, not what it is.
 * Hostile input: the first SPAM_TEXT_SIZE_MAX bytes of each text part count, SPAM_TEXT_TOTAL_MAX of all, at most
 * SPAM_FEATURES_MAX features; deterministic and linear in that. Pure: safe on a helper thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/mime/part.h"
#include "server/base/arena.h"
#include "server/base/str.h"

#define SPAM_FEATURES_VERSION 1
#define SPAM_FEATURES_MAX     8192
#define SPAM_TEXT_SIZE_MAX    ((size_t)48 << 10)
#define SPAM_TEXT_TOTAL_MAX   ((size_t)96 << 10)
#define SPAM_PARTS_MAX        200             /* of a message; those behind are not looked at */

enum spam_feature_kind {
    SPAM_WORD,        /* of the text                          */
    SPAM_PAIR,        /* two words, `gap` words between them  */
    SPAM_SUBJECT,     /* word or pair of words of the subject */
    SPAM_SENDER,      /* From, Reply-To: names, domains       */
    SPAM_HEADER,      /* which fields, their order and form   */
    SPAM_LINK,        /* hosts and forms of links             */
    SPAM_MARKUP,      /* tags, attributes, hidden text        */
    SPAM_STRUCTURE,   /* parts, types, file names, sizes      */
    SPAM_ROUTE,       /* hops before this server, envelope    */
    SPAM_LETTERS,     /* four letters in a row: finds words that are written in odd ways */
    SPAM_KIND_COUNT
};

/* Features come in groups, and no group outweighs the others by its number: see spam_model.h. */
#define SPAM_GROUPS 6
unsigned spam_feature_group(enum spam_feature_kind kind);

struct spam_feature {
    uint32_t hash;
    uint8_t kind, gap;
    struct str text, second; /* in the arena; second: of pairs */
};

struct spam_features {
    struct spam_feature *v; /* distinct hashes, in order of appearance */
    size_t n;
    bool is_cut; /* the message says more than fits */
};

/* root: mime_parse() of the message. Never fails. */
void spam_features(struct arena *a, const struct mime_part *root, struct str message, struct spam_features *out);

/* In words: `the word "mortgage"`, `"click" near "here"`, `a link to pills.example`. */
struct str spam_feature_text(struct arena *a, const struct spam_feature *feature);
