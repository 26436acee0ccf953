/* test_log.c - what a log line looks like, and that nobody can forge one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "server/base/log.h"

static char text[64 * 1024];
static FILE *capture;
static int real_stderr;

static void capture_start(void)
{
    capture = tmpfile();
    assert_non_null(capture);
    real_stderr = dup(STDERR_FILENO);
    dup2(fileno(capture), STDERR_FILENO);
}

/* Everything written since capture_start. */
static const char *capture_end(void)
{
    size_t n;

    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    rewind(capture);
    n = fread(text, 1, sizeof text - 1, capture);
    text[n] = '\0';
    fclose(capture);
    return text;
}

/* The part of the line behind its time. */
static const char *line_of(const struct log *log, const struct log_field *fields, unsigned count)
{
    const char *line;

    capture_start();
    log_event(log, LOG_LEVEL_INFO, "tried", fields, count);
    line = capture_end();
    assert_memory_equal(line, "time=2", 6);
    line = strchr(line, ' ');
    assert_non_null(line);
    return line + 1;
}

static const char *line_of_one(const struct log *log, struct log_field field)
{
    return line_of(log, &field, 1);
}

static void values_are_quoted_when_they_could_mislead(void **state)
{
    static const struct {
        const char *value, *printed;
    } rows[] = {
        {"plain", "plain"},
        {"bob@example.org", "bob@example.org"},
        {"", "\"\""},
        {"two words", "\"two words\""},
        {"a=b", "\"a=b\""},
        {"say \"hi\"", "\"say \\\"hi\\\"\""},
        {"back\\slash", "\"back\\\\slash\""},
        {"x\nlevel=error event=forged", "\"x\\nlevel=error event=forged\""},
        {"\r\t\x1b[2J", "\"\\r\\t\\x1b[2J\""},
        {"\x7f\xc2\x9b", "\"\\x7f\\xc2\\x9b\""},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char wanted[200];

        snprintf(wanted, sizeof wanted, "level=info event=tried v=%s\n", rows[i].printed);
        assert_string_equal(line_of_one(NULL, KV("v", rows[i].value)), wanted);
    }
}

static void nul_inside_a_value_is_shown(void **state)
{
    assert_string_equal(line_of_one(NULL, KV("v", str_of("a\0b", 3))),
                        "level=info event=tried v=\"a\\x00b\"\n");
}

static void numbers_keep_their_sign_and_size(void **state)
{
    const struct log_field fields[] = {
        KV("i", -5),
        KV("l", INT64_MIN),
        KV("u", UINT64_MAX),
        KV("yes", (bool)true),
        KV("none", (const char *)NULL),
    };

    assert_string_equal(line_of(NULL, fields, 5),
                        "level=info event=tried i=-5 l=-9223372036854775808 "
                        "u=18446744073709551615 yes=1 none=\"\"\n");
}

static void contexts_come_first_from_the_root_down(void **state)
{
    struct log root, session;

    log_init(&root, NULL);
    log_add(&root, KV("listener", "imap"));
    log_init(&session, &root);
    log_add(&session, KV("session", "6fa1c2"));
    log_add(&session, KV("peer", STR("192.0.2.7")));
    log_set_process("worker-1");
    assert_string_equal(line_of_one(&session, KV("size", 1834)),
                        "level=info event=tried process=worker-1 listener=imap session=6fa1c2 "
                        "peer=192.0.2.7 size=1834\n");
    log_set_process(NULL);
}

static void levels_below_the_lowest_are_silent(void **state)
{
    capture_start();
    log_set_level(LOG_LEVEL_WARN);
    log_debug(NULL, "one");
    log_info(NULL, "two", KV("n", 1));
    log_warn(NULL, "three");
    log_set_level(LOG_LEVEL_INFO);
    assert_non_null(strstr(capture_end(), " level=warn event=three\n"));
    assert_null(strstr(text, "one"));
    assert_null(strstr(text, "two"));
}

static void a_line_stays_within_a_pipe_write(void **state)
{
    static char huge[10000];
    struct log_field fields[8];
    const char *line;

    memset(huge, '\n', sizeof huge - 1);
    for (unsigned i = 0; i < 8; i++)
        fields[i] = KV("v", (const char *)huge);
    line = line_of(NULL, fields, 8);
    assert_true(strlen(text) <= 4096);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    assert_non_null(strstr(line, "...\""));
    assert_non_null(strstr(line, " cut=1\n"));
}

static void level_names_are_known(void **state)
{
    static const struct {
        const char *name;
        bool ok;
        enum log_level level;
    } rows[] = {
        {"debug", true, LOG_LEVEL_DEBUG},
        {"INFO", true, LOG_LEVEL_INFO},
        {"warn", true, LOG_LEVEL_WARN},
        {"error", true, LOG_LEVEL_ERROR},
        {"", false, 0},
        {"warning", false, 0},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum log_level level = 0;

        assert_int_equal(log_parse_level(str_c(rows[i].name), &level), rows[i].ok);
        assert_int_equal(level, rows[i].level);
    }
}

static void the_first_error_is_kept_and_stays_on_one_line(void **state)
{
    struct error err = {0};
    char longer[400];

    assert_int_equal(fail(&err, ERR_DENIED, "no %s", "a\r\nb"), -1);
    assert_int_equal(fail(&err, ERR_INTERNAL, "later"), -1);
    assert_int_equal(err.kind, ERR_DENIED);
    assert_string_equal(err.text, "no a  b");
    assert_int_equal(fail(NULL, ERR_DENIED, "nobody listens"), -1);
    error_clear(&err);
    for (size_t i = 0; i + 3 < sizeof longer; i += 3)
        memcpy(longer + i, "\xe2\x82\xac", 4);
    fail(&err, ERR_SYNTAX, "%s", longer);
    assert_int_equal(strlen(err.text), 237); /* 239 would end inside a character */
    assert_string_equal(error_kind_name(ERR_OVER_QUOTA), "over_quota");
    assert_string_equal(error_kind_name((enum error_kind)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_quoted_when_they_could_mislead),
        cmocka_unit_test(nul_inside_a_value_is_shown),
        cmocka_unit_test(numbers_keep_their_sign_and_size),
        cmocka_unit_test(contexts_come_first_from_the_root_down),
        cmocka_unit_test(levels_below_the_lowest_are_silent),
        cmocka_unit_test(a_line_stays_within_a_pipe_write),
        cmocka_unit_test(level_names_are_known),
        cmocka_unit_test(the_first_error_is_kept_and_stays_on_one_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
