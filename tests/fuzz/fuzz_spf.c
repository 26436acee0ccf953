/* fuzz_spf.c - SPF records and macros: what is accepted lies inside the record and expands within the limit.
 *
 * The input is a record, a line feed, and an explanation. */
#include <assert.h>

#include "mail/authentic/spf_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct spf_macros macros = {
    .sender = STR("strong-bad@email.example.com"),
    .local = STR("strong-bad"),
    .sender_domain = STR("email.example.com"),
    .domain = STR("email.example.com"),
    .helo = STR("JUMPIN' JUPITER"),
    .receiver = STR("us.example.org"),
    .validated_name = STR("unknown"),
    .address = {0x20, 0x01, 0x0d, 0xb8},
    .now_s = 1700000000,
};

static bool is_inside(struct str inner, struct str outer)
{
    return inner.n == 0 || (inner.p >= outer.p && inner.p + inner.n <= outer.p + outer.n);
}

static void check_spec(struct arena *a, struct str spec)
{
    struct str out;

    if (spec.n == 0)
        return;
    assert(spf_domain_spec_is_valid(spec));
    if (spf_macro_expand(a, spec, &macros, &out, NULL) == 0)
        assert(out.n > 0 && out.n <= SPF_EXPANSION_SIZE_MAX);
}

static void check_directive(struct arena *a, const struct spf_directive *d, struct str record)
{
    assert(d->text.n > 0);
    assert(is_inside(d->text, record));
    assert(is_inside(d->domain_spec, d->text));
    assert(d->bits4 <= 32);
    assert(d->bits6 <= 128);
    assert(d->result != SPF_NONE);
    assert(d->mechanism != SPF_INCLUDE || d->domain_spec.n > 0);
    assert(d->mechanism != SPF_EXISTS || d->domain_spec.n > 0);
    check_spec(a, d->domain_spec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct str text = arena_str(a, str_of((const char *)data, size)), explanation, out;
    struct spf_record record;

    str_cut(text, '\n', &text, &explanation);
    if (spf_parse_record(a, text, &record, NULL) == 0) {
        for (size_t i = 0; i < record.count; i++)
            check_directive(a, &record.directives[i], text);
        check_spec(a, record.redirect);
        check_spec(a, record.exp);
    }
    if (spf_macro_is_valid(explanation, SPF_IN_EXPLANATION))
        spf_macro_expand(a, explanation, &macros, &out, NULL);
    arena_free(&a);
    return 0;
}
