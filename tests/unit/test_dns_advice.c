/* test_dns_advice.c - how advice is written as lines of a zone, and which TLSA records are of a certificate. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "mail/authentic/dns_advice_internal.h"
#include "server/base/buf.h"
#include "server/base/encode.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/offload.h"

#define HOST "mail.example.test"

static struct arena *arena;

static int start(void **state)
{
    config_defaults();
    arena = arena_new();
    return 0;
}

static int stop(void **state)
{
    arena_free(&arena);
    config_fini();
    return 0;
}

static void assert_text(struct str actual, const char *expected)
{
    assert_string_equal(arena_c(arena, actual), expected);
}

/* ---- lines --------------------------------------------------------------------------------- */

static void texts_are_quoted_and_cut_as_zones_want_them(void **state)
{
    char long_text[300];
    struct str line;

    assert_text(advice_txt_line(arena, STR("a.test"), STR("v=spf1 -all")),
                "a.test. IN TXT \"v=spf1 -all\"");
    assert_text(advice_txt_line(arena, STR("a.test"), STR("a\"b\\c\x01\xff")),
                "a.test. IN TXT \"a\\\"b\\\\c\\001\\255\"");
    assert_text(advice_txt_line(arena, STR("a.test"), STR("")), "a.test. IN TXT \"\"");
    memset(long_text, 'x', sizeof long_text);
    line = advice_txt_line(arena, STR("a.test"), str_of(long_text, sizeof long_text));
    assert_int_equal(str_find(line, STR("x\" \"x")), strlen("a.test. IN TXT \"") + 254);
    assert_int_equal(line.n, strlen("a.test. IN TXT \"\" \"\"") + sizeof long_text);
}

static void lists_are_joined_by_commas(void **state)
{
    assert_text(advice_join(arena, STR(""), STR("a")), "a");
    assert_text(advice_join(arena, STR("a"), STR("b")), "a, b");
}

static void ipv4_inside_ipv6_is_the_same_address(void **state)
{
    struct sockaddr_storage v4 = {.ss_family = AF_INET}, mapped = {.ss_family = AF_INET6},
                            unix_peer = {.ss_family = AF_UNIX};
    static const unsigned char bytes[16] = {[10] = 0xff, 0xff, 192, 0, 2, 1};

    memcpy(&((struct sockaddr_in *)&v4)->sin_addr, bytes + 12, 4);
    memcpy(&((struct sockaddr_in6 *)&mapped)->sin6_addr, bytes, 16);
    assert_true(advice_has_address(&v4, 1, &mapped));
    assert_false(advice_has_address(&v4, 0, &mapped));
    assert_false(advice_has_address(&v4, 1, &unix_peer));
    assert_text(advice_addresses_text(arena, &mapped, 1), "192.0.2.1");
}

/* ---- certificates -------------------------------------------------------------------------- */

static struct str make_certificate(const char *name, long from_s, long to_s)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    unsigned char *der = NULL;
    struct str out;
    int size;

    X509_set_version(x, 2);
    X509_gmtime_adj(X509_getm_notBefore(x), from_s);
    X509_gmtime_adj(X509_getm_notAfter(x), to_s);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                               (const unsigned char *)name, -1, -1, 0);
    assert_int_not_equal(X509_sign(x, key, EVP_sha256()), 0);
    size = i2d_X509(x, &der);
    assert_true(size > 0);
    out = str_of(arena_copy(arena, der, (size_t)size), (size_t)size);
    OPENSSL_free(der);
    X509_free(x);
    EVP_PKEY_free(key);
    return out;
}

static struct str key_of(struct str der)
{
    const unsigned char *p = (const unsigned char *)der.p;
    X509 *x = d2i_X509(NULL, &p, (long)der.n);
    unsigned char *key = NULL;
    int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &key);
    struct str out = str_of(arena_copy(arena, key, (size_t)size), (size_t)size);

    OPENSSL_free(key);
    X509_free(x);
    return out;
}

static struct str hex(struct str data)
{
    struct buf out;
    struct str text;

    buf_init(&out, 64 << 10);
    hex_encode(&out, data);
    text = arena_str(arena, buf_str(&out));
    buf_fini(&out);
    return text;
}

static struct str hash(struct str data, const EVP_MD *md)
{
    unsigned char *out = arena_alloc(arena, EVP_MAX_MD_SIZE);
    unsigned size;

    assert_int_equal(EVP_Digest(data.p, data.n, out, &size, md, NULL), 1);
    return str_of((char *)out, size);
}

static struct advice_facts facts;
static struct advice_list list;

static void look(void *unused)
{
    struct advice_check c = {.a = arena, .facts = &facts, .out = &list};

    advice_list_init(&list);
    advice_certificate(&c);
    advice_tlsa(&c, false);
    dns_fini();
}

/* The advice about the certificate and, behind it, the one about TLSA. */
static const struct advice *advise(struct str record)
{
    struct error err = {0};
    struct str override = arena_printf(arena, "_25._tcp." HOST ". TLSA %.*s", STR_ARG(record));

    assert_int_equal(config_set(STR("dns_override"), override, &err), 0);
    loop_init();
    loop_run_fiber("case", look, NULL);
    offload_fini();
    fiber_pool_fini();
    loop_fini();
    return list.first;
}

static void tlsa_records_of_the_key_the_certificate_or_the_ca_are_ours(void **state)
{
    struct str own = make_certificate(HOST, -60, 86400 * 90),
               ca = make_certificate("CA", -60, 86400 * 90),
               stranger = make_certificate(HOST, -60, 86400);
    struct str chain[] = {own, ca};
    const struct {
        struct str record;
        bool is_ours;
    } rows[] = {
        {arena_printf(arena, "3 1 1 %.*s", STR_ARG(hex(hash(key_of(own), EVP_sha256())))), true},
        {arena_printf(arena, "3 1 2 %.*s", STR_ARG(hex(hash(key_of(own), EVP_sha512())))), true},
        {arena_printf(arena, "3 0 1 %.*s", STR_ARG(hex(hash(own, EVP_sha256())))), true},
        {arena_printf(arena, "3 1 0 %.*s", STR_ARG(hex(key_of(own)))), true},
        {arena_printf(arena, "2 0 1 %.*s", STR_ARG(hex(hash(ca, EVP_sha256())))), true},
        {arena_printf(arena, "2 1 1 %.*s", STR_ARG(hex(hash(key_of(ca), EVP_sha256())))), true},
        {arena_printf(arena, "3 1 1 %.*s", STR_ARG(hex(hash(key_of(ca), EVP_sha256())))), false},
        {arena_printf(arena, "3 1 1 %.*s", STR_ARG(hex(hash(key_of(stranger), EVP_sha256())))),
         false},
        {arena_printf(arena, "1 1 1 %.*s", STR_ARG(hex(hash(key_of(own), EVP_sha256())))), false},
        {arena_printf(arena, "3 0 1 %.*s", STR_ARG(hex(hash(key_of(own), EVP_sha256())))), false},
        {arena_printf(arena, "3 1 2 %.*s", STR_ARG(hex(hash(key_of(own), EVP_sha256())))), false},
        {STR("3 1 1 ab"), false},
    };

    facts =
        (struct advice_facts){.hostname = STR(HOST), .certificates = chain, .certificate_count = 2};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct advice *tlsa = advise(rows[i].record)->next;

        assert_string_equal(tlsa->subject, "TLSA");
        assert_text(tlsa->wanted, arena_c(arena, rows[0].record));
        assert_int_equal(tlsa->state, rows[i].is_ours ? ADVICE_OK : ADVICE_DIFFERENT);
        assert_int_equal(advice_is_wrong(tlsa), !rows[i].is_ours);
    }
}

static void a_certificate_must_be_valid_and_name_the_host(void **state)
{
    const struct {
        struct str certificate;
        bool is_self_signed, is_wrong;
        enum advice_state state;
        const char *remark;
    } rows[] = {
        {make_certificate(HOST, -60, 86400 * 90), false, false, ADVICE_OK, ""},
        {make_certificate(HOST, -60, 86400 * 90), true, false, ADVICE_MISSING, "from a CA"},
        {make_certificate(HOST, -60, 86400 * 3), false, false, ADVICE_OK, "expires"},
        {make_certificate(HOST, -86400, -60), false, true, ADVICE_DIFFERENT, "expired"},
        {make_certificate("other.test", -60, 86400 * 90), false, true, ADVICE_DIFFERENT,
         "name this host"},
        {STR("nonsense"), false, true, ADVICE_DIFFERENT, "cannot be read"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct str chain[] = {rows[i].certificate};
        const struct advice *v;

        facts = (struct advice_facts){.hostname = STR(HOST),
                                      .certificates = chain,
                                      .certificate_count = 1,
                                      .is_self_signed = rows[i].is_self_signed};
        v = advise(STR("3 1 1 ab"));
        assert_string_equal(v->subject, "certificate");
        assert_int_equal(v->state, rows[i].state);
        assert_int_equal(advice_is_wrong(v), rows[i].is_wrong);
        assert_true(str_find(v->remark, str_c(rows[i].remark)) >= 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(texts_are_quoted_and_cut_as_zones_want_them, start, stop),
        cmocka_unit_test_setup_teardown(lists_are_joined_by_commas, start, stop),
        cmocka_unit_test_setup_teardown(ipv4_inside_ipv6_is_the_same_address, start, stop),
        cmocka_unit_test_setup_teardown(tlsa_records_of_the_key_the_certificate_or_the_ca_are_ours,
                                        start, stop),
        cmocka_unit_test_setup_teardown(a_certificate_must_be_valid_and_name_the_host, start, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
