/* spam_confusable.c - one form for what looks the same. The letters that matter in names and
 * hosts: Cyrillic, Greek, phonetic and Armenian ones, and digits. */
#include "mail/spam/spam_confusable.h"

#include <utf8proc.h>

#include "server/base/buf.h"
#include "server/base/utf8.h"

#define FOLDED_MAX 32

char spam_latin_look(uint32_t code_point)
{
    static const struct {
        uint16_t code_point;
        char latin;
    } looks[] = {
        {0x430, 'a'}, {0x435, 'e'},  {0x43E, 'o'}, {0x440, 'p'},  {0x441, 'c'}, {0x443, 'y'},
        {0x445, 'x'}, {0x456, 'i'},  {0x458, 'j'}, {0x455, 's'},  {0x501, 'd'}, {0x51B, 'q'},
        {0x51D, 'w'}, {0x4BB, 'h'},  {0x43A, 'k'}, {0x43C, 'm'},  {0x442, 't'}, {0x432, 'b'},
        {0x43D, 'h'}, {0x3B1, 'a'},  {0x3BF, 'o'}, {0x3C1, 'p'},  {0x3BD, 'v'}, {0x3B9, 'i'},
        {0x3BA, 'k'}, {0x3C5, 'u'},  {0x3C7, 'x'}, {0x3C4, 't'},  {0x3B5, 'e'}, {0x251, 'a'},
        {0x261, 'g'}, {0x131, 'i'},  {0x26A, 'i'}, {0x1D0F, 'o'}, {0x4CF, 'l'}, {0x585, 'o'},
        {0x578, 'n'}, {0x57D, 'u'},  {0x570, 'h'}, {0x269, 'i'},  {0x1C0, 'l'}, {0x3F2, 'c'},
        {0x28B, 'u'}, {0x1D04, 'c'},
    };

    for (size_t i = 0; i < sizeof looks / sizeof *looks; i++)
        if (looks[i].code_point == code_point)
            return looks[i].latin;
    return 0;
}

static void add_folded(struct buf *out, uint32_t c)
{
    utf8proc_int32_t folded[FOLDED_MAX];
    int boundary = 0;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)c, folded, FOLDED_MAX,
                                UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE |
                                    UTF8PROC_STRIPMARK | UTF8PROC_DECOMPOSE,
                                &boundary);

    for (utf8proc_ssize_t i = 0; i < n && i < FOLDED_MAX; i++) {
        char look = spam_latin_look((uint32_t)folded[i]);
        if (look != 0)
            buf_addc(out, look);
        else if (folded[i] == '0' || folded[i] == '1')
            buf_addc(out, folded[i] == '0' ? 'o' : 'l');
        else
            utf8_add(out, (uint32_t)folded[i]);
    }
}

/* In place: the result is never longer. */
static size_t join_letters(char *p, size_t n)
{
    size_t out = 0;

    for (size_t i = 0; i < n; i++) {
        p[out++] = p[i];
        if (out > 1 && p[out - 2] == 'r' && p[out - 1] == 'n')
            p[--out - 1] = 'm';
        else if (out > 1 && p[out - 2] == 'v' && p[out - 1] == 'v')
            p[--out - 1] = 'w';
    }
    return out;
}

struct str spam_skeleton(struct arena *a, struct str utf8)
{
    struct buf out;
    char *p;
    size_t n;
    uint32_t c;

    buf_init(&out, SIZE_MAX);
    while (utf8_next(&utf8, &c))
        add_folded(&out, c);
    n = out.n;
    p = arena_alloc(a, n + 1);
    if (n > 0)
        memcpy(p, out.p, n);
    buf_fini(&out);
    return str_of(p, join_letters(p, n));
}

bool spam_mixes_alphabets(struct str utf8)
{
    bool has_latin = false, has_look = false;
    uint32_t c;

    while (utf8_next(&utf8, &c)) {
        bool is_letter = c > 127 || (c | 32) - 'a' < 26;
        if (!is_letter)
            has_latin = has_look = false; /* another word */
        has_latin |= c < 128 && is_letter;
        has_look |= spam_latin_look((uint32_t)utf8proc_tolower((utf8proc_int32_t)c)) != 0;
        if (has_latin && has_look)
            return true;
    }
    return false;
}

/* A joiner of no width has its place in emoji and in Arabic and Indic writing: it does not count. */
bool spam_hides_signs(struct str utf8)
{
    uint32_t c;

    while (utf8_next(&utf8, &c))
        if (c == 0x200B || c == 0x2060 || c == 0xFEFF || c == 0xAD ||
            (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069))
            return true;
    return false;
}
