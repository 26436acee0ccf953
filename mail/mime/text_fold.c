/* text_fold.c - runs of ASCII in one go, everything else by Unicode's tables. */
#include "mail/mime/text_fold.h"

#include "server/base/casemap.h"
#include "server/base/utf8.h"

#define RUN_MAX 4096 /* so that a text is cut near its limit, not far before */

static size_t ascii_run(struct str s)
{
    size_t n = 0, max = s.n < RUN_MAX ? s.n : RUN_MAX;
    uint64_t eight;

    for (; max - n >= 8; n += 8) {
        memcpy(&eight, s.p + n, 8);
        if (eight & UINT64_C(0x8080808080808080))
            break;
    }
    while (n < max && (unsigned char)s.p[n] < 128)
        n++;
    return n;
}

static void fold_run(struct buf *out, struct str run)
{
    char *to = buf_reserve(out, run.n);

    if (to == NULL)
        return;
    for (size_t i = 0; i < run.n; i++) {
        unsigned char c = (unsigned char)run.p[i];
        to[i] = (char)(c | ((unsigned char)(c - 'A') < 26 || c == 0) << 5);
    }
    buf_commit(out, run.n);
}

/* Both sharp s are one letter. */
static uint32_t title_of(uint32_t code_point)
{
    return code_point == 0x1E9E ? 0xDF : casemap_title(code_point);
}

/* Parts can be small again, as that of a raised alpha is. */
static void add_part(struct buf *out, uint32_t part)
{
    uint32_t title = title_of(part);

    if (title < 128)
        buf_addc(out, ascii_lower((char)title));
    else
        utf8_add(out, title);
}

static void fold_one(struct buf *out, uint32_t code_point)
{
    uint32_t parts[CASEMAP_PARTS_MAX] = {title_of(code_point)};
    bool is_hangul = parts[0] >= 0xAC00 && parts[0] <= 0xD7A3;
    size_t n = is_hangul ? 1 : casemap_decompose(parts[0], parts);

    for (size_t i = 0; i < n; i++)
        add_part(out, parts[i]);
}

void text_fold(struct buf *out, struct str utf8)
{
    uint32_t code_point;

    while (utf8.n > 0) {
        size_t n = ascii_run(utf8);
        if (n > 0) {
            fold_run(out, str_head(utf8, n));
            utf8 = str_from(utf8, n);
        } else if (utf8_next(&utf8, &code_point)) {
            fold_one(out, code_point);
        }
    }
}

struct str text_fold_arena(struct arena *a, struct str utf8)
{
    struct buf folded;
    struct str out;

    buf_init(&folded, SIZE_MAX);
    text_fold(&folded, utf8);
    out = arena_str(a, buf_str(&folded));
    buf_fini(&folded);
    return out;
}

/* U+0300 to U+036F are CC 80 to CD AF. */
static bool at_accent(struct str s)
{
    unsigned char a = (unsigned char)s.p[0], b = s.n > 1 ? (unsigned char)s.p[1] : 0;

    return (a == 0xCC && b >= 0x80) || (a == 0xCD && b >= 0x80 && b <= 0xAF);
}

void text_drop_accents(struct buf *out, struct str folded)
{
    while (folded.n > 0) {
        size_t n = 0;
        while (n < folded.n && !at_accent(str_from(folded, n)))
            n++;
        buf_add(out, str_head(folded, n));
        folded = str_from(folded, n < folded.n ? n + 2 : n);
    }
}
