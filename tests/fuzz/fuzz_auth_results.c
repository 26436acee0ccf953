/* fuzz_auth_results.c - any bytes as an Authentication-Results field: what is read can be written and read again, what
 * names us is recognised, and what is written has no way out of its field. */
#include <stdio.h>
#include <stdlib.h>
#include "mail/authentic/auth_results.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool is_true, const char *claim)
{
    if (is_true)
        return;
    fprintf(stderr, "not so: %s\n", claim);
    abort();
}

static void check_field(struct str field)
{
    struct str line;

    expect(str_ends(field, STR("\r\n")), "the field ends its line");
    while (str_cut(field, '\n', &line, &field)) {
        expect(line.n < 998, "lines are short enough");
        expect(field.n == 0 || field.p[0] == '\t', "every further line is folded");
    }
}

/* The texts go where they could do harm. */
static void check_writing(struct arena *a, struct str text)
{
    struct auth_builder *b = auth_builder_new(a);
    struct auth_results again;
    struct str payload;

    auth_builder_result(b, "spf", "pass", text);
    auth_builder_reason(b, text);
    auth_builder_property(b, "smtp", "mailfrom", text);
    auth_builder_result(b, "dkim", "fail", STR_NULL);
    payload = auth_builder_payload(b);
    check_field(auth_results_field(a, STR("us.test"), payload));
    payload = arena_printf(a, "us.test; %.*s", STR_ARG(payload));
    expect(auth_results_parse(a, payload, &again, NULL) == 0, "what is written can be read");
    expect(again.n == 2 && again.v[0].property_count == 1, "nothing was added to it");
    expect(str_eq(again.v[1].result, STR("fail")), "the next result stays what it was");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct str value = str_of((const char *)data, size);
    struct auth_results r;

    if (auth_results_parse(a, value, &r, NULL) == 0) {
        expect(r.n <= AUTH_RESULTS_MAX, "results are limited");
        expect(!str_ieq(r.authserv_id, STR("us.test")) ||
                   auth_results_is_ours(value, STR("us.test")),
               "a field that names us is found");
        for (size_t i = 0; i < r.n; i++)
            expect(r.v[i].method.n > 0 && r.v[i].result.n > 0, "a result has a method");
    }
    check_writing(a, value);
    arena_free(&a);
    return 0;
}
