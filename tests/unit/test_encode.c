/* test_encode.c - base64, hexadecimal, random text, hashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "server/base/encode.h"

static void base64_matches_the_vectors_of_rfc_4648(void **state)
{
    static const struct {
        const char *plain, *standard, *url;
    } rows[] = {
        {"", "", ""},
        {"f", "Zg==", "Zg"},
        {"fo", "Zm8=", "Zm8"},
        {"foo", "Zm9v", "Zm9v"},
        {"foob", "Zm9vYg==", "Zm9vYg"},
        {"fooba", "Zm9vYmE=", "Zm9vYmE"},
        {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
        {"\xfb\xff\xfe", "+//+", "-__-"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf b;

        buf_init(&b, 100);
        base64_encode(&b, str_c(rows[i].plain));
        assert_string_equal(buf_c(&b), rows[i].standard);
        buf_clear(&b);
        base64url_encode(&b, str_c(rows[i].plain));
        assert_string_equal(buf_c(&b), rows[i].url);
        buf_clear(&b);
        assert_true(base64_decode(&b, str_c(rows[i].standard)));
        assert_string_equal(buf_c(&b), rows[i].plain);
        buf_clear(&b);
        assert_true(base64url_decode(&b, str_c(rows[i].url)));
        assert_string_equal(buf_c(&b), rows[i].plain);
        buf_fini(&b);
    }
}

static void malformed_base64_is_refused_and_adds_nothing(void **state)
{
    static const char *const standard[] = {
        "Zg",        "Zg=",  "Z===", "====", "=",        "Zg==\n",
        "Zm9v YmE=", "Zh==", "Zm9=", "Zm-v", "Zg==Zg==", "\xff\xff\xff\xff"};
    static const char *const url[] = {"Z", "Zg==", "Zh", "Zm+v", "Zm9vY"};
    struct buf b;

    buf_init(&b, 100);
    buf_adds(&b, "kept");
    for (size_t i = 0; i < sizeof standard / sizeof standard[0]; i++)
        assert_false(base64_decode(&b, str_c(standard[i])));
    for (size_t i = 0; i < sizeof url / sizeof url[0]; i++)
        assert_false(base64url_decode(&b, str_c(url[i])));
    assert_string_equal(buf_c(&b), "kept");
    buf_fini(&b);
}

static void decoding_beyond_the_limit_fails(void **state)
{
    struct buf b;

    buf_init(&b, 3);
    assert_false(base64_decode(&b, STR("Zm9vYmFy")));
    assert_false(buf_ok(&b));
    buf_clear(&b);
    assert_false(hex_decode(&b, STR("00112233")));
    buf_fini(&b);
}

static void hexadecimal_goes_both_ways(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        const char *again;
    } rows[] = {
        {"", true, ""},    {"00ff", true, "00ff"}, {"DeadBeef", true, "deadbeef"},
        {"0", false, ""},  {"0g", false, ""},      {"0x00", false, ""},
        {" 0", false, ""},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf bytes, again;

        buf_init(&bytes, 100);
        buf_init(&again, 100);
        assert_int_equal(hex_decode(&bytes, str_c(rows[i].text)), rows[i].ok);
        hex_encode(&again, buf_str(&bytes));
        assert_string_equal(buf_c(&again), rows[i].again);
        buf_fini(&bytes);
        buf_fini(&again);
    }
}

static void random_text_has_no_look_alikes(void **state)
{
    char first[201], second[201];

    random_text(first, 200);
    random_text(second, 200);
    assert_int_equal(strlen(first), 200);
    assert_string_not_equal(first, second);
    assert_int_equal(strspn(first, "abcdefghijkmnpqrstuvwxyz23456789"), 200);
    assert_true(random_u64() != random_u64());
}

static void constant_time_comparison_compares(void **state)
{
    assert_true(bytes_equal_constant_time("abc", "abc", 3));
    assert_false(bytes_equal_constant_time("abc", "abd", 3));
    assert_false(bytes_equal_constant_time("xbc", "abc", 3));
    assert_true(bytes_equal_constant_time(NULL, NULL, 0));
}

static void fnv_never_changes(void **state)
{
    assert_true(fnv1a_64(STR("")) == 0xcbf29ce484222325u);
    assert_true(fnv1a_64(STR("a")) == 0xaf63dc4c8601ec8cu);
    assert_true(fnv1a_64(STR("foobar")) == 0x85944171f73967e8u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_matches_the_vectors_of_rfc_4648),
        cmocka_unit_test(malformed_base64_is_refused_and_adds_nothing),
        cmocka_unit_test(decoding_beyond_the_limit_fails),
        cmocka_unit_test(hexadecimal_goes_both_ways),
        cmocka_unit_test(random_text_has_no_look_alikes),
        cmocka_unit_test(constant_time_comparison_compares),
        cmocka_unit_test(fnv_never_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
