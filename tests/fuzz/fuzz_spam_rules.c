/* Any message through rules, links and look-alikes: each finding once, in clean words. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/spam/spam.h"
#include "server/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct spam_findings *out)
{
    assert(out->n <= SPAM_FINDING_COUNT);
    for (size_t i = 0; i < out->n; i++) {
        assert(utf8_valid(out->v[i].english) && utf8_valid(out->v[i].indonesian));
        for (size_t k = 0; k < out->v[i].english.n; k++)
            assert((unsigned char)out->v[i].english.p[k] >= ' ');
        for (size_t k = 0; k < i; k++)
            assert(out->v[k].kind != out->v[i].kind);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct str hosts[] = {{"mx.ours.example", 15}};
    struct arena *a = arena_new();
    struct str message = str_of((const char *)data, size);
    struct spam_known *known = spam_known_new(a);
    struct spam_circumstances facts = {.now_us = INT64_C(1795996800000000),
                                       .own_hosts = hosts,
                                       .own_host_count = 1,
                                       .known = known};
    struct spam_findings *out = ARENA_NEW(a, struct spam_findings);
    struct spam_hosts *links = ARENA_NEW(a, struct spam_hosts);
    struct spam_verdict verdict;

    spam_known_add_domain(known, STR("ours.example"), true);
    spam_known_add_domain(known, STR("partner.example"), false);
    spam_known_add_person(known, STR("Dewi Sari"), STR("dewi@ours.example"));
    spam_inspect(a, mime_parse(a, message), message, &facts, out, links);
    check(out);
    assert(links->n <= SPAM_LINK_HOSTS_MAX);
    spam_judge(a, NULL, out, 2.5, &verdict);
    assert(verdict.percent <= 100 && verdict.reason_count <= SPAM_VERDICT_REASONS_MAX);
    arena_free(&a);
    return 0;
}
