/* encode.c - base64, hexadecimal, random text and the small hashes and compares around them.
 *
 * Decoders are strict: what two decoders could read differently is refused. A decoder that fails
 * leaves `out` as it was. */
#include "server/base/encode.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

static const char alphabet_standard[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char alphabet_url[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Writes whole groups of four; `=` fills the last one. */
static char *encode_group(char *to, const unsigned char *in, size_t n, const char *alphabet)
{
    uint32_t bits = (uint32_t)in[0] << 16;

    if (n > 1)
        bits |= (uint32_t)in[1] << 8;
    if (n > 2)
        bits |= in[2];
    to[0] = alphabet[bits >> 18];
    to[1] = alphabet[bits >> 12 & 63];
    to[2] = n > 1 ? alphabet[bits >> 6 & 63] : '=';
    to[3] = n > 2 ? alphabet[bits & 63] : '=';
    return to + 4;
}

static void encode(struct buf *out, struct str in, const char *alphabet, bool is_padded)
{
    size_t rest = in.n % 3, size = in.n / 3 * 4 + (rest != 0 ? 4 : 0);
    char *to;

    if (in.n > SIZE_MAX / 2) { /* the size above has wrapped */
        out->overflowed = true;
        return;
    }
    if (in.n == 0 || (to = buf_reserve(out, size)) == NULL)
        return;
    for (size_t at = 0; at < in.n; at += 3)
        to = encode_group(to, (const unsigned char *)in.p + at, in.n - at, alphabet);
    buf_commit(out, size - (rest != 0 && !is_padded ? 3 - rest : 0));
}

void base64_encode(struct buf *out, struct str in)
{
    encode(out, in, alphabet_standard, true);
}

void base64url_encode(struct buf *out, struct str in)
{
    encode(out, in, alphabet_url, false);
}

static int digit_64(char c, const char *alphabet)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == alphabet[62] ? 62 : c == alphabet[63] ? 63 : -1;
}

/* `in` without padding. Bits that no byte uses must be zero (RFC 4648, 3.5). */
static bool decode(struct buf *out, struct str in, const char *alphabet)
{
    char *to = buf_reserve(out, in.n / 4 * 3 + 3);
    uint32_t bits = 0;
    unsigned bit_count = 0;
    size_t size = 0;

    if (to == NULL || in.n % 4 == 1)
        return false;
    for (size_t i = 0; i < in.n; i++) {
        int digit = digit_64(in.p[i], alphabet);

        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            to[size++] = (char)(bits >> bit_count);
        }
    }
    if ((bits & ((1u << bit_count) - 1)) != 0)
        return false;
    buf_commit(out, size);
    return true;
}

bool base64_decode(struct buf *out, struct str in)
{
    if (in.n % 4 != 0)
        return false;
    for (int i = 0; i < 2 && str_ends(in, STR("=")); i++)
        in.n--;
    return decode(out, in, alphabet_standard);
}

bool base64url_decode(struct buf *out, struct str in)
{
    return decode(out, in, alphabet_url);
}

void hex_encode(struct buf *out, struct str in)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < in.n; i++) {
        buf_addc(out, digits[(unsigned char)in.p[i] >> 4]);
        buf_addc(out, digits[(unsigned char)in.p[i] & 15]);
    }
}

static int digit_16(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool hex_decode(struct buf *out, struct str in)
{
    char *to = buf_reserve(out, in.n / 2);

    if (to == NULL || in.n % 2 != 0)
        return false;
    for (size_t i = 0; i < in.n; i += 2) {
        int high = digit_16(in.p[i]), low = digit_16(in.p[i + 1]);

        if (high < 0 || low < 0)
            return false;
        to[i / 2] = (char)(high << 4 | low);
    }
    buf_commit(out, in.n / 2);
    return true;
}

void random_bytes(void *p, size_t n)
{
    char *to = p;

    while (n > 0) {
        ssize_t got = getrandom(to, n, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            abort(); /* rather no secret than a weak one */
        to += got;
        n -= (size_t)got;
    }
}

uint64_t random_u64(void)
{
    uint64_t value;

    random_bytes(&value, sizeof value);
    return value;
}

void random_text(char *out, size_t n)
{
    static const char alphabet[] = "abcdefghijkmnpqrstuvwxyz23456789";

    random_bytes(out, n);
    for (size_t i = 0; i < n; i++)
        out[i] = alphabet[(unsigned char)out[i] & 31];
    out[n] = '\0';
}

bool bytes_equal_constant_time(const void *a, const void *b, size_t n)
{
    const volatile unsigned char *left = a, *right = b;
    unsigned char difference = 0;

    for (size_t i = 0; i < n; i++)
        difference |= left[i] ^ right[i];
    return difference == 0;
}

uint64_t fnv1a_64(struct str s)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < s.n; i++) {
        hash ^= (unsigned char)s.p[i];
        hash *= 0x100000001b3u;
    }
    return hash;
}
