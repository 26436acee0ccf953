/* saslprep.c - mapping, normalisation, prohibition, direction: the four steps of RFC 4013, 2 in their order.
 * Touches no state but its arguments, so that helper threads may call it. */
#include <stdlib.h>
#include <utf8proc.h>

#include "server/base/utf8.h"
#include "server/directory/saslprep.h"

struct range {
    uint32_t first, last;
};

/* RFC 3454, B.1. */
static const struct range mapped_to_nothing[] = {
    {0x00ad, 0x00ad}, {0x034f, 0x034f}, {0x1806, 0x1806}, {0x180b, 0x180d},
    {0x200b, 0x200d}, {0x2060, 0x2060}, {0xfe00, 0xfe0f}, {0xfeff, 0xfeff},
};

/* RFC 3454, C.2.2 and C.4 to C.9 where the general category does not tell. */
static const struct range prohibited[] = {
    {0x0340, 0x0341},   {0x06dd, 0x06dd},   {0x070f, 0x070f},   {0x180e, 0x180e}, {0x200e, 0x200f},
    {0x2028, 0x202e},   {0x2061, 0x2063},   {0x206a, 0x206f},   {0x2ff0, 0x2ffb}, {0xfff9, 0xfffd},
    {0x1d173, 0x1d17a}, {0xe0001, 0xe0001}, {0xe0020, 0xe007f},
};

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static bool is_in(uint32_t code_point, const struct range *ranges, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (code_point >= ranges[i].first && code_point <= ranges[i].last)
            return true;
    return false;
}

static bool is_prohibited(uint32_t code_point)
{
    switch (utf8proc_category((utf8proc_int32_t)code_point)) {
    case UTF8PROC_CATEGORY_CC: /* C.2: controls      */
    case UTF8PROC_CATEGORY_CO: /* C.3: private use   */
    case UTF8PROC_CATEGORY_CS: /* C.5: surrogates    */
    case UTF8PROC_CATEGORY_CN: /* C.4 and unassigned */
        return true;
    default:
        return is_in(code_point, prohibited, COUNT_OF(prohibited));
    }
}

static void map_characters(struct str in, struct buf *out)
{
    uint32_t code_point;

    while (utf8_next(&in, &code_point)) {
        if (is_in(code_point, mapped_to_nothing, COUNT_OF(mapped_to_nothing)))
            continue;
        if (utf8proc_category((utf8proc_int32_t)code_point) == UTF8PROC_CATEGORY_ZS)
            code_point = ' ';
        utf8_add(out, code_point);
    }
}

static bool normalise(struct buf *text)
{
    utf8proc_uint8_t *composed;
    utf8proc_ssize_t n =
        utf8proc_map((const utf8proc_uint8_t *)text->p, (utf8proc_ssize_t)text->n, &composed,
                     UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
    if (n < 0)
        return false;
    buf_clear(text);
    buf_add_bytes(text, composed, (size_t)n);
    free(composed);
    return buf_ok(text);
}

static bool is_right_to_left(uint32_t code_point)
{
    utf8proc_propval_t class = utf8proc_get_property((utf8proc_int32_t)code_point)->bidi_class;

    return class == UTF8PROC_BIDI_CLASS_R || class == UTF8PROC_BIDI_CLASS_AL;
}

static bool is_left_to_right(uint32_t code_point)
{
    return utf8proc_get_property((utf8proc_int32_t)code_point)->bidi_class == UTF8PROC_BIDI_CLASS_L;
}

/* Text with a right-to-left character holds no left-to-right one, and begins and ends with its own kind. */
static bool is_acceptable(struct str s)
{
    bool is_first_right = false, is_last_right = false, has_right = false, has_left = false;
    uint32_t code_point;

    for (bool is_first = true; utf8_next(&s, &code_point); is_first = false) {
        if (is_prohibited(code_point))
            return false;
        is_last_right = is_right_to_left(code_point);
        if (is_first)
            is_first_right = is_last_right;
        has_right |= is_last_right;
        has_left |= is_left_to_right(code_point);
    }
    return !has_right || (!has_left && is_first_right && is_last_right);
}

static bool is_plain_ascii(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || (unsigned char)s.p[i] > 0x7e)
            return false;
    return true;
}

bool saslprep(struct str in, struct buf *out)
{
    if (is_plain_ascii(in)) {
        buf_add(out, in);
        return buf_ok(out);
    }
    if (!utf8_valid(in))
        return false;
    map_characters(in, out);
    return buf_ok(out) && normalise(out) && is_acceptable(buf_str(out));
}
