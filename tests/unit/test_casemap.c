/* test_casemap.c - i;unicode-casemap (RFC 5051). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "server/base/casemap.h"

static void texts_have_their_form(void **state)
{
    static const struct {
        const char *text, *form;
    } rows[] = {
        {"", ""},
        {"abcXYZ 09_@", "ABCXYZ 09_@"},
        {"\xc3\xa9", "E\xcc\x81"},                /* e acute */
        {"\xc3\x89", "E\xcc\x81"},                /* E acute */
        {"e\xcc\x81", "E\xcc\x81"},               /* taken apart already */
        {"\xc7\x84", "Dz\xcc\x8c"},               /* U+01C4, the example of RFC 5051 */
        {"\xc7\x86", "Dz\xcc\x8c"},               /* its small form */
        {"\xef\xac\x81", "fi"},                   /* a ligature has no title case of its own */
        {"\xc3\x9f", "\xc3\x9f"},                 /* sharp s stays */
        {"\xc2\xa0", " "},                        /* no-break space */
        {"\xf0\x90\x90\xa8", "\xf0\x90\x90\x80"}, /* Deseret, beyond 16 bits */
        {"a\xff", "a\xff"},                       /* not UTF-8: as it is */
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf out;
        buf_init(&out, SIZE_MAX);
        casemap_add(&out, str_c(rows[i].text));
        print_message("%s\n", rows[i].text);
        assert_true(str_eq(buf_str(&out), str_c(rows[i].form)));
        buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_have_their_form),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
