/* text_fuzzy.c - stems by cutting, mistakes by edit distance.
 *
 * A stem is always a piece of its word, so that the index, which knows pieces, can find its
 * messages. Cutting is crude on purpose: what it finds too much scores lower. */
#include "mail/store/text_fuzzy.h"

#include <stdbool.h>

#include "mail/mime/text_fold.h"
#include "mail/store/text_segment.h"
#include "server/base/buf.h"
#include "server/base/utf8.h"

#define STEM_SIZE_MIN 4
#define ENDING_MAX    3 /* letters */
#define SCORE_WHOLE   100
#define SCORE_WORD    90
#define SCORE_PIECE   75 /* inside another word */
#define SCORE_STEM    60
#define SCORE_MISTAKE 40 /* and 15 less for a second one */

/* ---- words ----------------------------------------------------------------------------------- */

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static bool is_letter(unsigned char c)
{
    return c >= 128 || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* The next word of a folded text; false at the end. */
static bool next_word(struct str *rest, struct str *word)
{
    size_t from = 0, to;

    while (from < rest->n && !is_letter((unsigned char)rest->p[from]))
        from++;
    to = from;
    while (to < rest->n && is_letter((unsigned char)rest->p[to]))
        to++;
    *word = str_of(rest->p + from, to - from);
    *rest = str_from(*rest, to);
    return word->n > 0;
}

static struct str without_accents(struct arena *a, struct str folded)
{
    struct buf out;
    struct str s;

    if (str_is_ascii(folded))
        return folded;
    buf_init(&out, SIZE_MAX);
    text_drop_accents(&out, folded);
    s = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return s;
}

static unsigned letters_of(struct str word, uint32_t *letters)
{
    unsigned n = 0;
    uint32_t code_point;

    if (word.n > FUZZY_WORD_SIZE_MAX)
        return 0;
    while (utf8_next(&word, &code_point))
        letters[n++] = code_point;
    return n;
}

/* ---- stems ----------------------------------------------------------------------------------- */

/* The longest that fits is cut; what is left must be a word. */
static bool cut_end(struct str *word, const char *const *endings)
{
    for (; *endings != NULL; endings++)
        if (str_ends(*word, str_c(*endings)) && word->n >= strlen(*endings) + STEM_SIZE_MIN) {
            word->n -= strlen(*endings);
            return true;
        }
    return false;
}

static bool cut_start(struct str *word, const char *const *prefixes)
{
    for (; *prefixes != NULL; prefixes++)
        if (str_starts(*word, str_c(*prefixes)) && word->n >= strlen(*prefixes) + STEM_SIZE_MIN) {
            *word = str_from(*word, strlen(*prefixes));
            return true;
        }
    return false;
}

static struct str stem_english(struct str word)
{
    static const char *const endings[] = {
        "ations", "ation", "ments", "ment", "ingly", "ness", "ings", "ing", "edly", "ies", "ied",
        "ions",   "ion",   "ers",   "er",   "ed",    "es",   "ly",   "s",   "e",    "y",   NULL};
    struct str stem = word;

    if (!cut_end(&stem, endings))
        return STR_NULL;
    /* "planning": plann, plan */
    if (stem.n > STEM_SIZE_MIN && stem.p[stem.n - 1] == stem.p[stem.n - 2])
        stem.n--;
    return stem;
}

/* mengirimkan, pengiriman, dikirimnya: what the nasal prefixes swallow is not put back, so the stem
 * is "irim", which stands in "kirim", too. */
static struct str stem_indonesian(struct str word)
{
    static const char *const particles[] = {"lah", "kah", "pun", "tah", NULL};
    static const char *const possessives[] = {"nya", "ku", "mu", NULL};
    static const char *const endings[] = {"kan", "an", "i", NULL};
    static const char *const prefixes[] = {"memper", "diper", "meng", "meny", "peng", "peny", "mem",
                                           "men",    "pem",   "pen",  "ber",  "bel",  "ter",  "per",
                                           "pel",    "me",    "pe",   "di",   "ke",   "se",   NULL};
    struct str stem = word;
    bool is_cut = cut_end(&stem, particles);

    is_cut |= cut_end(&stem, possessives);
    is_cut |= cut_end(&stem, endings);
    is_cut |= cut_start(&stem, prefixes);
    return is_cut ? stem : STR_NULL;
}

/* ---- parsing --------------------------------------------------------------------------------- */

struct trigram_list {
    uint32_t v[FUZZY_WORD_SIZE_MAX];
    unsigned n;
};

static bool add_trigram(void *arg, uint32_t trigram)
{
    struct trigram_list *list = arg;

    for (unsigned i = 0; i < list->n; i++)
        if (list->v[i] == trigram)
            return true;
    list->v[list->n++] = trigram;
    return list->n < FUZZY_WORD_SIZE_MAX;
}

static unsigned letter_bytes(uint32_t c)
{
    return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
}

static unsigned count_trigrams(struct str word)
{
    struct trigram_list trigrams = {.n = 0};

    text_trigrams(word, add_trigram, &trigrams);
    return trigrams.n;
}

/* Two letters swapped spoil the most: all trigrams that touch one of their bytes. */
static unsigned spoiled_by_mistake(const struct fuzzy_word *w)
{
    unsigned letter_size = 1;

    for (unsigned i = 0; i < w->letter_count; i++) {
        unsigned size = letter_bytes(w->letters[i]);
        letter_size = size > letter_size ? size : letter_size;
    }
    return 2 * letter_size + 2;
}

static unsigned mistakes_for(unsigned letter_count)
{
    return letter_count < 4 ? 0 : letter_count < 8 ? 1 : 2;
}

/* At least one must be left, or anything would be like anything. */
static unsigned missing_max(const struct fuzzy_word *w)
{
    unsigned missing = 0, kept;

    if (w->mistakes_max > 0)
        missing = smaller(w->trigram_count - 1, spoiled_by_mistake(w) * w->mistakes_max);
    for (unsigned i = 0; i < 2; i++) {
        if (w->stems[i].n == 0)
            continue;
        kept = count_trigrams(w->stems[i]);
        if (kept <= w->trigram_count && w->trigram_count - kept > missing)
            missing = w->trigram_count - kept;
    }
    return missing;
}

static void parse_word(struct str text, struct fuzzy_word *w)
{
    *w = (struct fuzzy_word){.text = text};
    w->letter_count = letters_of(text, w->letters);
    if (w->letter_count == 0)
        return;
    w->trigram_count = count_trigrams(text);
    w->mistakes_max = w->trigram_count > 0 ? mistakes_for(w->letter_count) : 0;
    w->stems[0] = stem_english(text);
    w->stems[1] = stem_indonesian(text);
    w->missing_max = missing_max(w);
}

void fuzzy_parse(struct arena *a, struct str folded, struct fuzzy_text *out)
{
    struct str rest, word;

    out->whole = rest = without_accents(a, folded);
    out->count = 0;
    out->words = ARENA_ARRAY(a, FUZZY_WORDS_MAX, struct fuzzy_word);
    while (out->count < FUZZY_WORDS_MAX && next_word(&rest, &word))
        parse_word(word, &out->words[out->count++]);
}

/* ---- mistakes -------------------------------------------------------------------------------- */

/* Optimal string alignment distance, three rows at a time; an ending of b costs nothing. */
static unsigned distance(const uint32_t *a, unsigned n, const uint32_t *b, unsigned m)
{
    unsigned rows[3][FUZZY_WORD_SIZE_MAX + 1], least;

    for (unsigned j = 0; j <= m; j++)
        rows[0][j] = j;
    for (unsigned i = 1; i <= n; i++) {
        unsigned *row = rows[i % 3], *before = rows[(i + 2) % 3], *two_before = rows[(i + 1) % 3];
        row[0] = i;
        for (unsigned j = 1; j <= m; j++) {
            row[j] =
                smaller(smaller(before[j], row[j - 1]) + 1, before[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = smaller(row[j], two_before[j - 2] + 1);
        }
    }
    least = rows[n % 3][m];
    for (unsigned j = m > ENDING_MAX ? m - ENDING_MAX : 0; j < m; j++)
        least = smaller(least, rows[n % 3][j]);
    return least;
}

static uint64_t letter_mask(const uint32_t *letters, unsigned n)
{
    uint64_t mask = 0;

    for (unsigned i = 0; i < n; i++)
        mask |= UINT64_C(1) << letters[i] % 64;
    return mask;
}

/* The word's trigrams by hash: where a text has none of them, there is no word like it. */
struct trigram_filter {
    uint64_t bits[64];
};

static unsigned trigram_hash(uint32_t trigram)
{
    return trigram * 0x9E3779B1u >> 20;
}

static bool add_to_filter(void *arg, uint32_t trigram)
{
    struct trigram_filter *f = arg;
    unsigned hash = trigram_hash(trigram);

    f->bits[hash / 64] |= UINT64_C(1) << hash % 64;
    return true;
}

static bool may_be_in(const struct trigram_filter *f, uint32_t trigram)
{
    unsigned hash = trigram_hash(trigram);

    return f->bits[hash / 64] >> hash % 64 & 1;
}

/* The word that the byte at `at` is in. */
static struct str word_around(struct str text, size_t at)
{
    size_t from = at, to = at;

    while (from > 0 && is_letter((unsigned char)text.p[from - 1]))
        from--;
    while (to < text.n && is_letter((unsigned char)text.p[to]))
        to++;
    return str_of(text.p + from, to - from);
}

/* mistakes_max + 1: too many. */
static unsigned mistakes_in(const struct fuzzy_word *w, uint64_t mask, struct str word)
{
    uint32_t letters[FUZZY_WORD_SIZE_MAX];
    unsigned n = letters_of(word, letters);

    if (n + w->mistakes_max < w->letter_count ||
        n > w->letter_count + w->mistakes_max + ENDING_MAX ||
        (unsigned)__builtin_popcountll(mask ^ letter_mask(letters, n)) >
            2 * w->mistakes_max + ENDING_MAX)
        return w->mistakes_max + 1;
    return smaller(w->mistakes_max + 1, distance(w->letters, w->letter_count, letters, n));
}

/* The mistakes in the likest word of the text, or mistakes_max + 1. */
static unsigned fewest_mistakes(const struct fuzzy_word *w, struct str text)
{
    uint64_t mask = letter_mask(w->letters, w->letter_count);
    unsigned fewest = w->mistakes_max + 1;
    struct trigram_filter filter = {{0}};
    uint32_t window = 0;

    text_trigrams(w->text, add_to_filter, &filter);
    for (size_t i = 0; i < text.n && fewest > 1; i++) {
        window = (window << 8 | (unsigned char)text.p[i]) & 0xFFFFFF;
        if (i < 2 || !may_be_in(&filter, window) || !is_letter((unsigned char)text.p[i]))
            continue;
        struct str word = word_around(text, i);
        fewest = smaller(fewest, mistakes_in(w, mask, word));
        i = (size_t)(word.p - text.p) + word.n;
        window = 0;
    }
    return fewest;
}

/* ---- scores ---------------------------------------------------------------------------------- */

static bool stands_alone(struct str text, size_t at, size_t n)
{
    return (at == 0 || !is_letter((unsigned char)text.p[at - 1])) &&
           (at + n == text.n || !is_letter((unsigned char)text.p[at + n]));
}

static unsigned score_literally(struct str word, struct str text)
{
    const char *hit = text.p, *end = text.p + text.n;
    bool is_found = false;

    while (text.n > 0 && (hit = memmem(hit, (size_t)(end - hit), word.p, word.n)) != NULL) {
        if (stands_alone(text, (size_t)(hit - text.p), word.n))
            return SCORE_WORD;
        is_found = true;
        hit++;
    }
    return is_found ? SCORE_PIECE : 0;
}

static unsigned score_word(const struct fuzzy_word *w, struct str text)
{
    unsigned score = score_literally(w->text, text), mistakes;

    if (score > 0 || w->letter_count == 0)
        return score;
    for (unsigned i = 0; i < 2; i++)
        if (w->stems[i].n > 0 && str_find(text, w->stems[i]) >= 0)
            return SCORE_STEM;
    if (w->mistakes_max == 0)
        return 0;
    mistakes = fewest_mistakes(w, text);
    return mistakes > w->mistakes_max ? 0 : SCORE_MISTAKE - 15 * (mistakes - 1);
}

static unsigned best_score(const struct fuzzy_word *w, const struct str *texts, size_t count)
{
    unsigned best = 0;

    for (size_t i = 0; i < count && best < SCORE_WORD; i++) {
        unsigned score = score_word(w, texts[i]);
        if (score > best)
            best = score;
    }
    return best;
}

unsigned fuzzy_score(struct arena *a, const struct fuzzy_text *f, const struct str *texts,
                     size_t count)
{
    struct str *plain = ARENA_ARRAY(a, count, struct str);
    unsigned sum = 0;

    for (size_t i = 0; i < count; i++) {
        plain[i] = without_accents(a, texts[i]);
        if (str_find(plain[i], f->whole) >= 0)
            return SCORE_WHOLE;
    }
    for (size_t i = 0; i < f->count; i++) {
        unsigned score = best_score(&f->words[i], plain, count);
        if (score == 0)
            return 0;
        sum += score;
    }
    return f->count > 0 ? sum / (unsigned)f->count : 0;
}
