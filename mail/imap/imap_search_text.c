/* imap_search_text.c - seeking text in mail as people see it: RFC 2047 words, transfer encodings
 * and charsets undone.
 *
 * An ASCII needle is sought in the decoded text as it is; for others the text is folded first.
 * Nothing here parks or touches the loop, so that a helper thread can do it. */
#include "mail/imap/imap_search_text.h"

#include <utf8proc.h>

#include "mail/mime/body.h"
#include "mail/mime/header.h"
#include "server/base/buf.h"
#include "server/base/utf8.h"

static void add_folded(struct buf *out, struct str utf8)
{
    uint32_t code_point;

    while (utf8_next(&utf8, &code_point))
        utf8_add(out, code_point < 128 ? (uint32_t)(unsigned char)ascii_lower((char)code_point)
                                       : (uint32_t)utf8proc_tolower((utf8proc_int32_t)code_point));
}

struct str search_text_fold(struct arena *a, struct str utf8)
{
    struct buf folded;
    struct str out;

    buf_init(&folded, SIZE_MAX);
    add_folded(&folded, utf8);
    out = arena_str(a, buf_str(&folded));
    buf_fini(&folded);
    return out;
}

/* memchr for either case of the needle's first letter, then the rest: texts rarely come near a
 * second letter. */
static bool contains_ascii(struct str text, struct str needle)
{
    const char lower = needle.p[0], upper = ascii_upper(lower);

    while (text.n >= needle.n) {
        size_t starts = text.n - needle.n + 1;
        const char *a = memchr(text.p, lower, starts);
        const char *b = upper == lower
                            ? NULL
                            : memchr(text.p, upper, a != NULL ? (size_t)(a - text.p) : starts);
        const char *at = b != NULL ? b : a;
        if (at == NULL)
            return false;
        if (str_ieq(str_of(at, needle.n), needle))
            return true;
        text = str_from(text, (size_t)(at - text.p) + 1);
    }
    return false;
}

static bool contains(struct str text, struct str needle, bool is_ascii)
{
    struct buf folded;
    bool found;

    if (needle.n == 0)
        return true;
    if (is_ascii)
        return contains_ascii(text, needle);
    buf_init(&folded, SIZE_MAX);
    add_folded(&folded, text);
    found = memmem(folded.p, folded.n, needle.p, needle.n) != NULL;
    buf_fini(&folded);
    return found;
}

bool search_text_in_field(struct arena *a, struct str header, struct str name, struct str needle,
                          bool is_ascii)
{
    struct header_field field;

    while (header_next(&header, &field))
        if (str_ieq(field.name, name) &&
            (needle.n == 0 || contains(header_decode_text(a, field.value), needle, is_ascii)))
            return true;
    return false;
}

bool search_text_in_header(struct arena *a, struct str header, struct str needle, bool is_ascii)
{
    struct header_field field;

    while (header_next(&header, &field)) {
        struct str value = header_decode_text(a, field.value);
        if (contains(arena_printf(a, "%.*s: %.*s", STR_ARG(field.name), STR_ARG(value)), needle,
                     is_ascii))
            return true;
    }
    return false;
}

static bool is_in_part(struct arena *a, const struct mime_part *part, struct str message,
                       struct str needle, bool is_ascii)
{
    struct buf text;
    bool found;

    if (part->parent != NULL && part->parent->is_message &&
        search_text_in_header(a, mime_part_header(part, message), needle, is_ascii))
        return true;
    if (part->is_multipart || part->is_message || !str_eq(part->type, STR("text")))
        return false;
    buf_init(&text, SIZE_MAX);
    mime_part_text(&text, part, message);
    found = contains(buf_str(&text), needle, is_ascii);
    buf_fini(&text);
    return found;
}

/* The next part in document order. */
static const struct mime_part *next_part(const struct mime_part *part)
{
    if (part->first_child != NULL)
        return part->first_child;
    while (part != NULL && part->next == NULL)
        part = part->parent;
    return part != NULL ? part->next : NULL;
}

bool search_text_in_body(struct arena *a, const struct mime_part *root, struct str message,
                         struct str needle, bool is_ascii)
{
    for (const struct mime_part *part = root; part != NULL; part = next_part(part))
        if (is_in_part(a, part, message, needle, is_ascii))
            return true;
    return false;
}
