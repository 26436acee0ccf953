/* keyword_sets.c - the sets of keywords of one mailbox, each kept once: a row holds a number
 * instead of texts. */
#include <stdlib.h>
#include "mail/store/mailbox_index_internal.h"
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/memory.h"

#define SET_TEXT_MAX ((size_t)1 << 20)
#define MANY         20000 /* a client that goes on making up sets must not fill the memory */

void keyword_sets_init(struct keyword_sets *s)
{
    *s = (struct keyword_sets){
        .by_text = map_new(), .arena = arena_new(), .many = MANY, .generation = 1};
}

void keyword_sets_fini(struct keyword_sets *s)
{
    keyword_sets_forget(s, s->generation);
    map_free(&s->by_text);
    arena_free(&s->arena);
    free(s->v);
}

static uint32_t add_set(struct keyword_sets *s, const struct str *v, size_t n)
{
    struct keywords *set = ARENA_NEW(s->arena, struct keywords);
    struct str *copies = ARENA_ARRAY(s->arena, n, struct str);

    if (s->n + 1 >= s->cap) {
        s->cap = s->cap * 2 + 8;
        s->v = memory_resize(s->v, s->cap * sizeof s->v[0]);
    }
    for (size_t i = 0; i < n; i++)
        copies[i] = arena_str(s->arena, v[i]);
    *set = (struct keywords){copies, n};
    s->v[++s->n] = set;
    return s->n;
}

uint32_t keyword_sets_intern(struct keyword_sets *s, const struct str *v, size_t n)
{
    struct buf text;
    uintptr_t number;

    if (n == 0)
        return 0;
    buf_init(&text, SET_TEXT_MAX);
    for (size_t i = 0; i < n; i++) {
        buf_add(&text, v[i]);
        buf_addc(&text, '\0');
    }
    number = (uintptr_t)map_get(s->by_text, buf_str(&text));
    if (number == 0) {
        number = add_set(s, v, n);
        map_put(s->by_text, buf_str(&text), (void *)number);
    }
    buf_fini(&text);
    return (uint32_t)number;
}

size_t keyword_sets_names(const struct keyword_sets *s, struct arena *a, struct str **out)
{
    struct map *seen = map_new();
    size_t total = 0, count = 0;

    for (uint32_t i = 1; i <= s->n; i++)
        total += s->v[i]->n;
    *out = ARENA_ARRAY(a, total, struct str);
    for (uint32_t i = 1; i <= s->n; i++)
        for (size_t k = 0; k < s->v[i]->n; k++)
            if (map_put(seen, arena_lower(a, s->v[i]->v[k]), seen) == NULL)
                (*out)[count++] = s->v[i]->v[k];
    map_free(&seen);
    return count;
}

/* ---- those no longer in use ------------------------------------------------------------------ */

static void use_of_rows(struct keyword_sets *s, const struct keyword_sets *old,
                        struct index_row *rows, size_t count)
{
    uint32_t *numbers = memory_array((size_t)old->n + 1, sizeof numbers[0]);

    for (size_t i = 0; i < count; i++) {
        uint32_t number = rows[i].keywords;
        const struct keywords *k = keyword_sets_get(old, number);

        if (k == NULL)
            continue;
        if (numbers[number] == 0)
            numbers[number] = keyword_sets_intern(s, k->v, k->n);
        rows[i].keywords = numbers[number];
    }
    free(numbers);
}

void keyword_sets_tidy(struct keyword_sets *s, struct index_row *rows, size_t count)
{
    struct keyword_sets *old;

    if (s->n <= s->many)
        return;
    old = memory_alloc(sizeof *old);
    *old = *s;
    keyword_sets_init(s);
    s->generation = old->generation + 1;
    s->replaced = old;
    use_of_rows(s, old, rows, count);
    if (s->n > MANY / 2)
        s->many = 2 * s->n;
}

void keyword_sets_forget(struct keyword_sets *s, uint32_t generation)
{
    struct keyword_sets **at = &s->replaced, *old;

    while (*at != NULL && (*at)->generation >= generation)
        at = &(*at)->replaced;
    old = *at;
    *at = NULL;
    while (old != NULL) {
        struct keyword_sets *next = old->replaced;

        old->replaced = NULL;
        keyword_sets_fini(old);
        free(old);
        old = next;
    }
}
