/* sieve_edit.c - fields added and deleted, parts replaced, the message enclosed.
 *
 * A change of the header touches only `edit`; a change of a part makes a new `base` of three
 * pieces and moves the body of `edit` to it. What concerns the whole message is written out first
 * and opened again. New text is plain text in UTF-8 that any path can carry. */
#include "mail/sieve/sieve_edit.h"

#include "mail/mime/body_encode.h"
#include "server/base/date.h"
#include "server/base/encode.h"

#define BOUNDARY_SIZE 24
#define HEADER_ROOM   4096 /* what even the smallest copy costs */

/* ---- reading ---------------------------------------------------------------------------------- */

/* A line that is no field ends the header for editing; who reads the message sees what stands behind it, and so do tests. */
static void read_behind_lines(struct sieve_message *m)
{
    struct str rest = str_head(m->base, HEADER_EDIT_SIZE_MAX);
    struct header_field field;
    size_t n = 0;

    m->fields = m->edit.fields;
    m->fields_count = m->edit.count;
    if (m->edit.had_empty_line || (m->is_readable && str_empty(m->edit.body)))
        return;
    m->fields = ARENA_ARRAY(m->arena, HEADER_EDIT_FIELDS_MAX, struct header_field);
    while (n < HEADER_EDIT_FIELDS_MAX && header_next(&rest, &field))
        if (!str_empty(field.name))
            m->fields[n++] = field;
    m->fields_count = n;
}

static void open_base(struct sieve_message *m, struct str message)
{
    m->base = message;
    m->is_readable = header_edit_open(&m->edit, m->arena, message, NULL) == 0;
    read_behind_lines(m);
    m->root = NULL;
    m->written = message;
    m->header_version++;
    m->body_version++;
}

void sieve_message_init(struct sieve_message *m, struct arena *a, struct str message)
{
    *m = (struct sieve_message){.arena = a};
    open_base(m, message);
}

const struct header_field *sieve_message_fields(const struct sieve_message *m, size_t *count)
{
    *count = m->fields_count;
    return m->fields;
}

struct mime_part *sieve_message_root(struct sieve_message *m)
{
    if (m->root == NULL)
        m->root = mime_parse(m->arena, m->base);
    return m->root;
}

/* ---- writing ---------------------------------------------------------------------------------- */

static struct str join(struct arena *a, struct str x, struct str y, struct str z)
{
    char *p = arena_alloc(a, x.n + y.n + z.n + 1);
    size_t n = 0;

    for (const struct str *s = (const struct str[]){x, y, z, STR_NULL}; s->p != NULL;
         n += s->n, s++)
        if (s->n > 0)
            memcpy(p + n, s->p, s->n);
    return str_of(p, n);
}

static struct str put_together(struct sieve_message *m)
{
    return join(m->arena, header_edit_header(&m->edit), str_from(m->edit.body, 0), STR(""));
}

static int count_copy(struct sieve_message *m, struct error *err)
{
    m->copied += m->base.n + HEADER_ROOM;
    if (m->copied > SIEVE_COPIED_MAX + m->base.n)
        return fail(err, ERR_LIMIT, "the script makes too many different forms of the message");
    return 0;
}

int sieve_message_write(struct sieve_message *m, struct str *out, struct error *err)
{
    if (m->written.p == NULL) {
        if (count_copy(m, err) < 0)
            return -1;
        m->written = put_together(m);
    }
    *out = m->written;
    return 0;
}

int sieve_message_write_unenclosed(struct sieve_message *m, struct str *out, struct error *err)
{
    if (!m->is_enclosed)
        return sieve_message_write(m, out, err);
    *out = m->unenclosed;
    return 0;
}

static int count_edit(struct sieve_message *m, struct error *err)
{
    if (!m->is_readable)
        return fail(err, ERR_TOO_BIG, "the header of the message is too big to be edited");
    if (++m->edits > SIEVE_EDITS_MAX)
        return fail(err, ERR_LIMIT, "the script changes the message more than %d times",
                    SIEVE_EDITS_MAX);
    return 0;
}

static void mark_header_changed(struct sieve_message *m)
{
    m->is_edited = true;
    m->written = STR_NULL;
    m->header_version++;
    m->fields = m->edit.fields;
    m->fields_count = m->edit.count;
}

/* ---- editheader ------------------------------------------------------------------------------- */

static bool is_one_of(struct str name, const char *const *names)
{
    for (; *names != NULL; names++)
        if (str_ieq(name, str_c(*names)))
            return true;
    return false;
}

/* What tells where a message has been, and what replace adds, is no script's to write. */
bool sieve_header_may_add(struct str name)
{
    static const char *const names[] = {"Received",         "Return-Path",   "Delivered-To",
                                        "Original-Subject", "Original-From", NULL};

    return !is_one_of(name, names);
}

bool sieve_header_may_delete(const struct sieve_message *m, struct str name)
{
    static const char *const names[] = {"Received", "Auto-Submitted", "Return-Path", "Delivered-To",
                                        NULL};

    if (m->has_original_subject && str_ieq(name, STR("Original-Subject")))
        return false;
    if (m->has_original_from && str_ieq(name, STR("Original-From")))
        return false;
    return !is_one_of(name, names);
}

int sieve_message_add_field(struct sieve_message *m, struct str name, struct str value, bool at_end,
                            struct error *err)
{
    if (count_edit(m, err) < 0)
        return -1;
    value = header_encode_text(m->arena, name.n, value);
    if (m->edit.count >= HEADER_EDIT_FIELDS_MAX)
        return fail(err, ERR_LIMIT, "the header has %d fields and takes no more",
                    HEADER_EDIT_FIELDS_MAX);
    header_edit_insert(&m->edit, at_end ? m->edit.count : 0, name, value);
    mark_header_changed(m);
    return 0;
}

struct deletion {
    const struct header_field *first;
    const bool *goes;
};

/* Fields are visited in their places, before any of them moves up. */
static bool goes(void *arg, const struct header_field *f)
{
    const struct deletion *d = arg;

    return d->goes[f - d->first];
}

void sieve_message_delete_fields(struct sieve_message *m, const bool *marked)
{
    struct deletion d = {m->edit.fields, marked};

    if (m->is_readable && m->fields == m->edit.fields &&
        header_edit_remove_if(&m->edit, goes, &d) > 0)
        mark_header_changed(m);
}

/* ---- new text --------------------------------------------------------------------------------- */

static void add_crlf_text(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\n' && (i == 0 || text.p[i - 1] != '\r'))
            buf_addc(out, '\r');
        buf_addc(out, text.p[i]);
    }
    if (text.n > 0 && text.p[text.n - 1] != '\n')
        buf_adds(out, "\r\n");
}

/* A part of plain text with its MIME fields, or the entity as it was given. */
static void add_entity(struct buf *out, const struct sieve_new_text *t)
{
    struct buf text;

    if (t->is_mime) {
        add_crlf_text(out, t->text);
        return;
    }
    buf_init(&text, SIZE_MAX);
    add_crlf_text(&text, t->text);
    buf_adds(out, "Content-Type: text/plain; charset=utf-8\r\n");
    if (mime_is_7bit(buf_str(&text))) {
        buf_adds(out, "\r\n");
        buf_add(out, buf_str(&text));
    } else {
        buf_adds(out, "Content-Transfer-Encoding: quoted-printable\r\n\r\n");
        mime_encode_quoted_printable(out, buf_str(&text));
    }
    buf_fini(&text);
}

static void add_text_field(struct sieve_message *m, struct buf *out, const char *name,
                           struct str text)
{
    struct str value = header_encode_text(m->arena, strlen(name), text);

    buf_addf(out, "%s: %.*s\r\n", name, STR_ARG(value));
}

static struct str take_buf(struct sieve_message *m, struct buf *b)
{
    struct str s = arena_str(m->arena, buf_str(b));

    buf_fini(b);
    return s;
}

/* ---- replace ---------------------------------------------------------------------------------- */

static bool is_mime_field(void *arg, const struct header_field *f)
{
    return str_istarts(f->name, STR("Content-")) || str_ieq(f->name, STR("MIME-Version"));
}

/* The field's old value stays behind under another name (RFC 5703, 5). */
static void replace_field(struct sieve_message *m, struct str name, struct str original_name,
                          struct str value)
{
    const struct header_field *old = header_edit_find(&m->edit, name, 1);

    if (old != NULL)
        header_edit_append(&m->edit, original_name, str_trim(old->value));
    header_edit_remove(&m->edit, name);
    header_edit_append(&m->edit, name, value);
}

static void replace_names(struct sieve_message *m, const struct sieve_new_text *t)
{
    if (t->subject.p != NULL && !t->is_mime) {
        replace_field(m, STR("Subject"), STR("Original-Subject"),
                      header_encode_text(m->arena, 7, t->subject));
        m->has_original_subject = true;
    }
    if (t->from.p != NULL && !t->is_mime) {
        replace_field(m, STR("From"), STR("Original-From"), t->from);
        m->has_original_from = true;
    }
}

/* The old header without its MIME fields, then the new entity. */
static void replace_whole(struct sieve_message *m, const struct sieve_new_text *t)
{
    struct buf b;

    header_edit_remove_if(&m->edit, is_mime_field, NULL);
    replace_names(m, t);
    buf_init(&b, SIZE_MAX);
    for (size_t i = 0; i < m->edit.count; i++) {
        buf_add(&b, m->edit.fields[i].whole);
        if (!str_ends(m->edit.fields[i].whole, STR("\n")))
            buf_adds(&b, "\r\n");
    }
    buf_adds(&b, "MIME-Version: 1.0\r\n");
    add_entity(&b, t);
    open_base(m, take_buf(m, &b));
}

static void replace_part(struct sieve_message *m, const struct mime_part *part,
                         const struct sieve_new_text *t)
{
    size_t body_at = m->base.n - m->edit.body.n;
    size_t end = part->body_at + part->body_size;
    struct str entity;
    struct buf b;

    buf_init(&b, SIZE_MAX);
    add_entity(&b, t);
    if (b.n >= 2 && end < m->base.n) /* the line end before a delimiter belongs to that */
        buf_truncate(&b, b.n - 2);
    entity = take_buf(m, &b);
    m->base = join(m->arena, str_head(m->base, part->header_at), entity, str_from(m->base, end));
    m->edit.body = str_from(m->base, body_at);
    m->root = NULL;
    m->body_version++;
}

int sieve_message_replace(struct sieve_message *m, const struct mime_part *part,
                          const struct sieve_new_text *t, struct error *err)
{
    if (count_edit(m, err) < 0 || count_copy(m, err) < 0)
        return -1;
    if (part->parent == NULL)
        replace_whole(m, t);
    else if (part->header_at >= m->base.n - m->edit.body.n)
        replace_part(m, part, t);
    mark_header_changed(m);
    return 0;
}

/* ---- enclose ---------------------------------------------------------------------------------- */

static bool is_taken_along(const struct sieve_new_text *t, struct str name)
{
    for (size_t i = 0; i < t->headers_count; i++)
        if (str_ieq(t->headers[i], name))
            return true;
    return false;
}

static void add_taken_fields(struct sieve_message *m, struct buf *b, const struct sieve_new_text *t)
{
    for (size_t i = 0; i < m->edit.count; i++) {
        const struct header_field *f = &m->edit.fields[i];
        if (is_mime_field(NULL, f) || !is_taken_along(t, f->name))
            continue;
        if (t->subject.p != NULL && str_ieq(f->name, STR("Subject")))
            continue;
        buf_add(b, f->whole);
        if (!str_ends(f->whole, STR("\n")))
            buf_adds(b, "\r\n");
    }
}

static void add_subject(struct sieve_message *m, struct buf *b, const struct sieve_new_text *t)
{
    const struct header_field *old = header_edit_find(&m->edit, STR("Subject"), 1);

    if (t->subject.p != NULL)
        add_text_field(m, b, "Subject", t->subject);
    else if (old != NULL && !is_taken_along(t, STR("Subject")))
        buf_add(b, old->whole);
}

static void add_header(struct sieve_message *m, struct buf *b, const struct sieve_new_text *t,
                       struct str from, int64_t now_s)
{
    add_taken_fields(m, b, t);
    if (!is_taken_along(t, STR("From")))
        buf_addf(b, "From: <%.*s>\r\n", STR_ARG(from));
    if (!is_taken_along(t, STR("Date"))) {
        buf_adds(b, "Date: ");
        date_add_rfc5322(b, now_s, 0);
        buf_adds(b, "\r\n");
    }
    add_subject(m, b, t);
}

static void add_body(struct buf *b, const struct sieve_new_text *t, struct str original)
{
    char boundary[BOUNDARY_SIZE + 1];
    const char *encoding = mime_is_7bit(original) ? "7bit" : "8bit";

    random_text(boundary, BOUNDARY_SIZE);
    buf_addf(b, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_%s\"\r\n",
             boundary);
    buf_addf(b, "Content-Transfer-Encoding: %s\r\n\r\n--=_%s\r\n", encoding, boundary);
    add_entity(b, t);
    buf_addf(b, "\r\n--=_%s\r\nContent-Type: message/rfc822\r\n", boundary);
    buf_addf(b, "Content-Transfer-Encoding: %s\r\n\r\n", encoding);
    buf_add(b, original);
    buf_addf(b, "\r\n--=_%s--\r\n", boundary);
}

int sieve_message_enclose(struct sieve_message *m, const struct sieve_new_text *t, struct str from,
                          int64_t now_s, struct error *err)
{
    struct str original;
    struct buf b;

    if (count_edit(m, err) < 0 || count_copy(m, err) < 0 ||
        sieve_message_write(m, &original, err) < 0)
        return -1;
    if (!m->is_enclosed)
        m->unenclosed = original;
    m->is_enclosed = true;
    buf_init(&b, SIZE_MAX);
    add_header(m, &b, t, from, now_s);
    add_body(&b, t, original);
    open_base(m, take_buf(m, &b));
    m->is_edited = true;
    return 0;
}
