/* test_sieve_parse.c - tokens and grammar of Sieve (RFC 5228, 8). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/sieve/sieve_lex.h"
#include "mail/sieve/sieve_parse.h"
#include "server/base/buf.h"

static struct arena *arena;
static struct sieve_fault fault;

static int setup(void **state)
{
    arena = arena_new();
    fault = (struct sieve_fault){0};
    return 0;
}

static int teardown(void **state)
{
    arena_free(&arena);
    return 0;
}

/* Every token as its kind and text, with spaces between; NULL when there is a fault. */
static const char *tokens(struct str text)
{
    static const char letters[] = {
        [SIEVE_TOKEN_END] = '.',    [SIEVE_TOKEN_IDENTIFIER] = 'i', [SIEVE_TOKEN_TAG] = ':',
        [SIEVE_TOKEN_NUMBER] = 'n', [SIEVE_TOKEN_STRING] = 's',     [SIEVE_TOKEN_SIGN] = '-'};
    struct sieve_report report = {arena, &fault};
    struct sieve_lexer lexer;
    struct sieve_token token;
    struct str shown = STR("");

    fault = (struct sieve_fault){0};
    if (sieve_lex_init(&lexer, arena, &report, text) < 0)
        return NULL;
    do {
        if (sieve_lex_next(&lexer, &token) < 0)
            return NULL;
        if (token.kind == SIEVE_TOKEN_NUMBER)
            shown =
                arena_printf(arena, "%.*sn%llu ", STR_ARG(shown), (unsigned long long)token.number);
        else
            shown = arena_printf(arena, "%.*s%c%.*s ", STR_ARG(shown), letters[token.kind],
                                 STR_ARG(token.text));
    } while (token.kind != SIEVE_TOKEN_END);
    return arena_c(arena, shown);
}

static void tokens_are_as_the_rfc_says(void **state)
{
    static const struct {
        const char *text, *tokens;
    } rows[] = {
        {"", ". "},
        {"if keep _a1", "iif ikeep i_a1 . "},
        {":is :Copy", ":is :Copy . "},
        {"0 17 1K 2m 1G", "n0 n17 n1024 n2097152 n1073741824 . "},
        {"9223372036854775807", "n9223372036854775807 . "},
        {"\"a\" \"\" \"q\\\"b\\\\c\\d\"", "sa s sq\"b\\cd . "},
        {"\"a\nb\" \"c\r\nd\"", "sa\r\nb sc\r\nd . "},
        {"# comment\nkeep/* more\n * of it **/;", "ikeep -; . "},
        {"[]{}(),;", "-[ -] -{ -} -( -) -, -; . "},
        {"text:\nline\n..dot\n.\n;", "sline\r\n.dot\r\n -; . "},
        {"text: # say\r\na\r\n\r\n.x\r\n.\r\n", "sa\r\n\r\n.x\r\n . "},
        {"text:\n.", "s . "},
        {"Text \"text:\"", "iText stext: . "},
        {"\xef\xbb\xbfkeep", "ikeep . "},
        {"\"r\xc3\xa9sum\xc3\xa9\"", "sr\xc3\xa9sum\xc3\xa9 . "},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(tokens(str_c(rows[i].text)), rows[i].tokens);
}

static void what_is_no_token_is_refused_where_it_stands(void **state)
{
    static const struct {
        struct str text;
        unsigned line, column;
    } rows[] = {
        {STR("keep;\n  \"open"), 2, 3},
        {STR("keep;\n/* open *"), 2, 1},
        {STR("text:\nno end\n"), 1, 1},
        {STR("text: more\n.\n"), 1, 1},
        {STR("100X"), 1, 1},
        {STR("9223372036854775808"), 1, 1},
        {STR("99999999999999999999999999"), 1, 1},
        {STR("9007199254740992K 9223372036854775807K"), 1, 1},
        {STR("8589934592G"), 1, 1},
        {STR("a : b"), 1, 3},
        {STR("a 'b'"), 1, 3},
        {STR("\"\xc3\xa9\" &"), 1, 5},
        {STR("a\n\xc3\xa9 \xff"), 2, 3},
        {STR("a\0b"), 1, 2},
        {STR("\"\xed\xa0\x80\""), 1, 2},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_null(tokens(rows[i].text));
        assert_int_equal(fault.line, rows[i].line);
        assert_int_equal(fault.column, rows[i].column);
        assert_true(fault.text.n > 0);
    }
}

static void long_lines_and_many_escapes_take_linear_time(void **state)
{
    struct buf text;

    buf_init(&text, SIEVE_SIZE_MAX);
    for (int i = 0; i < 100000; i++)
        buf_adds(&text, "\"\\\\\" ");
    assert_non_null(text.p);
    struct sieve_report report = {arena, &fault};
    struct sieve_lexer lexer;
    struct sieve_token token;
    unsigned count = 0;

    assert_int_equal(sieve_lex_init(&lexer, arena, &report, buf_str(&text)), 0);
    while (sieve_lex_next(&lexer, &token) == 0 && token.kind != SIEVE_TOKEN_END)
        count++;
    assert_int_equal(count, 100000);
    assert_int_equal(token.column, 500001);
    buf_fini(&text);
}

/* --- grammar -------------------------------------------------------------------------------------- */

static struct sieve_node *parse(struct str text)
{
    struct sieve_report report = {arena, &fault};
    struct sieve_node *nodes;

    fault = (struct sieve_fault){0};
    return sieve_parse(arena, arena, text, &report, &nodes) == 0 ? nodes : NULL;
}

static void a_command_has_arguments_tests_and_a_block(void **state)
{
    struct sieve_node *node =
        parse(STR("if anyof (a :t \"x\" [\"y\", \"z\"] 5, not b) {\n keep; stop; }\nnext;"));

    assert_non_null(node);
    assert_true(str_eq(node->name, STR("if")));
    assert_true(node->has_block && !node->has_test_list);
    assert_true(node->tests->has_test_list);
    assert_true(str_eq(node->tests->tests->words->tag, STR("t")));
    assert_int_equal(node->tests->tests->words->next->next->strings_count, 2);
    assert_true(node->tests->tests->words->next->next->is_list);
    assert_int_equal(node->tests->tests->words->next->next->next->number, 5);
    assert_true(str_eq(node->tests->tests->next->tests->name, STR("b")));
    assert_true(str_eq(node->block->next->name, STR("stop")));
    assert_int_equal(node->block->line, 2);
    assert_int_equal(node->block->column, 2);
    assert_true(str_eq(node->next->name, STR("next")));
    assert_int_equal(node->next->line, 3);
}

static void broken_grammar_is_refused_where_it_breaks(void **state)
{
    static const struct {
        const char *text;
        unsigned line, column;
        const char *says;
    } rows[] = {
        {"keep", 1, 5, "\";\""},
        {"keep;\n}", 2, 1, "closes no block"},
        {"if true {\n  keep;\n", 1, 9, "has no end"},
        {"a [\"x\" \"y\"];", 1, 8, "closing \"]\""},
        {"a [];", 1, 4, "string"},
        {"a [\"x\",];", 1, 8, "string"},
        {"a (b c);", 1, 8, NULL},
        {"a (b, );", 1, 7, "test"},
        {"a (b;", 1, 5, "closing \")\""},
        {"\"x\";", 1, 1, "instead of a string"},
        {"a b, c;", 1, 4, "before \",\""},
        {"a { b; };", 1, 9, "instead of \";\""},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].says == NULL) {
            assert_non_null(parse(str_c(rows[i].text)));
            continue;
        }
        assert_null(parse(str_c(rows[i].text)));
        assert_int_equal(fault.line, rows[i].line);
        assert_int_equal(fault.column, rows[i].column);
        assert_true(str_find(fault.text, str_c(rows[i].says)) >= 0);
    }
}

static struct str repeated(const char *what, unsigned count, const char *then)
{
    struct buf b;
    struct str s;

    buf_init(&b, SIEVE_SIZE_MAX);
    while (count-- > 0)
        buf_adds(&b, what);
    buf_adds(&b, then);
    s = arena_str(arena, buf_str(&b));
    buf_fini(&b);
    return s;
}

static void nesting_and_numbers_are_limited(void **state)
{
    assert_non_null(parse(repeated("if ", 20, "true;")));
    assert_null(parse(repeated("if ", 200000, "true;")));
    assert_true(str_find(fault.text, STR("deep")) >= 0);
    assert_null(parse(repeated("a{", 300000, "")));
    assert_true(str_find(fault.text, STR("deep")) >= 0);
    assert_null(parse(repeated("a(b", 200000, "")));
    assert_true(str_find(fault.text, STR("deep")) >= 0);
    assert_null(parse(repeated("a;", SIEVE_COMMANDS_MAX + 1, "")));
    assert_true(str_find(fault.text, STR("50000 commands")) >= 0);
    assert_non_null(parse(repeated("a;", SIEVE_COMMANDS_MAX, "")));
    assert_null(parse(
        repeated("a \"\"", SIEVE_COMMANDS_MAX - 1, repeated("\"\"", SIEVE_STRINGS_MAX, ";").p)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tokens_are_as_the_rfc_says, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_token_is_refused_where_it_stands, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(long_lines_and_many_escapes_take_linear_time, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_command_has_arguments_tests_and_a_block, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_grammar_is_refused_where_it_breaks, setup, teardown),
        cmocka_unit_test_setup_teardown(nesting_and_numbers_are_limited, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
