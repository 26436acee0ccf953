/* Any message as features: within the limits, distinct, each with its words. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/spam/spam_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct str message = str_of((const char *)data, size);
    struct spam_features out;

    spam_features(a, mime_parse(a, message), message, &out);
    assert(out.n <= SPAM_FEATURES_MAX);
    for (size_t i = 0; i < out.n; i++) {
        assert(out.v[i].hash != 0);
        assert(out.v[i].kind < SPAM_KIND_COUNT);
        if (i < 500)
            assert(spam_feature_text(a, &out.v[i]).n > 0);
    }
    assert(spam_example_of(a, &out).n == out.n);
    arena_free(&a);
    return 0;
}
