/* fuzz_sieve_match.c - values and patterns from outside: :matches agrees with a plain search for all ways, what the wildcards
 * stood for puts the value together again, and nothing takes for ever. */
#include <assert.h>

#include "mail/sieve/sieve_match.h"

#define PLAIN_SIZE_MAX 24 /* the plain matcher tries every way */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool plain_match(const char *p, size_t np, const char *v, size_t nv)
{
    if (np == 0)
        return nv == 0;
    if (*p == '*')
        return plain_match(p + 1, np - 1, v, nv) || (nv > 0 && plain_match(p, np, v + 1, nv - 1));
    if (nv == 0)
        return false;
    if (*p == '?')
        return plain_match(p + 1, np - 1, v + 1, nv - 1);
    if (*p == '\\' && np > 1)
        return p[1] == *v && plain_match(p + 2, np - 2, v + 1, nv - 1);
    return *p == *v && plain_match(p + 1, np - 1, v + 1, nv - 1);
}

static void check_captures(struct str value, const struct sieve_captures *c)
{
    const char *at = value.p;

    assert(c->n >= 1 && c->n <= SIEVE_MATCH_VARIABLES_MAX);
    for (size_t i = 0; i < c->n; i++) {
        assert(c->v[i].n == 0 ||
               (c->v[i].p >= value.p && c->v[i].p + c->v[i].n <= value.p + value.n));
        if (i > 0 && c->v[i].n > 0) {
            assert(c->v[i].p >= at); /* from left to right, none over another */
            at = c->v[i].p + c->v[i].n;
        }
    }
}

static int match(struct arena *a, struct sieve_match_how how, struct str value, struct str pattern,
                 struct sieve_captures *c)
{
    struct sieve_match_room room = {a, a, true};
    struct sieve_value v = {.text = value};
    struct sieve_key key;
    struct str why;

    if (sieve_key_prepare(a, how, pattern, &key, &why) < 0)
        return 0;
    return sieve_match_value(how, &v, &key, &room, c);
}

static size_t count_stars(struct str pattern)
{
    size_t n = 0;

    for (size_t i = 0; i < pattern.n; i++)
        n += pattern.p[i] == '*';
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str all = str_of((const char *)data, size), pattern, value;
    struct arena *a = arena_new();

    str_cut(all, '\n', &pattern, &value);
    pattern = arena_str(a, pattern);
    value = arena_str(a, value);
    for (int comparator = SIEVE_ASCII_CASEMAP; comparator <= SIEVE_UNICODE_CASEMAP; comparator++)
        for (int type = SIEVE_IS; type <= SIEVE_VALUE; type++) {
            struct sieve_match_how how = {comparator, type, SIEVE_LE};
            struct sieve_captures c = {0};
            int answer;
            if (comparator == SIEVE_ASCII_NUMERIC && type != SIEVE_IS && type != SIEVE_VALUE)
                continue;
            answer = match(a, how, value, pattern, &c);
            if (answer == 1 && type == SIEVE_MATCHES)
                check_captures(value, &c);
            if (comparator == SIEVE_OCTET && type == SIEVE_MATCHES && value.n <= PLAIN_SIZE_MAX &&
                count_stars(pattern) < 6)
                assert(answer == plain_match(pattern.p, pattern.n, value.p, value.n));
        }
    arena_free(&a);
    return 0;
}
