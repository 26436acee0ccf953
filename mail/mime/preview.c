/* preview.c - choosing the part, choosing the lines, choosing the characters.
 *
 * Only so much of a part is decoded as 200 characters can need; of HTML that is much, for style
 * sheets stand first. */
#include "mail/mime/preview.h"

#include "mail/mime/body.h"
#include "mail/mime/header.h"
#include "mail/mime/html_text.h"
#include "server/base/utf8.h"

#define PARTS_TRIED_MAX 4
#define PLAIN_SIZE_MAX  (16 * 1024) /* encoded */
#define HTML_SIZE_MAX   (256 * 1024)

struct preview {
    struct buf *out;
    size_t count; /* characters in out */
    bool wants_space;
};

/* ---- characters ------------------------------------------------------------------------------ */

static bool is_blank(uint32_t c)
{
    return c <= ' ' || (c >= 0x7F && c <= 0xA0) || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* What newsletters pad their first line with, and controls of direction. */
static bool is_invisible(uint32_t c)
{
    return c == 0xAD || c == 0x34F || c == 0x61C || c == 0x115F || c == 0x1160 || c == 0x17B4 ||
           c == 0x17B5 || c == 0x180E || (c >= 0x200B && c <= 0x200F) ||
           (c >= 0x202A && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) || c == 0x2800 ||
           c == 0x3164 || c == 0xFEFF || c == 0xFFA0 || (c >= 0xFFF0 && c <= 0xFFFC);
}

static bool is_full(const struct preview *p)
{
    return p->count >= PREVIEW_CHARS_MAX;
}

static void add_char(struct preview *p, uint32_t c)
{
    if (is_invisible(c))
        return;
    if (is_blank(c)) {
        p->wants_space = p->count > 0;
        return;
    }
    if (p->wants_space) {
        buf_addc(p->out, ' ');
        p->count++;
        p->wants_space = false;
    }
    if (is_full(p))
        return;
    utf8_add(p->out, c);
    p->count++;
}

static void add_line(struct preview *p, struct str line)
{
    uint32_t c;

    while (!is_full(p) && utf8_next(&line, &c))
        add_char(p, c);
    p->wants_space = p->count > 0;
}

/* ---- lines ----------------------------------------------------------------------------------- */

static struct str next_line(struct str *rest)
{
    struct str line;

    str_cut(*rest, '\n', &line, rest);
    return line;
}

static bool is_quoted(struct str line)
{
    return str_starts(str_trim(line), STR(">"));
}

/* "On Monday, Ani wrote:" and a quoted line, with an empty one between them perhaps. */
static bool introduces_quotation(struct str line, struct str rest)
{
    if (!str_ends(str_trim(line), STR(":")))
        return false;
    do {
        line = next_line(&rest);
    } while (rest.n > 0 && str_trim(line).n == 0);
    return is_quoted(line);
}

/* The same in two lines. */
static bool begins_introduction(struct str line, struct str rest)
{
    static const char *const beginnings[] = {"On ", "Am ", "Le ", "El ",
                                             "Il ", "Op ", "Em ", "Pada "};
    struct str next = next_line(&rest);

    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++)
        if (str_starts(line, str_c(beginnings[i])))
            return introduces_quotation(next, rest);
    return false;
}

/* Rows of dashes and stars say nothing. */
static bool has_words(struct str line)
{
    for (size_t i = 0; i < line.n; i++) {
        char c = ascii_lower(line.p[i]);
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (unsigned char)c > 127)
            return true;
    }
    return false;
}

/* The signature, or an older message below as Outlook quotes it. */
static bool ends_text(struct str line)
{
    return str_eq(line, STR("-- ")) ||
           (str_starts(line, STR("-----")) && str_ifind(line, STR("original message")) >= 0);
}

static void add_own_lines(struct preview *p, struct str text)
{
    while (text.n > 0 && !is_full(p)) {
        struct str line = next_line(&text);
        if (ends_text(line))
            return;
        if (has_words(line) && !is_quoted(line) && !introduces_quotation(line, text) &&
            !begins_introduction(line, text))
            add_line(p, line);
    }
}

static void add_all_lines(struct preview *p, struct str text)
{
    while (text.n > 0 && !is_full(p))
        add_line(p, next_line(&text));
}

static void add_lines(struct preview *p, struct str text)
{
    add_own_lines(p, text);
    if (p->count == 0)
        add_all_lines(p, text);
}

/* ---- parts ----------------------------------------------------------------------------------- */

static bool is_html(const struct mime_part *part)
{
    return str_eq(part->subtype, STR("html"));
}

static bool is_attachment(const struct mime_part *part, struct str message)
{
    struct header_field field;

    return header_find(mime_part_header(part, message), STR("Content-Disposition"), &field) &&
           str_istarts(str_trim(field.value), STR("attachment"));
}

static bool is_readable(const struct mime_part *part, struct str message)
{
    return part->first_child == NULL && str_eq(part->type, STR("text")) &&
           (is_html(part) || str_eq(part->subtype, STR("plain"))) && part->body_size > 0 &&
           !is_attachment(part, message);
}

/* The title is not shown by mail programs. */
static struct str behind_head(struct str html)
{
    static const char *const marks[] = {"<body", "</head>", "</title>"};

    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        ptrdiff_t at = str_ifind(html, str_c(marks[i]));
        if (at >= 0)
            return str_from(html, (size_t)at);
    }
    return html;
}

/* Where mail programs put what is answered. */
static struct str before_quotation(struct str html)
{
    static const char *const marks[] = {"<blockquote", "<div class=\"gmail_quote",
                                        "<div id=\"appendonsend\"", "<div id=\"divRplyFwdMsg\"",
                                        "<div class=\"moz-cite-prefix\""};

    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        ptrdiff_t at = str_ifind(html, str_c(marks[i]));
        if (at >= 0)
            html = str_head(html, (size_t)at);
    }
    return html;
}

static void add_html(struct preview *p, struct str html)
{
    struct buf text;

    html = behind_head(html);
    buf_init(&text, SIZE_MAX);
    html_text(&text, before_quotation(html));
    add_lines(p, buf_str(&text));
    if (p->count == 0) {
        buf_clear(&text);
        html_text(&text, html);
        add_lines(p, buf_str(&text));
    }
    buf_fini(&text);
}

/* A character at the end of a piece may have been cut through. */
static void drop_broken_end(struct preview *p)
{
    if (!is_full(p) && str_ends(buf_str(p->out), STR("\xEF\xBF\xBD")))
        buf_truncate(p->out, p->out->n - 3);
}

static void add_part(struct preview *p, const struct mime_part *part, struct str message)
{
    size_t size_max = is_html(part) ? HTML_SIZE_MAX : PLAIN_SIZE_MAX;
    struct mime_part piece = *part;
    struct buf text;

    if (piece.body_size > size_max)
        piece.body_size = size_max;
    buf_init(&text, SIZE_MAX);
    mime_part_text(&text, &piece, message);
    if (is_html(part))
        add_html(p, buf_str(&text));
    else
        add_lines(p, buf_str(&text));
    buf_fini(&text);
    if (piece.body_size < part->body_size)
        drop_broken_end(p);
}

void mime_preview(struct buf *out, const struct mime_part *root, struct str message)
{
    struct preview p = {.out = out};
    unsigned tried = 0;

    for (const struct mime_part *part = root;
         part != NULL && p.count == 0 && tried < PARTS_TRIED_MAX; part = mime_part_next(part))
        if (is_readable(part, message)) {
            add_part(&p, part, message);
            tried++;
        }
}
