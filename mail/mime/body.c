/* body.c - transfer encodings undone, character sets turned into UTF-8.
 *
 * Conversion is glibc's iconv behind a table of the names that mail uses and iconv does not know,
 * or knows as something narrower than what is sent: everyone's gb2312 is gb18030, everyone's
 * iso-8859-1 windows-1252 (as browsers read them, WHATWG Encoding, 4.2). HZ and ISO-2022-JP become
 * 8-bit sets first: iconv has no HZ, and refuses the vendor characters that Japanese mail is full
 * of. Output is valid UTF-8 without NUL. */
#include "mail/mime/body.h"

#include <errno.h>
#include <iconv.h>
#include <stdlib.h>
#include "mail/mime/header.h"
#include "server/base/utf8.h"

#define REPLACEMENT      "\xEF\xBF\xBD"
#define CHARSET_NAME_MAX 40
#define CONVERTERS_MAX   4

/* ---- transfer encodings ---------------------------------------------------------------------- */

/* Value and one; 0 for what is not in the alphabet. */
#define B64_PAD 65

static const unsigned char base64_values[256] = {
    ['A'] = 1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,         12,         13,
    14,         15, 16, 17, 18, 19, 20, 21, 22, 23, 24,         25,         26,
    ['a'] = 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37,         38,         39,
    40,         41, 42, 43, 44, 45, 46, 47, 48, 49, 50,         51,         52,
    ['0'] = 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, ['+'] = 63, ['/'] = 64, ['='] = B64_PAD,
};

/* 64 and more: no value. */
static unsigned base64_value(unsigned char c)
{
    return base64_values[c] - 1u;
}

/* Decodes groups of four as long as nothing else stands between them. */
static size_t decode_quads(unsigned char *out, const unsigned char *in, size_t n)
{
    size_t i = 0;

    for (; n - i >= 4; i += 4, out += 3) {
        unsigned a = base64_value(in[i]), b = base64_value(in[i + 1]);
        unsigned c = base64_value(in[i + 2]), d = base64_value(in[i + 3]);
        if ((a | b | c | d) >= 64)
            break;
        out[0] = (unsigned char)(a << 2 | b >> 4);
        out[1] = (unsigned char)(b << 4 | c >> 2);
        out[2] = (unsigned char)(c << 6 | d);
    }
    return i;
}

/* Padding ends a group and not the text: some mailers encode in chunks and join them. */
void mime_decode_base64(struct buf *out, struct str in)
{
    const unsigned char *p = (const unsigned char *)in.p;
    unsigned char *to = (unsigned char *)buf_reserve(out, in.n / 4 * 3 + 3), *start = to;
    unsigned bits = 0, count = 0;

    if (to == NULL)
        return;
    for (size_t i = 0; i < in.n; i++) {
        if (count == 0) {
            size_t taken = decode_quads(to, p + i, in.n - i);
            to += taken / 4 * 3;
            i += taken;
            if (i == in.n)
                break;
        }
        unsigned value = base64_value(p[i]);
        if (value == B64_PAD - 1)
            count = 0;
        if (value >= 64)
            continue;
        bits = bits << 6 | value;
        if (count > 0)
            *to++ = (unsigned char)(bits >> (4 - 2 * (count - 1)));
        count = (count + 1) % 4;
    }
    buf_commit(out, (size_t)(to - start));
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A line without its end and its trailing blanks; "=XX" decoded, other "=" left as they are. */
static void decode_line(struct buf *out, struct str line)
{
    while (line.n > 0) {
        ptrdiff_t at = str_index(line, '=');
        if (at < 0) {
            buf_add(out, line);
            return;
        }
        buf_add(out, str_head(line, (size_t)at));
        line = str_from(line, (size_t)at);
        int high = line.n > 2 ? hex_value(line.p[1]) : -1;
        int low = line.n > 2 ? hex_value(line.p[2]) : -1;
        bool is_code = high >= 0 && low >= 0;
        buf_addc(out, is_code ? (char)(high << 4 | low) : '=');
        line = str_from(line, is_code ? 3 : 1);
    }
}

static struct str trim_blanks(struct str s)
{
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* RFC 2045, 6.7: blanks at a line's end were added on the way, "=" at the end joins it with the
 * next. */
void mime_decode_quoted_printable(struct buf *out, struct str in)
{
    while (in.n > 0) {
        ptrdiff_t lf = str_index(in, '\n');
        struct str line = lf < 0 ? in : str_head(in, (size_t)lf);
        bool has_cr = lf > 0 && line.p[line.n - 1] == '\r';

        in = lf < 0 ? STR("") : str_from(in, (size_t)lf + 1);
        if (has_cr)
            line.n--;
        line = trim_blanks(line);
        if (line.n > 0 && line.p[line.n - 1] == '=') {
            decode_line(out, str_head(line, line.n - 1));
            continue;
        }
        decode_line(out, line);
        if (lf >= 0)
            buf_add(out, has_cr ? STR("\r\n") : STR("\n"));
    }
}

void mime_decode(struct buf *out, enum mime_encoding encoding, struct str in)
{
    if (encoding == MIME_BASE64)
        mime_decode_base64(out, in);
    else if (encoding == MIME_QUOTED_PRINTABLE)
        mime_decode_quoted_printable(out, in);
    else
        buf_add(out, in);
}

/* ---- character sets -------------------------------------------------------------------------- */

enum special { BY_ICONV, IS_ASCII, IS_UTF8, IS_WINDOWS_1252, IS_HZ, IS_ISO_2022_JP, IS_UNKNOWN };

static const struct {
    struct str name;        /* as sent, lower case, '_' as '-' */
    const char *iconv_name; /* NULL: one of ours */
    enum special special;
} charset_names[] = {
    {STR("us-ascii"), NULL, IS_ASCII},
    {STR("ascii"), NULL, IS_ASCII},
    {STR("ansi-x3.4-1968"), NULL, IS_ASCII},
    {STR("646"), NULL, IS_ASCII},
    {STR("7bit"), NULL, IS_ASCII},
    {STR("utf-8"), NULL, IS_UTF8},
    {STR("utf8"), NULL, IS_UTF8},
    {STR("uft-8"), NULL, IS_UTF8},
    {STR("utf-8n"), NULL, IS_UTF8},
    {STR("unicode-1-1-utf-8"), NULL, IS_UTF8},
    {STR("x-unicode-2-0-utf-8"), NULL, IS_UTF8},
    {STR("utf-8-mac"), NULL, IS_UTF8},
    {STR("windows-1252"), NULL, IS_WINDOWS_1252},
    {STR("cp1252"), NULL, IS_WINDOWS_1252},
    {STR("cp-1252"), NULL, IS_WINDOWS_1252},
    {STR("x-cp1252"), NULL, IS_WINDOWS_1252},
    {STR("win-1252"), NULL, IS_WINDOWS_1252},
    {STR("iso-8859-1"), NULL, IS_WINDOWS_1252},
    {STR("iso8859-1"), NULL, IS_WINDOWS_1252},
    {STR("iso88591"), NULL, IS_WINDOWS_1252},
    {STR("iso-8859-1-windows-3.0-latin-1"), NULL, IS_WINDOWS_1252},
    {STR("iso-8859-1-windows-3.1-latin-1"), NULL, IS_WINDOWS_1252},
    {STR("8859-1"), NULL, IS_WINDOWS_1252},
    {STR("latin1"), NULL, IS_WINDOWS_1252},
    {STR("latin-1"), NULL, IS_WINDOWS_1252},
    {STR("l1"), NULL, IS_WINDOWS_1252},
    {STR("cp819"), NULL, IS_WINDOWS_1252},
    {STR("iso-ir-100"), NULL, IS_WINDOWS_1252},
    {STR("hz"), NULL, IS_HZ},
    {STR("hz-gb-2312"), NULL, IS_HZ},
    {STR("iso-2022-jp"), NULL, IS_ISO_2022_JP},
    {STR("iso2022-jp"), NULL, IS_ISO_2022_JP},
    {STR("iso2022jp"), NULL, IS_ISO_2022_JP},
    {STR("csiso2022jp"), NULL, IS_ISO_2022_JP},
    {STR("iso-2022-jp-1"), NULL, IS_ISO_2022_JP},
    {STR("iso-2022-jp-ms"), NULL, IS_ISO_2022_JP},
    {STR("cp50220"), NULL, IS_ISO_2022_JP},
    {STR("cp50221"), NULL, IS_ISO_2022_JP},
    {STR("cp50222"), NULL, IS_ISO_2022_JP},
    {STR("x-unknown"), NULL, IS_UNKNOWN},
    {STR("unknown-8bit"), NULL, IS_UNKNOWN},
    {STR("unknown"), NULL, IS_UNKNOWN},
    {STR("x-user-defined"), NULL, IS_UNKNOWN},
    {STR("none"), NULL, IS_UNKNOWN},
    {STR("shift-jis"), "CP932", BY_ICONV},
    {STR("shiftjis"), "CP932", BY_ICONV},
    {STR("sjis"), "CP932", BY_ICONV},
    {STR("x-sjis"), "CP932", BY_ICONV},
    {STR("x-ms-cp932"), "CP932", BY_ICONV},
    {STR("ms-kanji"), "CP932", BY_ICONV},
    {STR("windows-31j"), "CP932", BY_ICONV},
    {STR("cswindows31j"), "CP932", BY_ICONV},
    {STR("euc-jp"), "EUC-JP-MS", BY_ICONV},
    {STR("x-euc-jp"), "EUC-JP-MS", BY_ICONV},
    {STR("euc-kr"), "CP949", BY_ICONV},
    {STR("ks-c-5601-1987"), "CP949", BY_ICONV},
    {STR("ks-c-5601-1989"), "CP949", BY_ICONV},
    {STR("ks-c-5601"), "CP949", BY_ICONV},
    {STR("ksc-5601"), "CP949", BY_ICONV},
    {STR("ksc5601"), "CP949", BY_ICONV},
    {STR("korean"), "CP949", BY_ICONV},
    {STR("windows-949"), "CP949", BY_ICONV},
    {STR("ks-c-5861-1992"), "CP949", BY_ICONV},
    {STR("iso2022-kr"), "ISO-2022-KR", BY_ICONV},
    {STR("gb2312"), "GB18030", BY_ICONV},
    {STR("gb-2312-80"), "GB18030", BY_ICONV},
    {STR("gb2312-80"), "GB18030", BY_ICONV},
    {STR("chinese"), "GB18030", BY_ICONV},
    {STR("euc-cn"), "GB18030", BY_ICONV},
    {STR("gbk"), "GB18030", BY_ICONV},
    {STR("x-gbk"), "GB18030", BY_ICONV},
    {STR("cp936"), "GB18030", BY_ICONV},
    {STR("windows-936"), "GB18030", BY_ICONV},
    {STR("gb-18030"), "GB18030", BY_ICONV},
    {STR("big5"), "BIG5-HKSCS", BY_ICONV},
    {STR("big-5"), "BIG5-HKSCS", BY_ICONV},
    {STR("x-x-big5"), "BIG5-HKSCS", BY_ICONV},
    {STR("cn-big5"), "BIG5-HKSCS", BY_ICONV},
    {STR("cp950"), "BIG5-HKSCS", BY_ICONV},
    {STR("windows-950"), "BIG5-HKSCS", BY_ICONV},
    {STR("unicode-1-1-utf-7"), "UTF-7", BY_ICONV},
    {STR("x-unicode-2-0-utf-7"), "UTF-7", BY_ICONV},
    {STR("unicode-2-0-utf-7"), "UTF-7", BY_ICONV},
    {STR("utf7"), "UTF-7", BY_ICONV},
    {STR("ansi-x3.110-1983"), "ISO_6937", BY_ICONV},
    {STR("iso-8859-8-i"), "ISO-8859-8", BY_ICONV},
    {STR("iso-8859-8-e"), "ISO-8859-8", BY_ICONV},
    {STR("logical"), "ISO-8859-8", BY_ICONV},
    {STR("visual"), "ISO-8859-8", BY_ICONV},
    {STR("iso-8859-6-i"), "ISO-8859-6", BY_ICONV},
    {STR("iso-8859-6-e"), "ISO-8859-6", BY_ICONV},
    {STR("iso-8859-9"), "CP1254", BY_ICONV},
    {STR("latin5"), "CP1254", BY_ICONV},
    {STR("iso-8859-11"), "CP874", BY_ICONV},
    {STR("tis-620"), "CP874", BY_ICONV},
    {STR("windows-874"), "CP874", BY_ICONV},
    {STR("koi8"), "KOI8-U", BY_ICONV},
    {STR("koi8-r"), "KOI8-R", BY_ICONV},
    {STR("koi"), "KOI8-R", BY_ICONV},
    {STR("x-koi8-r"), "KOI8-R", BY_ICONV},
    {STR("win-1251"), "CP1251", BY_ICONV},
    {STR("x-cp1250"), "CP1250", BY_ICONV},
    {STR("x-cp1251"), "CP1251", BY_ICONV},
    {STR("cp-850"), "CP850", BY_ICONV},
    {STR("x-mac-roman"), "MACINTOSH", BY_ICONV},
    {STR("macroman"), "MACINTOSH", BY_ICONV},
    {STR("x-mac-cyrillic"), "MAC-CYRILLIC", BY_ICONV},
    {STR("x-mac-ce"), "MAC-CENTRALEUROPE", BY_ICONV},
    {STR("x-viet-tcvn5712"), "TCVN", BY_ICONV},
    {STR("x-viscii"), "VISCII", BY_ICONV},
    {STR("iso-10646-ucs-2"), "UCS-2BE", BY_ICONV},
    {STR("unicode"), "UTF-16", BY_ICONV},
};

/* U+0080 to U+009F of windows-1252; 0 where it has nothing. */
static const uint16_t windows_1252[32] = {
    0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
    0x2039, 0x0152, 0,      0x017D, 0,      0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
    0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178,
};

static size_t ascii_size(struct str s)
{
    size_t n = 0;
    uint64_t eight;

    for (; s.n - n >= 8; n += 8) {
        memcpy(&eight, s.p + n, 8);
        if (eight & 0x8080808080808080u)
            break;
    }
    while (n < s.n && (unsigned char)s.p[n] < 128)
        n++;
    return n;
}

static bool has_nul(struct str s)
{
    return s.n > 0 && memchr(s.p, 0, s.n) != NULL;
}

static void add_utf8(struct buf *out, struct str s)
{
    if (!has_nul(s) && utf8_valid(str_from(s, ascii_size(s))))
        buf_add(out, s);
    else
        utf8_add_repaired(out, s);
}

static void add_windows_1252(struct buf *out, struct str s)
{
    while (s.n > 0) {
        size_t n = ascii_size(s);
        utf8_add_repaired(out, str_head(s, n));
        for (; n < s.n && (unsigned char)s.p[n] >= 128; n++) {
            unsigned char c = (unsigned char)s.p[n];
            uint32_t code = c < 0xA0 ? windows_1252[c - 0x80] : c;
            utf8_add(out, code != 0 ? code : 0xFFFD);
        }
        s = str_from(s, n);
    }
}

/* What calls itself ASCII, or nothing, and is not. */
static void add_undeclared(struct buf *out, struct str s)
{
    if (utf8_valid(str_from(s, ascii_size(s))))
        add_utf8(out, s);
    else
        add_windows_1252(out, s);
}

/* ---- iconv ----------------------------------------------------------------------------------- */

struct converter {
    char name[CHARSET_NAME_MAX + 1];
    iconv_t cd;
};

/* Opening one costs more than converting a header; mail comes in a few charsets, so the last ones
 * stay open. */
static _Thread_local struct converter converters[CONVERTERS_MAX];
static _Thread_local unsigned converter_next;

static iconv_t find_converter(const char *name)
{
    struct converter *c;
    iconv_t cd;

    for (unsigned i = 0; i < CONVERTERS_MAX; i++)
        if (strcmp(converters[i].name, name) == 0) {
            iconv(converters[i].cd, NULL, NULL, NULL, NULL);
            return converters[i].cd;
        }
    cd = iconv_open("UTF-8", name);
    if (cd == (iconv_t)-1)
        return cd;
    c = &converters[converter_next++ % CONVERTERS_MAX];
    if (c->name[0] != 0)
        iconv_close(c->cd);
    memcpy(c->name, name, strlen(name) + 1);
    c->cd = cd;
    return cd;
}

/* iconv gives UTF-8, but with NULs, and for some sets with characters that UTF-8 may not hold. */
static void add_converted(struct buf *out, iconv_t cd, struct str in)
{
    char chunk[1024], *from = (char *)in.p;
    size_t left = in.n;

    while (left > 0) {
        char *to = chunk;
        size_t room = sizeof chunk, before = left;
        size_t result = iconv(cd, &from, &left, &to, &room);
        bool is_stuck = result == (size_t)-1 && (errno != E2BIG || left == before);
        bool is_cut = is_stuck && errno == EINVAL; /* the text ends inside a character */

        add_utf8(out, str_of(chunk, (size_t)(to - chunk)));
        if (!is_stuck)
            continue;
        buf_adds(out, REPLACEMENT);
        if (is_cut || left == 0)
            return;
        from++;
        left--;
    }
}

static void flush_converter(struct buf *out, iconv_t cd)
{
    char chunk[64], *to = chunk;
    size_t room = sizeof chunk;

    iconv(cd, NULL, NULL, &to, &room);
    add_utf8(out, str_of(chunk, (size_t)(to - chunk)));
}

static bool convert(struct buf *out, const char *iconv_name, struct str in)
{
    iconv_t cd = find_converter(iconv_name);

    if (cd == (iconv_t)-1)
        return false;
    add_converted(out, cd, in);
    flush_converter(out, cd);
    return true;
}

/* HZ (RFC 1843): "~{" and "~}" around pairs of 7-bit bytes, "~~" for a tilde. */
static bool convert_hz(struct buf *out, struct str in)
{
    bool is_double = false;
    struct buf gb;

    buf_init(&gb, in.n + 1);
    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i], next = i + 1 < in.n ? in.p[i + 1] : 0;
        if (c == '~' && (next == '{' || next == '}' || next == '~' || next == '\n')) {
            is_double = next == '{' || (next == '~' && is_double);
            if (next == '~')
                buf_addc(&gb, '~');
            i++;
        } else if (is_double && c > ' ') {
            buf_addc(&gb, (char)(c | 0x80));
        } else {
            is_double = is_double && c != '\n';
            buf_addc(&gb, c);
        }
    }
    bool is_done = convert(out, "GB18030", buf_str(&gb));
    buf_fini(&gb);
    return is_done;
}

struct escape {
    struct str sequence;
    const char *prefix; /* EUC-JP's shift before each character */
    bool is_high;       /* bytes get their eighth bit */
    unsigned char_size;
};

static const struct escape japanese_escapes[] = {
    {STR("\033(B"), "", false, 1},     {STR("\033(J"), "", false, 1},
    {STR("\033(I"), "\x8E", true, 1}, /* half-width katakana */
    {STR("\033$B"), "", true, 2},      {STR("\033$@"), "", true, 2},
    {STR("\033$(D"), "\x8F", true, 2}, /* JIS X 0212 */
};

static const struct escape *find_escape(struct str s)
{
    for (size_t i = 0; i < sizeof japanese_escapes / sizeof *japanese_escapes; i++)
        if (str_starts(s, japanese_escapes[i].sequence))
            return &japanese_escapes[i];
    return NULL;
}

/* RFC 1468 to EUC-JP, whose Microsoft variant knows the circled digits and the like. */
static bool convert_iso_2022_jp(struct buf *out, struct str in)
{
    const struct escape *set = &japanese_escapes[0], *found;
    struct buf euc;

    buf_init(&euc, in.n * 2 + 1);
    while (in.n > 0) {
        if (in.p[0] == '\033' && (found = find_escape(in)) != NULL) {
            set = found;
            in = str_from(in, set->sequence.n);
            continue;
        }
        if (in.p[0] == '\n')
            set = &japanese_escapes[0]; /* every line begins in ASCII */
        bool is_char = set->is_high && in.p[0] > ' ' && in.n >= set->char_size;
        size_t size = is_char ? set->char_size : 1;
        buf_adds(&euc, is_char ? set->prefix : "");
        for (size_t i = 0; i < size; i++)
            buf_addc(&euc, is_char ? (char)(in.p[i] | 0x80) : in.p[i]);
        in = str_from(in, size);
    }
    bool is_done = convert(out, "EUC-JP-MS", buf_str(&euc));
    buf_fini(&euc);
    return is_done;
}

/* A name that may go to iconv_open: no path, no "//TRANSLIT". */
static bool is_charset_name(struct str name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = ascii_lower(name.p[i]);
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') &&
            (c == 0 || strchr("-_.:+", c) == NULL))
            return false;
    }
    return name.n > 0 && name.n <= CHARSET_NAME_MAX;
}

static bool convert_specially(struct buf *out, enum special special, struct str in)
{
    switch (special) {
    case IS_ASCII:
        add_undeclared(out, in);
        return true;
    case IS_UTF8:
        add_utf8(out, in);
        return true;
    case IS_WINDOWS_1252:
        add_windows_1252(out, in);
        return true;
    case IS_HZ:
        return convert_hz(out, in);
    case IS_ISO_2022_JP:
        return convert_iso_2022_jp(out, in);
    default:
        return false;
    }
}

/* iconv knows some names with "_" and most with "-". */
static bool convert_by_name(struct buf *out, const char *sent, const char *usual, struct str in)
{
    return convert(out, sent, in) || (strcmp(sent, usual) != 0 && convert(out, usual, in));
}

static bool convert_charset(struct buf *out, struct str charset, struct str in)
{
    char sent[CHARSET_NAME_MAX + 1] = "", usual[CHARSET_NAME_MAX + 1] = "";

    if (!is_charset_name(charset))
        return false;
    for (size_t i = 0; i < charset.n; i++) {
        sent[i] = ascii_upper(charset.p[i]);
        usual[i] = sent[i] == '_' ? '-' : sent[i];
    }
    for (size_t i = 0; i < sizeof charset_names / sizeof *charset_names; i++) {
        if (!str_ieq(str_of(usual, charset.n), charset_names[i].name))
            continue;
        if (charset_names[i].special == BY_ICONV)
            return convert(out, charset_names[i].iconv_name, in);
        return convert_specially(out, charset_names[i].special, in);
    }
    return convert_by_name(out, sent, usual, in);
}

bool charset_to_utf8(struct buf *out, struct str charset, struct str in)
{
    if (convert_charset(out, str_trim(charset), in))
        return true;
    add_windows_1252(out, in);
    return false;
}

/* ---- parts ----------------------------------------------------------------------------------- */

static struct str charset_of(struct arena *a, const struct mime_part *part, struct str message)
{
    struct header_field field;
    struct header_params params;
    struct str charset = STR("");

    if (header_find(mime_part_header(part, message), STR("Content-Type"), &field)) {
        header_parse_params(a, field.value, &params);
        charset = header_param(&params, STR("charset"));
    }
    return charset.n > 0 ? charset : STR("us-ascii");
}

/* CRLF and bare CR become LF, in place, from `from` on. */
static void use_lf(struct buf *b, size_t from)
{
    size_t n = from;

    if (b->n == from || memchr(b->p + from, '\r', b->n - from) == NULL)
        return;
    for (size_t i = from; i < b->n; i++) {
        if (b->p[i] == '\r' && i + 1 < b->n && b->p[i + 1] == '\n')
            continue;
        b->p[n++] = b->p[i] == '\r' ? '\n' : b->p[i];
    }
    buf_truncate(b, n);
}

void mime_part_text(struct buf *out, const struct mime_part *part, struct str message)
{
    struct arena *a = arena_new();
    struct str charset = charset_of(a, part, message), body = mime_part_body(part, message);
    size_t from = out->n;
    struct buf decoded;

    buf_init(&decoded, body.n + 4);
    mime_decode(&decoded, part->encoding, body);
    charset_to_utf8(out, charset, buf_str(&decoded));
    use_lf(out, from);
    buf_fini(&decoded);
    arena_free(&a);
}
