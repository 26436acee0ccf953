/* sieve_run_string.c - strings with variables in them, and what `set` makes of them (RFC 5229).
 *
 * A variable keeps its memory and is written over, so that a loop of sets costs nothing that lasts. */
#include "mail/sieve/sieve_run_internal.h"

#include <utf8proc.h>

#include "server/base/utf8.h"

struct str sieve_run_variable(const struct sieve_run *r, unsigned index)
{
    const struct sieve_text *t = r->frame->variables[index];

    return t == NULL || t->n == 0 ? STR("") : str_of(t->p, t->n);
}

static struct str piece_text(const struct sieve_run *r, const struct sieve_piece *p)
{
    switch (p->kind) {
    case SIEVE_PIECE_TEXT:
        return p->text;
    case SIEVE_PIECE_VARIABLE:
        return sieve_run_variable(r, p->index);
    case SIEVE_PIECE_MATCH:
        return p->index < r->frame->captures.n ? r->frame->captures.v[p->index] : STR("");
    }
    return STR("");
}

/* Not in the middle of a character. */
static struct str cut_text(struct str s, size_t size_max)
{
    if (s.n <= size_max)
        return s;
    s.n = size_max;
    while (s.n > 0 && ((unsigned char)s.p[s.n] & 0xC0) == 0x80)
        s.n--;
    return s;
}

struct str sieve_run_string(struct sieve_run *r, const struct sieve_string *s)
{
    size_t size = 0, n = 0;
    char *p;

    if (s->pieces_count == 0)
        return s->text.p != NULL ? s->text : STR("");
    for (unsigned i = 0; i < s->pieces_count && size < SIEVE_STRING_SIZE_MAX; i++)
        size += piece_text(r, &s->pieces[i]).n;
    p = arena_alloc(r->scratch, size + 1);
    for (unsigned i = 0; i < s->pieces_count && n < size; i++) {
        struct str piece = piece_text(r, &s->pieces[i]);
        if (piece.n > 0)
            memcpy(p + n, piece.p, piece.n);
        n += piece.n;
    }
    return cut_text(str_of(p, n), SIEVE_STRING_SIZE_MAX);
}

struct str *sieve_run_strings(struct sieve_run *r, const struct sieve_strings *s)
{
    struct str *v = ARENA_ARRAY(r->scratch, s->n + 1, struct str);
    size_t size = 0;

    for (unsigned i = 0; i < s->n; i++) {
        v[i] = size > SIEVE_STRING_SIZE_MAX ? STR("") : sieve_run_string(r, &s->v[i]);
        size += s->v[i].pieces_count > 0 ? v[i].n : 0;
    }
    return v;
}

/* ---- modifiers (RFC 5229, 4.1) ---------------------------------------------------------------- */

static struct str change_case(struct arena *a, struct str s, bool to_upper, bool first_only)
{
    struct buf b;
    struct str out;
    uint32_t c;

    buf_init(&b, SIZE_MAX);
    for (bool is_first = true; utf8_next(&s, &c); is_first = false) {
        if (is_first || !first_only)
            c = (uint32_t)(to_upper ? utf8proc_toupper((utf8proc_int32_t)c)
                                    : utf8proc_tolower((utf8proc_int32_t)c));
        utf8_add(&b, c);
    }
    out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

static struct str quote(struct arena *a, struct str s, const char *special)
{
    char *p = arena_alloc(a, 2 * s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '\0' && strchr(special, s.p[i]) != NULL)
            p[n++] = '\\';
        p[n++] = s.p[i];
    }
    return str_of(p, n);
}

/* RFC 5435, 6: what is not unreserved in a URI (RFC 3986, 2.3). */
static struct str encode_url(struct arena *a, struct str s)
{
    static const char digits[] = "0123456789ABCDEF";
    char *p = arena_alloc(a, 3 * s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool is_letter = (ascii_lower((char)c) >= 'a' && ascii_lower((char)c) <= 'z');
        if (is_letter || (c >= '0' && c <= '9') || (c != 0 && strchr("-._~", c) != NULL)) {
            p[n++] = (char)c;
        } else {
            p[n++] = '%';
            p[n++] = digits[c >> 4];
            p[n++] = digits[c & 15];
        }
    }
    return str_of(p, n);
}

static size_t count_chars(struct str s)
{
    uint32_t c;
    size_t n = 0;

    while (utf8_next(&s, &c))
        n++;
    return n;
}

static struct str apply(struct arena *a, struct str s, unsigned modifiers)
{
    if (modifiers & (SIEVE_LOWER | SIEVE_UPPER))
        s = change_case(a, s, (modifiers & SIEVE_UPPER) != 0, false);
    if (modifiers & (SIEVE_LOWERFIRST | SIEVE_UPPERFIRST))
        s = change_case(a, s, (modifiers & SIEVE_UPPERFIRST) != 0, true);
    if (modifiers & SIEVE_QUOTEWILDCARD)
        s = quote(a, s, "*?\\");
    if (modifiers & SIEVE_QUOTEREGEX)
        s = quote(a, s, "\\^$.[]|()?*+{}");
    if (modifiers & SIEVE_ENCODEURL)
        s = encode_url(a, s);
    if (modifiers & SIEVE_LENGTH)
        s = arena_printf(a, "%zu", count_chars(s));
    return s;
}

/* ---- set -------------------------------------------------------------------------------------- */

static struct sieve_text *global_text(struct sieve_run *r, struct str name)
{
    for (unsigned i = 0; i < r->globals_count; i++)
        if (str_eq(r->globals[i]->name, name))
            return &r->globals[i]->text;
    if (r->globals_count == SIEVE_GLOBALS_MAX)
        return NULL;
    r->globals[r->globals_count] = ARENA_NEW(r->kept, struct sieve_global);
    r->globals[r->globals_count]->name = arena_str(r->kept, name);
    return &r->globals[r->globals_count++]->text;
}

static void write_over(struct arena *a, struct sieve_text *t, struct str value)
{
    if (value.n > t->room) {
        t->room = 2 * value.n < SIEVE_VARIABLE_SIZE_MAX ? 2 * value.n : SIEVE_VARIABLE_SIZE_MAX;
        t->p = arena_alloc(a, t->room);
    }
    if (value.n > 0)
        memcpy(t->p, value.p, value.n);
    t->n = value.n;
}

void sieve_run_set(struct sieve_run *r, unsigned index, struct str value, unsigned modifiers)
{
    struct sieve_text *t = r->frame->variables[index];

    /* Each modifier may only lengthen what fits a variable. */
    value = apply(r->scratch, cut_text(value, SIEVE_STRING_SIZE_MAX), modifiers);
    value = cut_text(value, SIEVE_VARIABLE_SIZE_MAX);
    if (t != NULL)
        write_over(r->kept, t, value);
}

/* ---- match variables -------------------------------------------------------------------------- */

void sieve_run_keep_captures(struct sieve_run *r, const struct sieve_captures *c)
{
    struct sieve_frame *f = r->frame;
    size_t at = 0;

    if ((f->enabled & SIEVE_EXT(VARIABLES)) == 0)
        return;
    /* The values may themselves hold what is captured now, so they are copied before anything is written over. */
    struct str copies[SIEVE_MATCH_VARIABLES_MAX];
    for (size_t i = 0; i < c->n; i++)
        copies[i] = cut_text(c->v[i], SIEVE_VARIABLE_SIZE_MAX);
    struct buf next;
    buf_init(&next, SIZE_MAX);
    for (size_t i = 0; i < c->n; i++)
        buf_add(&next, copies[i]);
    buf_fini(&f->captured);
    f->captured = next;
    f->captures.n = c->n;
    for (size_t i = 0; i < c->n; at += copies[i].n, i++)
        f->captures.v[i] = copies[i].n > 0 ? str_of(next.p + at, copies[i].n) : STR("");
}

/* ---- frames ----------------------------------------------------------------------------------- */

struct sieve_frame *sieve_frame_new(struct sieve_run *r, const struct sieve_program *program,
                                    struct str included)
{
    struct sieve_frame *f = ARENA_NEW(r->kept, struct sieve_frame);

    f->program = program;
    f->included = included;
    f->variables = ARENA_ARRAY(r->kept, program->variables_count + 1, struct sieve_text *);
    f->fields = ARENA_ARRAY(r->kept, program->names_count + 1, struct sieve_fields *);
    f->enabled = program->required;
    buf_init(&f->captured, SIZE_MAX);
    for (unsigned i = 0; i < program->variables_count; i++)
        f->variables[i] = program->variables[i].is_global
                              ? global_text(r, program->variables[i].name)
                              : ARENA_NEW(r->kept, struct sieve_text);
    return f;
}
