/* text_segment.c - building, reading and merging segments.
 *
 * While it is made, a segment is a list of (term, message) pairs, sorted by radix once. */
#include "mail/store/text_segment.h"

#include <assert.h>
#include <stdlib.h>

#include "server/base/memory.h"

#define FORMAT_VERSION 1
#define TRIGRAM_COUNT  (1u << 24)
#define RADIX_BITS     13
#define RADIX_SIZE     (1u << RADIX_BITS)
#define PLAIN_LIST_MAX 3 /* longer ones are preceded by their size, so that they can be skipped */
#define VARINT_MAX     10

enum list_form { LIST_NUMBERS, LIST_BITMAP, LIST_ALL };

/* ---- terms ----------------------------------------------------------------------------------- */

/* One to one, so that terms of like texts spread over all buckets. */
static uint32_t mix(uint32_t x)
{
    x = x * 0x9E3779B1u & 0xFFFFFF;
    x ^= x >> 12;
    x = x * 0x85EBCA6Bu & 0xFFFFFF;
    return x ^ x >> 11;
}

uint32_t text_term(uint32_t trigram, enum text_place place)
{
    return mix(trigram) << 2 | (uint32_t)place;
}

static bool at_accent(const unsigned char *p, size_t left)
{
    return left > 1 &&
           ((p[0] == 0xCC && p[1] >= 0x80) || (p[0] == 0xCD && p[1] >= 0x80 && p[1] <= 0xAF));
}

void text_trigrams(struct str folded, bool (*each)(void *arg, uint32_t trigram), void *arg)
{
    const unsigned char *p = (const unsigned char *)folded.p;
    uint32_t window = 0;
    unsigned filled = 0;

    for (size_t i = 0; i < folded.n; i++) {
        if (p[i] >= 0xCC && at_accent(p + i, folded.n - i)) {
            i++;
            continue;
        }
        window = (window << 8 | p[i]) & (TRIGRAM_COUNT - 1);
        if (++filled >= 3 && !each(arg, window))
            return;
    }
}

/* ---- varints --------------------------------------------------------------------------------- */

static void add_varint(struct buf *out, uint64_t value)
{
    char bytes[VARINT_MAX];
    size_t n = 0;

    for (; value >= 128; value >>= 7)
        bytes[n++] = (char)(value | 128);
    bytes[n++] = (char)value;
    buf_add_bytes(out, bytes, n);
}

struct reader {
    const unsigned char *at, *end;
    bool is_bad; /* sticky: reads after it give 0 */
};

static uint64_t read_varint(struct reader *r)
{
    uint64_t value = 0;

    for (unsigned shift = 0; r->at < r->end && shift < 64; shift += 7) {
        unsigned char c = *r->at++;
        value |= (uint64_t)(c & 127) << shift;
        if (c < 128)
            return value;
    }
    r->is_bad = true;
    r->at = r->end;
    return 0;
}

static const unsigned char *read_bytes(struct reader *r, uint64_t n)
{
    const unsigned char *at = r->at;

    if (n > (uint64_t)(r->end - r->at)) {
        r->is_bad = true;
        r->at = r->end;
        return NULL;
    }
    r->at += n;
    return at;
}

static struct reader reader_of(struct str s)
{
    const unsigned char *at = (const unsigned char *)(s.n > 0 ? s.p : "");

    return (struct reader){.at = at, .end = at + s.n};
}

static int fail_damaged(struct error *err)
{
    return fail(err, ERR_INTERNAL, "the text index is damaged");
}

/* ---- lists of messages ----------------------------------------------------------------------- */

static void write_bitmap(struct buf *out, const uint32_t *numbers, uint32_t n, uint32_t total)
{
    size_t size = (total + 7) / 8;
    char *bits = buf_reserve(out, size);

    memset(bits, 0, size);
    for (uint32_t i = 0; i < n; i++)
        bits[numbers[i] / 8] = (char)(bits[numbers[i] / 8] | 1 << numbers[i] % 8);
    buf_commit(out, size);
}

static size_t varint_size(uint32_t value)
{
    return value < 1u << 7    ? 1
           : value < 1u << 14 ? 2
           : value < 1u << 21 ? 3
           : value < 1u << 28 ? 4
                              : 5;
}

static size_t numbers_size(const uint32_t *numbers, uint32_t n)
{
    size_t size = varint_size(numbers[0]);

    for (uint32_t i = 1; i < n; i++)
        size += varint_size(numbers[i] - numbers[i - 1] - 1);
    return size;
}

/* What three messages in four have does not help to find one. */
static bool is_common(uint32_t n, uint32_t total)
{
    return total >= 8 && (uint64_t)n * 4 >= (uint64_t)total * 3;
}

static void write_list(struct buf *out, const uint32_t *numbers, uint32_t n, uint32_t total)
{
    size_t size;

    if (is_common(n, total)) {
        add_varint(out, LIST_ALL);
        return;
    }
    size = numbers_size(numbers, n);
    if (size > (total + 7) / 8) {
        add_varint(out, (uint64_t)n << 2 | LIST_BITMAP);
        write_bitmap(out, numbers, n, total);
        return;
    }
    add_varint(out, (uint64_t)n << 2 | LIST_NUMBERS);
    if (n > PLAIN_LIST_MAX)
        add_varint(out, size);
    add_varint(out, numbers[0]);
    for (uint32_t i = 1; i < n; i++)
        add_varint(out, numbers[i] - numbers[i - 1] - 1);
}

/* A list still in its bytes. */
struct list_view {
    enum list_form form;
    uint32_t n;
    struct reader bytes;
};

static bool read_list(struct reader *r, uint32_t total, struct list_view *list)
{
    uint64_t head = read_varint(r), size;
    const unsigned char *from = r->at;

    *list = (struct list_view){.form = (enum list_form)(head & 3), .n = (uint32_t)(head >> 2)};
    if (head >> 2 > total || (head & 3) > LIST_ALL || (list->form != LIST_ALL && list->n == 0))
        return false;
    if (list->form == LIST_BITMAP) {
        from = read_bytes(r, (total + 7) / 8);
    } else if (list->form == LIST_NUMBERS && list->n > PLAIN_LIST_MAX) {
        size = read_varint(r);
        from = read_bytes(r, size);
    } else if (list->form == LIST_NUMBERS) {
        for (uint32_t i = 0; i < list->n; i++)
            read_varint(r);
    }
    list->bytes = (struct reader){.at = from, .end = r->at};
    return !r->is_bad;
}

static bool set_numbers(struct list_view *list, uint32_t total, uint64_t *found)
{
    uint64_t number = 0;

    for (uint32_t i = 0; i < list->n; i++) {
        number += read_varint(&list->bytes) + (i > 0);
        if (number >= total)
            return false;
        found[number / 64] |= UINT64_C(1) << number % 64;
    }
    return !list->bytes.is_bad;
}

static void set_all(uint32_t total, uint64_t *found)
{
    for (uint32_t w = 0; w < total / 64; w++)
        found[w] = UINT64_MAX;
    if (total % 64 != 0)
        found[total / 64] |= (UINT64_C(1) << total % 64) - 1;
}

/* Bits behind the last message are not taken over. */
static void set_bitmap(const struct list_view *list, uint32_t total, uint64_t *found)
{
    for (uint32_t i = 0; i < (total + 7) / 8; i++) {
        uint64_t byte = list->bytes.at[i];
        if (i == total / 8)
            byte &= (1u << total % 8) - 1;
        found[i / 8] |= byte << i % 8 * 8;
    }
}

static bool set_list(struct list_view *list, uint32_t total, uint64_t *found)
{
    switch (list->form) {
    case LIST_NUMBERS:
        return set_numbers(list, total, found);
    case LIST_BITMAP:
        set_bitmap(list, total, found);
        return true;
    case LIST_ALL:
        set_all(total, found);
        return true;
    }
    return false;
}

int segment_find(struct str bucket, unsigned bits, uint32_t number, uint32_t term,
                 uint32_t message_count, uint64_t *found, struct error *err)
{
    uint64_t at = (uint64_t)number << (TERM_BITS - bits);
    struct reader r = reader_of(bucket);
    struct list_view list;

    while (r.at < r.end) {
        at += read_varint(&r);
        if (at > term)
            return r.is_bad ? fail_damaged(err) : 0;
        if (!read_list(&r, message_count, &list))
            return fail_damaged(err);
        if (at == term)
            return set_list(&list, message_count, found) ? 0 : fail_damaged(err);
    }
    return r.is_bad ? fail_damaged(err) : 0;
}

/* ---- messages -------------------------------------------------------------------------------- */

struct str segment_write_messages(struct arena *a, const struct segment_messages *m)
{
    struct buf out;
    struct str bytes;
    int64_t before = 0;

    buf_init(&out, SIZE_MAX);
    add_varint(&out, FORMAT_VERSION);
    add_varint(&out, m->count);
    for (uint32_t i = 0; i < m->count; i++) {
        add_varint(&out, (uint64_t)(m->ids[i] - before) << 1 | (m->is_opaque[i] ? 1 : 0));
        before = m->ids[i];
    }
    bytes = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return bytes;
}

int segment_read_messages(struct arena *a, struct str bytes, struct segment_messages *out,
                          struct error *err)
{
    struct reader r = reader_of(bytes);
    uint64_t version = read_varint(&r), count = read_varint(&r), id = 0;

    if (version != FORMAT_VERSION || count > SEGMENT_MESSAGES_MAX || count > bytes.n)
        return fail_damaged(err);
    *out = (struct segment_messages){.ids = ARENA_ARRAY(a, count + 1, int64_t),
                                     .is_opaque = ARENA_ARRAY(a, count + 1, bool),
                                     .count = (uint32_t)count};
    for (uint32_t i = 0; i < count; i++) {
        uint64_t value = read_varint(&r);
        id += value >> 1;
        if (r.is_bad || value >> 1 == 0 || id > INT64_MAX)
            return fail_damaged(err);
        out->ids[i] = (int64_t)id;
        out->is_opaque[i] = value & 1;
    }
    return r.at == r.end ? 0 : fail_damaged(err);
}

/* ---- building -------------------------------------------------------------------------------- */

struct pairs {
    uint64_t *v; /* term << 24 | number */
    size_t n, cap;
};

struct segment_builder {
    uint64_t *seen; /* one bit per trigram */
    struct pairs pairs;
    size_t pairs_of_message; /* where those of the last message begin */
    size_t pairs_of_text;
    enum text_place place;
    int64_t *ids;
    bool *is_opaque;
    uint32_t count, cap;
};

struct segment_builder *segment_builder_new(void)
{
    struct segment_builder *b = memory_alloc(sizeof *b);

    b->seen = memory_array(TRIGRAM_COUNT / 64, sizeof *b->seen);
    return b;
}

void segment_builder_free(struct segment_builder **b)
{
    if (*b == NULL)
        return;
    free((*b)->seen);
    free((*b)->pairs.v);
    free((*b)->ids);
    free((*b)->is_opaque);
    free(*b);
    *b = NULL;
}

size_t segment_builder_size(const struct segment_builder *b)
{
    return b->pairs.n * sizeof *b->pairs.v;
}

uint32_t segment_builder_count(const struct segment_builder *b)
{
    return b->count;
}

void segment_add_message(struct segment_builder *b, int64_t message_id)
{
    assert(b->count == 0 || message_id > b->ids[b->count - 1]);
    if (b->count == b->cap) {
        b->cap = b->cap > 0 ? b->cap * 2 : 64;
        b->ids = memory_resize(b->ids, b->cap * sizeof *b->ids);
        b->is_opaque = memory_resize(b->is_opaque, b->cap * sizeof *b->is_opaque);
    }
    b->ids[b->count] = message_id;
    b->is_opaque[b->count++] = false;
    b->pairs_of_message = b->pairs.n;
}

void segment_make_opaque(struct segment_builder *b)
{
    b->is_opaque[b->count - 1] = true;
    b->pairs.n = b->pairs_of_message;
}

static void add_pair(struct pairs *p, uint64_t pair)
{
    if (p->n == p->cap) {
        p->cap = p->cap > 0 ? p->cap * 2 : 4096;
        p->v = memory_resize(p->v, p->cap * sizeof *p->v);
    }
    p->v[p->n++] = pair;
}

/* Keeps each trigram of the text once. What is kept also says which bits to clear behind it. */
static bool see_trigram(void *arg, uint32_t trigram)
{
    struct segment_builder *b = arg;
    uint64_t bit = UINT64_C(1) << trigram % 64;

    if (b->seen[trigram / 64] & bit)
        return true;
    b->seen[trigram / 64] |= bit;
    add_pair(&b->pairs, trigram);
    return b->pairs.n - b->pairs_of_message <= SEGMENT_TERMS_MAX;
}

/* Places come in lines and parts, so a term may come again: finishing takes each once. */
void segment_add_text(struct segment_builder *b, enum text_place place, struct str folded)
{
    size_t from = b->pairs.n;

    if (b->is_opaque[b->count - 1])
        return;
    text_trigrams(folded, see_trigram, b);
    for (size_t i = from; i < b->pairs.n; i++) {
        uint32_t trigram = (uint32_t)b->pairs.v[i];
        b->seen[trigram / 64] &= ~(UINT64_C(1) << trigram % 64);
        b->pairs.v[i] = (uint64_t)text_term(trigram, place) << 24 | (b->count - 1);
    }
    if (b->pairs.n - b->pairs_of_message > SEGMENT_TERMS_MAX)
        segment_make_opaque(b);
}

/* By term; messages stay in their order. Two passes of 13 bits. */
static void sort_pairs(struct pairs *p)
{
    uint64_t *from = p->v, *to = memory_array(p->n + 1, sizeof *to), *swap;
    size_t *starts = memory_array(RADIX_SIZE, sizeof *starts);

    for (unsigned shift = 24; shift < 24 + TERM_BITS; shift += RADIX_BITS) {
        size_t at = 0;
        memset(starts, 0, RADIX_SIZE * sizeof *starts);
        for (size_t i = 0; i < p->n; i++)
            starts[from[i] >> shift & (RADIX_SIZE - 1)]++;
        for (size_t d = 0; d < RADIX_SIZE; d++) {
            size_t n = starts[d];
            starts[d] = at;
            at += n;
        }
        for (size_t i = 0; i < p->n; i++)
            to[starts[from[i] >> shift & (RADIX_SIZE - 1)]++] = from[i];
        swap = from;
        from = to;
        to = swap;
    }
    p->v = from;
    p->cap = p->cap > p->n ? p->n + 1 : p->cap;
    free(to);
    free(starts);
}

static void drop_repeats(struct pairs *p)
{
    size_t kept = 0;

    for (size_t i = 0; i < p->n; i++)
        if (kept == 0 || p->v[i] != p->v[kept - 1])
            p->v[kept++] = p->v[i];
    p->n = kept;
}

/* A term and its messages cost about so much. */
static unsigned bits_for(uint64_t size)
{
    unsigned bits = 0;

    while (bits < SEGMENT_BITS_MAX && size >> bits > SEGMENT_BUCKET_SIZE)
        bits++;
    return bits;
}

struct bucket_writer {
    struct buf *out;
    uint64_t at; /* the term before */
};

static void write_term(struct bucket_writer *w, uint32_t term, const uint32_t *numbers, uint32_t n,
                       uint32_t total)
{
    add_varint(w->out, term - w->at);
    w->at = term;
    write_list(w->out, numbers, n, total);
}

/* Writes the terms below `limit` from *at on. */
static void write_bucket(const struct pairs *p, size_t *at, uint64_t limit, uint32_t *numbers,
                         uint32_t total, struct bucket_writer *w)
{
    while (*at < p->n && p->v[*at] >> 24 < limit) {
        uint32_t term = (uint32_t)(p->v[*at] >> 24), n = 0;
        for (; *at < p->n && p->v[*at] >> 24 == term; ++*at)
            numbers[n++] = (uint32_t)(p->v[*at] & 0xFFFFFF);
        write_term(w, term, numbers, n, total);
    }
}

static void write_buckets(struct segment_builder *b, struct arena *a, struct segment *out)
{
    uint32_t *numbers = memory_array(b->count + 1, sizeof *numbers);
    uint32_t count = 1u << out->bits;
    size_t at = 0;
    struct buf bytes;

    buf_init(&bytes, SIZE_MAX);
    out->buckets = ARENA_ARRAY(a, count, struct str);
    for (uint32_t i = 0; i < count; i++) {
        struct bucket_writer w = {&bytes, (uint64_t)i << (TERM_BITS - out->bits)};
        buf_clear(&bytes);
        write_bucket(&b->pairs, &at, (uint64_t)(i + 1) << (TERM_BITS - out->bits), numbers,
                     b->count, &w);
        out->buckets[i] = arena_str(a, buf_str(&bytes));
    }
    buf_fini(&bytes);
    free(numbers);
}

void segment_finish(struct segment_builder *b, struct arena *a, struct segment *out)
{
    struct segment_messages m = {b->ids, b->is_opaque, b->count};

    assert(b->count > 0);
    sort_pairs(&b->pairs);
    drop_repeats(&b->pairs);
    *out = (struct segment){
        .bits = bits_for(b->pairs.n * 3 / 2),
        .message_count = b->count,
        .first_message_id = b->ids[0],
        .last_message_id = b->ids[b->count - 1],
        .messages = segment_write_messages(a, &m),
    };
    write_buckets(b, a, out);
}

/* ---- merging --------------------------------------------------------------------------------- */

/* Where we are in the terms of one input. */
struct cursor {
    const struct merge_input *input;
    uint32_t bucket; /* of those given */
    struct reader reader;
    uint64_t term; /* UINT64_MAX at the end */
    struct list_view list;
};

static bool cursor_open_bucket(struct cursor *c)
{
    const struct merge_input *in = c->input;

    if (c->bucket == in->bucket_count)
        return false;
    c->reader = reader_of(in->buckets[c->bucket]);
    c->term = (uint64_t)(in->first_bucket + c->bucket) << (TERM_BITS - in->bits);
    c->bucket++;
    return true;
}

/* To the next term; false when the bytes are damaged. */
static bool cursor_next(struct cursor *c)
{
    while (c->reader.at == c->reader.end)
        if (!cursor_open_bucket(c)) {
            c->term = UINT64_MAX;
            return true;
        }
    c->term += read_varint(&c->reader);
    return c->term >> (TERM_BITS - c->input->bits) == c->input->first_bucket + c->bucket - 1 &&
           read_list(&c->reader, c->input->message_count, &c->list);
}

static bool cursor_start(struct cursor *c, const struct merge_input *input, uint64_t from)
{
    *c = (struct cursor){.input = input};
    do {
        if (!cursor_next(c))
            return false;
    } while (c->term < from);
    return true;
}

static bool take_numbers(struct cursor *c, uint32_t *numbers, uint32_t *n)
{
    uint64_t old = 0;

    for (uint32_t i = 0; i < c->list.n; i++) {
        old += read_varint(&c->list.bytes) + (i > 0);
        if (old >= c->input->message_count)
            return false;
        if (c->input->numbers[old] != SEGMENT_GONE)
            numbers[(*n)++] = c->input->numbers[old];
    }
    return !c->list.bytes.is_bad;
}

/* Appends the new numbers of the list's messages. */
static bool take_list(struct cursor *c, uint64_t *bits, uint32_t *numbers, uint32_t *n)
{
    uint32_t total = c->input->message_count, words = (total + 63) / 64;

    if (c->list.form == LIST_NUMBERS)
        return take_numbers(c, numbers, n);
    memset(bits, 0, words * sizeof *bits);
    if (!set_list(&c->list, total, bits))
        return false;
    for (uint32_t w = 0; w < words; w++)
        for (uint64_t rest = bits[w]; rest != 0; rest &= rest - 1) {
            uint32_t number = c->input->numbers[w * 64 + (uint32_t)__builtin_ctzll(rest)];
            if (number != SEGMENT_GONE)
                numbers[(*n)++] = number;
        }
    return true;
}

struct merge {
    struct cursor *cursors;
    size_t count;
    uint64_t *bits;
    uint32_t *numbers;
    uint32_t message_count;
};

static uint64_t lowest_term(const struct merge *m)
{
    uint64_t lowest = UINT64_MAX;

    for (size_t i = 0; i < m->count; i++)
        if (m->cursors[i].term < lowest)
            lowest = m->cursors[i].term;
    return lowest;
}

static bool merge_term(struct merge *m, uint64_t term, struct bucket_writer *w)
{
    uint32_t n = 0;

    for (size_t i = 0; i < m->count; i++) {
        struct cursor *c = &m->cursors[i];
        if (c->term == term && (!take_list(c, m->bits, m->numbers, &n) || !cursor_next(c)))
            return false;
        if (c->term == term)
            return false; /* the same term twice */
    }
    if (n > 0)
        write_term(w, (uint32_t)term, m->numbers, n, m->message_count);
    return true;
}

static bool merge_bucket(struct merge *m, uint64_t from, uint64_t to, struct buf *out)
{
    struct bucket_writer w = {out, from};
    uint64_t term;

    while ((term = lowest_term(m)) < to)
        if (!merge_term(m, term, &w))
            return false;
    return true;
}

static uint32_t largest_input(const struct merge_input *inputs, size_t count)
{
    uint32_t largest = 0;

    for (size_t i = 0; i < count; i++)
        if (inputs[i].message_count > largest)
            largest = inputs[i].message_count;
    return largest;
}

int segment_merge(const struct merge_input *inputs, size_t count, unsigned bits,
                  uint32_t message_count, uint32_t from, uint32_t to, struct buf *out,
                  struct error *err)
{
    unsigned shift = TERM_BITS - bits;
    struct merge m = {
        .cursors = memory_array(count, sizeof *m.cursors),
        .count = count,
        .bits = memory_array(largest_input(inputs, count) / 64 + 1, sizeof *m.bits),
        .numbers = memory_array((size_t)message_count + 1, sizeof *m.numbers),
        .message_count = message_count,
    };
    bool is_good = true;

    for (size_t i = 0; is_good && i < count; i++)
        is_good = cursor_start(&m.cursors[i], &inputs[i], (uint64_t)from << shift);
    for (uint32_t b = from; is_good && b < to; b++)
        is_good =
            merge_bucket(&m, (uint64_t)b << shift, (uint64_t)(b + 1) << shift, &out[b - from]);
    free(m.cursors);
    free(m.bits);
    free(m.numbers);
    return is_good ? 0 : fail_damaged(err);
}
