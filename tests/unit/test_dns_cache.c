/* test_dns_cache.c - what is remembered of DNS, for how long, and how much of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/run/dns_cache.h"
#include "server/run/loop.h"

static struct arena *a;

static struct str number(unsigned i)
{
    return arena_printf(a, "host%u.example.test", i);
}

static void add(struct str name, const char *text, uint32_t ttl_s)
{
    struct str rdata[] = {str_c(text), STR("")};
    struct dns_answer answer = {.status = DNS_FOUND,
                                .is_secure = true,
                                .count = 2,
                                .rdata = rdata,
                                .canonical_name = STR("canon.example.test"),
                                .ttl_s = ttl_s};

    dns_cache_add(name, DNS_TXT, &answer);
}

static bool knows(struct str name)
{
    struct dns_answer answer;

    return dns_cache_find(a, name, DNS_TXT, &answer);
}

static int begin(void **state)
{
    loop_init();
    a = arena_new();
    return 0;
}

static int end(void **state)
{
    dns_cache_clear();
    arena_free(&a);
    loop_fini();
    return 0;
}

static void an_answer_comes_back_whole(void **state)
{
    struct dns_answer answer;

    add(STR("Example.TEST."), "first", 60);
    assert_true(dns_cache_find(a, STR("eXample.test"), DNS_TXT, &answer));
    dns_cache_clear(); /* the answer is ours */
    assert_int_equal(answer.status, DNS_FOUND);
    assert_true(answer.is_secure);
    assert_int_equal(answer.count, 2);
    assert_true(str_eq(answer.rdata[0], STR("first")));
    assert_true(str_eq(answer.rdata[1], STR("")));
    assert_true(str_eq(answer.canonical_name, STR("canon.example.test")));
    assert_true(answer.ttl_s <= 60 && answer.ttl_s >= 50);
}

static void another_name_or_type_is_not_known(void **state)
{
    struct dns_answer answer;

    add(STR("example.test"), "x", 60);
    assert_false(knows(STR("xample.test")));
    assert_false(knows(STR("example.test/1")));
    assert_false(dns_cache_find(a, STR("example.test"), DNS_A, &answer));
}

static void that_there_is_nothing_is_remembered_too(void **state)
{
    struct dns_answer answer = {.status = DNS_NO_NAME, .ttl_s = 60};

    dns_cache_add(STR("gone.test"), DNS_MX, &answer);
    answer.status = DNS_FOUND;
    assert_true(dns_cache_find(a, STR("gone.test"), DNS_MX, &answer));
    assert_int_equal(answer.status, DNS_NO_NAME);
    assert_int_equal(answer.count, 0);
}

static void a_newer_answer_takes_the_place_of_an_older_one(void **state)
{
    struct dns_answer answer;

    add(STR("example.test"), "old", 60);
    add(STR("example.test"), "new", 60);
    assert_true(dns_cache_find(a, STR("example.test"), DNS_TXT, &answer));
    assert_true(str_eq(answer.rdata[0], STR("new")));
}

static void what_may_not_be_kept_is_not(void **state)
{
    char *large = arena_alloc(a, DNS_CACHE_ANSWER_MAX + 1);

    memset(large, 'x', DNS_CACHE_ANSWER_MAX);
    add(STR("now.test"), "x", 0);
    assert_false(knows(STR("now.test")));
    add(STR("large.test"), large, 60);
    assert_false(knows(STR("large.test")));
    memset(large, 'n', 301);
    large[301] = '\0';
    add(str_c(large), "x", 60);
    assert_false(knows(str_c(large)));
}

static void a_long_life_is_cut(void **state)
{
    struct dns_answer answer;

    add(STR("example.test"), "x", UINT32_MAX);
    assert_true(dns_cache_find(a, STR("example.test"), DNS_TXT, &answer));
    assert_true(answer.ttl_s <= DNS_CACHE_TIME_MAX_S);
}

static void wait_for_the_end(void *unused)
{
    add(STR("short.test"), "x", 1);
    add(STR("long.test"), "x", 60);
    fiber_sleep(1100);
    assert_false(knows(STR("short.test")));
    assert_true(knows(STR("long.test")));
}

static void an_answer_ends_with_its_time(void **state)
{
    loop_run_fiber("test", wait_for_the_end, NULL);
}

static void the_oldest_make_room(void **state)
{
    for (unsigned i = 0; i <= DNS_CACHE_COUNT_MAX; i++)
        add(number(i), "x", 60);
    assert_false(knows(number(0)));
    assert_true(knows(number(1)));
    assert_true(knows(number(DNS_CACHE_COUNT_MAX)));
}

static void bytes_are_bounded_too(void **state)
{
    const unsigned size = 8000, many = 2 * DNS_CACHE_BYTES_MAX / size;
    char *text = arena_alloc(a, size + 1);
    unsigned known = 0;

    memset(text, 'x', size);
    for (unsigned i = 0; i < many; i++)
        add(number(i), text, 60);
    for (unsigned i = 0; i < many; i++)
        known += knows(number(i));
    assert_true(known * size <= DNS_CACHE_BYTES_MAX);
    assert_true(known > many / 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_comes_back_whole),
        TEST(another_name_or_type_is_not_known),
        TEST(that_there_is_nothing_is_remembered_too),
        TEST(a_newer_answer_takes_the_place_of_an_older_one),
        TEST(what_may_not_be_kept_is_not),
        TEST(a_long_life_is_cut),
        TEST(an_answer_ends_with_its_time),
        TEST(the_oldest_make_room),
        TEST(bytes_are_bounded_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
