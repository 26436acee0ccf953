/* fuzz_dkim.c - tag lists, key records and signature fields, and whole messages whose keys are at hand.
 *
 * The first byte says which. Selectors that begin with "e" have an Ed25519 key, others an RSA key. */
#include <stdlib.h>

#include "mail/authentic/dkim_internal.h"
#include "server/base/date.h"
#include "server/run/config.h"
#include "server/run/loop.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RSA_RECORD                                                                                 \
    "v=DKIM1; k=rsa; p="                                                                           \
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bd"             \
    "OKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4h"             \
    "stT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
#define ED_RECORD "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

static struct dkim_key *key;

static void must(bool holds)
{
    if (!holds)
        abort();
}

static bool is_inside(struct str part, struct str whole)
{
    return part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n);
}

static int give_key(struct arena *a, struct str name, struct str **texts, size_t *count,
                    struct dns_answer *answer, struct error *err)
{
    *texts = ARENA_NEW(a, struct str);
    **texts = str_istarts(name, STR("e")) ? STR(ED_RECORD) : STR(RSA_RECORD);
    *count = 1;
    return 0;
}

static void make_key(void *unused)
{
    key = dkim_key_make(DKIM_ED25519_SHA256, NULL);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    config_defaults();
    loop_init();
    dkim_key_lookup = give_key;
    loop_run_fiber("make_key", make_key, NULL);
    return 0;
}

static void tags(struct arena *a, struct str text)
{
    struct tag_list list;

    if (tag_list_parse(a, text, &list, NULL) < 0)
        return;
    must(list.n > 0 && list.n <= TAG_LIST_COUNT_MAX);
    for (size_t i = 0; i < list.n; i++) {
        must(is_inside(list.v[i].name, text) && is_inside(list.v[i].raw, text));
        must(is_inside(list.v[i].value, list.v[i].raw));
        must(tag_list_find(&list, list.v[i].name) == &list.v[i]);
    }
}

static void record(struct arena *a, struct str text)
{
    struct dkim_record r;
    struct str modulus, exponent;

    if (dkim_rsa_numbers(text, &modulus, &exponent))
        must(is_inside(modulus, text) && is_inside(exponent, text));
    if (dkim_record_parse(a, text, &r, NULL) < 0 || r.is_revoked)
        return;
    must(r.bits >= 256 && r.bits <= DKIM_RSA_BITS_MAX);
    EVP_PKEY_free(dkim_record_open(&r));
}

static void claims(struct arena *a, struct str text)
{
    struct dkim_message m;
    struct dkim_claim c;

    if (dkim_message_read(a, text, &m, NULL) < 0)
        return;
    for (size_t i = 0; i < m.field_count && i < 4; i++) {
        must(is_inside(m.fields[i].whole, text));
        for (int kind = DKIM_KIND_SIGNATURE; kind <= DKIM_KIND_ARC_SEAL; kind++) {
            dkim_claim_read(a, &m, &m.fields[i], (enum dkim_kind)kind, 1000, &c);
            if (!dkim_claim_is_open(&c))
                continue;
            must(c.told.domain.n > 0 && c.signature.n > 0 &&
                 c.signature.n <= 4 * DKIM_SIGNATURE_SIZE_MAX);
            must(c.bare.n < m.fields[i].whole.n && c.covered.count <= m.field_count);
        }
    }
}

struct input {
    struct arena *arena;
    struct str text;
};

/* What we sign and seal ourselves must verify, whatever the message is. */
static void whole(void *arg)
{
    struct input *in = arg;
    struct arena *a = in->arena;
    struct dkim_signer signer = {.key = key, .domain = STR("b.test"), .selector = STR("own")};
    struct dkim_verdict verdict;
    struct arc_verdict chain;
    struct str fields;

    dkim_verify(a, in->text, &verdict);
    must(verdict.n <= DKIM_SIGNATURES_MAX);
    for (size_t i = 0; i < verdict.n; i++)
        must(verdict.v[i].result != DKIM_NONE &&
             (verdict.v[i].result == DKIM_PASS) == (verdict.v[i].problem.n == 0));
    arc_verify(a, in->text, &chain);
    must(chain.count <= ARC_SETS_MAX && (chain.result != ARC_FAIL) == (chain.problem.n == 0));
    must(dkim_sign(a, in->text, &signer, 1, 1, &fields, NULL) < 0 || fields.n > 0);
    arc_seal(a, in->text, &signer, &chain, STR("mx.test"), STR("spf=pass"), 1, &fields, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {.arena = arena_new()};

    if (size > 0) {
        in.text = str_of((const char *)data + 1, size - 1);
        switch (data[0] % 4) {
        case 0:
            tags(in.arena, in.text);
            break;
        case 1:
            record(in.arena, in.text);
            break;
        case 2:
            claims(in.arena, in.text);
            break;
        default:
            loop_run_fiber("whole", whole, &in);
        }
    }
    arena_free(&in.arena);
    return 0;
}
