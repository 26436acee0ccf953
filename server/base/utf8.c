/* utf8.c - reading and writing UTF-8 and the UTF-7 of IMAP.
 *
 * Folding, normalisation and character classes are utf8proc's business, not ours. */
#include "server/base/utf8.h"

#define REPLACEMENT 0xfffd

/* The size of the well-formed character at the front (Unicode, table 3-7), 0 when there is none. */
static size_t character_size(struct str s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    unsigned char low = 0x80, high = 0xbf;
    size_t size;

    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    size = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (p[0] == 0xe0)
        low = 0xa0; /* overlong  */
    else if (p[0] == 0xed)
        high = 0x9f; /* surrogate */
    else if (p[0] == 0xf0)
        low = 0x90; /* overlong  */
    else if (p[0] == 0xf4)
        high = 0x8f; /* too high  */
    if (s.n < size || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return size;
}

bool utf8_valid(struct str s)
{
    while (s.n > 0) {
        size_t size = character_size(s);

        if (size == 0)
            return false;
        s = str_from(s, size);
    }
    return true;
}

bool utf8_next(struct str *s, uint32_t *code_point)
{
    static const unsigned char lead_mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    size_t size;

    if (s->n == 0)
        return false;
    size = character_size(*s);
    *code_point = REPLACEMENT;
    if (size != 0)
        *code_point = (unsigned char)s->p[0] & lead_mask[size];
    for (size_t i = 1; i < size; i++)
        *code_point = *code_point << 6 | ((unsigned char)s->p[i] & 0x3f);
    *s = str_from(*s, size != 0 ? size : 1);
    return true;
}

static bool is_surrogate(uint32_t c)
{
    return c >= 0xd800 && c <= 0xdfff;
}

static char continuation(uint32_t c)
{
    return (char)(0x80 | (c & 0x3f));
}

void utf8_add(struct buf *out, uint32_t c)
{
    if (c > 0x10ffff || is_surrogate(c))
        c = REPLACEMENT;
    if (c < 0x80)
        buf_addc(out, (char)c);
    else if (c < 0x800)
        buf_add_bytes(out, (char[]){(char)(0xc0 | c >> 6), continuation(c)}, 2);
    else if (c < 0x10000)
        buf_add_bytes(out, (char[]){(char)(0xe0 | c >> 12), continuation(c >> 6), continuation(c)},
                      3);
    else
        buf_add_bytes(out,
                      (char[]){(char)(0xf0 | c >> 18), continuation(c >> 12), continuation(c >> 6),
                               continuation(c)},
                      4);
}

void utf8_add_repaired(struct buf *out, struct str s)
{
    uint32_t c;

    while (utf8_next(&s, &c))
        utf8_add(out, c != 0 ? c : REPLACEMENT);
}

/* --- modified UTF-7 ------------------------------------------------------------------------- */

static const char base64_imap[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

static bool is_direct(uint32_t c)
{
    return c >= 0x20 && c <= 0x7e;
}

struct utf16_decoder {
    uint32_t bits;
    unsigned bit_count;
    uint32_t high; /* surrogate that waits for a low one */
};

/* One UTF-16 unit. What could have been written directly must have been: one name, one spelling. */
static bool decode_unit(struct utf16_decoder *d, struct buf *out, uint32_t unit)
{
    bool is_low = unit >= 0xdc00 && unit <= 0xdfff;

    if (is_low != (d->high != 0) || is_direct(unit))
        return false;
    if (is_low) {
        utf8_add(out, 0x10000 + ((d->high - 0xd800) << 10) + (unit - 0xdc00));
        d->high = 0;
    } else if (is_surrogate(unit)) {
        d->high = unit;
    } else {
        utf8_add(out, unit);
    }
    return true;
}

static bool decode_digit(struct utf16_decoder *d, struct buf *out, char digit)
{
    const char *hit = memchr(base64_imap, digit, sizeof base64_imap - 1);

    if (hit == NULL)
        return false;
    d->bits = d->bits << 6 | (uint32_t)(hit - base64_imap);
    d->bit_count += 6;
    if (d->bit_count < 16)
        return true;
    d->bit_count -= 16;
    return decode_unit(d, out, d->bits >> d->bit_count & 0xffff);
}

/* What stands between & and -. */
static bool decode_run(struct buf *out, struct str run)
{
    struct utf16_decoder d = {0};

    for (size_t i = 0; i < run.n; i++)
        if (!decode_digit(&d, out, run.p[i]))
            return false;
    return d.high == 0 && d.bit_count < 6 && (d.bits & ((1u << d.bit_count) - 1)) == 0;
}

bool utf7_imap_decode(struct buf *utf8, struct str s)
{
    bool after_run = false;

    while (s.n > 0) {
        struct str run;
        char c = s.p[0];

        s = str_from(s, 1);
        if (c != '&') {
            if (!is_direct((unsigned char)c))
                return false;
            buf_addc(utf8, c);
            after_run = false;
            continue;
        }
        if (!str_cut(s, '-', &run, &s))
            return false;
        if (run.n == 0)
            buf_addc(utf8, '&');
        else if (after_run || !decode_run(utf8, run)) /* two runs in a row: a null shift */
            return false;
        after_run = run.n != 0;
    }
    return buf_ok(utf8);
}

struct utf16_encoder {
    uint32_t bits;
    unsigned bit_count;
    bool in_run;
};

static void encode_unit(struct utf16_encoder *e, struct buf *out, uint32_t unit)
{
    if (!e->in_run)
        buf_addc(out, '&');
    e->in_run = true;
    e->bits = e->bits << 16 | unit;
    e->bit_count += 16;
    while (e->bit_count >= 6) {
        e->bit_count -= 6;
        buf_addc(out, base64_imap[e->bits >> e->bit_count & 63]);
    }
}

static void end_run(struct utf16_encoder *e, struct buf *out)
{
    if (!e->in_run)
        return;
    if (e->bit_count > 0)
        buf_addc(out, base64_imap[e->bits << (6 - e->bit_count) & 63]);
    buf_addc(out, '-');
    *e = (struct utf16_encoder){0};
}

void utf7_imap_encode(struct buf *out, struct str utf8)
{
    struct utf16_encoder e = {0};
    uint32_t c;

    while (utf8_next(&utf8, &c)) {
        if (is_direct(c)) {
            end_run(&e, out);
            buf_addc(out, (char)c);
            if (c == '&')
                buf_addc(out, '-');
        } else if (c < 0x10000) {
            encode_unit(&e, out, c);
        } else {
            encode_unit(&e, out, 0xd800 + ((c - 0x10000) >> 10));
            encode_unit(&e, out, 0xdc00 + ((c - 0x10000) & 0x3ff));
        }
    }
    end_run(&e, out);
}
