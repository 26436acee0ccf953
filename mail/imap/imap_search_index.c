/* imap_search_index.c - text keys and the index.
 *
 * Clients look for one text in several places at once (OR SUBJECT x OR FROM x BODY x); a question
 * asked before is not asked again. */
#include "mail/imap/imap_search_index.h"

#include "mail/store/text_fuzzy.h"
#include "mail/store/text_index.h"

#define QUESTIONS_MAX 32 /* of one search; more texts are looked for without the index */
#define WORTH_IT      32 /* fewer messages are read at once */

struct question {
    struct str text;
    unsigned places;
    bool is_fuzzy;
    struct text_candidates candidates;
};

struct questions {
    struct arena *a;
    int64_t account_id;
    struct question v[QUESTIONS_MAX];
    size_t n;
};

static unsigned places_of(const struct search_key *key)
{
    switch (key->kind) {
    case KEY_TEXT:
        return PLACES_ALL;
    case KEY_BODY:
        return PLACE_BIT(PLACE_BODY);
    case KEY_HEADER:
        return PLACE_BIT(text_place_of_field(key->name));
    default:
        return 0;
    }
}

/* A text too short for the index leaves at least the field that it is sought in. */
static struct str sought(struct questions *q, const struct search_key *key)
{
    if (key->kind == KEY_HEADER && key->fuzzy == NULL && key->text.n < 3)
        return arena_printf(q->a, "%.*s: ", STR_ARG(key->name));
    return key->text;
}

static struct question *find_question(struct questions *q, const struct search_key *key,
                                      struct str text)
{
    for (size_t i = 0; i < q->n; i++)
        if (q->v[i].places == places_of(key) && q->v[i].is_fuzzy == (key->fuzzy != NULL) &&
            str_eq(q->v[i].text, text))
            return &q->v[i];
    return NULL;
}

/* Every word must be there. */
static PARKS int ask_fuzzily(struct questions *q, const struct fuzzy_text *f, unsigned places,
                             struct text_candidates *out, struct error *err)
{
    *out = (struct text_candidates){.is_everything = true};
    for (size_t i = 0; i < f->count; i++) {
        struct text_candidates of_word;
        if (text_index_similar(q->a, q->account_id, f->words[i].text, f->words[i].missing_max,
                               places, &of_word, err) < 0)
            return -1;
        text_candidates_intersect(out, &of_word);
    }
    return 0;
}

static PARKS int ask(struct questions *q, struct search_key *key, struct error *err)
{
    struct str text = sought(q, key);
    struct question *question = find_question(q, key, text);
    unsigned places = places_of(key);

    if (question == NULL) {
        if (q->n == QUESTIONS_MAX)
            return 0;
        question = &q->v[q->n++];
        *question = (struct question){text, places, key->fuzzy != NULL, {0}};
        if (key->fuzzy != NULL ? ask_fuzzily(q, key->fuzzy, places, &question->candidates, err) < 0
                               : text_index_candidates(q->a, q->account_id, text, places,
                                                       &question->candidates, err) < 0)
            return -1;
    }
    if (!question->candidates.is_everything)
        key->candidates = &question->candidates;
    return 0;
}

static PARKS int ask_all(struct questions *q, struct search_key *key, struct error *err)
{
    if (places_of(key) != 0 && ask(q, key, err) < 0)
        return -1;
    for (struct search_key *child = key->first_child; child != NULL; child = child->next)
        if (ask_all(q, child, err) < 0)
            return -1;
    return 0;
}

int search_use_index(struct search_key *root, int64_t account_id, uint64_t message_count,
                     struct arena *a, struct error *err)
{
    struct questions *q;

    if (message_count < WORTH_IT)
        return 0;
    q = ARENA_NEW(a, struct questions);
    q->a = a;
    q->account_id = account_id;
    return ask_all(q, root, err);
}
