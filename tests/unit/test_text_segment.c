/* test_text_segment.c - segments against a plain list of who has which trigram. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "mail/store/text_segment.h"

#define TEXTS_MAX 400
#define TEXT_SIZE 300

static uint64_t seed = 1;

static uint32_t any(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed % below);
}

struct text {
    int64_t id;
    char bytes[PLACE_COUNT][TEXT_SIZE];
    size_t n[PLACE_COUNT];
    bool is_opaque, is_gone;
};

struct model {
    struct text v[TEXTS_MAX];
    uint32_t n;
};

/* Words of few letters, so that texts share many trigrams; some bytes of other scripts. */
static void make_text(struct text *t, int64_t id)
{
    static const char alphabet[] = "aabbcde  \n\xC3\xA4\xCC\x81z";

    memset(t, 0, sizeof *t);
    t->id = id;
    for (unsigned place = 0; place < PLACE_COUNT; place++) {
        t->n[place] = any(TEXT_SIZE);
        for (size_t i = 0; i < t->n[place]; i++)
            t->bytes[place][i] = alphabet[any(sizeof alphabet - 1)];
    }
    t->is_opaque = any(40) == 0;
}

static void build(struct arena *a, struct model *m, uint32_t from, uint32_t to, struct segment *out)
{
    struct segment_builder *b = segment_builder_new();

    for (uint32_t i = from; i < to; i++) {
        struct text *t = &m->v[i];
        segment_add_message(b, t->id);
        for (unsigned place = 0; place < PLACE_COUNT; place++)
            segment_add_text(b, (enum text_place)place, str_of(t->bytes[place], t->n[place]));
        if (t->is_opaque)
            segment_make_opaque(b);
    }
    segment_finish(b, a, out);
    segment_builder_free(&b);
}

struct seen {
    uint32_t wanted;
    bool found;
};

static bool see(void *arg, uint32_t trigram)
{
    struct seen *s = arg;

    s->found = s->found || trigram == s->wanted;
    return !s->found;
}

static bool has(const struct text *t, enum text_place place, uint32_t trigram)
{
    struct seen s = {.wanted = trigram};

    text_trigrams(str_of(t->bytes[place], t->n[place]), see, &s);
    return s.found;
}

static uint64_t hits_sum, having_sum;

/* Whoever has the trigram is found; who has not is found only where three in four have it (in one
 * of the pieces, when it was merged). */
static void check_term(const struct segment *s, const struct text *const *texts, uint32_t count,
                       enum text_place place, uint32_t trigram, bool is_merged)
{
    uint64_t found[TEXTS_MAX / 64 + 1] = {0};
    uint32_t term = text_term(trigram, place), number = text_term_bucket(term, s->bits);
    uint32_t having = 0, hits = 0;
    struct error err = {0};

    assert_int_equal(s->message_count, count);
    assert_int_equal(
        segment_find(s->buckets[number], s->bits, number, term, s->message_count, found, &err), 0);
    for (uint32_t i = 0; i < count; i++) {
        bool has_it = !texts[i]->is_opaque && has(texts[i], place, trigram);
        bool is_hit = found[i / 64] >> i % 64 & 1;
        having += has_it;
        hits += is_hit;
        if (has_it)
            assert_true(is_hit);
    }
    hits_sum += hits;
    having_sum += having;
    if (hits != having && !is_merged) {
        assert_int_equal(hits, count);
        assert_true(having * 4 >= count);
    }
}

static uint32_t some_trigram(const struct text *t)
{
    enum text_place place = (enum text_place)any(PLACE_COUNT);
    size_t at;

    if (t->n[place] < 4 || any(10) == 0)
        return any(1 << 24);
    at = any((uint32_t)t->n[place] - 3);
    return (uint32_t)(unsigned char)t->bytes[place][at] << 16 |
           (uint32_t)(unsigned char)t->bytes[place][at + 1] << 8 |
           (unsigned char)t->bytes[place][at + 2];
}

static void check_segment(struct arena *a, const struct segment *s, const struct text *const *texts,
                          uint32_t count, bool is_merged)
{
    struct segment_messages messages;
    struct error err = {0};

    assert_int_equal(segment_read_messages(a, s->messages, &messages, &err), 0);
    assert_int_equal(messages.count, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(messages.ids[i], texts[i]->id);
        assert_int_equal(messages.is_opaque[i], texts[i]->is_opaque);
    }
    for (unsigned i = 0; i < 300; i++)
        check_term(s, texts, count, (enum text_place)any(PLACE_COUNT),
                   some_trigram(texts[any(count)]), is_merged);
}

static void fill(struct model *m, uint32_t n)
{
    int64_t id = 0;

    m->n = n;
    for (uint32_t i = 0; i < n; i++)
        make_text(&m->v[i], id += 1 + any(3));
}

static void a_segment_finds_who_has_a_trigram(void **state)
{
    struct model *m = calloc(1, sizeof *m);
    const struct text *texts[TEXTS_MAX];

    for (unsigned round = 0; round < 12; round++) {
        struct arena *a = arena_new();
        struct segment s;
        fill(m, 1 + any(round < 4 ? 10 : TEXTS_MAX - 1));
        for (uint32_t i = 0; i < m->n; i++)
            texts[i] = &m->v[i];
        build(a, m, 0, m->n, &s);
        check_segment(a, &s, texts, m->n, false);
        arena_free(&a);
    }
    free(m);
}

#define PIECES_MAX 9

static void merge(struct arena *a, struct segment *pieces, size_t count, uint32_t **numbers,
                  unsigned bits, uint32_t total, struct segment *out)
{
    struct merge_input inputs[PIECES_MAX];
    uint32_t step = 1 + any(5), buckets = 1u << bits;
    struct buf range[8];
    struct error err = {0};

    *out = (struct segment){.bits = bits, .message_count = total};
    out->buckets = ARENA_ARRAY(a, buckets, struct str);
    for (uint32_t from = 0; from < buckets; from += step) {
        uint32_t to = from + step < buckets ? from + step : buckets;
        for (size_t i = 0; i < count; i++) {
            unsigned shift = bits - pieces[i].bits;
            uint32_t first = from >> shift, last = (to - 1) >> shift;
            inputs[i] = (struct merge_input){.bits = pieces[i].bits,
                                             .message_count = pieces[i].message_count,
                                             .numbers = numbers[i],
                                             .buckets = pieces[i].buckets + first,
                                             .first_bucket = first,
                                             .bucket_count = last - first + 1};
        }
        for (uint32_t i = from; i < to; i++)
            buf_init(&range[i - from], SIZE_MAX);
        assert_int_equal(segment_merge(inputs, count, bits, total, from, to, range, &err), 0);
        for (uint32_t i = from; i < to; i++) {
            out->buckets[i] = arena_str(a, buf_str(&range[i - from]));
            buf_fini(&range[i - from]);
        }
    }
}

static void merged_segments_find_the_same_without_who_is_gone(void **state)
{
    struct model *m = calloc(1, sizeof *m);
    const struct text *texts[TEXTS_MAX];

    hits_sum = having_sum = 0;
    for (unsigned round = 0; round < 12; round++) {
        struct arena *a = arena_new();
        struct segment pieces[PIECES_MAX], merged;
        uint32_t *numbers[PIECES_MAX], total = 0, from = 0;
        size_t count = 0;
        unsigned bits = 0;
        struct segment_messages alive;

        fill(m, 10 + any(TEXTS_MAX - 10));
        alive.ids = ARENA_ARRAY(a, m->n, int64_t);
        alive.is_opaque = ARENA_ARRAY(a, m->n, bool);
        while (from < m->n) {
            uint32_t to = count == PIECES_MAX - 1 ? m->n : from + 1 + any(m->n - from);
            build(a, m, from, to, &pieces[count]);
            numbers[count] = ARENA_ARRAY(a, to - from, uint32_t);
            if (pieces[count].bits > bits)
                bits = pieces[count].bits;
            for (; from < to; from++) {
                uint32_t at = from - (to - pieces[count].message_count);
                m->v[from].is_gone = any(5) == 0;
                numbers[count][at] = m->v[from].is_gone ? SEGMENT_GONE : total;
                if (m->v[from].is_gone)
                    continue;
                alive.ids[total] = m->v[from].id;
                alive.is_opaque[total] = m->v[from].is_opaque;
                texts[total++] = &m->v[from];
            }
            count++;
        }
        if (total > 0) {
            alive.count = total;
            merge(a, pieces, count, numbers, bits + any(4), total, &merged);
            merged.messages = segment_write_messages(a, &alive);
            check_segment(a, &merged, texts, total, true);
        }
        arena_free(&a);
    }
    assert_true(hits_sum < having_sum + having_sum / 4);
    free(m);
}

static void a_message_with_too_many_terms_is_opaque(void **state)
{
    struct segment_builder *b = segment_builder_new();
    struct arena *a = arena_new();
    size_t n = 3 * 1000 * 1000;
    char *noise = malloc(n);
    struct segment_messages messages;
    struct segment s;
    struct error err = {0};

    for (size_t i = 0; i < n; i++)
        noise[i] = (char)any(128);
    segment_add_message(b, 5);
    segment_add_text(b, PLACE_BODY, str_of(noise, n));
    segment_add_message(b, 6);
    segment_add_text(b, PLACE_BODY, STR("plain words"));
    segment_finish(b, a, &s);
    assert_int_equal(segment_read_messages(a, s.messages, &messages, &err), 0);
    assert_true(messages.is_opaque[0]);
    assert_false(messages.is_opaque[1]);
    assert_int_equal(s.bits, 0);
    segment_builder_free(&b);
    arena_free(&a);
    free(noise);
}

static void accents_do_not_come_between_letters(void **state)
{
    struct seen s = {.wanted = 'a' << 16 | 'b' << 8 | 'c'};

    text_trigrams(STR("xa\xCC\x81"
                      "b\xCD\xAF"
                      "c"),
                  see, &s);
    assert_true(s.found);
    s = (struct seen){.wanted = 'a' << 16 | 0xCD << 8 | 0xB0}; /* a Greek letter, no accent */
    text_trigrams(STR("xa\xCD\xB0"), see, &s);
    assert_true(s.found);
}

static void damaged_bytes_are_refused_or_harmless(void **state)
{
    struct model *m = calloc(1, sizeof *m);
    struct arena *a = arena_new();
    uint64_t found[TEXTS_MAX / 64 + 1];
    struct segment s;
    unsigned refused = 0;

    fill(m, 200);
    build(a, m, 0, m->n, &s);
    for (unsigned round = 0; round < 20000; round++) {
        uint32_t number = any(1u << s.bits), term = any(1u << TERM_BITS);
        struct str bucket = arena_str(a, s.buckets[number]), messages = arena_str(a, s.messages);
        struct segment_messages out;
        struct error err = {0};
        if (bucket.n == 0)
            continue;
        ((char *)bucket.p)[any((uint32_t)bucket.n)] ^= (char)(1 << any(8));
        bucket.n -= any(3) == 0 ? any((uint32_t)bucket.n) : 0;
        memset(found, 0, sizeof found);
        refused +=
            segment_find(bucket, s.bits, number, (number << (TERM_BITS - s.bits)) | term >> s.bits,
                         s.message_count, found, &err) < 0;
        for (uint32_t i = s.message_count; i < sizeof found * 8; i++)
            assert_false(found[i / 64] >> i % 64 & 1);
        ((char *)messages.p)[any((uint32_t)messages.n)] ^= (char)(1 << any(8));
        segment_read_messages(a, messages, &out, NULL);
        if (round % 100 == 0)
            arena_reset(a), fill(m, 200), build(a, m, 0, m->n, &s);
    }
    assert_true(refused > 100);
    arena_free(&a);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_finds_who_has_a_trigram),
        cmocka_unit_test(merged_segments_find_the_same_without_who_is_gone),
        cmocka_unit_test(a_message_with_too_many_terms_is_opaque),
        cmocka_unit_test(accents_do_not_come_between_letters),
        cmocka_unit_test(damaged_bytes_are_refused_or_harmless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
