/* test_dkim.c - canonical text, field selection, signature fields and key records; what needs DNS and
 * real messages is in tests/integration/test_dkim.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/authentic/dkim_internal.h"
#include "server/base/encode.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/offload.h"

static struct arena *arena;

static int setup(void **state)
{
    config_defaults();
    loop_init();
    arena = arena_new();
    return 0;
}

static int teardown(void **state)
{
    dkim_key_lookup = dns_lookup_txt;
    offload_fini();
    arena_free(&arena);
    loop_fini();
    fiber_pool_fini();
    config_fini();
    return 0;
}

static void assert_str(struct str got, const char *wanted)
{
    assert_int_equal(got.n, strlen(wanted));
    if (got.n > 0)
        assert_memory_equal(got.p, wanted, got.n);
}

/* ---- canonical text -------------------------------------------------------------------------------- */

static void collect(void *to, struct str piece)
{
    buf_add(to, piece);
}

static struct str canonical(enum dkim_canonical c, struct str text, bool is_body)
{
    struct dkim_sink sink;
    struct buf out;
    struct str all;

    buf_init(&out, 1024 * 1024);
    dkim_sink_init(&sink, collect, &out);
    if (is_body)
        dkim_canonical_body(c, text, &sink);
    else
        dkim_canonical_field(c, text, true, &sink);
    dkim_sink_flush(&sink);
    all = arena_str(arena, buf_str(&out));
    buf_fini(&out);
    return all;
}

static void header_fields_become_canonical(void **state)
{
    static const struct {
        const char *field, *relaxed, *simple;
    } rows[] = {
        /* RFC 6376, 3.4.5 */
        {"A: X\r\n", "a:X\r\n", "A: X\r\n"},
        {"B : Y\t\r\n\tZ  \r\n", "b:Y Z\r\n", "B : Y\t\r\n\tZ  \r\n"},
        /* line feeds alone, and the end of a message without any */
        {"B : Y\t\n\tZ  \n", "b:Y Z\r\n", "B : Y\t\r\n\tZ  \r\n"},
        {"A: X", "a:X\r\n", "A: X\r\n"},
        {"SUBJect:  aB  c ", "subject:aB c\r\n", "SUBJect:  aB  c \r\n"},
        {"A:\r\n", "a:\r\n", "A:\r\n"},
        {"A:  \r\n", "a:\r\n", "A:  \r\n"},
        {"A: \r\n\r\n", "a:\r\n", "A: \r\n\r\n"},
        {"A: x\r\n \r\n y\r\n", "a:x y\r\n", "A: x\r\n \r\n y\r\n"},
        {"A: x\ry\r\n", "a:x\ry\r\n", "A: x\ry\r\n"},
        {"A: b:c\r\n", "a:b:c\r\n", "A: b:c\r\n"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_str(canonical(DKIM_RELAXED, str_c(rows[i].field), false), rows[i].relaxed);
        assert_str(canonical(DKIM_SIMPLE, str_c(rows[i].field), false), rows[i].simple);
    }
}

static void bodies_become_canonical(void **state)
{
    static const struct {
        const char *body, *relaxed, *simple;
    } rows[] = {
        /* RFC 6376, 3.4.5 */
        {" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n", " C \r\nD \t E\r\n"},
        {" C \nD \t E\n\n\n", " C\r\nD E\r\n", " C \r\nD \t E\r\n"},
        {"", "", "\r\n"},
        {"\r\n", "", "\r\n"},
        {"\n\r\n\n", "", "\r\n"},
        {"  \r\n\t\r\n", "", "  \r\n\t\r\n"},
        {"  ", "", "  \r\n"},
        {"a", "a\r\n", "a\r\n"},
        {"a\r\n \r\n", "a\r\n", "a\r\n \r\n"},
        {"a\r\n\r\nb", "a\r\n\r\nb\r\n", "a\r\n\r\nb\r\n"},
        {"a\r\n  b\r\n", "a\r\n b\r\n", "a\r\n  b\r\n"},
        {"a\nb\r\nc\n", "a\r\nb\r\nc\r\n", "a\r\nb\r\nc\r\n"},
        {"a\r", "a\r\r\n", "a\r\r\n"},
        {"a\r\r\n", "a\r\r\n", "a\r\r\n"},
        {"a\rb\r\n", "a\rb\r\n", "a\rb\r\n"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_str(canonical(DKIM_RELAXED, str_c(rows[i].body), true), rows[i].relaxed);
        assert_str(canonical(DKIM_SIMPLE, str_c(rows[i].body), true), rows[i].simple);
    }
}

static void long_lines_pass_the_sink_whole(void **state)
{
    size_t n = 100000;
    char *body = arena_alloc(arena, n + 1);
    struct str relaxed;

    for (size_t i = 0; i < n; i++)
        body[i] = i % 5000 == 4999 ? ' ' : 'x';
    relaxed = canonical(DKIM_RELAXED, str_of(body, n), true);
    assert_int_equal(relaxed.n, n - 1 + 2); /* the last blank went, a line end came */
    assert_memory_equal(relaxed.p, body, n - 1);
    assert_int_equal(canonical(DKIM_SIMPLE, str_of(body, n), true).n, n + 2);
}

/* ---- the fields that a signature covers ---------------------------------------------------------------- */

static struct dkim_message read_message(const char *text)
{
    struct dkim_message m;

    assert_int_equal(dkim_message_read(arena, str_c(text), &m, NULL), 0);
    return m;
}

static struct str covered(const struct dkim_message *m, const char *names,
                          const struct dkim_field *own)
{
    struct dkim_selection selection;
    struct str all = STR("");

    assert_int_equal(dkim_select(arena, m, str_c(names), own, &selection, NULL), 0);
    for (size_t i = 0; i < selection.count; i++)
        all = arena_printf(arena, "%.*s%.*s", STR_ARG(all), STR_ARG(selection.wholes[i]));
    return all;
}

static void fields_are_taken_from_the_bottom(void **state)
{
    struct dkim_message m = read_message("X: 1\nA: 1\nx : 2\nno field\nA: 2\n\nX: body\n");

    assert_str(m.body, "X: body\n");
    assert_str(covered(&m, "x", NULL), "x : 2\n");
    assert_str(covered(&m, "X:X", NULL), "x : 2\nX: 1\n");
    assert_str(covered(&m, "a:x:A:x:a:q", NULL), "A: 2\nx : 2\nA: 1\nX: 1\n");
    assert_str(covered(&m, " a \r\n : x", NULL), "A: 2\nx : 2\n");
    assert_str(covered(&m, "", NULL), "");
    assert_str(covered(&m, "x:x:x", &m.fields[2]), "X: 1\n");
}

static void messages_without_header_or_body_are_read(void **state)
{
    assert_int_equal(read_message("").field_count, 0);
    assert_str(read_message("").body, "");
    assert_str(read_message("\r\nbody").body, "body");
    assert_str(read_message("\nbody").body, "body");
    assert_str(read_message("A: b").body, "");
    assert_str(read_message("A: b\r\n\r\n").body, "");
}

static void too_many_fields_are_refused(void **state)
{
    struct dkim_message m;
    struct error err = {0};
    struct buf text;

    buf_init(&text, 1024 * 1024);
    for (int i = 0; i <= DKIM_FIELDS_MAX; i++)
        buf_adds(&text, "a:\n");
    assert_int_equal(dkim_message_read(arena, buf_str(&text), &m, &err), -1);
    assert_int_equal(err.kind, ERR_TOO_BIG);
    buf_fini(&text);
}

/* ---- signature fields ---------------------------------------------------------------------------------- */

#define BH   "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
#define TAIL "; bh=" BH "; b=AAAA"

static struct dkim_claim read_claim(const char *tags, enum dkim_kind kind)
{
    struct dkim_message m = read_message(
        (const char *)arena_printf(arena, "Sig: %s\r\nFrom: a@b.test\r\n\r\n", tags).p);
    struct dkim_claim claim;

    dkim_claim_read(arena, &m, &m.fields[0], kind, 1000, &claim);
    return claim;
}

static void signature_fields_are_judged(void **state)
{
    static const struct {
        const char *tags;
        enum dkim_result result; /* DKIM_NONE: sound so far */
    } rows[] = {
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from" TAIL, DKIM_NONE},
        {"v=1; a=ed25519-sha256; c=relaxed/simple; d=B.test; s=x.y; i=z@k.b.test; h=To : From; "
         "t=1; x=1000; l=0; q=dns/txt:other; z=whatever; unknown=1" TAIL,
         DKIM_NONE},
        {"v=1; a=rsa-sha256; d=b\xc3\xbc.test; s=x; h=from" TAIL, DKIM_NONE},
        {"a=rsa-sha256; d=b.test; s=x; h=from" TAIL, DKIM_PERMERROR},
        {"v=2; a=rsa-sha256; d=b.test; s=x; h=from" TAIL, DKIM_PERMERROR},
        {"v=1; d=b.test; s=x; h=from" TAIL, DKIM_PERMERROR},
        {"v=1; a=rsa-sha1; d=b.test; s=x; h=from" TAIL, DKIM_PERMERROR},
        {"v=1; a=RSA-sha256; d=b.test; s=x; h=from" TAIL, DKIM_PERMERROR},
        {"v=1; a=rsa-sha256; s=x; h=from" TAIL, DKIM_PERMERROR},
        {"v=1; a=rsa-sha256; d=b(.test; s=x; h=from" TAIL, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=b..test; s=x; h=from" TAIL, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=b.test; h=from" TAIL, DKIM_PERMERROR},
        {"v=1; a=rsa-sha256; d=b.test; s=; h=from" TAIL, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=b.test; s=x" TAIL, DKIM_PERMERROR},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=to:subject" TAIL, DKIM_PERMERROR},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; i=@c.test" TAIL, DKIM_PERMERROR},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; i=@xb.test" TAIL, DKIM_PERMERROR},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; i=b.test" TAIL, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; c=nofws" TAIL, DKIM_PERMERROR},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; c=" TAIL, DKIM_PERMERROR},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; l=-1" TAIL, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; l=9999999999999999999" TAIL, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; t=" TAIL, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; x=999" TAIL, DKIM_POLICY},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; t=2000; x=2000" TAIL, DKIM_PERMERROR},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; q=http" TAIL, DKIM_PERMERROR},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; b=AAAA", DKIM_PERMERROR},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; bh=AAAA; b=AAAA", DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; bh=" BH, DKIM_PERMERROR},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; bh=" BH "; b=", DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; bh=" BH "; b=A*AA", DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=b.test; s=x; h=from; h=to" TAIL, DKIM_NEUTRAL},
        {"nonsense", DKIM_NEUTRAL},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dkim_claim c = read_claim(rows[i].tags, DKIM_KIND_SIGNATURE);

        assert_int_equal(c.told.result, rows[i].result);
        assert_int_equal(c.told.problem.n > 0, rows[i].result != DKIM_NONE);
    }
}

static void a_signature_is_cut_out_of_its_field(void **state)
{
    static const char head[] = "v=1; a=rsa-sha256; d=b.test; s=x; h=from; bh=" BH "; ";
    static const struct {
        const char *b, *bare;
    } rows[] = {
        {"b=AA\r\n\tAA", "b=\r\n"},
        {"b = AA AA \r\n ; t=1", "b =; t=1\r\n"},
        {"b=\tAAAA;", "b=;\r\n"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct str tags = arena_printf(arena, "%s%s", head, rows[i].b);
        struct dkim_claim c = read_claim(tags.p, DKIM_KIND_SIGNATURE);

        assert_int_equal(c.told.result, DKIM_NONE);
        assert_str(c.bare, arena_printf(arena, "Sig: %s%s", head, rows[i].bare).p);
        assert_str(c.told.b_start, "AAAA");
        assert_int_equal(c.signature.n, 3);
    }
}

static void arc_fields_need_their_instance(void **state)
{
    static const struct {
        const char *tags;
        enum dkim_kind kind;
        enum dkim_result result;
        unsigned instance;
    } rows[] = {
        {"i=1; a=rsa-sha256; d=b.test; s=x; h=" TAIL, DKIM_KIND_ARC_MESSAGE, DKIM_NONE, 1},
        {"i=51; a=rsa-sha256; d=b.test; s=x; h=" TAIL, DKIM_KIND_ARC_MESSAGE, DKIM_NEUTRAL, 0},
        {"i=0; a=rsa-sha256; d=b.test; s=x; h=" TAIL, DKIM_KIND_ARC_MESSAGE, DKIM_NEUTRAL, 0},
        {"a=rsa-sha256; d=b.test; s=x; h=" TAIL, DKIM_KIND_ARC_MESSAGE, DKIM_PERMERROR, 0},
        {"i=1; a=rsa-sha256; d=b.test; s=x; h=arc-seal" TAIL, DKIM_KIND_ARC_MESSAGE, DKIM_PERMERROR,
         1},
        {"i=50; a=rsa-sha256; d=b.test; s=x; cv=pass; b=AAAA", DKIM_KIND_ARC_SEAL, DKIM_NONE, 50},
        {"i=1; a=rsa-sha256; d=b.test; s=x; b=AAAA", DKIM_KIND_ARC_SEAL, DKIM_PERMERROR, 1},
        {"i=1; a=rsa-sha256; d=b.test; s=x; cv=none; h=from; b=AAAA", DKIM_KIND_ARC_SEAL,
         DKIM_PERMERROR, 1},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dkim_claim c = read_claim(rows[i].tags, rows[i].kind);

        assert_int_equal(c.told.result, rows[i].result);
        assert_int_equal(c.instance, rows[i].instance);
    }
}

/* ---- key records ----------------------------------------------------------------------------------------- */

#define ED "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
#define RSA                                                                                        \
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi"     \
    "Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLz" \
    "BfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
#define RSA_512                                                                                    \
    "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBANmBe10IgY+u7h3enWTukkqtUD5PR52Tb/mPfjC0QJTocVBq6Za/PlzfV+Py" \
    "92VaCak19F4WrbVTK5Gg5tW220MCAwEAAQ=="

static void key_records_are_judged(void **state)
{
    static const struct {
        const char *record;
        enum error_kind kind; /* ERR_NONE: serves */
        unsigned bits;
    } rows[] = {
        {"v=DKIM1; k=rsa; p=" RSA, ERR_NONE, 1024},
        {"p=" RSA, ERR_NONE, 1024},
        {"k=ed25519; p=" ED, ERR_NONE, 256},
        {"v=DKIM1; t=y:s; s=*; h=sha1:sha256; n=a note; p=" RSA, ERR_NONE, 1024},
        {"v=DKIM1; p=", ERR_NONE, 0},
        {"k=rsa; g=; s=other:email; p=" RSA, ERR_NONE, 1024},
        {"v=DKIM1; k=rsa", ERR_SYNTAX, 0},
        {"v=DKIM2; p=" RSA, ERR_SYNTAX, 0},
        {"p=" RSA "; v=DKIM1", ERR_SYNTAX, 0},
        {"v=spf1 -all", ERR_SYNTAX, 0},
        {"", ERR_SYNTAX, 0},
        {"p=!", ERR_SYNTAX, 0},
        {"p=AAAA", ERR_SYNTAX, 0},
        {"k=ed25519; p=" RSA, ERR_SYNTAX, 0},
        {"k=rsa; p=" ED, ERR_SYNTAX, 0},
        {"k=ed2014; p=" ED, ERR_UNSUPPORTED, 0},
        {"k=; p=" RSA, ERR_UNSUPPORTED, 0},
        {"h=sha1; p=" RSA, ERR_UNSUPPORTED, 0},
        {"s=tlsrpt; p=" RSA, ERR_UNSUPPORTED, 0},
        {"p=" RSA_512, ERR_UNSUPPORTED, 0},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dkim_record record;
        struct error err = {0};
        int status = dkim_record_parse(arena, str_c(rows[i].record), &record, &err);

        assert_int_equal(err.kind, rows[i].kind);
        assert_int_equal(status, rows[i].kind == ERR_NONE ? 0 : -1);
        if (status == 0)
            assert_int_equal(record.bits, rows[i].bits);
        if (status == 0 && rows[i].bits > 0) {
            EVP_PKEY *key = dkim_record_open(&record);

            assert_non_null(key);
            if (record.algorithm == DKIM_RSA_SHA256)
                assert_int_equal(EVP_PKEY_get_bits(key), record.bits);
            EVP_PKEY_free(key);
        }
    }
}

static void an_exponent_that_makes_work_is_refused(void **state)
{
    /* SEQUENCE { INTEGER of 1024 bits, INTEGER of 72 bits } */
    char der[4 + 3 + 129 + 2 + 9] = "\x30\x81\x8f\x02\x81\x81";
    struct dkim_record record;
    struct error err = {0};
    struct buf text;

    memset(der + 7, 0xff, 128);
    memcpy(der + 7 + 128, "\x02\x09", 2);
    memset(der + 7 + 128 + 2, 0x7f, 9);
    buf_init(&text, 4096);
    buf_adds(&text, "p=");
    base64_encode(&text, str_of(der, 7 + 128 + 2 + 9));
    assert_int_equal(dkim_record_parse(arena, buf_str(&text), &record, &err), -1);
    assert_int_equal(err.kind, ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "exponent"));
    buf_fini(&text);
}

/* ---- signing and verifying ------------------------------------------------------------------------------- */

static struct dkim_key *rsa_key, *ed_key;
static unsigned lookups;

static int give_keys(struct arena *a, struct str name, struct str **texts, size_t *count,
                     struct dns_answer *answer, struct error *err)
{
    lookups++;
    if (str_istarts(name, STR("away")))
        return fail(err, ERR_TRY_LATER, "DNS could not answer");
    *texts = ARENA_ARRAY(a, 2, struct str);
    *count = str_istarts(name, STR("none")) ? 0 : 2;
    (*texts)[0] = STR("v=spf1 -all");
    (*texts)[1] = dkim_key_record(a, str_istarts(name, STR("ed")) ? ed_key : rsa_key);
    return 0;
}

static struct str with_fields(struct str fields, const char *message)
{
    return arena_printf(arena, "%.*s%s", STR_ARG(fields), message);
}

#define MESSAGE "From: a@b.test\r\nTo: c@d.test\r\nSubject: x\r\n\r\nHello,\r\nworld\r\n"

static struct str signed_fields(const char *first, const char *second)
{
    struct dkim_signer signers[2] = {
        {.key = str_istarts(str_c(first), STR("ed")) ? ed_key : rsa_key,
         .domain = STR("b.test"),
         .selector = str_c(first)},
        {.key = second != NULL && str_istarts(str_c(second), STR("ed")) ? ed_key : rsa_key,
         .domain = STR("b.test"),
         .selector = str_c(second)},
    };
    struct error err = {0};
    struct str fields;

    assert_int_equal(
        dkim_sign(arena, STR(MESSAGE), signers, second == NULL ? 1 : 2, 1700000000, &fields, &err),
        0);
    return fields;
}

static void assert_verdict(struct str message, enum dkim_result first, enum dkim_result second)
{
    struct dkim_verdict v;

    dkim_verify(arena, message, &v);
    assert_int_equal(v.n, second == DKIM_NONE ? 1 : 2);
    assert_int_equal(v.v[0].result, first);
    if (v.n == 2)
        assert_int_equal(v.v[1].result, second);
}

static void body_signing(void *arg)
{
    struct str fields;

    rsa_key = dkim_key_make(DKIM_RSA_SHA256, NULL);
    ed_key = dkim_key_make(DKIM_ED25519_SHA256, NULL);
    dkim_key_lookup = give_keys;
    fields = signed_fields("rsa", "ed");
    assert_verdict(with_fields(fields, MESSAGE), DKIM_PASS, DKIM_PASS);
    assert_verdict(
        with_fields(fields, "From: a@b.test\nTo: c@d.test\nSubject:  x \n\nHello,\nworld\n\n"),
        DKIM_PASS, DKIM_PASS);
    assert_verdict(
        with_fields(fields, "From: a@b.test\r\nTo: c@d.test\r\nSubject: x\r\n\r\nHello\r\n"),
        DKIM_FAIL, DKIM_FAIL);
    assert_verdict(with_fields(fields, "From: e@b.test\r\n" MESSAGE), DKIM_FAIL, DKIM_FAIL);
    assert_verdict(with_fields(fields, "Subject: y\r\n" MESSAGE), DKIM_FAIL, DKIM_FAIL);
    assert_verdict(with_fields(fields, "Content-Type: text/html\r\n" MESSAGE), DKIM_FAIL,
                   DKIM_FAIL);
    assert_verdict(with_fields(fields, "X-Other: y\r\n" MESSAGE), DKIM_PASS, DKIM_PASS);
    assert_verdict(with_fields(signed_fields("away", "none"), MESSAGE), DKIM_TEMPERROR,
                   DKIM_PERMERROR);
    dkim_key_free(&rsa_key);
    dkim_key_free(&ed_key);
}

static void what_is_signed_verifies_and_what_is_changed_does_not(void **state)
{
    loop_run_fiber("dkim", body_signing, NULL);
}

static void body_many(void *arg)
{
    struct dkim_verdict v;
    struct str fields;
    struct buf text;

    rsa_key = dkim_key_make(DKIM_RSA_SHA256, NULL);
    ed_key = dkim_key_make(DKIM_ED25519_SHA256, NULL);
    dkim_key_lookup = give_keys;
    fields = signed_fields("rsa", NULL);
    buf_init(&text, 64 * 1024 * 1024);
    for (int i = 0; i < 400; i++)
        buf_add(&text, fields);
    buf_adds(&text, MESSAGE);
    lookups = 0;
    dkim_verify(arena, buf_str(&text), &v);
    assert_int_equal(v.n, DKIM_SIGNATURES_MAX);
    assert_int_equal(lookups, 1);
    for (size_t i = 0; i < v.n; i++)
        assert_int_equal(v.v[i].result, DKIM_PASS);
    buf_fini(&text);
    dkim_key_free(&rsa_key);
    dkim_key_free(&ed_key);
}

static void thousands_of_signatures_cost_ten_and_one_lookup(void **state)
{
    loop_run_fiber("dkim", body_many, NULL);
}

static void body_cancelled(void *arg)
{
    struct dkim_verdict v;
    struct str fields;

    rsa_key = dkim_key_make(DKIM_RSA_SHA256, NULL);
    ed_key = dkim_key_make(DKIM_ED25519_SHA256, NULL);
    dkim_key_lookup = give_keys;
    fields = signed_fields("rsa", "ed");
    fiber_cancel(fiber_self());
    dkim_verify(arena, with_fields(fields, MESSAGE), &v);
    assert_int_equal(v.n, 2);
    dkim_key_free(&rsa_key);
    dkim_key_free(&ed_key);
}

static void a_cancelled_fiber_leaves_no_fetcher_behind(void **state)
{
    loop_run_fiber("dkim", body_cancelled, NULL);
    assert_int_equal(fiber_count(), 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(header_fields_become_canonical),
        CASE(bodies_become_canonical),
        CASE(long_lines_pass_the_sink_whole),
        CASE(fields_are_taken_from_the_bottom),
        CASE(messages_without_header_or_body_are_read),
        CASE(too_many_fields_are_refused),
        CASE(signature_fields_are_judged),
        CASE(a_signature_is_cut_out_of_its_field),
        CASE(arc_fields_need_their_instance),
        CASE(key_records_are_judged),
        CASE(an_exponent_that_makes_work_is_refused),
        CASE(what_is_signed_verifies_and_what_is_changed_does_not),
        CASE(thousands_of_signatures_cost_ten_and_one_lookup),
        CASE(a_cancelled_fiber_leaves_no_fetcher_behind),
    };

    return cmocka_run_group_tests_name("dkim", tests, NULL, NULL);
}
