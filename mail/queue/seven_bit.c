/* seven_bit.c - 8-bit bodies re-encoded, all the rest copied byte for byte.
 *
 * Parts are visited in the order of their bytes. A multipart or enclosed message that calls itself
 * 8bit calls itself 7bit afterwards; RFC 2045, 6.4 allows it no other encoding. */
#include "mail/queue/seven_bit.h"

#include "mail/mime/body.h"
#include "mail/mime/header.h"
#include "mail/mime/part.h"
#include "server/base/arena.h"
#include "server/base/encode.h"

#define BASE64_LINE_BYTES 57 /* 76 characters */
#define QP_LINE_MAX       76

struct rewriting {
    struct buf *out;
    struct str message;
    size_t at; /* copied up to here */
};

bool seven_bit_is(struct str message)
{
    return str_is_ascii(message) && (message.n == 0 || memchr(message.p, '\0', message.n) == NULL);
}

/* ---- quoted-printable ---------------------------------------------------------------------- */

static bool is_literal(char c)
{
    return (c >= '!' && c <= '~' && c != '=') || c == ' ' || c == '\t';
}

static size_t line_end_at(struct str s, size_t at)
{
    if (s.p[at] == '\n')
        return 1;
    return s.p[at] == '\r' && at + 1 < s.n && s.p[at + 1] == '\n' ? 2 : 0;
}

/* A space at the end of a line would be lost, and a dot at the front, or "From ", has met servers
 * that touch it. */
static bool must_quote(struct str s, size_t at, size_t column)
{
    char c = s.p[at];
    bool is_last = at + 1 == s.n || line_end_at(s, at + 1) > 0;

    return !is_literal(c) || ((c == ' ' || c == '\t') && is_last) ||
           (column == 0 && (c == '.' || c == 'F'));
}

static void add_quoted_printable(struct buf *out, struct str s)
{
    size_t column = 0;

    for (size_t at = 0; at < s.n;) {
        size_t end = line_end_at(s, at), width;
        bool is_quoted;

        if (end > 0) {
            buf_adds(out, "\r\n");
            column = 0;
            at += end;
            continue;
        }
        is_quoted = must_quote(s, at, column);
        width = is_quoted ? 3 : 1;
        if (column + width > QP_LINE_MAX - 1) {
            buf_adds(out, "=\r\n");
            column = 0;
            is_quoted = must_quote(s, at, column);
            width = is_quoted ? 3 : 1;
        }
        if (is_quoted)
            buf_addf(out, "=%02X", (unsigned char)s.p[at]);
        else
            buf_addc(out, s.p[at]);
        column += width;
        at++;
    }
}

static void add_base64(struct buf *out, struct str s)
{
    while (s.n > 0) {
        base64_encode(out, str_head(s, BASE64_LINE_BYTES));
        buf_adds(out, "\r\n");
        s = str_from(s, BASE64_LINE_BYTES);
    }
}

/* ---- parts --------------------------------------------------------------------------------- */

static bool copy_up_to(struct rewriting *r, size_t end)
{
    struct str piece = str_of(r->message.p + r->at, end - r->at);

    if (!seven_bit_is(piece))
        return false;
    buf_add(r->out, piece);
    r->at = end;
    return true;
}

static void add_header(struct rewriting *r, const struct mime_part *part, const char *encoding)
{
    struct str header = mime_part_header(part, r->message);
    bool has_version = part->parent != NULL;
    struct header_field field;

    while (header_next(&header, &field)) {
        has_version = has_version || str_ieq(field.name, STR("MIME-Version"));
        if (!str_ieq(field.name, STR("Content-Transfer-Encoding")))
            buf_add(r->out, field.whole);
    }
    if (!has_version)
        buf_adds(r->out, "MIME-Version: 1.0\r\n");
    buf_addf(r->out, "Content-Transfer-Encoding: %s\r\n\r\n", encoding);
}

static bool encode_leaf(struct rewriting *r, const struct mime_part *part)
{
    struct str body = mime_part_body(part, r->message);
    bool is_text = str_eq(part->type, STR("text")) && part->encoding <= MIME_8BIT;
    struct buf decoded;

    if (part->encoding == MIME_ENCODING_UNKNOWN)
        return false;
    add_header(r, part, is_text ? "quoted-printable" : "base64");
    if (is_text) {
        add_quoted_printable(r->out, body);
    } else {
        buf_init(&decoded, SIZE_MAX);
        mime_decode(&decoded, part->encoding, body);
        add_base64(r->out, buf_str(&decoded));
        buf_fini(&decoded);
    }
    r->at = part->body_at + part->body_size;
    return true;
}

static bool visit(struct rewriting *r, const struct mime_part *part)
{
    bool is_leaf = part->first_child == NULL;

    if (is_leaf && seven_bit_is(mime_part_body(part, r->message)) && part->encoding != MIME_8BIT &&
        part->encoding != MIME_BINARY && seven_bit_is(mime_part_header(part, r->message)))
        return true;
    if (!copy_up_to(r, part->header_at))
        return false;
    if (is_leaf && !seven_bit_is(mime_part_body(part, r->message)))
        return encode_leaf(r, part);
    if (part->encoding == MIME_8BIT || part->encoding == MIME_BINARY)
        add_header(r, part, "7bit");
    else
        buf_add(r->out, mime_part_header(part, r->message));
    r->at = part->body_at;
    return true;
}

bool seven_bit_encode(struct buf *out, struct str message)
{
    struct rewriting r = {.out = out, .message = message};
    const struct mime_part *part;
    bool is_done = true;
    struct arena *a;

    if (message.n == 0)
        return true;
    a = arena_new();
    part = mime_parse(a, message);
    while (is_done && part != NULL) {
        is_done = visit(&r, part);
        part = mime_part_next(part);
    }
    arena_free(&a);
    return is_done && copy_up_to(&r, message.n);
}
