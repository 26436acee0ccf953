/* html_text.c - a scanner over markup that keeps the text.
 *
 * No tree is built and nothing recurses, so that no nesting can hurt. Linear: what is looked for
 * ahead (the end of a tag, of a comment, of a script) is skipped to, or the rest belongs to it. */
#include "mail/mime/html_text.h"

#include <stdint.h>

#include "server/base/utf8.h"

#define ENTITY_MAX_SIZE    10
#define REFERENCE_MAX_SIZE 32 /* numbers may have zeros in front */

struct scanner {
    struct str rest;
    struct buf *out;
    bool wants_space, wants_line; /* before the next letter */
    bool has_text;
};

/* ---- what comes out -------------------------------------------------------------------------- */

static void add_separator(struct scanner *s)
{
    if (s->has_text && s->wants_line)
        buf_addc(s->out, '\n');
    else if (s->has_text && s->wants_space)
        buf_addc(s->out, ' ');
    s->wants_line = s->wants_space = false;
    s->has_text = true;
}

static void add_code_point(struct scanner *s, uint32_t c)
{
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        s->wants_space = true;
        return;
    }
    add_separator(s);
    utf8_add(s->out, c != 0 ? c : 0xFFFD);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static void add_text(struct scanner *s, struct str text)
{
    while (text.n > 0) {
        size_t n = 0;
        while (n < text.n && !is_space(text.p[n]))
            n++;
        if (n > 0) {
            add_separator(s);
            buf_add(s->out, str_head(text, n));
        }
        if (n < text.n)
            s->wants_space = true;
        text = str_from(text, n + 1);
    }
}

/* ---- entities -------------------------------------------------------------------------------- */

static const struct entity {
    char name[ENTITY_MAX_SIZE];
    uint16_t code_point;
} entities[] = {
    {"amp", '&'},     {"lt", '<'},      {"gt", '>'},      {"quot", '"'},    {"apos", '\''},
    {"nbsp", ' '},    {"iexcl", 161},   {"cent", 162},    {"pound", 163},   {"curren", 164},
    {"yen", 165},     {"brvbar", 166},  {"sect", 167},    {"uml", 168},     {"copy", 169},
    {"ordf", 170},    {"laquo", 171},   {"not", 172},     {"shy", 173},     {"reg", 174},
    {"macr", 175},    {"deg", 176},     {"plusmn", 177},  {"sup2", 178},    {"sup3", 179},
    {"acute", 180},   {"micro", 181},   {"para", 182},    {"middot", 183},  {"cedil", 184},
    {"sup1", 185},    {"ordm", 186},    {"raquo", 187},   {"frac14", 188},  {"frac12", 189},
    {"frac34", 190},  {"iquest", 191},  {"Agrave", 192},  {"Aacute", 193},  {"Acirc", 194},
    {"Atilde", 195},  {"Auml", 196},    {"Aring", 197},   {"AElig", 198},   {"Ccedil", 199},
    {"Egrave", 200},  {"Eacute", 201},  {"Ecirc", 202},   {"Euml", 203},    {"Igrave", 204},
    {"Iacute", 205},  {"Icirc", 206},   {"Iuml", 207},    {"ETH", 208},     {"Ntilde", 209},
    {"Ograve", 210},  {"Oacute", 211},  {"Ocirc", 212},   {"Otilde", 213},  {"Ouml", 214},
    {"times", 215},   {"Oslash", 216},  {"Ugrave", 217},  {"Uacute", 218},  {"Ucirc", 219},
    {"Uuml", 220},    {"Yacute", 221},  {"THORN", 222},   {"szlig", 223},   {"agrave", 224},
    {"aacute", 225},  {"acirc", 226},   {"atilde", 227},  {"auml", 228},    {"aring", 229},
    {"aelig", 230},   {"ccedil", 231},  {"egrave", 232},  {"eacute", 233},  {"ecirc", 234},
    {"euml", 235},    {"igrave", 236},  {"iacute", 237},  {"icirc", 238},   {"iuml", 239},
    {"eth", 240},     {"ntilde", 241},  {"ograve", 242},  {"oacute", 243},  {"ocirc", 244},
    {"otilde", 245},  {"ouml", 246},    {"divide", 247},  {"oslash", 248},  {"ugrave", 249},
    {"uacute", 250},  {"ucirc", 251},   {"uuml", 252},    {"yacute", 253},  {"thorn", 254},
    {"yuml", 255},    {"OElig", 338},   {"oelig", 339},   {"Scaron", 352},  {"scaron", 353},
    {"Yuml", 376},    {"fnof", 402},    {"circ", 710},    {"tilde", 732},   {"ensp", 8194},
    {"emsp", 8195},   {"thinsp", 8201}, {"zwnj", 8204},   {"zwj", 8205},    {"ndash", 8211},
    {"mdash", 8212},  {"lsquo", 8216},  {"rsquo", 8217},  {"sbquo", 8218},  {"ldquo", 8220},
    {"rdquo", 8221},  {"bdquo", 8222},  {"dagger", 8224}, {"Dagger", 8225}, {"bull", 8226},
    {"hellip", 8230}, {"permil", 8240}, {"prime", 8242},  {"Prime", 8243},  {"lsaquo", 8249},
    {"rsaquo", 8250}, {"euro", 8364},   {"trade", 8482},  {"larr", 8592},   {"uarr", 8593},
    {"rarr", 8594},   {"darr", 8595},   {"minus", 8722},  {"ne", 8800},     {"le", 8804},
    {"ge", 8805},     {"check", 10003},
};

/* Windows' own characters, which pages mean by the numbers of controls. */
static uint32_t instead_of_control(uint32_t c)
{
    static const uint16_t windows[32] = {
        8364, 0,    8218, 402,  8222, 8230, 8224, 8225, 710, 8240, 352, 8249, 338, 0, 381, 0,
        0,    8216, 8217, 8220, 8221, 8226, 8211, 8212, 732, 8482, 353, 8250, 339, 0, 382, 376,
    };

    return c >= 0x80 && c < 0xA0 && windows[c - 0x80] != 0 ? windows[c - 0x80] : c;
}

static bool parse_number(struct str digits, uint32_t base, uint32_t *code_point)
{
    uint32_t value = 0;

    for (size_t i = 0; i < digits.n; i++) {
        char c = ascii_lower(digits.p[i]);
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
                                                : base;
        if (digit >= base || value > 0x10FFFF)
            return false;
        value = value * base + digit;
    }
    *code_point = instead_of_control(value);
    return digits.n > 0;
}

static bool find_entity(struct str name, uint32_t *code_point)
{
    if (str_istarts(name, STR("#x")))
        return parse_number(str_from(name, 2), 16, code_point);
    if (str_starts(name, STR("#")))
        return parse_number(str_from(name, 1), 10, code_point);
    for (size_t i = 0; i < sizeof entities / sizeof *entities; i++)
        if (str_eq(name, str_of(entities[i].name, strnlen(entities[i].name, ENTITY_MAX_SIZE)))) {
            *code_point = entities[i].code_point;
            return true;
        }
    return false;
}

/* "&auml;" or, as old pages have it, "&auml". What is none stays as it is written. */
static void take_entity(struct scanner *s)
{
    struct str name = str_of(s->rest.p + 1, 0);
    uint32_t code_point;

    while (name.n < REFERENCE_MAX_SIZE && 1 + name.n < s->rest.n) {
        char c = name.p[name.n];
        if (c != '#' && !(c >= '0' && c <= '9') &&
            !(ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z'))
            break;
        name.n++;
    }
    if (!find_entity(name, &code_point)) {
        add_code_point(s, '&');
        s->rest = str_from(s->rest, 1);
        return;
    }
    add_code_point(s, code_point);
    s->rest = str_from(s->rest, 1 + name.n);
    if (s->rest.n > 0 && s->rest.p[0] == ';')
        s->rest = str_from(s->rest, 1);
}

/* ---- tags ------------------------------------------------------------------------------------ */

static const char *const inline_elements[] = {
    "a",    "abbr", "acronym", "b",    "bdi",  "bdo",   "big",  "cite",   "code",   "data",
    "del",  "dfn",  "em",      "font", "i",    "img",   "ins",  "kbd",    "mark",   "meta",
    "nobr", "q",    "ruby",    "s",    "samp", "small", "span", "strike", "strong", "sub",
    "sup",  "time", "tt",      "u",    "var",  "wbr",   "o:p",
};

static bool is_inline(struct str name)
{
    for (size_t i = 0; i < sizeof inline_elements / sizeof *inline_elements; i++)
        if (str_ieq(name, str_c(inline_elements[i])))
            return true;
    return false;
}

static struct str tag_name(struct str tag)
{
    size_t n = 0;

    while (n < tag.n && !is_space(tag.p[n]) && tag.p[n] != '/' && tag.p[n] != '>')
        n++;
    return str_head(tag, n);
}

/* Behind the '>' that ends the tag, which is none between quotes; without one the tag is the
 * rest. */
static struct str after_tag(struct str tag)
{
    char quote = 0;

    for (size_t i = 0; i < tag.n; i++) {
        char c = tag.p[i];
        if (quote != 0)
            quote = c == quote ? 0 : quote;
        else if ((c == '"' || c == '\'') && i > 0 &&
                 (tag.p[i - 1] == '=' || is_space(tag.p[i - 1])))
            quote = c;
        else if (c == '>')
            return str_from(tag, i + 1);
    }
    return str_from(tag, tag.n);
}

static struct str after(struct str s, struct str end)
{
    ptrdiff_t at = str_ifind(s, end);

    return at < 0 ? str_from(s, s.n) : str_from(s, (size_t)at + end.n);
}

/* Scripts and styles are not read by people. */
static void skip_raw(struct scanner *s, struct str name)
{
    if (str_ieq(name, STR("script")))
        s->rest = after(s->rest, STR("</script"));
    else if (str_ieq(name, STR("style")))
        s->rest = after(s->rest, STR("</style"));
    else
        return;
    s->rest = after_tag(s->rest);
}

static void take_element(struct scanner *s, struct str tag, bool is_end)
{
    struct str name = tag_name(tag);

    s->rest = after_tag(str_from(tag, name.n));
    if (str_ieq(name, STR("td")) || str_ieq(name, STR("th")))
        s->wants_space = true;
    else if (!is_inline(name))
        s->wants_line = true;
    if (!is_end)
        skip_raw(s, name);
}

static void take_tag(struct scanner *s)
{
    struct str tag = str_from(s->rest, 1);
    char c = tag.n > 0 ? tag.p[0] : 0;

    if (str_starts(tag, STR("!--")))
        s->rest = after(str_from(tag, 1), STR("-->")); /* "<!-->" is all of a comment */
    else if (c == '!' || c == '?')
        s->rest = after(tag, STR(">"));
    else if (c == '/')
        take_element(s, str_from(tag, 1), true);
    else if (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z')
        take_element(s, tag, false);
    else {
        add_code_point(s, '<');
        s->rest = tag;
    }
}

void html_text(struct buf *out, struct str html)
{
    struct scanner s = {.rest = html, .out = out};

    while (s.rest.n > 0) {
        size_t n = 0;
        while (n < s.rest.n && s.rest.p[n] != '<' && s.rest.p[n] != '&')
            n++;
        add_text(&s, str_head(s.rest, n));
        s.rest = str_from(s.rest, n);
        if (s.rest.n > 0 && s.rest.p[0] == '<')
            take_tag(&s);
        else if (s.rest.n > 0)
            take_entity(&s);
    }
    if (s.has_text)
        buf_addc(out, '\n');
}
