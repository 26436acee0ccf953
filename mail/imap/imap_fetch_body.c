/* imap_fetch_body.c - finding and cutting sections of a message (RFC 9051, 6.4.5.1). */
#include "mail/imap/imap_fetch_body.h"

#include "mail/mime/body.h"
#include "mail/mime/header.h"
#include "server/run/offload.h"

#define OFFLOAD_SIZE (256 * 1024) /* parsing more than this would hold the worker too long */

static void parse_tree(void *arg)
{
    struct fetch_body *b = arg;

    b->root = mime_parse(b->a, b->message);
}

static PARKS void need_tree(struct fetch_body *b)
{
    if (b->root != NULL)
        return;
    if (b->message.n > OFFLOAD_SIZE)
        offload(parse_tree, b);
    else
        parse_tree(b);
}

#define NEAR_SIZE_MAX     (256 * 1024) /* a piece that ends here may be read without the rest */
#define NEAR_HEAD_SIZE    16384        /* what stands before the part, mostly */
#define BOUNDARY_LINE_MAX 4096

/* --- how much is needed ----------------------------------------------------------------------- */

static uint64_t partial_end(const struct fetch_item *item)
{
    return item->size_max < UINT64_MAX - item->offset ? item->offset + item->size_max : UINT64_MAX;
}

bool fetch_item_is_near(const struct fetch_item *item)
{
    bool is_text = item->part == PART_TEXT && item->number_count == 0;
    bool is_part = item->part == PART_WHOLE && item->number_count > 0;

    return item->kind == FETCH_SECTION && item->is_partial && (is_text || is_part) &&
           partial_end(item) <= NEAR_SIZE_MAX;
}

struct fetch_window fetch_item_window(const struct fetch_item *item)
{
    bool is_section = item->kind == FETCH_SECTION;

    if (!is_section && item->kind != FETCH_BINARY && item->kind != FETCH_BINARY_SIZE)
        return (struct fetch_window){0, 0};
    if (fetch_item_is_near(item))
        return (struct fetch_window){0, NEAR_HEAD_SIZE + partial_end(item)};
    if (!is_section || item->number_count > 0 || item->part == PART_TEXT)
        return (struct fetch_window){0, UINT64_MAX};
    if (item->part != PART_WHOLE)
        return (struct fetch_window){0, FETCH_HEAD_SIZE};
    if (!item->is_partial)
        return (struct fetch_window){0, UINT64_MAX};
    return (struct fetch_window){item->offset, partial_end(item)};
}

bool fetch_body_has_header(struct fetch_body *b)
{
    if (b->message.p == NULL || b->message_at > 0)
        return false;
    if (!b->is_cut)
        return true;
    need_tree(b);
    return b->root->header_size < b->message.n;
}

/* What is at the end of a message cut off may go on, or may turn out to be a boundary. */
bool fetch_body_has_section(struct fetch_body *b, const struct fetch_item *item)
{
    const struct mime_part *part;

    if (!b->is_cut)
        return true;
    need_tree(b);
    if (b->root->header_size >= b->message.n)
        return false;
    if (item->number_count == 0)
        return partial_end(item) <= b->root->body_size;
    part = mime_part_find(b->root, item->numbers, item->number_count);
    if (part == NULL)
        return false;
    return part->body_at + part->body_size + BOUNDARY_LINE_MAX < b->message.n ||
           partial_end(item) + BOUNDARY_LINE_MAX < part->body_size;
}

/* --- sections --------------------------------------------------------------------------------- */

static bool is_wanted(const struct fetch_item *item, struct str name)
{
    for (size_t i = 0; i < item->field_count; i++)
        if (str_ieq(item->fields[i], name))
            return true;
    return false;
}

void fetch_filter_header(struct str header, const struct fetch_item *item, struct buf *out)
{
    bool wanted = item->part == PART_HEADER_FIELDS;
    struct header_field field;

    while (header_next(&header, &field))
        if (field.name.n > 0 && is_wanted(item, field.name) == wanted) {
            buf_add(out, field.whole);
            if (!str_ends(field.whole, STR("\n")))
                buf_add(out, STR("\r\n"));
        }
    buf_add(out, STR("\r\n"));
}

struct str fetch_partial(const struct fetch_item *item, struct str bytes, uint64_t bytes_at)
{
    uint64_t offset = item->offset - bytes_at;

    if (!item->is_partial || bytes.p == NULL)
        return bytes;
    bytes = offset >= bytes.n ? str_from(bytes, bytes.n) : str_from(bytes, (size_t)offset);
    return item->size_max < bytes.n ? str_head(bytes, (size_t)item->size_max) : bytes;
}

/* What HEADER and TEXT speak of: the message itself, or the one enclosed in a message/rfc822
 * part. */
static const struct mime_part *enclosed_message(const struct fetch_body *b,
                                                const struct fetch_item *item)
{
    const struct mime_part *part;

    if (item->number_count == 0)
        return b->root;
    part = mime_part_find(b->root, item->numbers, item->number_count);
    return part != NULL && part->is_message ? part->first_child : NULL;
}

static struct str filtered(struct str header, const struct fetch_item *item, struct buf *scratch)
{
    buf_clear(scratch);
    fetch_filter_header(header, item, scratch);
    return buf_str(scratch);
}

void fetch_body_section(struct fetch_body *b, const struct fetch_item *item, struct buf *scratch,
                        struct str *out)
{
    bool of_part = item->part == PART_MIME || (item->part == PART_WHOLE && item->number_count > 0);
    const struct mime_part *part;

    *out = b->message;
    if (item->part == PART_WHOLE && item->number_count == 0)
        return;
    need_tree(b);
    part = of_part ? mime_part_find(b->root, item->numbers, item->number_count)
                   : enclosed_message(b, item);
    if (part == NULL)
        *out = STR_NULL;
    else if (item->part == PART_WHOLE || item->part == PART_TEXT)
        *out = mime_part_body(part, b->message);
    else if (item->part == PART_MIME || item->part == PART_HEADER)
        *out = mime_part_header(part, b->message);
    else
        *out = filtered(mime_part_header(part, b->message), item, scratch);
}

/* --- BINARY ----------------------------------------------------------------------------------- */

struct decoding {
    const struct mime_part *part;
    struct str message;
    struct buf *out;
};

static void decode_part(void *arg)
{
    struct decoding *d = arg;

    mime_decode(d->out, d->part->encoding, mime_part_body(d->part, d->message));
}

bool fetch_body_is_decodable(struct fetch_body *b, const struct fetch_item *item)
{
    const struct mime_part *part;

    if (item->number_count == 0)
        return true;
    need_tree(b);
    part = mime_part_find(b->root, item->numbers, item->number_count);
    return part == NULL || part->encoding != MIME_ENCODING_UNKNOWN;
}

void fetch_body_binary(struct fetch_body *b, const struct fetch_item *item, struct buf *scratch,
                       struct str *out)
{
    struct decoding d = {.message = b->message, .out = scratch};

    *out = b->message;
    if (item->number_count == 0)
        return;
    need_tree(b);
    d.part = mime_part_find(b->root, item->numbers, item->number_count);
    *out = STR_NULL;
    if (d.part == NULL)
        return;
    buf_clear(scratch);
    if (d.part->body_size > OFFLOAD_SIZE)
        offload(decode_part, &d);
    else
        decode_part(&d);
    *out = scratch->n > 0 ? buf_str(scratch) : STR("");
}
