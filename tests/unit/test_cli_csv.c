/* test_cli_csv.c - rows and fields as spreadsheets write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "server/cli/cli_csv.h"

static struct arena *arena;

/* Rows as "field|field/field|field". */
static int read_all(const char *text, struct str *joined, struct error *err)
{
    struct csv_row row;
    struct csv csv;
    int status;

    *joined = STR("");
    csv_open(&csv, str_c(text));
    while ((status = csv_next(&csv, arena, &row, err)) > 0) {
        if (joined->n > 0)
            *joined = arena_printf(arena, "%.*s/", STR_ARG(*joined));
        for (size_t i = 0; i < row.count; i++)
            *joined = arena_printf(arena, "%.*s%s%.*s", STR_ARG(*joined), i > 0 ? "|" : "",
                                   STR_ARG(row.fields[i]));
    }
    return status;
}

static void rows_are_read(void **state)
{
    static const struct {
        const char *text, *rows, *refusal;
    } rows[] = {
        {"", "", NULL},
        {"a,b\nc,d\n", "a|b/c|d", NULL},
        {"a,b\r\nc,d", "a|b/c|d", NULL},
        {"\xef\xbb\xbf"
         "a,b",
         "a|b", NULL},
        {"a,,\n,b", "a||/|b", NULL},
        {"\n\na\n\r\n\nb\n\n", "a/b", NULL},
        {"\"a\",\"b,c\"", "a|b,c", NULL},
        {"\"say \"\"hi\"\"\",x", "say \"hi\"|x", NULL},
        {"\"\"\"\"", "\"", NULL},
        {"\"two\nlines\",x\ny", "two\nlines|x/y", NULL},
        {"\"\",\"\"", "|", NULL},
        {" a , b", " a | b", NULL},
        {"a\"b,c", "a\"b|c", NULL},
        {"\"a", NULL, "line 1: a quoted field has no end"},
        {"x\n\"a\"\"", NULL, "line 2: a quoted field has no end"},
        {"x\n\n\"a\nb\",c\n\"d\"e", NULL, "line 5: something follows"},
        {",,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,", NULL,
         "more than 64 fields"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct error err = {0};
        struct str joined;
        int status = read_all(rows[i].text, &joined, &err);

        assert_int_equal(status, rows[i].rows != NULL ? 0 : -1);
        if (rows[i].rows != NULL)
            assert_string_equal(arena_c(arena, joined), rows[i].rows);
        else
            assert_non_null(strstr(err.text, rows[i].refusal));
    }
}

static int setup(void **state)
{
    arena = arena_new();
    return 0;
}

static int teardown(void **state)
{
    arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_read),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
