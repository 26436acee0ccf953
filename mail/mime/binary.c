/* binary.c - base64 for the bodies that need it, the rest copied byte for byte.
 *
 * Parts are visited in the order of their bytes. A body with another encoding is decoded first: NUL
 * has no place in that encoding either, and only one can be named. */
#include "mail/mime/binary.h"

#include "mail/mime/body.h"
#include "mail/mime/header.h"
#include "server/base/encode.h"

#define LINE_BYTES 57 /* 76 characters of base64 */

struct rewriting {
    struct buf *out;
    struct str message;
    size_t at; /* copied up to here */
};

static bool copy_up_to(struct rewriting *r, size_t end)
{
    struct str piece = str_of(r->message.p + r->at, end - r->at);

    if (mime_has_nul(piece))
        return false;
    buf_add(r->out, piece);
    r->at = end;
    return true;
}

static bool is_about_encoding(struct str name)
{
    return str_ieq(name, STR("Content-Transfer-Encoding"));
}

static void add_header(struct rewriting *r, const struct mime_part *part)
{
    struct str header = mime_part_header(part, r->message);
    bool has_version = part->parent != NULL;
    struct header_field field;

    while (header_next(&header, &field)) {
        has_version = has_version || str_ieq(field.name, STR("MIME-Version"));
        if (!is_about_encoding(field.name))
            buf_add(r->out, field.whole);
    }
    if (!has_version)
        buf_adds(r->out, "MIME-Version: 1.0\r\n");
    buf_adds(r->out, "Content-Transfer-Encoding: base64\r\n\r\n");
}

static void add_base64_lines(struct buf *out, struct str bytes)
{
    while (bytes.n > 0) {
        base64_encode(out, str_head(bytes, LINE_BYTES));
        buf_adds(out, "\r\n");
        bytes = str_from(bytes, LINE_BYTES);
    }
}

static bool encode_leaf(struct rewriting *r, const struct mime_part *part)
{
    struct buf decoded;

    if (part->encoding == MIME_ENCODING_UNKNOWN ||
        mime_has_nul(mime_part_header(part, r->message)) || !copy_up_to(r, part->header_at))
        return false;
    buf_init(&decoded, SIZE_MAX);
    mime_decode(&decoded, part->encoding, mime_part_body(part, r->message));
    add_header(r, part);
    add_base64_lines(r->out, buf_str(&decoded));
    buf_fini(&decoded);
    r->at = part->body_at + part->body_size;
    return true;
}

bool mime_encode_nul(struct buf *out, const struct mime_part *root, struct str message)
{
    struct rewriting r = {.out = out, .message = message};

    for (const struct mime_part *part = root; part != NULL; part = mime_part_next(part))
        if (part->first_child == NULL && mime_has_nul(mime_part_body(part, message)) &&
            !encode_leaf(&r, part))
            return false;
    return copy_up_to(&r, message.n);
}
