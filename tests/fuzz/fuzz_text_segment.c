/* fuzz_text_segment.c - any bytes are a stored segment: reading and merging must end, and never set
 * a bit of a message that is not there. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mail/store/kept_text.h"
#include "mail/store/text_segment.h"

#define MESSAGES_MAX 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_find(struct str bucket, unsigned bits, uint32_t number, uint32_t term,
                     uint32_t count)
{
    uint64_t found[MESSAGES_MAX / 64 + 1] = {0};

    segment_find(bucket, bits, number, term, count, found, NULL);
    for (uint32_t i = count; i < sizeof found * 8; i++)
        if (found[i / 64] >> i % 64 & 1)
            abort();
}

/* Two halves as two inputs. */
static void try_merge(struct str bytes, uint32_t count)
{
    uint32_t numbers[2][MESSAGES_MAX];
    struct str halves[2] = {str_head(bytes, bytes.n / 2), str_from(bytes, bytes.n / 2)};
    struct merge_input inputs[2];
    struct buf out[4];

    for (uint32_t i = 0; i < 2; i++) {
        for (uint32_t n = 0; n < count; n++)
            numbers[i][n] = n % 7 == 3 ? SEGMENT_GONE : i * count + n;
        inputs[i] = (struct merge_input){.message_count = count,
                                         .numbers = numbers[i],
                                         .buckets = &halves[i],
                                         .bucket_count = 1};
    }
    for (unsigned i = 0; i < 4; i++)
        buf_init(&out[i], SIZE_MAX);
    if (segment_merge(inputs, 2, 2, 2 * count, 0, 4, out, NULL) == 0)
        for (uint32_t i = 0; i < 4; i++)
            try_find(buf_str(&out[i]), 2, i, i << (TERM_BITS - 2), count < 100 ? 2 * count : count);
    for (unsigned i = 0; i < 4; i++)
        buf_fini(&out[i]);
}

static void try_messages(struct str bytes)
{
    struct arena *a = arena_new();
    struct segment_messages messages;

    if (segment_read_messages(a, bytes, &messages, NULL) == 0)
        for (uint32_t i = 1; i < messages.count; i++)
            if (messages.ids[i] <= messages.ids[i - 1])
                abort();
    arena_free(&a);
}

static void try_kept(struct str bytes)
{
    struct kept_text kept;
    struct buf room;

    buf_init(&room, SIZE_MAX);
    if (kept_text_unpack(bytes, &room, &kept) &&
        kept.header.n + kept.parts.n + kept.body.n > room.cap)
        abort();
    buf_fini(&room);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t count, term;
    struct str bytes;

    if (size < 5)
        return 0;
    count = 1 + data[0] % MESSAGES_MAX;
    memcpy(&term, data + 1, sizeof term);
    term &= (1u << TERM_BITS) - 1;
    bytes = str_of((const char *)data + 5, size - 5);
    try_find(bytes, 0, 0, term, count);
    try_find(bytes, 4, text_term_bucket(term, 4), term, count);
    try_merge(bytes, count);
    try_messages(bytes);
    try_kept(bytes);
    return 0;
}
