/* text_fuzzy.h - texts that nearly contain other texts (RFC 6203), without regard to accents.
 *
 * What is sought is taken as words, in any order; each must be found as
 *   itself, also inside another word                                  full score
 *   its stem: without English or Indonesian endings and prefixes      less
 *   a word with a typing mistake or two (an inserted, left out, replaced or
 *   swapped character), of which it shares a trigram at least; up to
 *   three letters more may follow                                     little
 * Pure: safe on a helper thread. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/str.h"

#define FUZZY_WORDS_MAX     32 /* more are not looked at */
#define FUZZY_WORD_SIZE_MAX 60 /* bytes; longer words must be there as they are */

struct fuzzy_word {
    struct str text;        /* folded, without accents */
    struct str stems[2];    /* parts of the word; empty: none */
    uint32_t letters[FUZZY_WORD_SIZE_MAX];
    unsigned letter_count;  /* 0: too long for mistakes */
    unsigned mistakes_max;
    unsigned trigram_count; /* distinct ones */
    unsigned missing_max;   /* so many of its trigrams may be missing in a message that matches */
};

struct fuzzy_text {
    struct fuzzy_word *words;
    size_t count;
    struct str whole; /* as it was asked for, without accents */
};

void fuzzy_parse(struct arena *a, struct str folded, struct fuzzy_text *out);

/* How well the texts together contain it: 1 to 100; 0: a word is missing. Folded, accents are
 * dropped here. */
unsigned fuzzy_score(struct arena *a, const struct fuzzy_text *f, const struct str *texts,
                     size_t count);
