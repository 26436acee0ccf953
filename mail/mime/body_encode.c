/* body_encode.c - quoted-printable, and the question whether it is needed. */
#include "mail/mime/body_encode.h"

#define LINE_SIZE     76
#define LINE_SIZE_MAX 998

static bool is_line_end(struct str s, size_t at)
{
    return at < s.n &&
           (s.p[at] == '\n' || (s.p[at] == '\r' && at + 1 < s.n && s.p[at + 1] == '\n'));
}

static bool is_literal(struct str s, size_t at)
{
    unsigned char c = (unsigned char)s.p[at];

    if (c == ' ' || c == '\t') /* not at the end of a line: relays cut it off */
        return at + 1 < s.n && !is_line_end(s, at + 1);
    return c > ' ' && c < 127 && c != '=';
}

void mime_encode_quoted_printable(struct buf *out, struct str in)
{
    size_t column = 0;

    for (size_t i = 0; i < in.n; i++) {
        bool plain = is_literal(in, i);

        if (is_line_end(in, i)) {
            i += in.p[i] == '\r';
            buf_adds(out, "\r\n");
            column = 0;
            continue;
        }
        if (column + (plain ? 1 : 3) > LINE_SIZE - 1) {
            buf_adds(out, "=\r\n");
            column = 0;
        }
        if (plain)
            buf_addc(out, in.p[i]);
        else
            buf_addf(out, "=%02X", (unsigned char)in.p[i]);
        column += plain ? 1 : 3;
    }
}

bool mime_is_8bit(struct str in)
{
    size_t column = 0;

    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];
        if (c == '\r' && i + 1 < in.n && in.p[i + 1] == '\n') {
            column = 0;
            i++;
        } else if (c == '\r' || c == '\n' || c == '\0' || ++column > LINE_SIZE_MAX) {
            return false;
        }
    }
    return true;
}

bool mime_is_7bit(struct str in)
{
    return str_is_ascii(in) && mime_is_8bit(in);
}
