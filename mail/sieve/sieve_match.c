/* sieve_match.c - comparing, wildcards and regular expressions.
 *
 * A pattern is segments between stars. The first stands at the start, each of the others at the
 * leftmost place behind the one before it, the last one at the end: no choice is ever taken back,
 * so the cost is at worst the size of the value times that of the pattern, and steps are limited.
 * The value is folded first; `origin` leads from a folded byte back to the character it came from.
 * A regular expression gets few steps, and what needs more is told to come again where it may
 * take long. */
#include "mail/sieve/sieve_match.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "mail/mime/text_fold.h"
#include "server/base/buf.h"
#include "server/base/utf8.h"

/* ---- order ------------------------------------------------------------------------------------ */

static int order_of_numbers(struct str value, const struct sieve_key *key)
{
    uint64_t number = 0;
    bool is_number = sieve_number(value, &number);

    if (!is_number || !key->is_number)
        return (int)key->is_number - (int)is_number; /* what is no number is above all */
    return number < key->number ? -1 : number > key->number;
}

int sieve_match_order(enum sieve_comparator comparator, struct str value_folded,
                      const struct sieve_key *key)
{
    if (comparator == SIEVE_ASCII_NUMERIC)
        return order_of_numbers(value_folded, key);
    return str_cmp(value_folded, key->folded);
}

bool sieve_match_relation(enum sieve_relation relation, int order)
{
    switch (relation) {
    case SIEVE_GT:
        return order > 0;
    case SIEVE_GE:
        return order >= 0;
    case SIEVE_LT:
        return order < 0;
    case SIEVE_LE:
        return order <= 0;
    case SIEVE_EQ:
        return order == 0;
    case SIEVE_NE:
        return order != 0;
    }
    return false;
}

/* ---- folding the value ------------------------------------------------------------------------ */

static struct str folded_value(struct sieve_value *v, enum sieve_comparator comparator,
                               struct arena *kept)
{
    struct str *form;

    if (comparator != SIEVE_ASCII_CASEMAP && comparator != SIEVE_UNICODE_CASEMAP)
        return v->text;
    form = comparator == SIEVE_ASCII_CASEMAP ? &v->lower : &v->casemap;
    if (form->p == NULL)
        *form = sieve_fold(kept, comparator, v->text);
    return *form;
}

struct glob {
    struct str value; /* as it came */
    struct str folded;
    const uint32_t
        *origin; /* of each folded byte, and of the end; NULL: byte i comes from byte i */
    struct sieve_captures *captures;
    unsigned steps;
};

/* Code point by code point, noting where each began. */
static void fold_with_origin(struct arena *a, struct glob *g)
{
    struct buf b, at;
    struct str rest = g->value;
    uint32_t here = 0, code_point;

    buf_init(&b, SIZE_MAX);
    buf_init(&at, SIZE_MAX);
    while (here = (uint32_t)(g->value.n - rest.n), utf8_next(&rest, &code_point)) {
        size_t before = b.n;
        text_fold(&b, str_of(g->value.p + here, g->value.n - rest.n - here));
        for (size_t i = before; i < b.n; i++)
            buf_add_bytes(&at, &here, sizeof here);
    }
    buf_add_bytes(&at, &here, sizeof here);
    g->folded = arena_str(a, buf_str(&b));
    g->origin = arena_copy(a, at.p, at.n);
    buf_fini(&b);
    buf_fini(&at);
}

/* ---- :matches --------------------------------------------------------------------------------- */

static bool is_char_start(const struct glob *g, size_t at)
{
    return g->origin == NULL || at == 0 || g->origin[at] != g->origin[at - 1];
}

static size_t char_end(const struct glob *g, size_t at)
{
    at++;
    while (at < g->folded.n && !is_char_start(g, at))
        at++;
    return at;
}

/* Where a folded position lies in the value; inside a character: behind it. */
static size_t origin_of(const struct glob *g, size_t at)
{
    if (g->origin == NULL)
        return at;
    if (!is_char_start(g, at))
        at = char_end(g, at);
    return g->origin[at];
}

static void capture(struct glob *g, size_t from, size_t to)
{
    struct sieve_captures *c = g->captures;
    size_t start;

    if (c->n == SIEVE_MATCH_VARIABLES_MAX)
        return;
    start = origin_of(g, from);
    c->v[c->n++] = str_head(str_from(g->value, start), origin_of(g, to) - start);
}

struct segment {
    const struct sieve_glob *globs; /* texts and single characters */
    size_t n;
};

/* The end of the segment when it stands at `at`, or -1. */
static ptrdiff_t segment_end(struct glob *g, struct segment s, size_t at)
{
    for (size_t i = 0; i < s.n; i++) {
        g->steps++;
        if (s.globs[i].kind == SIEVE_GLOB_TEXT) {
            if (!str_starts(str_from(g->folded, at), s.globs[i].text))
                return -1;
            at += s.globs[i].text.n;
        } else if (at >= g->folded.n) {
            return -1;
        } else {
            at = char_end(g, at);
        }
    }
    return (ptrdiff_t)at;
}

static void capture_segment(struct glob *g, struct segment s, size_t at)
{
    for (size_t i = 0; i < s.n; i++) {
        size_t next = s.globs[i].kind == SIEVE_GLOB_TEXT ? at + s.globs[i].text.n : char_end(g, at);
        if (s.globs[i].kind == SIEVE_GLOB_ONE)
            capture(g, at, next);
        at = next;
    }
}

/* The next place from `at` on where the segment may begin; behind the value when there is none. */
static size_t next_place(const struct glob *g, struct segment s, size_t at)
{
    ptrdiff_t found;

    if (s.n == 0 || s.globs[0].kind != SIEVE_GLOB_TEXT)
        return at;
    found = str_find(str_from(g->folded, at), s.globs[0].text);
    return found < 0 ? g->folded.n + 1 : at + (size_t)found;
}

static ptrdiff_t find_segment(struct glob *g, struct segment s, size_t at, bool at_end,
                              ptrdiff_t *end)
{
    for (at = next_place(g, s, at); at <= g->folded.n; at = next_place(g, s, at + 1)) {
        *end = segment_end(g, s, at);
        if (*end >= 0 && (!at_end || (size_t)*end == g->folded.n))
            return (ptrdiff_t)at;
        if (g->steps > SIEVE_MATCH_STEPS_MAX || at == g->folded.n)
            return -1;
    }
    return -1;
}

/* The last segment: where every character is one byte it has one size, and so one place. */
static ptrdiff_t find_last(struct glob *g, struct segment s, size_t at, ptrdiff_t *end)
{
    size_t size = 0;

    if (s.n == 0)
        return *end = (ptrdiff_t)g->folded.n;
    if (g->origin != NULL)
        return find_segment(g, s, at, true, end);
    for (size_t i = 0; i < s.n; i++)
        size += s.globs[i].kind == SIEVE_GLOB_TEXT ? s.globs[i].text.n : 1;
    if (g->folded.n - at < size)
        return -1;
    *end = segment_end(g, s, g->folded.n - size);
    return *end < 0 ? -1 : (ptrdiff_t)(g->folded.n - size);
}

/* Takes the globs up to the next star off the front; the star goes too. False: it was the last segment. */
static bool next_segment(const struct sieve_glob **globs, size_t *n, struct segment *s)
{
    bool has_star;

    *s = (struct segment){.globs = *globs};
    while (s->n < *n && s->globs[s->n].kind != SIEVE_GLOB_ANY)
        s->n++;
    has_star = s->n < *n;
    *globs += s->n + has_star;
    *n -= s->n + has_star;
    return has_star;
}

static bool match_globs(struct glob *g, const struct sieve_glob *globs, size_t n)
{
    struct segment s;
    bool has_more = next_segment(&globs, &n, &s);
    ptrdiff_t start, end = segment_end(g, s, 0);

    if (end < 0 || (!has_more && (size_t)end != g->folded.n))
        return false;
    capture_segment(g, s, 0);
    while (has_more) {
        size_t before = (size_t)end;
        has_more = next_segment(&globs, &n, &s);
        start = has_more ? find_segment(g, s, before, false, &end) : find_last(g, s, before, &end);
        if (start < 0)
            return false;
        capture(g, before, (size_t)start);
        capture_segment(g, s, (size_t)start);
    }
    return true;
}

static int match_glob(enum sieve_comparator comparator, struct sieve_value *value,
                      const struct sieve_key *key, struct sieve_match_room *room,
                      struct sieve_captures *captures)
{
    struct sieve_captures found = {.n = 1, .v[0] = value->text};
    struct glob g = {.value = value->text, .captures = &found};

    if (value->text.n >= UINT32_MAX)
        return -1;
    if (comparator == SIEVE_UNICODE_CASEMAP && !str_is_ascii(value->text) &&
        utf8_valid(value->text))
        fold_with_origin(room->scratch, &g);
    else
        g.folded = folded_value(value, comparator, room->kept);
    if (!match_globs(&g, key->globs, key->globs_count))
        return g.steps > SIEVE_MATCH_STEPS_MAX ? -1 : 0;
    if (captures != NULL)
        *captures = found;
    return 1;
}

/* ---- :regex ----------------------------------------------------------------------------------- */

#define QUICK_STEPS_MAX 5000
#define QUICK_SIZE_MAX  16384
#define HEAP_MAX_KB     8192

struct regex_run {
    const pcre2_code *code;
    struct str value;
    uint32_t steps_max;
    pcre2_match_data *data;
    int result;
};

static void run_regex(void *arg)
{
    struct regex_run *r = arg;
    pcre2_match_context *limits = pcre2_match_context_create(NULL);

    if (limits == NULL || r->data == NULL) {
        r->result = PCRE2_ERROR_NOMEMORY;
        pcre2_match_context_free(limits);
        return;
    }
    pcre2_set_match_limit(limits, r->steps_max);
    pcre2_set_depth_limit(limits, r->steps_max); /* HEAP_MAX_KB bounds what a level costs */
    pcre2_set_heap_limit(limits, HEAP_MAX_KB);
    r->result = pcre2_match(r->code, (PCRE2_SPTR)r->value.p, r->value.n, 0, 0, r->data, limits);
    pcre2_match_context_free(limits);
}

static void keep_groups(const struct regex_run *r, struct sieve_captures *captures)
{
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(r->data);
    size_t n = r->result > 0 ? (size_t)r->result : SIEVE_MATCH_VARIABLES_MAX;

    captures->n = n < SIEVE_MATCH_VARIABLES_MAX ? n : SIEVE_MATCH_VARIABLES_MAX;
    for (size_t i = 0; i < captures->n; i++)
        captures->v[i] = at[2 * i] == PCRE2_UNSET || at[2 * i] > at[2 * i + 1]
                             ? STR("")
                             : str_of(r->value.p + at[2 * i], at[2 * i + 1] - at[2 * i]);
}

static bool is_over_limit(int result)
{
    return result == PCRE2_ERROR_MATCHLIMIT || result == PCRE2_ERROR_DEPTHLIMIT ||
           result == PCRE2_ERROR_HEAPLIMIT || result == PCRE2_ERROR_NOMEMORY;
}

static int match_regex(struct str value, const struct sieve_key *key, bool may_take_long,
                       struct sieve_captures *captures)
{
    struct regex_run r = {.code = (const pcre2_code *)key->regex,
                          .value = value.p == NULL ? STR("") : value,
                          .steps_max = may_take_long ? SIEVE_REGEX_STEPS_MAX : QUICK_STEPS_MAX};
    int answer;

    if (!may_take_long && value.n > QUICK_SIZE_MAX)
        return SIEVE_MATCH_LATER;
    r.data = pcre2_match_data_create(SIEVE_MATCH_VARIABLES_MAX, NULL);
    run_regex(&r);
    if (r.result >= 0 && captures != NULL)
        keep_groups(&r, captures);
    answer = r.result >= 0 ? 1 : is_over_limit(r.result) ? -1 : 0;
    if (!may_take_long && r.result == PCRE2_ERROR_MATCHLIMIT)
        answer = SIEVE_MATCH_LATER;
    pcre2_match_data_free(r.data);
    return answer;
}

int sieve_match_value(struct sieve_match_how how, struct sieve_value *value,
                      const struct sieve_key *key, struct sieve_match_room *room,
                      struct sieve_captures *captures)
{
    switch (how.type) {
    case SIEVE_IS:
        if (how.comparator == SIEVE_ASCII_NUMERIC)
            return order_of_numbers(value->text, key) == 0;
        return str_eq(folded_value(value, how.comparator, room->kept), key->folded);
    case SIEVE_CONTAINS:
        return str_find(folded_value(value, how.comparator, room->kept), key->folded) >= 0;
    case SIEVE_MATCHES:
        return match_glob(how.comparator, value, key, room, captures);
    case SIEVE_REGEX:
        return match_regex(value->text, key, room->may_take_long, captures);
    case SIEVE_VALUE:
        return sieve_match_relation(
            how.relation, sieve_match_order(how.comparator,
                                            folded_value(value, how.comparator, room->kept), key));
    case SIEVE_COUNT_OF:
    case SIEVE_LIST:
        break;
    }
    return 0;
}
