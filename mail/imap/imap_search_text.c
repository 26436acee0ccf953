/* imap_search_text.c - texts in headers and bodies.
 *
 * Both sides are folded (mail/mime/text_fold.h), so a text is there or not, byte for byte. What a
 * message's text is, and its three parts, is defined by mail/mime/message_text.h alone. */
#include "mail/imap/imap_search_text.h"

#include "mail/mime/header.h"
#include "mail/mime/message_text.h"
#include "mail/mime/text_fold.h"
#include "mail/store/text_fuzzy.h"

struct search_text {
    struct str header, parts, body;
    bool is_cut;
};

static bool contains(struct str text, struct str needle)
{
    return needle.n == 0 || (text.n > 0 && memmem(text.p, text.n, needle.p, needle.n) != NULL);
}

static bool uses_cached_header(const struct search_key *key)
{
    return key->kind == KEY_HEADER && message_header_is_cached(key->name);
}

unsigned search_text_columns(const struct search_key *key)
{
    return uses_cached_header(key) ? MESSAGE_HEADERS : MESSAGE_TEXT;
}

/* ---- what is at hand --------------------------------------------------------------------------- */

static struct str taken(struct arena *a, const struct buf *text)
{
    return arena_str(a, buf_str(text));
}

/* Decoded once per message, however many keys ask. */
static void decode_message(struct search_subject *subject)
{
    struct message_text text;
    struct str blob = subject->message->blob;

    if (subject->text != NULL)
        return;
    message_text_init(&text);
    message_text_extract(&text, mime_parse(subject->a, blob), blob);
    subject->text = ARENA_NEW(subject->a, struct search_text);
    *subject->text = (struct search_text){.header = taken(subject->a, &text.header),
                                          .parts = taken(subject->a, &text.parts),
                                          .body = taken(subject->a, &text.body)};
    message_text_fini(&text);
}

static bool find_text(struct search_subject *subject, struct search_text *out)
{
    const struct message *m = subject->message;

    if (subject->columns & MESSAGE_BLOB) {
        decode_message(subject);
        *out = *subject->text;
        return true;
    }
    if (!(subject->columns & MESSAGE_TEXT) || m->text_header.p == NULL)
        return false;
    *out = (struct search_text){m->text_header, m->text_parts, m->text_body, m->text_is_cut};
    return true;
}

/* ---- exactly ----------------------------------------------------------------------------------- */

/* Header fields are lines of their own: no text goes over the end of one. */
static bool is_in_fields(struct str fields, struct str text)
{
    return contains(fields, text) && (text.n == 0 || memchr(text.p, '\n', text.n) == NULL);
}

static bool is_in_text(const struct search_key *key, const struct search_text *t)
{
    if (key->kind == KEY_HEADER)
        return header_text_contains(t->header, key->name, key->text);
    if (contains(t->body, key->text))
        return true;
    return key->kind == KEY_TEXT &&
           (is_in_fields(t->header, key->text) || is_in_fields(t->parts, key->text));
}

static struct str folded_value(struct arena *a, const struct header_field *field)
{
    return text_fold_arena(a, header_decode_text(a, field->value));
}

static bool is_in_header(const struct search_key *key, struct search_subject *subject)
{
    struct str header = subject->message->headers;
    struct header_field field;

    while (header_next(&header, &field))
        if (str_ieq(field.name, key->name) &&
            (key->text.n == 0 || contains(folded_value(subject->scratch, &field), key->text)))
            return true;
    return false;
}

/* ---- nearly ------------------------------------------------------------------------------------ */

/* The values of the key's field, one a line. */
static struct str field_values(struct arena *a, struct str lines, struct str name)
{
    struct str line, prefix = arena_printf(a, "%.*s: ", STR_ARG(name)), values;
    struct buf out;

    buf_init(&out, SIZE_MAX);
    while (lines.n > 0) {
        str_cut(lines, '\n', &line, &lines);
        if (!str_skip_prefix(&line, prefix))
            continue;
        buf_add(&out, line);
        buf_addc(&out, '\n');
    }
    values = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return values;
}

static struct str cached_values(const struct search_key *key, struct search_subject *subject)
{
    struct str header = subject->message->headers, values;
    struct header_field field;
    struct buf out;

    buf_init(&out, SIZE_MAX);
    while (header_next(&header, &field))
        if (str_ieq(field.name, key->name)) {
            buf_add(&out, folded_value(subject->scratch, &field));
            buf_addc(&out, '\n');
        }
    values = arena_str(subject->scratch, buf_str(&out));
    buf_fini(&out);
    return values;
}

/* The score of the message is that of its worst key. */
static bool take_score(struct search_subject *subject, unsigned score)
{
    if (score > 0 && (subject->score == 0 || score < subject->score))
        subject->score = score;
    return score > 0;
}

static bool is_near_header(const struct search_key *key, struct search_subject *subject)
{
    struct str values = cached_values(key, subject);

    return take_score(subject, fuzzy_score(subject->scratch, key->fuzzy, &values, 1));
}

static bool is_near_text(const struct search_key *key, const struct search_text *t,
                         struct search_subject *subject)
{
    struct str texts[] = {t->header, t->parts, t->body};
    struct str values;

    switch (key->kind) {
    case KEY_HEADER:
        values = field_values(subject->scratch, t->header, key->name);
        return take_score(subject, fuzzy_score(subject->scratch, key->fuzzy, &values, 1));
    case KEY_BODY:
        return take_score(subject, fuzzy_score(subject->scratch, key->fuzzy, &t->body, 1));
    default:
        return take_score(subject, fuzzy_score(subject->scratch, key->fuzzy, texts, 3));
    }
}

/* ---- the answer -------------------------------------------------------------------------------- */

static bool holds_header(const struct search_key *key, struct search_subject *subject)
{
    return key->fuzzy != NULL ? is_near_header(key, subject) : is_in_header(key, subject);
}

static bool holds_text(const struct search_key *key, const struct search_text *t,
                       struct search_subject *subject)
{
    return key->fuzzy != NULL ? is_near_text(key, t, subject) : is_in_text(key, t);
}

static enum search_answer find(const struct search_key *key, struct search_subject *subject)
{
    struct search_text t;

    if (uses_cached_header(key) && (subject->columns & MESSAGE_HEADERS) &&
        subject->message->headers.p != NULL)
        return holds_header(key, subject) ? SEARCH_YES : SEARCH_NO;
    if (!find_text(subject, &t))
        return SEARCH_OPEN;
    if (holds_text(key, &t, subject))
        return SEARCH_YES;
    return t.is_cut ? SEARCH_OPEN : SEARCH_NO;
}

enum search_answer search_text_matches(const struct search_key *key, struct search_subject *subject)
{
    enum search_answer answer = find(key, subject);

    if (subject->scratch != NULL)
        arena_reset(subject->scratch);
    return answer;
}
