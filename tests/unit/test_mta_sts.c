/* test_mta_sts.c - records, policies and patterns of RFC 8461; ways to servers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/queue/mta_sts.h"
#include "mail/queue/route_hosts.h"
#include "server/run/config.h"

static struct arena *a;

static int setup(void **state)
{
    config_defaults();
    a = arena_new();
    return 0;
}

static int teardown(void **state)
{
    arena_free(&a);
    config_fini();
    return 0;
}

static void records_are_read(void **state)
{
    static const struct {
        const char *txt, *id; /* NULL: none */
    } rows[] = {
        {"v=STSv1; id=20160831085700Z;", "20160831085700Z"},
        {"v=STSv1;id=1", "1"},
        {"v=STSv1 ; x=y; id=a ;", "a"},
        {"v=STSv1; id=;", NULL},
        {"v=STSv1; id=a-b;", NULL},
        {"v=STSv1; id=123456789012345678901234567890123;", NULL},
        {"v=STSv1", NULL},
        {"v=STSv2; id=1", NULL},
        {"id=1; v=STSv1", NULL},
        {"", NULL},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct str id;
        bool is_good = sts_record_parse(str_c(rows[i].txt), &id);

        assert_int_equal(is_good, rows[i].id != NULL);
        if (is_good)
            assert_true(str_eq(id, str_c(rows[i].id)));
    }
}

static void policies_are_read(void **state)
{
    static const struct {
        const char *text;
        bool is_good;
        enum sts_mode mode;
        int64_t max_age_s;
        size_t mx_count;
    } rows[] = {
        {"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: "
         "604800\r\n",
         true, STS_MODE_ENFORCE, 604800, 2},
        {"version: STSv1\nmode: testing\nmx: a.b\nmax_age: 1\nunknown: x\n", true, STS_MODE_TESTING,
         1, 1},
        {"version: STSv1\nmode: none\nmax_age: 99999999999", false, STS_MODE_NONE, 0, 0},
        {"version: STSv1\nmode: none\nmax_age: 9999999999", true, STS_MODE_NONE, STS_MAX_AGE_MAX_S,
         0},
        {"mode:none\nmax_age:5\nversion:STSv1", true, STS_MODE_NONE, 5, 0},
        {"version: STSv1\nmode: enforce\nmax_age: 1\n", false, STS_MODE_NONE, 0, 0},
        {"version: STSv1\nmode: Enforce\nmx: a.b\nmax_age: 1\n", false, STS_MODE_NONE, 0, 0},
        {"version: STSv2\nmode: none\nmax_age: 1\n", false, STS_MODE_NONE, 0, 0},
        {"version: STSv1\nmode: enforce\nmx: *\nmax_age: 1\n", false, STS_MODE_NONE, 0, 0},
        {"version: STSv1\nmode: enforce\nmx: a b\nmax_age: 1\n", false, STS_MODE_NONE, 0, 0},
        {"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: -1\n", false, STS_MODE_NONE, 0, 0},
        {"version: STSv1\nmode: enforce\nmx: a.b.\nmax_age: 1\n", true, STS_MODE_ENFORCE, 1, 1},
        {"version: STSv1\nmode: enforce\nmx: a.b..\nmax_age: 1\n", false, STS_MODE_NONE, 0, 0},
        {"<html>version: STSv1</html>", false, STS_MODE_NONE, 0, 0},
        {"", false, STS_MODE_NONE, 0, 0},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sts_policy policy;
        bool is_good = sts_policy_parse(a, str_c(rows[i].text), &policy, NULL) == 0;

        assert_int_equal(is_good, rows[i].is_good);
        if (!is_good)
            continue;
        assert_int_equal(policy.mode, rows[i].mode);
        assert_int_equal(policy.max_age_s, rows[i].max_age_s);
        assert_int_equal(policy.mx_count, rows[i].mx_count);
    }
}

static void a_wildcard_stands_for_one_label(void **state)
{
    struct str patterns[] = {{"mail.example.com", 16}, {"*.example.net", 13}};
    struct sts_policy policy = {.mx = patterns, .mx_count = 2};

    assert_true(sts_mx_matches(&policy, STR("MAIL.example.com")));
    assert_true(sts_mx_matches(&policy, STR("mail.example.com.")));
    assert_true(sts_mx_matches(&policy, STR("a.example.net")));
    assert_false(sts_mx_matches(&policy, STR("a.b.example.net")));
    assert_false(sts_mx_matches(&policy, STR("example.net")));
    assert_false(sts_mx_matches(&policy, STR(".example.net")));
    assert_false(sts_mx_matches(&policy, STR("xmail.example.com")));
}

static void ways_are_read(void **state)
{
    static const struct {
        const char *text, *host; /* NULL: must be refused */
        unsigned port;
        bool is_lmtp, is_tls, is_unix;
    } rows[] = {
        {"relay.test", "relay.test", 25, false, false, false},
        {"relay.test:587", "relay.test", 587, false, false, false},
        {"smtp:relay.test:587", "relay.test", 587, false, false, false},
        {"smtps:relay.test", "relay.test", 465, false, true, false},
        {"lmtp:relay.test", "relay.test", 24, true, false, false},
        {"lmtp:unix:/run/x", "/run/x", 24, true, false, true},
        {"[192.0.2.1]:2525", "192.0.2.1", 2525, false, false, false},
        {"[2001:db8::1]", "2001:db8::1", 25, false, false, false},
        {"", NULL, 0, false, false, false},
        {"relay.test:", "relay.test", 25, false, false, false},
        {"relay.test:0", NULL, 0, false, false, false},
        {"relay.test:65536", NULL, 0, false, false, false},
        {"relay.test:x", NULL, 0, false, false, false},
        {"[not]:25", NULL, 0, false, false, false},
        {"[192.0.2.1]25", NULL, 0, false, false, false},
        {"[192.0.2.1", NULL, 0, false, false, false},
        {"a b", NULL, 0, false, false, false},
        {"lmtp:unix:", NULL, 0, false, false, false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct route_way way;
        bool is_good = route_way_parse(str_c(rows[i].text), &way, NULL) == 0;

        assert_int_equal(is_good, rows[i].host != NULL);
        if (!is_good)
            continue;
        assert_true(str_eq(way.host, str_c(rows[i].host)));
        assert_int_equal(way.port, rows[i].port);
        assert_int_equal(way.is_lmtp, rows[i].is_lmtp);
        assert_int_equal(way.is_tls, rows[i].is_tls);
        assert_int_equal(way.is_unix, rows[i].is_unix);
    }
}

static void the_closest_domain_names_the_way(void **state)
{
    struct error err = {0};

    config_set(STR("delivery_routes"), STR("*=all:1; example.org=org:2 ;sub.example.org = sub:3"),
               &err);
    assert_true(str_eq(route_of_domain(STR("other.test")), STR("all:1")));
    assert_true(str_eq(route_of_domain(STR("example.org")), STR("org:2")));
    assert_true(str_eq(route_of_domain(STR("x.example.org")), STR("org:2")));
    assert_true(str_eq(route_of_domain(STR("a.sub.Example.ORG")), STR("sub:3")));
    assert_true(str_eq(route_of_domain(STR("notexample.org")), STR("all:1")));
    assert_int_equal(route_check_settings(&err), 0);
    config_set(STR("delivery_routes"), STR("example.org=bad:port"), &err);
    assert_int_equal(route_check_settings(&err), -1);
    config_set(STR("delivery_routes"), STR("=x"), NULL);
    assert_int_equal(route_check_settings(NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_read),
        cmocka_unit_test(policies_are_read),
        cmocka_unit_test(a_wildcard_stands_for_one_label),
        cmocka_unit_test(ways_are_read),
        cmocka_unit_test(the_closest_domain_names_the_way),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
