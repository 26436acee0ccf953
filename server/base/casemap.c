/* casemap.c - i;unicode-casemap.
 *
 * The properties are utf8proc's. Letters of ASCII, most of all mail, need none. */
#include "server/base/casemap.h"

#include <utf8proc.h>

#include "server/base/utf8.h"

/* utf8proc gives the sharp s a capital that UnicodeData.txt does not. */
uint32_t casemap_title(uint32_t code_point)
{
    return code_point == 0xDF ? 0xDF : (uint32_t)utf8proc_totitle((utf8proc_int32_t)code_point);
}

size_t casemap_decompose(uint32_t code_point, uint32_t parts[CASEMAP_PARTS_MAX])
{
    int boundary = 0;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)code_point, (utf8proc_int32_t *)parts,
                                CASEMAP_PARTS_MAX, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &boundary);

    if (n >= 1 && n <= CASEMAP_PARTS_MAX)
        return (size_t)n;
    parts[0] = code_point;
    return 1;
}

static void add_code_point(struct buf *out, uint32_t code_point)
{
    uint32_t parts[CASEMAP_PARTS_MAX];
    size_t n = casemap_decompose(casemap_title(code_point), parts);

    for (size_t i = 0; i < n; i++)
        utf8_add(out, parts[i]);
}

void casemap_add(struct buf *out, struct str utf8)
{
    uint32_t code_point;

    if (!utf8_valid(utf8)) {
        buf_add(out, utf8);
        return;
    }
    while (utf8.n > 0)
        if ((unsigned char)utf8.p[0] < 128) {
            buf_addc(out, ascii_upper(utf8.p[0]));
            utf8 = str_from(utf8, 1);
        } else if (utf8_next(&utf8, &code_point)) {
            add_code_point(out, code_point);
        }
}
