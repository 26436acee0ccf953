/* text_index.c - asking the index.
 *
 * Of a long text the trigrams that look rarest are asked for first; only when they leave many
 * candidates it is worth reading more. A damaged index is no answer, and every message stays a
 * candidate: slower, but right. */
#include "mail/store/text_index.h"

#include <stdlib.h>

#include "server/base/log.h"
#include "server/pg/pg.h"
#include "sql_queries.h"

#define FIRST_TRIGRAMS  4
#define MORE_TRIGRAMS   8
#define WORTH_MORE      200 /* candidates: reading these costs more than asking again */
#define OVERLAP_COST    25
#define NEEDLE_TRIGRAMS 256 /* looked at; the rest of a longer text only narrows it further */

enum text_place text_place_of_field(struct str name)
{
    static const char *const envelope[] = {"subject", "from",     "to",    "cc",
                                           "bcc",     "reply-to", "sender"};

    for (size_t i = 0; i < sizeof envelope / sizeof *envelope; i++)
        if (str_ieq(name, str_c(envelope[i])))
            return PLACE_ENVELOPE;
    return PLACE_HEADER;
}

/* ---- trigrams of the needle ------------------------------------------------------------------ */

struct trigram {
    uint32_t value;
    int at;     /* in the needle */
    int rarity; /* less for those that overlap one chosen before: they say little new */
};

struct trigrams {
    struct trigram v[NEEDLE_TRIGRAMS];
    size_t n;
    int seen;
};

/* How much a byte of mail says, in eighths of a bit or so: 'e' and the space little, 'q' and digits
 * more, bytes of other scripts most. */
static int byte_rarity(unsigned char c)
{
    static const char by_frequency[] = " etaoinrshldcumpfgwybvkxjqz";
    const char *at = c == 0 ? NULL : strchr(by_frequency, c);

    if (at != NULL)
        return 16 + 2 * (int)(at - by_frequency);
    return c >= '0' && c <= '9' ? 54 : c < 128 ? 50 : 60;
}

static int rarity(uint32_t trigram)
{
    return byte_rarity((unsigned char)(trigram >> 16)) +
           byte_rarity((unsigned char)(trigram >> 8)) + byte_rarity((unsigned char)trigram);
}

static bool add_trigram(void *arg, uint32_t value)
{
    struct trigrams *t = arg;
    int at = t->seen++;

    for (size_t i = 0; i < t->n; i++)
        if (t->v[i].value == value)
            return true;
    t->v[t->n++] = (struct trigram){value, at, rarity(value)};
    return t->n < NEEDLE_TRIGRAMS;
}

static void swap(struct trigram *a, struct trigram *b)
{
    struct trigram kept = *a;

    *a = *b;
    *b = kept;
}

/* Brings the best of those from `from` on to the front of them. */
static void choose(struct trigrams *t, size_t from)
{
    size_t best = from;

    for (size_t i = from + 1; i < t->n; i++)
        if (t->v[i].rarity > t->v[best].rarity)
            best = i;
    swap(&t->v[from], &t->v[best]);
    for (size_t i = from + 1; i < t->n; i++)
        if (abs(t->v[i].at - t->v[from].at) < 3)
            t->v[i].rarity -= OVERLAP_COST;
}

/* Those worth asking for first stand first. */
static struct trigrams *trigrams_of(struct arena *a, struct str folded)
{
    struct trigrams *t = ARENA_NEW(a, struct trigrams);

    text_trigrams(folded, add_trigram, t);
    for (size_t i = 0; i < t->n && i < FIRST_TRIGRAMS + MORE_TRIGRAMS; i++)
        choose(t, i);
    return t;
}

/* ---- what is known of each segment ----------------------------------------------------------- */

struct part { /* of the answer: one segment */
    int64_t segment_id;
    unsigned bits;
    uint32_t words; /* of a bitmap of its messages */
    struct segment_messages messages;
    uint64_t *hits[PLACE_COUNT]; /* messages that have all trigrams so far in that place */
    uint8_t *present;            /* similar: how many trigrams each message has */
};

struct question {
    struct arena *a;
    int64_t account_id;
    unsigned places;
    bool counts; /* similar */
    int64_t indexed_message_id;
    struct part *parts;
    size_t part_count;
    bool is_first; /* no answer came yet */
    const struct trigram *asked;
    struct pg_rows rows;
    struct {
        int kind, segment_id, number, bits, message_count, data;
    } column;
};

static int add_part(struct question *q, size_t row, struct error *err)
{
    struct part *p = &q->parts[q->part_count];

    *p = (struct part){.segment_id = pg_i64_at(&q->rows, row, q->column.segment_id),
                       .bits = (unsigned)pg_i64_at(&q->rows, row, q->column.bits)};
    if (p->bits > SEGMENT_BITS_MAX ||
        segment_read_messages(q->a, pg_str_at(&q->rows, row, q->column.data), &p->messages, err) <
            0)
        return fail(err, ERR_INTERNAL, "the text index is damaged");
    p->words = (p->messages.count + 63) / 64;
    if (q->counts)
        p->present = ARENA_ARRAY(q->a, (size_t)p->words * 64 + 1, uint8_t);
    for (unsigned place = 0; place < PLACE_COUNT; place++)
        if (q->places & PLACE_BIT(place)) {
            p->hits[place] = ARENA_ARRAY(q->a, p->words + 1, uint64_t);
            memset(p->hits[place], 0xFF, p->words * sizeof(uint64_t));
        }
    q->part_count++;
    return 0;
}

static struct part *find_part(struct question *q, int64_t segment_id)
{
    for (size_t i = 0; i < q->part_count; i++)
        if (q->parts[i].segment_id == segment_id)
            return &q->parts[i];
    return NULL;
}

static int find_in(const struct part *p, struct str bucket, uint32_t trigram, unsigned place,
                   uint64_t *found, struct error *err)
{
    uint32_t term = text_term(trigram, (enum text_place)place);

    memset(found, 0, p->words * sizeof *found);
    return segment_find(bucket, p->bits, text_term_bucket(term, p->bits), term, p->messages.count,
                        found, err);
}

static int narrow(struct part *p, struct str bucket, uint32_t trigram, uint64_t *found,
                  struct error *err)
{
    for (unsigned place = 0; place < PLACE_COUNT; place++) {
        if (p->hits[place] == NULL)
            continue;
        if (find_in(p, bucket, trigram, place, found, err) < 0)
            return -1;
        for (uint32_t w = 0; w < p->words; w++)
            p->hits[place][w] &= found[w];
    }
    return 0;
}

static int count_present(struct part *p, struct str bucket, uint32_t trigram, uint64_t *found,
                         uint64_t *any, struct error *err)
{
    memset(any, 0, p->words * sizeof *any);
    for (unsigned place = 0; place < PLACE_COUNT; place++) {
        if (p->hits[place] == NULL)
            continue;
        if (find_in(p, bucket, trigram, place, found, err) < 0)
            return -1;
        for (uint32_t w = 0; w < p->words; w++)
            any[w] |= found[w];
    }
    for (uint32_t w = 0; w < p->words; w++)
        for (uint64_t bits = any[w]; bits != 0; bits &= bits - 1)
            p->present[w * 64 + (uint32_t)__builtin_ctzll(bits)]++;
    return 0;
}

/* A segment that came after the first answer, by a merge, is passed over: what is known already
 * stays true. */
static int take_bucket(struct question *q, size_t row, struct error *err)
{
    struct part *p = find_part(q, pg_i64_at(&q->rows, row, q->column.segment_id));
    uint32_t trigram = q->asked[pg_i64_at(&q->rows, row, q->column.number)].value;
    struct str bucket = pg_str_at(&q->rows, row, q->column.data);
    struct arena *a;
    uint64_t *found, *any;
    int rc;

    if (p == NULL)
        return 0;
    a = arena_new();
    found = ARENA_ARRAY(a, p->words + 1, uint64_t);
    any = ARENA_ARRAY(a, p->words + 1, uint64_t);
    rc = q->counts ? count_present(p, bucket, trigram, found, any, err)
                   : narrow(p, bucket, trigram, found, err);
    arena_free(&a);
    fiber_pause();
    return rc;
}

/* Rows come as state, segments, buckets. */
static int take_row(struct question *q, size_t row, struct error *err)
{
    int64_t kind = pg_i64_at(&q->rows, row, q->column.kind);

    if (kind == 2)
        return take_bucket(q, row, err);
    if (!q->is_first)
        return 0;
    if (kind == 1) {
        fiber_pause();
        return add_part(q, row, err);
    }
    q->indexed_message_id = pg_i64_at(&q->rows, row, q->column.message_count);
    return 0;
}

static void find_columns(struct question *q)
{
    q->column.kind = pg_column(&q->rows, "kind");
    q->column.segment_id = pg_column(&q->rows, "segment_id");
    q->column.number = pg_column(&q->rows, "number");
    q->column.bits = pg_column(&q->rows, "bits");
    q->column.message_count = pg_column(&q->rows, "message_count");
    q->column.data = pg_column(&q->rows, "data");
}

/* Every segment has every bucket, also those without a term. */
static bool is_complete(const struct question *q, size_t asked_count)
{
    size_t buckets = 0, segments = 0;

    for (size_t row = 0; row < q->rows.count; row++) {
        buckets += pg_i64_at(&q->rows, row, q->column.kind) == 2;
        segments += pg_i64_at(&q->rows, row, q->column.kind) == 1;
    }
    return buckets == segments * asked_count;
}

static PARKS int ask(struct question *q, const struct trigram *asked, size_t count,
                     struct error *err)
{
    int32_t terms[NEEDLE_TRIGRAMS];
    int rc = 0;

    for (size_t i = 0; i < count; i++)
        terms[i] = (int32_t)text_term(asked[i].value, PLACE_ENVELOPE);
    q->asked = asked;
    if (pg_run(pg_pool(), &sql_text_find,
               PG_ARGS(pg_i64(q->account_id), pg_i32_array(terms, count)), &q->rows, err) < 0)
        return -1;
    find_columns(q);
    if (q->is_first)
        q->parts = ARENA_ARRAY(q->a, q->rows.count + 1, struct part);
    if (!is_complete(q, count))
        rc = fail(err, ERR_INTERNAL, "the text index is damaged");
    for (size_t row = 0; rc == 0 && row < q->rows.count; row++)
        rc = take_row(q, row, err);
    pg_rows_free(&q->rows);
    q->is_first = false;
    return rc;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static uint64_t hits_of_word(const struct part *p, uint32_t word)
{
    uint64_t hits = 0;

    for (unsigned place = 0; place < PLACE_COUNT; place++)
        if (p->hits[place] != NULL)
            hits |= p->hits[place][word];
    return hits;
}

static size_t count_hits(const struct question *q)
{
    size_t count = 0;

    for (size_t i = 0; i < q->part_count; i++)
        for (uint32_t w = 0; w < q->parts[i].words; w++)
            count += (size_t)__builtin_popcountll(hits_of_word(&q->parts[i], w));
    return count;
}

static bool is_hit(const struct question *q, const struct part *p, uint32_t number, unsigned enough)
{
    if (p->messages.is_opaque[number])
        return true;
    return q->counts ? p->present[number] >= enough
                     : hits_of_word(p, number / 64) >> number % 64 & 1;
}

static int compare_i64(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Segments do not overlap: once they stand in order, so do all their messages. */
static int compare_parts(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    int64_t left = x->messages.count > 0 ? x->messages.ids[0] : 0;
    int64_t right = y->messages.count > 0 ? y->messages.ids[0] : 0;

    return (left > right) - (left < right);
}

/* `enough`: trigrams, when they are counted. */
static PARKS void collect(struct question *q, unsigned enough, struct text_candidates *out)
{
    size_t room = 0;
    bool is_sorted = true;

    for (size_t i = 0; i < q->part_count; i++)
        room += q->parts[i].messages.count;
    *out = (struct text_candidates){.indexed_message_id = q->indexed_message_id,
                                    .ids = ARENA_ARRAY(q->a, room + 1, int64_t)};
    qsort(q->parts, q->part_count, sizeof *q->parts, compare_parts);
    for (size_t i = 0; i < q->part_count; i++) {
        for (uint32_t n = 0; n < q->parts[i].messages.count; n++)
            if (is_hit(q, &q->parts[i], n, enough)) {
                int64_t id = q->parts[i].messages.ids[n];
                is_sorted = is_sorted && (out->count == 0 || out->ids[out->count - 1] < id);
                out->ids[out->count++] = id;
            }
        fiber_pause();
    }
    if (!is_sorted)
        qsort(out->ids, out->count, sizeof *out->ids, compare_i64);
}

static int give_up(int64_t account_id, struct text_candidates *out, struct error *cause,
                   struct error *err)
{
    *out = (struct text_candidates){.is_everything = true};
    if (cause->kind != ERR_INTERNAL)
        return fail(err, cause->kind, "%s", cause->text);
    log_error(NULL, "text_index_damaged", KV("account", account_id), KV_ERR(cause));
    return 0;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

int text_index_candidates(struct arena *a, int64_t account_id, struct str folded, unsigned places,
                          struct text_candidates *out, struct error *err)
{
    struct trigrams *t = trigrams_of(a, folded);
    struct question q = {.a = a, .account_id = account_id, .places = places, .is_first = true};
    size_t first = smaller(t->n, FIRST_TRIGRAMS);
    struct error cause = {0};
    int rc;

    *out = (struct text_candidates){.is_everything = true};
    if (t->n == 0)
        return 0;
    rc = ask(&q, t->v, first, &cause);
    if (rc == 0 && t->n > first && count_hits(&q) > WORTH_MORE)
        rc = ask(&q, t->v + first, smaller(t->n - first, MORE_TRIGRAMS), &cause);
    if (rc < 0)
        return give_up(account_id, out, &cause, err);
    collect(&q, 0, out);
    return 0;
}

int text_index_similar(struct arena *a, int64_t account_id, struct str folded_word,
                       unsigned missing_max, unsigned places, struct text_candidates *out,
                       struct error *err)
{
    struct trigrams *t = trigrams_of(a, folded_word);
    struct question q = {
        .a = a, .account_id = account_id, .places = places, .counts = true, .is_first = true};
    size_t count = smaller(t->n, FIRST_TRIGRAMS + MORE_TRIGRAMS);
    struct error cause = {0};

    *out = (struct text_candidates){.is_everything = true};
    if (count <= missing_max)
        return 0;
    if (ask(&q, t->v, count, &cause) < 0)
        return give_up(account_id, out, &cause, err);
    collect(&q, (unsigned)count - missing_max, out);
    return 0;
}

/* ---- looking it up --------------------------------------------------------------------------- */

static size_t first_not_below(const struct text_candidates *c, int64_t message_id)
{
    size_t low = 0, high = c->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c->ids[middle] < message_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* c->at is the first id that was not below the last question's. */
bool text_candidates_contain(struct text_candidates *c, int64_t message_id)
{
    size_t at = c->at;

    if (c->is_everything || message_id > c->indexed_message_id)
        return true;
    if (at < c->count && c->ids[at] < message_id)
        at++;
    if ((at < c->count && c->ids[at] < message_id) || (at > 0 && c->ids[at - 1] >= message_id))
        at = first_not_below(c, message_id);
    c->at = at;
    return at < c->count && c->ids[at] == message_id;
}

/* Above its own mark c takes everything still, so what the other knows there is not used. */
void text_candidates_intersect(struct text_candidates *c, const struct text_candidates *other)
{
    struct text_candidates rest = *other;
    size_t kept = 0;

    if (other->is_everything)
        return;
    if (c->is_everything) {
        *c = *other;
        return;
    }
    for (size_t i = 0; i < c->count; i++)
        if (text_candidates_contain(&rest, c->ids[i]))
            c->ids[kept++] = c->ids[i];
    c->count = kept;
    c->at = 0;
}
