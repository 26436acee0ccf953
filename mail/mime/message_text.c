/* message_text.c - walks the parts once and gathers what people could look for. */
#include "mail/mime/message_text.h"

#include "mail/mime/body.h"
#include "mail/mime/header.h"
#include "mail/mime/html_text.h"
#include "mail/mime/text_fold.h"

void message_text_init(struct message_text *t)
{
    buf_init(&t->header, MESSAGE_TEXT_SIZE_MAX);
    buf_init(&t->parts, MESSAGE_TEXT_SIZE_MAX);
    buf_init(&t->body, MESSAGE_TEXT_SIZE_MAX);
}

void message_text_fini(struct message_text *t)
{
    buf_fini(&t->header);
    buf_fini(&t->parts);
    buf_fini(&t->body);
}

#define PARAMS_MAX 50 /* of one field; each is sought in the whole of it */

/* ---- fields ---------------------------------------------------------------------------------- */

static bool has_params(struct str name)
{
    return str_ieq(name, STR("Content-Type")) || str_ieq(name, STR("Content-Disposition"));
}

/* Parameters that are written in another way than they read: "filename*0*=utf-8''..." */
static void add_params(struct buf *out, struct arena *a, struct str value)
{
    struct header_params params;

    header_parse_params(a, value, &params);
    for (size_t i = 0; i < params.n && i < PARAMS_MAX; i++) {
        if (str_find(value, params.v[i].value) >= 0)
            continue;
        buf_adds(out, "; ");
        text_fold(out, params.v[i].name);
        buf_addc(out, '=');
        text_fold(out, params.v[i].value);
    }
}

static void add_fields(struct buf *out, struct str header)
{
    struct arena *a = arena_new();
    struct header_field field;

    while (header_next(&header, &field)) {
        if (field.name.n == 0)
            continue;
        text_fold(out, field.name);
        buf_adds(out, ": ");
        text_fold(out, header_decode_text(a, field.value));
        if (has_params(field.name))
            add_params(out, a, field.value);
        buf_addc(out, '\n');
        arena_reset(a);
    }
    arena_free(&a);
}

/* ---- parts ----------------------------------------------------------------------------------- */

static void add_html(struct buf *out, struct str html)
{
    struct buf text;

    buf_init(&text, SIZE_MAX);
    html_text(&text, html);
    text_fold(out, buf_str(&text));
    buf_fini(&text);
}

static void add_body(struct buf *out, const struct mime_part *part, struct str message)
{
    struct buf text;

    buf_init(&text, SIZE_MAX);
    mime_part_text(&text, part, message);
    if (str_eq(part->subtype, STR("html")))
        add_html(out, buf_str(&text));
    else
        text_fold(out, buf_str(&text));
    buf_addc(out, '\n');
    buf_fini(&text);
}

static void add_part(struct message_text *t, const struct mime_part *part, struct str message)
{
    bool is_enclosed_message = part->parent != NULL && part->parent->is_message;
    struct buf *fields = part->parent == NULL  ? &t->header
                         : is_enclosed_message ? &t->body
                                               : &t->parts;

    add_fields(fields, mime_part_header(part, message));
    if (!part->is_multipart && !part->is_message && str_eq(part->type, STR("text")))
        add_body(&t->body, part, message);
}

void message_text_extract(struct message_text *t, const struct mime_part *root, struct str message)
{
    for (const struct mime_part *part = root; part != NULL; part = mime_part_next(part))
        add_part(t, part, message);
}

/* ---- looking into fields --------------------------------------------------------------------- */

static bool is_field(struct str line, struct str name)
{
    return str_starts(line, name) && str_starts(str_from(line, name.n), STR(": "));
}

bool header_text_contains(struct str lines, struct str name, struct str text)
{
    struct str line;

    if (str_index(name, ':') >= 0)
        return false; /* or a piece of a value would count as name */
    while (lines.n > 0) {
        str_cut(lines, '\n', &line, &lines);
        if (!is_field(line, name))
            continue;
        line = str_from(line, name.n + 2);
        if (text.n == 0 || (line.n > 0 && memmem(line.p, line.n, text.p, text.n) != NULL))
            return true;
    }
    return false;
}
