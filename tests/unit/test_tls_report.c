/* test_tls_report.c - where domains want TLS reports. Reports themselves are read in tests/integration/test_dmarc.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/report/tls_report.h"

static void records_name_where_reports_go(void **state)
{
    static const struct {
        const char *text;
        size_t count; /* 0: refused */
        const char *first;
    } rows[] = {
        /* RFC 8460, 3.1 */
        {"v=TLSRPTv1;rua=mailto:reports@example.com", 1, "mailto:reports@example.com"},
        {"v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt", 1,
         "https://reporting.example.com/v1/tlsrpt"},
        {"v=TLSRPTv1; rua=mailto:a@b.test , https://b.test/x; ext=1", 2, "mailto:a@b.test"},
        {"v=TLSRPTv1; rua=http://b.test, ftp://c, mailto:a@b.test", 1, "mailto:a@b.test"},
        {"v=TLSRPTv1;", 0, ""},
        {"v=TLSRPTv1; rua=", 0, ""},
        {"v=TLSRPTv1; rua=mailto:", 0, ""},
        {"v=TLSRPTv1; rua=mailto:a b@c.test", 0, ""},
        {"v=TLSRPTv1; rua=https://a.test/\r\nX: y", 0, ""},
        {"v=TLSRPTv2; rua=mailto:a@b.test", 0, ""},
        {"rua=mailto:a@b.test; v=TLSRPTv1", 0, ""},
        {"", 0, ""},
    };
    struct tls_report_uris uris;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        print_message("%s\n", rows[i].text);
        assert_int_equal(tls_report_record_parse(str_c(rows[i].text), &uris), rows[i].count > 0);
        assert_int_equal(uris.n, rows[i].count);
        if (uris.n > 0)
            assert_true(str_eq(uris.v[0], str_c(rows[i].first)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(records_name_where_reports_go)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
