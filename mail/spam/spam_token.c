/* spam_token.c - gathers the features of a message, source by source: header, parts, texts.
 *
 * Each source has its share of the room, so that neither a header of a thousand fields nor a page
 * of word salad can keep the others from being seen. */
#include "mail/spam/spam_token.h"

#include <stdarg.h>
#include <stdlib.h>

#include "mail/mime/body.h"
#include "mail/mime/html_text.h"
#include "mail/spam/spam_token_internal.h"
#include "server/base/encode.h"

#define SEEN_SLOTS      16384 /* twice SPAM_FEATURES_MAX */
#define DOMAIN_SIZE_MAX 100
#define DOMAIN_LABELS   5
#define FORM_SIZE_MAX   40
#define HEADER_SHARE    700
#define PARTS_SHARE     300
#define MARKUP_SHARE    1000
#define ENCODED_SIZE_MAX                                                                           \
    (SPAM_TEXT_SIZE_MAX * 2) /* base64 and quoted-printable are longer than the text */

/* ---- the set --------------------------------------------------------------------------------- */

static uint32_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= UINT64_C(0x9E3779B97F4A7C15);
    h ^= h >> 29;
    h *= UINT64_C(0xBF58476D1CE4E5B9);
    h ^= h >> 32;
    return (uint32_t)h != 0 ? (uint32_t)h : 1;
}

static bool is_new(struct spam_sink *s, uint32_t hash)
{
    size_t at = hash % SEEN_SLOTS;

    while (s->seen[at] != 0 && s->seen[at] != hash)
        at = (at + 1) % SEEN_SLOTS;
    if (s->seen[at] == hash)
        return false;
    s->seen[at] = hash;
    return true;
}

static void add(struct spam_sink *s, const struct spam_feature *feature)
{
    if (s->out->n >= s->count_max) {
        s->out->is_cut = true;
        return;
    }
    if (is_new(s, feature->hash))
        s->out->v[s->out->n++] = *feature;
}

void spam_add(struct spam_sink *s, enum spam_feature_kind kind, struct str text)
{
    struct spam_feature f = {.kind = (uint8_t)kind, .text = text};

    f.hash = mix(fnv1a_64(text) + kind * UINT64_C(0xD6E8FEB86659FD93));
    add(s, &f);
}

void spam_addf(struct spam_sink *s, enum spam_feature_kind kind, const char *format, ...)
{
    struct str text;
    va_list ap;

    va_start(ap, format);
    text = arena_vprintf(s->arena, format, ap);
    va_end(ap);
    spam_add(s, kind, text);
}

void spam_add_pair(struct spam_sink *s, enum spam_feature_kind kind, struct str first,
                   struct str second, unsigned gap)
{
    struct spam_feature f = {
        .kind = (uint8_t)kind, .gap = (uint8_t)gap, .text = first, .second = second};
    uint64_t h = fnv1a_64(first) * 31 + fnv1a_64(second) * 1000003 + gap;

    f.hash = mix(h + (kind + SPAM_KIND_COUNT) * UINT64_C(0xD6E8FEB86659FD93));
    add(s, &f);
}

void spam_add_domain(struct spam_sink *s, enum spam_feature_kind kind, const char *what,
                     struct str domain)
{
    struct str rest = spam_lower(s, domain, DOMAIN_SIZE_MAX), label;
    bool has_more = rest.n > 0;

    for (unsigned depth = 0; has_more && depth < DOMAIN_LABELS; depth++) {
        spam_addf(s, kind, "%s %.*s", what, STR_ARG(rest));
        has_more = str_cut(rest, '.', &label, &rest) && rest.n > 0;
    }
}

/* ---- forms ----------------------------------------------------------------------------------- */

static char class_of(char c)
{
    return c >= '0' && c <= '9' ? '9' : c >= 'a' && c <= 'z' ? 'a' : c >= 'A' && c <= 'Z' ? 'A' : c;
}

struct str spam_form(struct arena *a, struct str text)
{
    char *p = arena_alloc(a, FORM_SIZE_MAX + 1);
    size_t n = 0;

    for (size_t i = 0; i < text.n && n < FORM_SIZE_MAX; i++) {
        char c = class_of(text.p[i]);
        if (n == 0 || p[n - 1] != c)
            p[n++] = c;
    }
    return str_of(p, n);
}

struct str spam_without_digits(struct arena *a, struct str text)
{
    char *p = arena_alloc(a, text.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < text.n; i++)
        if (class_of(text.p[i]) != '9')
            p[n++] = ascii_lower(text.p[i]);
    return str_of(p, n);
}

struct str spam_lower(struct spam_sink *s, struct str text, size_t size_max)
{
    return arena_lower(s->arena, str_head(text, size_max));
}

/* A second level of up to three letters under a country belongs to the ending. */
struct str spam_family(struct str domain)
{
    struct str head, last, second;

    if (!str_rcut(domain, '.', &head, &last) || !str_rcut(head, '.', &head, &second))
        return domain;
    if (last.n == 2 && second.n <= 3)
        str_rcut(head, '.', &head, &second);
    return str_from(domain, (size_t)(second.p - domain.p));
}

unsigned spam_step(size_t count)
{
    unsigned step = 0;

    while (count > 0) {
        step++;
        count >>= 1;
    }
    return step;
}

/* ---- parts ----------------------------------------------------------------------------------- */

/* The beginning of a text part, decoded. Only so much of it is read. */
static void read_text(struct buf *out, const struct mime_part *part, struct str message, size_t max)
{
    struct mime_part beginning = *part;

    if (beginning.body_size > ENCODED_SIZE_MAX)
        beginning.body_size = ENCODED_SIZE_MAX;
    mime_part_text(out, &beginning, message);
    if (out->n > max)
        buf_truncate(out, max);
}

struct texts {
    struct buf plain, html, visible; /* of the part at hand, emptied for each */
    size_t left;                     /* of SPAM_TEXT_TOTAL_MAX */
    size_t plain_size, html_size;    /* of all */
};

static void add_html_part(struct spam_sink *s, struct texts *t, const struct mime_part *part,
                          struct str message)
{
    read_text(&t->html, part, message, t->left < SPAM_TEXT_SIZE_MAX ? t->left : SPAM_TEXT_SIZE_MAX);
    t->left -= t->html.n < t->left ? t->html.n : t->left;
    spam_add_html(s, &t->visible, buf_str(&t->html));
    html_text(&t->plain, buf_str(&t->visible));
    t->html_size += t->plain.n;
    s->count_max = SPAM_FEATURES_MAX;
    spam_add_words(s, SPAM_WORD, buf_str(&t->plain));
}

static void add_plain_part(struct spam_sink *s, struct texts *t, const struct mime_part *part,
                           struct str message)
{
    read_text(&t->plain, part, message,
              t->left < SPAM_TEXT_SIZE_MAX ? t->left : SPAM_TEXT_SIZE_MAX);
    t->left -= t->plain.n < t->left ? t->plain.n : t->left;
    t->plain_size += t->plain.n;
    spam_add_links(s, buf_str(&t->plain));
    s->count_max = SPAM_FEATURES_MAX;
    spam_add_words(s, SPAM_WORD, buf_str(&t->plain));
}

static void add_text_part(struct spam_sink *s, struct texts *t, const struct mime_part *part,
                          struct str message)
{
    buf_clear(&t->plain);
    buf_clear(&t->html);
    buf_clear(&t->visible);
    s->count_max = s->out->n + MARKUP_SHARE;
    if (s->count_max > SPAM_FEATURES_MAX)
        s->count_max = SPAM_FEATURES_MAX;
    if (str_eq(part->subtype, STR("html")))
        add_html_part(s, t, part, message);
    else
        add_plain_part(s, t, part, message);
}

static void add_parts(struct spam_sink *s, const struct mime_part *root, struct str message)
{
    size_t count = 0;

    for (const struct mime_part *p = root; p != NULL && count < SPAM_PARTS_MAX;
         p = mime_part_next(p), count++)
        spam_add_part(s, p, message);
    spam_addf(s, SPAM_STRUCTURE, "parts in step %u", spam_step(count));
}

static const char *link_mix(const struct spam_facts *f)
{
    if (f->links_own + f->links_foreign == 0)
        return "no links";
    if (f->links_own == 0)
        return "links to others only";
    if (f->links_foreign == 0)
        return "links to the sender's domain only";
    return f->links_own > f->links_foreign ? "links to the sender's domain mostly"
                                           : "links to others mostly";
}

static void add_proportions(struct spam_sink *s, const struct texts *t)
{
    const char *form = t->html_size == 0   ? "plain text"
                       : t->plain_size > 0 ? "both forms"
                                           : "HTML alone";

    spam_addf(s, SPAM_STRUCTURE, "text of size %u", spam_step(t->plain_size / 64));
    spam_addf(s, SPAM_STRUCTURE, "HTML text of size %u", spam_step(t->html_size / 64));
    spam_addf(s, SPAM_STRUCTURE, "%s", form);
    spam_addf(s, SPAM_LINK, "%s", link_mix(&s->facts));
    spam_addf(s, SPAM_LINK, "%s in %s", link_mix(&s->facts), form);
}

static void add_texts(struct spam_sink *s, const struct mime_part *root, struct str message)
{
    struct texts t = {.left = SPAM_TEXT_TOTAL_MAX};
    size_t count = 0;

    buf_init(&t.plain, SIZE_MAX);
    buf_init(&t.html, SIZE_MAX);
    buf_init(&t.visible, SIZE_MAX);
    for (const struct mime_part *p = root; p != NULL && count < SPAM_PARTS_MAX && t.left > 0;
         p = mime_part_next(p), count++)
        if (!p->is_multipart && !p->is_message && str_eq(p->type, STR("text")))
            add_text_part(s, &t, p, message);
    add_proportions(s, &t);
    buf_fini(&t.plain);
    buf_fini(&t.html);
    buf_fini(&t.visible);
}

void spam_features(struct arena *a, const struct mime_part *root, struct str message,
                   struct spam_features *out)
{
    struct spam_sink s = {.arena = a, .out = out, .count_max = HEADER_SHARE};

    *out = (struct spam_features){.v = ARENA_ARRAY(a, SPAM_FEATURES_MAX, struct spam_feature)};
    s.seen = ARENA_ARRAY(a, SEEN_SLOTS, uint32_t);
    spam_add_header(&s, mime_part_header(root, message));
    s.count_max = HEADER_SHARE + PARTS_SHARE;
    add_parts(&s, root, message);
    add_texts(&s, root, message);
}

/* ---- in words -------------------------------------------------------------------------------- */

static const struct {
    const char *words;
    unsigned group;
} kinds[SPAM_KIND_COUNT] = {
    [SPAM_WORD] = {"the text says", 0},
    [SPAM_PAIR] = {"the text says", 0},
    [SPAM_SUBJECT] = {"the subject says", 1},
    [SPAM_SENDER] = {"the sender:", 1},
    [SPAM_HEADER] = {"the header:", 2},
    [SPAM_STRUCTURE] = {"the message has", 2},
    [SPAM_LINK] = {"a link", 3},
    [SPAM_MARKUP] = {"the layout has", 3},
    [SPAM_ROUTE] = {"the way here:", 4},
    [SPAM_LETTERS] = {"letters of the text:", 5},
};

unsigned spam_feature_group(enum spam_feature_kind kind)
{
    return kinds[kind].group;
}

struct str spam_feature_text(struct arena *a, const struct spam_feature *f)
{
    bool is_quoted = f->kind == SPAM_WORD || f->kind == SPAM_SUBJECT || f->kind == SPAM_LETTERS;

    if (f->second.n > 0)
        return arena_printf(a, "%s \"%.*s\" before \"%.*s\"", kinds[f->kind].words,
                            STR_ARG(f->text), STR_ARG(f->second));
    return arena_printf(a, is_quoted ? "%s \"%.*s\"" : "%s %.*s", kinds[f->kind].words,
                        STR_ARG(f->text));
}
