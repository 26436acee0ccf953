/* xtext.c - text in parameters of SMTP commands, there and back; see xtext.h. */
#include "mail/mime/xtext.h"

bool xtext_decode(struct arena *a, struct str xtext, struct str *out)
{
    char *to = arena_alloc(a, xtext.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < xtext.n; i++) {
        int c = xtext.p[i];

        if (c == '+') {
            int high = i + 2 < xtext.n ? xtext_digit(xtext.p[i + 1]) : -1;
            int low = i + 2 < xtext.n ? xtext_digit(xtext.p[i + 2]) : -1;

            c = high < 0 || low < 0 ? -1 : high * 16 + low;
            i += 2;
        } else if (!xtext_is_plain((char)c))
            return false;
        if (c < 32 || c > 126)
            return false;
        to[n++] = (char)c;
    }
    *out = str_of(to, n);
    return true;
}

struct str xtext_shown(struct arena *a, struct str xtext)
{
    struct str text;

    return xtext_decode(a, xtext, &text) ? text : xtext;
}

struct str xtext_encode(struct arena *a, struct str text)
{
    static const char digits[] = "0123456789ABCDEF";
    char *to = arena_alloc(a, 3 * text.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (xtext_is_plain((char)c))
            to[n++] = (char)c;
        else {
            to[n++] = '+';
            to[n++] = digits[c >> 4];
            to[n++] = digits[c & 15];
        }
    }
    return str_of(to, n);
}
