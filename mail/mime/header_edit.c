/* header_edit.c - a header as an array of fields that are taken out, put in and written again.
 *
 * Fields that nobody touched are slices of the message. What is put in is cleaned here, at the one place where a value
 * could otherwise become a second field or the end of the header. */
#include "mail/mime/header_edit.h"

#include "server/base/encode.h"

#define LINE_SIZE      76
#define WORD_BYTES_MAX 45 /* of text in an encoded word: 75 characters (RFC 2047, 2) */
#define WORD_BYTES_MIN 9

/* ---- reading ----------------------------------------------------------------------------------------- */

/* The first line of a mailbox file, which some programs pipe along. */
static bool is_mbox_line(struct str line)
{
    return str_starts(line, STR("From ")) || str_starts(line, STR(">From "));
}

static void take_field(struct header_edit *e, const struct header_field *field)
{
    if (e->count == e->room) {
        struct header_field *old = e->fields;
        e->room = e->room == 0 ? 32 : e->room * 2;
        e->fields = ARENA_ARRAY(e->arena, e->room, struct header_field);
        if (e->count > 0)
            memcpy(e->fields, old, e->count * sizeof *old);
    }
    e->fields[e->count++] = *field;
}

/* Fields up to what is none; returns what is left. */
static struct str take_fields(struct header_edit *e, struct str rest)
{
    struct header_field field;
    struct str before = rest;

    while (e->count <= HEADER_EDIT_FIELDS_MAX && header_next(&rest, &field)) {
        if (!str_empty(field.name))
            take_field(e, &field);
        else if (e->count == 0 && is_mbox_line(field.whole))
            e->is_changed = true;
        else
            return before;
        before = rest;
    }
    return rest;
}

static bool skip_empty_line(struct str *rest)
{
    return str_skip_prefix(rest, STR("\r\n")) || str_skip_prefix(rest, STR("\n"));
}

int header_edit_open(struct header_edit *e, struct arena *a, struct str message, struct error *err)
{
    struct str rest;
    size_t size;

    *e = (struct header_edit){.arena = a};
    rest = take_fields(e, str_head(message, HEADER_EDIT_SIZE_MAX + 1));
    size = str_head(message, HEADER_EDIT_SIZE_MAX + 1).n - rest.n;
    if (size > HEADER_EDIT_SIZE_MAX)
        return fail(err, ERR_TOO_BIG, "the header is larger than %d bytes", HEADER_EDIT_SIZE_MAX);
    if (e->count > HEADER_EDIT_FIELDS_MAX)
        return fail(err, ERR_TOO_BIG, "the header has more than %d fields", HEADER_EDIT_FIELDS_MAX);
    e->body = str_from(message, size);
    e->had_empty_line = skip_empty_line(&e->body);
    e->block = str_head(message, message.n - e->body.n);
    return 0;
}

/* ---- finding ------------------------------------------------------------------------------------------- */

size_t header_edit_count(const struct header_edit *e, struct str name)
{
    size_t n = 0;

    for (size_t i = 0; i < e->count; i++)
        n += str_ieq(e->fields[i].name, name);
    return n;
}

/* e->count: there is none. */
static size_t find_index(const struct header_edit *e, struct str name, size_t nth)
{
    size_t last = e->count, seen = 0;

    for (size_t i = 0; i < e->count; i++) {
        if (!str_ieq(e->fields[i].name, name))
            continue;
        last = i;
        if (++seen == nth)
            return i;
    }
    return nth == 0 ? last : e->count;
}

const struct header_field *header_edit_find(const struct header_edit *e, struct str name,
                                            size_t nth)
{
    size_t i = find_index(e, name, nth);

    return i < e->count ? &e->fields[i] : NULL;
}

/* ---- changing ------------------------------------------------------------------------------------------ */

size_t header_edit_remove_if(struct header_edit *e,
                             bool (*is_unwanted)(void *arg, const struct header_field *f),
                             void *arg)
{
    size_t kept = 0, removed;

    for (size_t i = 0; i < e->count; i++)
        if (!is_unwanted(arg, &e->fields[i]))
            e->fields[kept++] = e->fields[i];
    removed = e->count - kept;
    e->count = kept;
    e->is_changed = e->is_changed || removed > 0;
    return removed;
}

static bool has_name(void *arg, const struct header_field *f)
{
    return str_ieq(f->name, *(const struct str *)arg);
}

size_t header_edit_remove(struct header_edit *e, struct str name)
{
    return header_edit_remove_if(e, has_name, &name);
}

bool header_edit_remove_nth(struct header_edit *e, struct str name, size_t nth)
{
    size_t i = find_index(e, name, nth);

    if (i == e->count)
        return false;
    e->count--;
    memmove(e->fields + i, e->fields + i + 1, (e->count - i) * sizeof *e->fields);
    e->is_changed = true;
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Only a line end with a blank behind it may stay: it folds. */
static struct str clean_value(struct arena *a, struct str value)
{
    char *p = arena_alloc(a, 2 * value.n + 1);
    size_t n = 0;

    value = str_trim(value);
    for (size_t i = 0; i < value.n; i++) {
        char c = value.p[i];
        if (c == '\r' && i + 1 < value.n && value.p[i + 1] == '\n')
            continue;
        if (c == '\n' && i + 1 < value.n && is_blank(value.p[i + 1])) {
            p[n++] = '\r';
            p[n++] = '\n';
        } else {
            p[n++] = c == '\r' || c == '\n' || c == '\0' ? ' ' : c;
        }
    }
    return str_of(p, n);
}

static struct str clean_name(struct arena *a, struct str name)
{
    char *p = arena_alloc(a, name.n + 1);

    for (size_t i = 0; i < name.n; i++)
        p[i] = name.p[i] > ' ' && name.p[i] < 127 && name.p[i] != ':' ? name.p[i] : '-';
    return name.n > 0 ? str_of(p, name.n) : STR("X-Unnamed");
}

static struct header_field make_field(struct arena *a, struct str name, struct str value)
{
    struct header_field f = {.name = clean_name(a, name)};

    value = clean_value(a, value);
    f.whole = arena_printf(a, "%.*s: %.*s\r\n", STR_ARG(f.name), STR_ARG(value));
    f.value = str_of(f.whole.p + f.name.n + 1, f.whole.n - f.name.n - 3);
    return f;
}

void header_edit_insert(struct header_edit *e, size_t index, struct str name, struct str value)
{
    struct header_field field = make_field(e->arena, name, value);

    if (index > e->count)
        index = e->count;
    take_field(e, &field);
    memmove(e->fields + index + 1, e->fields + index, (e->count - 1 - index) * sizeof *e->fields);
    e->fields[index] = field;
    e->is_changed = true;
}

void header_edit_append(struct header_edit *e, struct str name, struct str value)
{
    header_edit_insert(e, e->count, name, value);
}

bool header_edit_replace(struct header_edit *e, struct str name, size_t nth, struct str value)
{
    size_t i = find_index(e, name, nth);

    if (i == e->count)
        return false;
    e->fields[i] = make_field(e->arena, e->fields[i].name, value);
    e->is_changed = true;
    return true;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

struct str header_edit_header(const struct header_edit *e)
{
    size_t size = 2;
    char *p;
    size_t n = 0;

    if (!e->is_changed && e->had_empty_line)
        return e->block;
    for (size_t i = 0; i < e->count; i++)
        size += e->fields[i].whole.n + 2;
    p = arena_alloc(e->arena, size);
    for (size_t i = 0; i < e->count; i++) {
        struct str whole = e->fields[i].whole;
        memcpy(p + n, whole.p, whole.n);
        n += whole.n;
        if (p[n - 1] != '\n') {
            n -= p[n - 1] == '\r';
            memcpy(p + n, "\r\n", 2);
            n += 2;
        }
    }
    memcpy(p + n, "\r\n", 2);
    return str_of(p, n + 2);
}

/* ---- encoded text ---------------------------------------------------------------------------------------- */

static bool needs_encoding(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < ' ' || s.p[i] == 127 || (s.p[i] == '=' && i + 1 < s.n && s.p[i + 1] == '?'))
            return true;
    return false;
}

/* Broken before a blank, where a line would be too long. */
static void add_folded(struct buf *out, size_t column, struct str s)
{
    while (s.n > 0) {
        size_t n = 1;
        while (n < s.n && s.p[n] != ' ')
            n++;
        if (s.p[0] == ' ' && n > 1 && column + n > LINE_SIZE) {
            buf_adds(out, "\r\n");
            column = 0;
        }
        buf_add(out, str_head(s, n));
        column += n;
        s = str_from(s, n);
    }
}

/* No character is cut in two: each word must stand by itself. */
static size_t word_size(struct str s, size_t size_max)
{
    size_t n = s.n < size_max ? s.n : size_max;

    while (n > 1 && n < s.n && ((unsigned char)s.p[n] & 0xC0) == 0x80)
        n--;
    return n;
}

static void add_encoded(struct buf *out, size_t column, struct str s)
{
    size_t room = column + 12 < LINE_SIZE ? (LINE_SIZE - column - 12) / 4 * 3 : 0;
    size_t size_max = room > WORD_BYTES_MAX   ? WORD_BYTES_MAX
                      : room < WORD_BYTES_MIN ? WORD_BYTES_MIN
                                              : room;

    for (const char *gap = ""; s.n > 0; gap = "\r\n ", size_max = WORD_BYTES_MAX) {
        size_t n = word_size(s, size_max);
        buf_adds(out, gap);
        buf_adds(out, "=?UTF-8?B?");
        base64_encode(out, str_head(s, n));
        buf_adds(out, "?=");
        s = str_from(s, n);
    }
}

struct str header_encode_text(struct arena *a, size_t name_size, struct str utf8)
{
    struct buf out;
    struct str text;

    utf8 = str_trim(utf8);
    buf_init(&out, 8 * utf8.n + 256);
    if (needs_encoding(utf8))
        add_encoded(&out, name_size + 2, utf8);
    else
        add_folded(&out, name_size + 2, utf8);
    text = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return text;
}

struct str header_encode_phrase(struct arena *a, struct str utf8)
{
    struct buf out;
    struct str text;

    utf8 = str_trim(utf8);
    if (needs_encoding(utf8))
        return header_encode_text(a, 0, utf8);
    buf_init(&out, 2 * utf8.n + 2);
    buf_addc(&out, '"');
    for (size_t i = 0; i < utf8.n; i++) {
        if (utf8.p[i] == '"' || utf8.p[i] == '\\')
            buf_addc(&out, '\\');
        buf_addc(&out, utf8.p[i]);
    }
    buf_addc(&out, '"');
    text = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return text;
}
