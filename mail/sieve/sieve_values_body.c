/* sieve_values_body.c - what body tests look at (RFC 5173), and the text of one part for extracttext.
 *
 * A body is decoded once for all tests that ask for the same of it. A large one is decoded on a
 * helper thread, into memory that belongs to the run. */
#include "mail/sieve/sieve_run_internal.h"

#include "mail/mime/body.h"
#include "mail/mime/html_text.h"
#include "server/base/utf8.h"
#include "server/run/offload.h"

struct extraction {
    struct arena *arena;
    struct str message;
    const struct mime_part *root;
    bool is_content;
    const struct str *types;
    size_t types_count;
    struct sieve_value *v;
    size_t n, room;
    size_t size; /* bytes so far */
};

static void add(struct extraction *e, struct str text)
{
    if (e->n == e->room) {
        struct sieve_value *old = e->v;
        e->room = e->room == 0 ? 8 : 2 * e->room;
        e->v = ARENA_ARRAY(e->arena, e->room, struct sieve_value);
        if (e->n > 0)
            memcpy(e->v, old, e->n * sizeof *old);
    }
    e->v[e->n++] = (struct sieve_value){.text = arena_str(e->arena, text)};
    e->size += text.n;
}

static struct mime_part bounded(const struct mime_part *part, size_t size_max)
{
    struct mime_part p = *part;

    if (p.body_size > size_max)
        p.body_size = size_max;
    return p;
}

/* ---- :content --------------------------------------------------------------------------------- */

static bool type_matches(struct str wanted, const struct mime_part *part)
{
    struct str type, subtype;

    if (str_empty(wanted))
        return true;
    if (!str_cut(wanted, '/', &type, &subtype))
        return str_ieq(type, part->type);
    return !str_empty(type) && str_ieq(type, part->type) && str_ieq(subtype, part->subtype);
}

static bool is_wanted(const struct extraction *e, const struct mime_part *part)
{
    for (size_t i = 0; i < e->types_count; i++)
        if (type_matches(e->types[i], part))
            return true;
    return false;
}

/* What stands before the first and behind the last delimiter; a delimiter begins a line. */
static void add_around_parts(struct extraction *e, const struct mime_part *part)
{
    struct mime_part p = bounded(part, SIEVE_BODY_SIZE_MAX);
    struct str body = mime_part_body(&p, e->message);
    const struct mime_part *last = part->first_child;
    ptrdiff_t at;

    if (last == NULL) {
        add(e, body);
        return;
    }
    add(e, str_head(body, (size_t)(last->header_at - part->body_at)));
    while (last->next != NULL)
        last = last->next;
    body = str_from(mime_part_body(part, e->message),
                    (size_t)(last->body_at + last->body_size - part->body_at));
    at = str_find(body, arena_printf(e->arena, "--%.*s--", STR_ARG(part->boundary)));
    if (at >= 0)
        add(e, str_head(str_from(body, (size_t)at + part->boundary.n + 4), SIEVE_BODY_SIZE_MAX));
}

static void add_content(struct extraction *e, const struct mime_part *part)
{
    struct mime_part p = bounded(part, SIEVE_BODY_SIZE_MAX);
    struct buf b;

    if (part->is_multipart) {
        add_around_parts(e, part);
        return;
    }
    if (part->is_message) {
        if (part->first_child != NULL)
            add(e, mime_part_header(part->first_child, e->message));
        return;
    }
    buf_init(&b, SIZE_MAX);
    if (str_eq(part->type, STR("text")))
        mime_part_text(&b, &p, e->message);
    else
        mime_decode(&b, p.encoding, mime_part_body(&p, e->message));
    add(e, buf_str(&b));
    buf_fini(&b);
}

/* ---- :text ------------------------------------------------------------------------------------ */

static void add_text(struct extraction *e, const struct mime_part *part)
{
    struct mime_part p = bounded(part, SIEVE_BODY_SIZE_MAX);
    struct buf text, plain;

    buf_init(&text, SIZE_MAX);
    buf_init(&plain, SIZE_MAX);
    mime_part_text(&text, &p, e->message);
    if (str_eq(part->subtype, STR("html")))
        html_text(&plain, buf_str(&text));
    add(e, str_eq(part->subtype, STR("html")) ? buf_str(&plain) : buf_str(&text));
    buf_fini(&text);
    buf_fini(&plain);
}

static void extract(void *arg)
{
    struct extraction *e = arg;

    for (const struct mime_part *p = e->root; p != NULL && e->size < SIEVE_BODY_SIZE_MAX;
         p = mime_part_next(p)) {
        if (e->is_content && is_wanted(e, p))
            add_content(e, p);
        else if (!e->is_content && !p->is_multipart && str_eq(p->type, STR("text")))
            add_text(e, p);
    }
}

/* ---- kept for the next test ------------------------------------------------------------------- */

static struct str key_of(struct sieve_run *r, const struct str *types, size_t n, bool is_content)
{
    struct buf b;
    struct str key;

    buf_init(&b, SIZE_MAX);
    buf_adds(&b, is_content ? "content" : "text");
    for (size_t i = 0; i < n; i++) {
        buf_addc(&b, '\n');
        buf_add(&b, types[i]);
    }
    key = arena_str(r->scratch, buf_str(&b));
    buf_fini(&b);
    return key;
}

static struct sieve_body_text *find_text(struct sieve_run *r, struct str key)
{
    struct sieve_body_text *t = r->bodies;

    while (t != NULL && (t->version != r->message.body_version || !str_eq(t->key, key)))
        t = t->next;
    return t;
}

static struct sieve_body_text *make_text(struct sieve_run *r, struct str key, struct extraction *e)
{
    struct sieve_body_text *t = ARENA_NEW(r->kept, struct sieve_body_text);

    if (r->message.base.n > SIEVE_HELPER_SIZE_MIN && fiber_self() != NULL)
        offload(extract, e);
    else
        extract(e);
    *t = (struct sieve_body_text){r->bodies, arena_str(r->kept, key), e->v, e->n,
                                  r->message.body_version};
    return r->bodies = t;
}

static int add_raw(struct sieve_run *r, struct sieve_values *out)
{
    struct sieve_message *m = &r->message;
    struct str body =
        m->is_readable ? m->edit.body : mime_part_body(sieve_message_root(m), m->base);

    sieve_values_add_text(r, out, str_head(body, SIEVE_BODY_SIZE_MAX));
    return 0;
}

PARKS int sieve_body_values(struct sieve_run *r, const struct sieve_test *t,
                            struct sieve_values *out)
{
    struct extraction e = {.arena = r->kept,
                           .is_content = t->u.body.transform == SIEVE_BODY_CONTENT};
    struct sieve_body_text *text;
    struct str key;

    if (t->u.body.transform == SIEVE_BODY_RAW)
        return add_raw(r, out);
    e.root = sieve_message_root(&r->message);
    e.message = r->message.base;
    if (e.is_content) {
        e.types = sieve_run_strings(r, &t->u.body.types);
        e.types_count = t->u.body.types.n;
    }
    key = key_of(r, e.types, e.types_count, e.is_content);
    text = find_text(r, key);
    if (text == NULL && sieve_run_step(r, t->line, 1 + e.message.n / 1024) < 0)
        return -1;
    if (text == NULL)
        text = make_text(r, key, &e);
    for (size_t i = 0; i < text->n; i++)
        sieve_values_add(r, out, &text->v[i]);
    return 0;
}

/* ---- extracttext ------------------------------------------------------------------------------ */

static struct str first_chars(struct str text, uint64_t chars_max)
{
    struct str rest = text;
    uint32_t c;

    while (chars_max > 0 && utf8_next(&rest, &c))
        chars_max--;
    return str_head(text, text.n - rest.n);
}

PARKS struct str sieve_part_text(struct sieve_run *r, const struct mime_part *part,
                                 uint64_t chars_max)
{
    /* Base64 and multibyte charsets need no more than this for what a variable can hold. */
    struct mime_part p = bounded(part, (size_t)16 * SIEVE_VARIABLE_SIZE_MAX);
    struct str text;
    struct buf b;

    if (!str_eq(p.type, STR("text")) || p.encoding == MIME_ENCODING_UNKNOWN)
        return STR("");
    buf_init(&b, SIZE_MAX);
    mime_part_text(&b, &p, r->message.base);
    text = first_chars(arena_str(r->scratch, buf_str(&b)), chars_max);
    buf_fini(&b);
    return text;
}
