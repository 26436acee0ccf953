/* fuzz_dmarc_record.c - any text may stand at _dmarc: what is read keeps the rules that the rest relies on. */
#include <stdio.h>
#include <stdlib.h>
#include "mail/authentic/dmarc_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool is_true, const char *claim)
{
    if (is_true)
        return;
    fprintf(stderr, "not so: %s\n", claim);
    abort();
}

static void check_addresses(const struct str *v, size_t count)
{
    expect(count <= DMARC_URIS_MAX, "addresses are limited");
    for (size_t i = 0; i < count; i++) {
        expect(str_index(v[i], '@') >= 0, "an address has an @");
        for (size_t k = 0; k < v[i].n; k++)
            expect((unsigned char)v[i].p[k] > ' ' && v[i].p[k] != 127, "no address ends a line");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct dmarc_record r;

    if (dmarc_record_parse(a, str_of((const char *)data, size), &r)) {
        check_addresses(r.rua, r.rua_count);
        check_addresses(r.ruf, r.ruf_count);
        expect(r.has_sp || r.sp == r.p, "sp follows p");
        expect(r.has_np || r.np == r.sp, "np follows sp");
        expect(r.problem.n == 0 || r.rua_count == 0, "who names an address is not in error");
        expect(dmarc_policy_name(r.np) != NULL, "policies have names");
        expect(r.fo.n > 0, "fo is never empty");
    }
    arena_free(&a);
    return 0;
}
