/* kept_text.c - one flag, three sizes, and one LZ4 block.
 *
 *   is_cut u8, header size u32, parts size u32, body size u32 (little-endian), block */
#include "mail/store/kept_text.h"

#include <endian.h>
#include <lz4.h>

#define HEAD_SIZE 13

static struct str keep(const struct buf *text, bool *is_cut)
{
    *is_cut = *is_cut || text->n > KEPT_TEXT_SIZE_MAX || !buf_ok(text);
    return str_head(buf_str(text), KEPT_TEXT_SIZE_MAX);
}

struct kept_text kept_text_of(const struct message_text *t)
{
    struct kept_text kept = {.is_cut = false};

    kept.header = keep(&t->header, &kept.is_cut);
    kept.parts = keep(&t->parts, &kept.is_cut);
    kept.body = keep(&t->body, &kept.is_cut);
    return kept;
}

static void add_size(struct buf *out, size_t size)
{
    uint32_t little = htole32((uint32_t)size);

    buf_add_bytes(out, &little, sizeof little);
}

static void add_block(struct buf *out, struct str plain)
{
    int bound = LZ4_compressBound((int)plain.n);
    char *to = buf_reserve(out, (size_t)bound);

    buf_commit(out, (size_t)LZ4_compress_default(plain.p, to, (int)plain.n, bound));
}

struct str kept_text_pack(struct arena *a, const struct kept_text *t)
{
    struct buf plain, packed;
    struct str result;

    buf_init(&plain, 3 * KEPT_TEXT_SIZE_MAX + 1);
    buf_add(&plain, t->header);
    buf_add(&plain, t->parts);
    buf_add(&plain, t->body);
    buf_addc(&plain, '\n'); /* so that there is something to pack */
    buf_init(&packed, SIZE_MAX);
    buf_addc(&packed, t->is_cut ? 1 : 0);
    add_size(&packed, t->header.n);
    add_size(&packed, t->parts.n);
    add_size(&packed, t->body.n);
    add_block(&packed, buf_str(&plain));
    result = arena_str(a, buf_str(&packed));
    buf_fini(&plain);
    buf_fini(&packed);
    return result;
}

bool kept_text_is_cut(struct str packed)
{
    return packed.n == 0 || packed.p[0] != 0;
}

static size_t read_size(struct str packed, size_t at)
{
    uint32_t little;

    memcpy(&little, packed.p + at, sizeof little);
    return le32toh(little);
}

bool kept_text_unpack(struct str packed, struct buf *room, struct kept_text *out)
{
    size_t header, parts, body, total;
    char *to;

    if (packed.n <= HEAD_SIZE || packed.n > INT32_MAX)
        return false;
    header = read_size(packed, 1);
    parts = read_size(packed, 5);
    body = read_size(packed, 9);
    if (header > KEPT_TEXT_SIZE_MAX || parts > KEPT_TEXT_SIZE_MAX || body > KEPT_TEXT_SIZE_MAX)
        return false;
    total = header + parts + body + 1;
    buf_clear(room);
    to = buf_reserve(room, total);
    if (to == NULL || LZ4_decompress_safe(packed.p + HEAD_SIZE, to, (int)(packed.n - HEAD_SIZE),
                                          (int)total) != (int)total)
        return false;
    *out = (struct kept_text){str_of(to, header), str_of(to + header, parts),
                              str_of(to + header + parts, body), packed.p[0] != 0};
    return true;
}
