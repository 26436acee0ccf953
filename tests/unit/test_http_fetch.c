/* test_http_fetch.c - which URLs a request can be made of. Requests themselves: tests/integration/test_remote.py, test_reports.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mail/mime/mailto.h"
#include "server/run/http_fetch.h"

static void check_url(const char *url, const char *host, int port, const char *target)
{
    struct str h, t;
    uint16_t p;

    assert_true(http_url_parse(str_c(url), &h, &p, &t));
    assert_true(str_eq(h, str_c(host)));
    assert_int_equal(p, port);
    assert_true(str_eq(t, str_c(target)));
}

static void urls_come_apart(void **state)
{
    (void)state;
    check_url("https://a.test/v1?x=y", "a.test", 443, "/v1?x=y");
    check_url("HTTPS://a.test:8443/", "a.test", 8443, "/");
    check_url("https://a.test", "a.test", 443, "/");
}

static void what_could_end_a_line_or_name_somebody_else_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "http://a.test/",
                                      "https://",
                                      "https:///x",
                                      "https://a.test/ x",
                                      "https://a.test/\r\nX: y",
                                      "https://u@a.test/",
                                      "https://a.test:0/",
                                      "https://a.test:70000/",
                                      "https://a.test:x/",
                                      "https://a.test/#f",
                                      "https://[::1]/",
                                      "https://a b/",
                                      "mailto:a@b.test"};
    struct str host, target;
    uint16_t port;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(http_url_parse(str_c(bad[i]), &host, &port, &target));
}

static void mailto_names_one_address(void **state)
{
    struct arena *a = arena_new();
    struct str address;

    (void)state;
    assert_true(mailto_parse(a, STR(" mailto:a%2Bb@c.test?subject=x "), &address));
    assert_true(str_eq(address, STR("a+b@c.test")));
    assert_false(mailto_parse(a, STR("mailto:a%0Ab@c.test"), &address));
    assert_false(mailto_parse(a, STR("mailto:a%2"), &address));
    assert_false(mailto_parse(a, STR("mailto:@c.test"), &address));
    assert_false(mailto_parse(a, STR("https://c.test"), &address));
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_come_apart),
        cmocka_unit_test(what_could_end_a_line_or_name_somebody_else_is_refused),
        cmocka_unit_test(mailto_names_one_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
