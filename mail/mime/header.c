/* header.c - header fields: cutting a block into fields, and reading what stands in them.
 *
 * Mail is full of headers that no RFC allows, so nothing here fails: a field is read as far as it
 * makes sense. Every scan is linear: what is searched for and not found is not searched for again.
 * Address lists are address.c's, character sets body.c's. */
#include "mail/mime/header.h"

#include <limits.h>
#include <stdlib.h>
#include "mail/mime/body.h"
#include "mail/mime/header_internal.h"
#include "server/base/utf8.h"

#define SECTION_NONE (-1) /* a parameter that is not cut into sections (RFC 2231, 3) */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* ---- fields ---------------------------------------------------------------------------------- */

/* The field with its continuation lines. */
static struct str take_whole(struct str *rest)
{
    size_t n = 0;

    do {
        const char *lf = memchr(rest->p + n, '\n', rest->n - n);
        n = lf == NULL ? rest->n : (size_t)(lf - rest->p) + 1;
    } while (n < rest->n && (rest->p[n] == ' ' || rest->p[n] == '\t'));

    struct str whole = str_head(*rest, n);
    *rest = str_from(*rest, n);
    return whole;
}

static struct str without_line_end(struct str s)
{
    if (s.n > 0 && s.p[s.n - 1] == '\n') {
        s.n--;
        if (s.n > 0 && s.p[s.n - 1] == '\r')
            s.n--;
    }
    return s;
}

/* RFC 5322, 2.2: printable ASCII. Spaces before the colon are obsolete, spaces inside make it no
 * field, which keeps the "From " line of a mailbox file out. */
static bool is_field_name(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] <= ' ' || name.p[i] >= 127)
            return false;
    return name.n > 0;
}

bool header_next(struct str *rest, struct header_field *field)
{
    struct str name, value;

    *field = (struct header_field){.name = STR(""), .value = STR(""), .whole = STR("")};
    if (rest->n == 0 || rest->p[0] == '\n' ||
        (rest->p[0] == '\r' && rest->n > 1 && rest->p[1] == '\n'))
        return false;
    field->whole = take_whole(rest);
    if (is_space(field->whole.p[0]) || !str_cut(field->whole, ':', &name, &value))
        return true;
    while (name.n > 0 && (name.p[name.n - 1] == ' ' || name.p[name.n - 1] == '\t'))
        name.n--;
    if (is_field_name(name)) {
        field->name = name;
        field->value = without_line_end(value);
    }
    return true;
}

bool header_find(struct str header, struct str name, struct header_field *field)
{
    while (header_next(&header, field))
        if (str_ieq(field->name, name))
            return true;
    return false;
}

struct str header_unfold(struct arena *a, struct str value)
{
    char *p;
    size_t n = 0;

    value = str_trim(value);
    p = arena_alloc(a, value.n + 1);
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] != '\r' && value.p[i] != '\n' && value.p[i] != 0)
            p[n++] = value.p[i];
    return str_of(p, n);
}

/* ---- text ------------------------------------------------------------------------------------ */

struct word { /* an encoded word, RFC 2047, 2 */
    struct str charset, text;
    bool is_base64;
};

/* Takes a word off the front. Blanks inside the text are let pass: Q words are sent with them. */
static bool take_word(struct str *rest, struct word *word, bool *no_more_ends)
{
    struct str s = *rest;
    size_t n = 2;

    while (n < s.n && n < 64 && s.p[n] != '?' && !is_space(s.p[n]))
        n++;
    if (n == 2 || s.n - n < 5 || s.p[n] != '?' || s.p[n + 2] != '?' ||
        strchr("bBqQ", s.p[n + 1]) == NULL || s.p[n + 1] == 0)
        return false;
    word->charset = str_of(s.p + 2, n - 2);
    word->is_base64 = ascii_lower(s.p[n + 1]) == 'b';
    s = str_from(s, n + 3);
    ptrdiff_t end = str_find(s, STR("?="));
    if (end < 0) {
        *no_more_ends = true;
        return false;
    }
    word->text = str_head(s, (size_t)end);
    *rest = str_from(s, (size_t)end + 2);
    str_cut(word->charset, '*', &word->charset, &s); /* a language, RFC 2231, 5 */
    return true;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Bytes written as an escape character and two digits: "=C3" in Q words, "%C3" in parameters. */
static void add_unescaped(struct buf *out, struct str s, char escape)
{
    for (size_t i = 0; i < s.n; i++) {
        int high = -1, low = -1;
        if (s.p[i] == escape && s.n - i > 2) {
            high = hex_value(s.p[i + 1]);
            low = hex_value(s.p[i + 2]);
        }
        if (high >= 0 && low >= 0) {
            buf_addc(out, (char)(high << 4 | low));
            i += 2;
        } else {
            buf_addc(out, escape == '=' && s.p[i] == '_' ? ' ' : s.p[i]);
        }
    }
}

/* Text without a charset of its own: UTF-8 when it is that, else what Western mailers meant. */
static void add_raw(struct buf *out, struct str s)
{
    charset_to_utf8(out, STR("us-ascii"), s);
}

static struct str skip_spaces(struct str s)
{
    while (s.n > 0 && is_space(s.p[0]))
        s = str_from(s, 1);
    return s;
}

/* Decodes a run of words that differ in their text only: a character may be cut between two of
 * them. */
static void add_words(struct buf *out, struct word word, struct str *rest, bool *no_more_ends)
{
    struct buf bytes;
    struct str charset = word.charset;

    buf_init(&bytes, rest->n + word.text.n + 16);
    for (;;) {
        struct str next = skip_spaces(*rest);
        if (word.is_base64)
            mime_decode_base64(&bytes, word.text);
        else
            add_unescaped(&bytes, word.text, '=');
        if (*no_more_ends || !str_starts(next, STR("=?")) || !take_word(&next, &word, no_more_ends))
            break;
        if (!str_ieq(word.charset, charset)) {
            *rest = skip_spaces(*rest); /* blanks between words are not shown (RFC 2047, 6.2) */
            break;
        }
        *rest = next;
    }
    charset_to_utf8(out, charset, buf_str(&bytes));
    buf_fini(&bytes);
}

/* RFC 2047 to UTF-8, control characters still inside. */
static void add_decoded_words(struct buf *out, struct str s)
{
    bool no_more_ends = false;
    size_t plain = 0;
    struct word word;

    while (plain < s.n) {
        ptrdiff_t at = no_more_ends ? -1 : str_find(str_from(s, plain), STR("=?"));
        if (at < 0)
            break;
        struct str rest = str_from(s, plain + (size_t)at);
        if (!take_word(&rest, &word, &no_more_ends)) {
            plain += (size_t)at + 2;
            continue;
        }
        add_raw(out, str_head(s, plain + (size_t)at));
        add_words(out, word, &rest, &no_more_ends);
        s = rest;
        plain = 0;
    }
    add_raw(out, s);
}

/* Copies valid UTF-8 without control characters, C1 included; those that stand for blanks become
 * one. */
static struct str without_controls(struct arena *a, struct str s)
{
    char *p = arena_alloc(a, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '\t' || c == '\n')
            p[n++] = ' ';
        else if (c == 0xC2 && i + 1 < s.n && (unsigned char)s.p[i + 1] < 0xA0)
            i++;
        else if (c >= ' ' && c != 127)
            p[n++] = (char)c;
    }
    return str_of(p, n);
}

static bool is_plain_ascii(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < ' ' || s.p[i] == 127 || (s.p[i] == '=' && i + 1 < s.n && s.p[i + 1] == '?'))
            return false;
    return true;
}

/* Every byte becomes at most three: one character of UTF-8 for each. */
static size_t utf8_size_max(struct str s)
{
    return s.n * 3 + 16;
}

struct str header_decode_text(struct arena *a, struct str value)
{
    struct str text = header_unfold(a, value);
    struct buf out;

    if (is_plain_ascii(text))
        return text;
    buf_init(&out, utf8_size_max(text));
    add_decoded_words(&out, text);
    text = without_controls(a, buf_str(&out));
    buf_fini(&out);
    return text;
}

/* ---- parameters ------------------------------------------------------------------------------ */

/* Without its end a comment takes all there is. */
static void skip_comment(struct str *rest)
{
    size_t depth = 0, i = 0;

    for (; i < rest->n; i++) {
        if (rest->p[i] == '\\')
            i++;
        else if (rest->p[i] == '(')
            depth++;
        else if (rest->p[i] == ')' && --depth == 0)
            break;
    }
    *rest = str_from(*rest, i + 1);
}

void header_skip_cfws(struct str *rest)
{
    while (rest->n > 0) {
        if (is_space(rest->p[0]))
            *rest = str_from(*rest, 1);
        else if (rest->p[0] == '(')
            skip_comment(rest);
        else
            return;
    }
}

static struct str take_until(struct str *rest, const char *ends)
{
    size_t n = 0;

    while (n < rest->n && !is_space(rest->p[n]) &&
           (rest->p[n] == 0 || strchr(ends, rest->p[n]) == NULL))
        n++;
    struct str token = str_head(*rest, n);
    *rest = str_from(*rest, n);
    return token;
}

/* Types and encodings are printable ASCII; anything else is none. */
static struct str take_type_token(struct str *rest)
{
    struct str token;

    header_skip_cfws(rest);
    token = take_until(rest, "/;(\"=");
    header_skip_cfws(rest);
    return is_field_name(token) ? token : STR("");
}

void header_take_type(struct str *rest, struct str *type, struct str *subtype)
{
    *type = take_type_token(rest);
    *subtype = STR("");
    if (rest->n > 0 && rest->p[0] == '/') {
        *rest = str_from(*rest, 1);
        *subtype = take_type_token(rest);
    }
}

static struct str take_quoted(struct str *rest)
{
    size_t n = 1;

    while (n < rest->n && rest->p[n] != '"')
        n += rest->p[n] == '\\' ? 2 : 1;
    if (n > rest->n)
        n = rest->n;
    struct str value = str_of(rest->p + 1, n - 1);
    *rest = str_from(*rest, n + 1);
    return value;
}

static bool is_name_char(char c)
{
    return (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '*';
}

/* Does a new parameter begin here? Some mailers forget the semicolon before it. */
static bool is_param_start(struct str s)
{
    size_t n = 0;

    while (n < s.n && n < 64 && is_name_char(s.p[n]))
        n++;
    return n > 0 && n < s.n && s.p[n] == '=';
}

/* A value without quotes ends at the semicolon; blanks inside are kept, for file names are sent
 * so. */
static struct str take_unquoted(struct str *rest)
{
    size_t n = 0;

    while (n < rest->n && rest->p[n] != ';') {
        bool is_blank = is_space(rest->p[n]);
        n++;
        if (is_blank && n < rest->n && (rest->p[n] == '(' || is_param_start(str_from(*rest, n))))
            break;
    }
    struct str value = str_trim(str_head(*rest, n));
    *rest = str_from(*rest, n);
    return value;
}

bool header_next_raw_param(struct str *rest, struct header_raw_param *param)
{
    for (;;) {
        header_skip_cfws(rest);
        if (rest->n == 0)
            return false;
        if (rest->p[0] == ';') {
            *rest = str_from(*rest, 1);
            continue;
        }
        param->name = take_until(rest, "=;(");
        header_skip_cfws(rest);
        if (param->name.n > 0 && rest->n > 0 && rest->p[0] == '=')
            break;
        if (param->name.n == 0 && rest->n > 0 && rest->p[0] == '=')
            *rest = str_from(*rest, 1); /* "=" without a name */
    }
    *rest = str_from(*rest, 1);
    header_skip_cfws(rest);
    param->is_quoted = rest->n > 0 && rest->p[0] == '"';
    param->value = param->is_quoted ? take_quoted(rest) : take_unquoted(rest);
    return true;
}

struct str header_raw_value(struct arena *a, const struct header_raw_param *param)
{
    struct str s = param->value;
    char *p = arena_alloc(a, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\\' && param->is_quoted && i + 1 < s.n)
            i++;
        if (s.p[i] != '\r' && s.p[i] != '\n')
            p[n++] = s.p[i];
    }
    return str_of(p, n);
}

/* One parameter or one section of one, RFC 2231: name, section number, and whether it is
 * percent-encoded. */
struct section {
    struct str name, value;
    int number;
    bool is_extended;
    size_t order; /* place in the field */
};

static void split_name(struct section *section, struct str name)
{
    struct str number;
    uint32_t value;

    section->number = SECTION_NONE;
    section->name = name;
    if (!str_cut(name, '*', &section->name, &number))
        return;
    section->is_extended = number.n == 0;
    if (number.n > 0 && number.p[number.n - 1] == '*') {
        section->is_extended = true;
        number.n--;
    }
    if (number.n > 0 && str_to_u32(number, &value) && value < HEADER_PARAMS_MAX)
        section->number = (int)value;
    else if (number.n > 0)
        section->name = name; /* "a*b" is just a name */
}

static size_t read_sections(struct arena *a, struct str rest, struct section **out)
{
    struct header_raw_param raw;
    size_t n = 0, cap = 8;
    struct section *v = ARENA_ARRAY(a, cap, struct section);

    while (n < HEADER_PARAMS_MAX && header_next_raw_param(&rest, &raw)) {
        if (n == cap) {
            struct section *more = ARENA_ARRAY(a, cap * 2, struct section);
            memcpy(more, v, n * sizeof *v);
            v = more;
            cap *= 2;
        }
        split_name(&v[n], arena_lower(a, raw.name));
        v[n].value = header_raw_value(a, &raw);
        v[n].order = n;
        n++;
    }
    *out = v;
    return n;
}

/* Sections of one name stand together: the extended whole first, then 0, 1, 2 ..., the plain value
 * last. */
static int section_rank(const struct section *s)
{
    if (s->number != SECTION_NONE)
        return s->number;
    return s->is_extended ? -1 : INT_MAX;
}

static int compare_sections(const void *left, const void *right)
{
    const struct section *a = left, *b = right;
    int by_name = str_cmp(a->name, b->name);

    if (by_name != 0)
        return by_name;
    if (section_rank(a) != section_rank(b))
        return section_rank(a) < section_rank(b) ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

/* "utf-8'en'" off the front of an extended value; without both quotes there is no charset. */
static struct str take_charset(struct str *value)
{
    struct str charset, language, rest;

    if (!str_cut(*value, '\'', &charset, &rest) || !str_cut(rest, '\'', &language, &rest))
        return STR("us-ascii");
    *value = rest;
    return charset.n > 0 ? charset : STR("us-ascii");
}

static void add_section(struct buf *bytes, const struct section *s, struct str value)
{
    if (s->is_extended)
        add_unescaped(bytes, value, '%');
    else
        buf_add(bytes, value);
}

/* Joins sections 0, 1, 2 ... up to the first gap; or reads the single extended value. */
static struct str joined_value(struct arena *a, const struct section *v, size_t n)
{
    struct str charset = STR("us-ascii"), first = v[0].value;
    struct buf bytes, text;
    size_t size = 0;
    int expected = v[0].number;

    if (v[0].is_extended)
        charset = take_charset(&first);
    for (size_t i = 0; i < n; i++)
        size += v[i].value.n;
    buf_init(&bytes, size);
    for (size_t i = 0; i < n; i++) {
        if (v[i].number != expected)
            continue;
        add_section(&bytes, &v[i], i == 0 ? first : v[i].value);
        if (expected++ == SECTION_NONE)
            break;
    }
    buf_init(&text, utf8_size_max(str_of(NULL, size)));
    if (v[0].is_extended)
        charset_to_utf8(&text, charset, buf_str(&bytes));
    else
        add_decoded_words(&text, buf_str(&bytes));
    struct str value = without_controls(a, buf_str(&text));
    buf_fini(&bytes);
    buf_fini(&text);
    return value;
}

/* One parameter of all that stands under one name. */
static struct str section_value(struct arena *a, const struct section *v, size_t n)
{
    const struct section *plain = &v[n - 1];

    if ((v[0].is_extended && v[0].number == SECTION_NONE) || v[0].number == 0)
        return joined_value(a, v, n);
    while (plain > v && section_rank(plain - 1) == INT_MAX)
        plain--;
    return header_decode_text(a, plain->value);
}

static int compare_order(const void *left, const void *right)
{
    const struct section *a = left, *b = right;

    return a->order < b->order ? -1 : 1;
}

/* Merges what is sorted by name; the value that is left for a name stands where the name came
 * first. */
static size_t merge_sections(struct arena *a, struct section *v, size_t n)
{
    size_t merged = 0;

    for (size_t i = 0, end; i < n; i = end) {
        struct section one = {.name = v[i].name, .order = v[i].order};
        for (end = i; end < n && str_eq(v[end].name, one.name); end++)
            if (v[end].order < one.order)
                one.order = v[end].order;
        one.value = section_value(a, v + i, end - i);
        v[merged++] = one;
    }
    return merged;
}

void header_parse_params(struct arena *a, struct str value, struct header_params *out)
{
    struct str type, subtype;
    struct section *v;

    header_take_type(&value, &type, &subtype);
    *out = (struct header_params){.type = arena_lower(a, type), .subtype = arena_lower(a, subtype)};
    out->n = read_sections(a, value, &v);
    if (out->n == 0)
        return;
    qsort(v, out->n, sizeof *v, compare_sections);
    out->n = merge_sections(a, v, out->n);
    qsort(v, out->n, sizeof *v, compare_order);
    out->v = ARENA_ARRAY(a, out->n, struct header_param);
    for (size_t i = 0; i < out->n; i++)
        out->v[i] = (struct header_param){v[i].name, v[i].value};
}

struct str header_param(const struct header_params *p, struct str name)
{
    for (size_t i = 0; i < p->n; i++)
        if (str_ieq(p->v[i].name, name))
            return p->v[i].value;
    return STR("");
}

/* ---- message ids ----------------------------------------------------------------------------- */

static struct str without_spaces(struct arena *a, struct str s)
{
    char *p = arena_alloc(a, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++)
        if (!is_space(s.p[i]) && s.p[i] != 0)
            p[n++] = s.p[i];
    return str_of(p, n);
}

/* Some mailers forget the brackets: one word with an at sign is an id all the same. */
static size_t parse_bare_msgid(struct arena *a, struct str value, struct str *out)
{
    value = str_trim(value);
    if (str_index(value, '@') <= 0 || str_index(value, ' ') >= 0 || str_index(value, '\n') >= 0 ||
        str_index(value, '>') >= 0)
        return 0;
    value = without_spaces(a, value);
    out[0] = arena_printf(a, "<%.*s>", STR_ARG(value));
    return 1;
}

size_t header_parse_msgids(struct arena *a, struct str value, struct str *out, size_t count_max)
{
    struct str text, id;
    size_t n = 0;

    if (count_max > 0 && str_index(value, '<') < 0)
        return parse_bare_msgid(a, value, out);
    while (n < count_max && str_cut(value, '>', &text, &value)) {
        ptrdiff_t at = str_rindex(text, '<');
        if (at < 0)
            continue;
        id = without_spaces(a, str_of(text.p + at, text.n - (size_t)at + 1));
        if (id.n > 2)
            out[n++] = id;
    }
    return n;
}

/* ---- base subject ---------------------------------------------------------------------------- */

static struct str collapse_spaces(struct arena *a, struct str s)
{
    char *p = arena_alloc(a, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        char c = is_space(s.p[i]) ? ' ' : s.p[i];
        if (c != ' ' || n == 0 || p[n - 1] != ' ')
            p[n++] = c;
    }
    return str_of(p, n);
}

/* subj-blob: "[" without brackets inside "]", and the blanks behind it. */
static bool take_blob(struct str *s)
{
    size_t n = 1;

    if (s->n == 0 || s->p[0] != '[')
        return false;
    while (n < s->n && s->p[n] != '[' && s->p[n] != ']')
        n++;
    if (n == s->n || s->p[n] != ']')
        return false;
    *s = str_trim(str_from(*s, n + 1));
    return true;
}

/* subj-refwd: "re", "fw" or "fwd", perhaps a blob, and a colon. */
static bool take_refwd(struct str *s)
{
    struct str rest = *s;

    if (!str_skip_prefix(&rest, STR("re")) && !str_skip_prefix(&rest, STR("fwd")) &&
        !str_skip_prefix(&rest, STR("fw")))
        return false;
    rest = skip_spaces(rest);
    take_blob(&rest);
    if (rest.n == 0 || rest.p[0] != ':')
        return false;
    *s = str_trim(str_from(rest, 1));
    return true;
}

/* subj-leader: any blobs before a refwd go with it. The blobs are gone through once: what is
 * behind them when they do not lead to a refwd is kept, so that a subject of blobs only takes
 * linear time. */
static bool take_leader(struct str *s)
{
    struct str rest = *s;

    while (take_blob(&rest))
        ;
    if (!take_refwd(&rest))
        return false;
    *s = rest;
    return true;
}

static bool take_trailer(struct str *s)
{
    if (!str_iends(*s, STR("(fwd)")))
        return false;
    *s = str_trim(str_head(*s, s->n - 5));
    return true;
}

/* Steps 2 to 5 of RFC 5256, 2.1. */
static struct str strip_subject(struct str s, bool *is_reply)
{
    struct str rest;

    while (take_trailer(&s))
        *is_reply = true;
    while (take_leader(&s))
        *is_reply = true;
    for (rest = s; take_blob(&rest) && rest.n > 0;)
        s = rest;
    return s;
}

/* Step 6: "[fwd: ... ]" around the whole. */
static bool take_forward(struct str *s)
{
    if (!str_istarts(*s, STR("[fwd:")) || !str_ends(*s, STR("]")))
        return false;
    *s = str_trim(str_of(s->p + 5, s->n - 6));
    return true;
}

struct str header_base_subject(struct arena *a, struct str decoded_subject, bool *is_reply)
{
    struct str s = str_trim(collapse_spaces(a, decoded_subject));

    *is_reply = false;
    s = strip_subject(s, is_reply);
    while (take_forward(&s)) {
        *is_reply = true;
        s = strip_subject(s, is_reply);
    }
    return s;
}
