/* test_config.c - files of settings: what is read, what is refused and with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "server/run/config.h"

static char folder[] = "/tmp/merpati-config-XXXXXX";
static char path[sizeof folder + 16];
static struct buf errors;

static int make_folder(void **state)
{
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/m.conf", folder);
    return 0;
}

static int remove_folder(void **state)
{
    unlink(path);
    return rmdir(folder);
}

static int set_up(void **state)
{
    buf_init(&errors, 1 << 20);
    config_defaults();
    return 0;
}

static int tear_down(void **state)
{
    buf_fini(&errors);
    config_fini();
    return 0;
}

static int read_bytes(const char *bytes, size_t n)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return config_read(path, &errors);
}

static int read_text(const char *text)
{
    return read_bytes(text, strlen(text));
}

/* The errors without the path in front of each. */
static void assert_errors(const char *wanted)
{
    struct buf got;
    struct str rest = buf_str(&errors), line;

    buf_init(&got, 1 << 20);
    while (str_cut(rest, '\n', &line, &rest)) {
        assert_true(str_skip_prefix(&line, str_c(path)));
        buf_addf(&got, "%.*s\n", STR_ARG(line));
    }
    assert_string_equal(buf_c(&got), wanted);
    buf_fini(&got);
}

static void defaults_are_set(void **state)
{
    assert_string_equal(config.user, "merpati");
    assert_string_equal(config.hostname, "");
    assert_true(config.drain_timeout == 10000);
    assert_true(config.smtp_size_max == 50 << 20);
    assert_true(config.smtp_rcpt_max == 1000);
    assert_true(config.auth_limit);
    assert_false(config.smtp_reverse_lookup);
}

static void numbers_are_read_with_their_units(void **state)
{
    static const struct {
        const char *name, *value;
        bool ok;
        int64_t *member;
        int64_t number;
    } rows[] = {
        {"workers", "0", true, &config.workers, 0},
        {"workers", "256", true, &config.workers, 256},
        {"smtp_size_max", "65536", true, &config.smtp_size_max, 65536},
        {"smtp_size_max", "64K", true, &config.smtp_size_max, 65536},
        {"smtp_size_max", "2g", true, &config.smtp_size_max, 2LL << 30},
        {"smtp_size_max", "3 M", true, &config.smtp_size_max, 3 << 20},
        {"quota_bytes", "0", true, &config.quota_bytes, 0},
        {"tls_reload_interval", "250ms", true, &config.tls_reload_interval, 250},
        {"retention", "7d", true, &config.retention, 7 * 86400000LL},
        {"auth_cache", "0", true, &config.auth_cache, 0},
        {"auth_cache", "5m", true, &config.auth_cache, 300000},
        {"workers", "257", false, NULL, 0},
        {"workers", "-1", false, NULL, 0},
        {"workers", "two", false, NULL, 0},
        {"workers", "", false, NULL, 0},
        {"workers", "1K", false, NULL, 0},
        {"smtp_size_max", "50MB", false, NULL, 0},
        {"smtp_size_max", "1.5M", false, NULL, 0},
        {"quota_bytes", "99999999T", false, NULL, 0},
        {"quota_bytes", "99999999999999999999", false, NULL, 0},
        {"auth_cache", "5", false, NULL, 0},
        {"auth_cache", "5 minutes", false, NULL, 0},
        {"retention", "99999999999d", false, NULL, 0},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error err = {0};
        int result = config_set(str_c(rows[i].name), str_c(rows[i].value), &err);

        if ((result == 0) != rows[i].ok)
            print_error("%s = %s: %s\n", rows[i].name, rows[i].value, err.text);
        assert_int_equal(result, rows[i].ok ? 0 : -1);
        if (rows[i].ok)
            assert_true(*rows[i].member == rows[i].number);
    }
}

static void a_refused_value_leaves_the_old_one(void **state)
{
    struct error err = {0};

    assert_int_equal(config_set(STR("workers"), STR("999"), &err), -1);
    assert_true(config.workers == 0);
    assert_int_equal(config_set(STR("log_level"), STR("loud"), NULL), -1);
    assert_string_equal(config.log_level, "info");
}

static void every_error_names_its_mend(void **state)
{
    static const struct {
        const char *line, *error;
    } rows[] = {
        {"workers = 999", "workers is 999: write 0 to 256"},
        {"workers = many", "workers cannot be \"many\": write a whole number"},
        {"smtp_rcpt_max = 5", "smtp_rcpt_max is 5: write at least 100"},
        {"smtp_size_max = 3G", "smtp_size_max is 3G: write 64K to 2G"},
        {"smtp_size_max = 50 MB",
         "smtp_size_max cannot be \"50 MB\": write a size such as 512, 64K, 50M or 2G"},
        {"auth_cache = 5",
         "auth_cache cannot be \"5\": write a duration such as 500ms, 30s, 10m, 4h or 7d"},
        {"auth_limit = maybe", "auth_limit cannot be \"maybe\": write yes or no"},
        {"log_level = loud", "log_level cannot be \"loud\": write debug, info, warn or error"},
        {"recipient_delimiter = +-",
         "recipient_delimiter cannot be \"+-\": write one character, or nothing"},
        {"wrokers = 2", "there is no setting \"wrokers\": did you mean workers?"},
        {"smtp_max_size = 1M",
         "there is no setting \"smtp_max_size\": did you mean smtp_size_max?"},
        {"Workers = 2", "there is no setting \"Workers\": did you mean workers?"},
        {"xyzzy = 2", "there is no setting \"xyzzy\": `merpati config print` lists all"},
        {"listen_imap [::]", "there is no setting \"listen_imap [\": did you mean listen_imap?"},
        {"workers", "workers has no value: write workers = value"},
        {"= 2", "the name is missing: write name = value"},
        {"[General", "a section is not closed: write [name]"},
        {"hostname = \"mail",
         "hostname is not quoted well: write \"text\", with \\\" for a quote inside"},
        {"hostname = \"mail\" x",
         "hostname is not quoted well: write \"text\", with \\\" for a quote inside"},
        {"hostname = a\tb", "hostname holds a control character: write it without"},
        {"hostname = caf\xe9", "hostname is not UTF-8: write the file in UTF-8"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char wanted[300];

        buf_clear(&errors);
        assert_int_equal(read_text(rows[i].line), -1);
        snprintf(wanted, sizeof wanted, ":1: %s\n", rows[i].error);
        assert_errors(wanted);
    }
}

static void all_errors_are_reported_with_their_lines(void **state)
{
    assert_int_equal(read_text("# a comment\n"
                               "[General]\n"
                               "workers = 999\n"
                               "\n"
                               "  user = ani\n"
                               "nonsense\n"
                               "user = budi\n"
                               "[broken\n"
                               "auth_limit = 1\n"),
                     -1);
    assert_errors(":3: workers is 999: write 0 to 256\n"
                  ":6: there is no setting \"nonsense\": `merpati config print` lists all\n"
                  ":7: user is set already in line 5: remove one of the two\n"
                  ":8: a section is not closed: write [name]\n"
                  ":9: auth_limit cannot be \"1\": write yes or no\n");
    assert_string_equal(config.user, "ani");
}

static void comments_need_a_space_behind_a_value(void **state)
{
    static const struct {
        const char *line, *value;
    } rows[] = {
        {"dns_override = a. A 127.0.0.1; b. MX 10 a.", "a. A 127.0.0.1; b. MX 10 a."},
        {"dns_override = value # why", "value"},
        {"dns_override = value\t; why", "value"},
        {"dns_override = # nothing", ""},
        {"dns_override = ; nothing", ""},
        {"dns_override =", ""},
        {"dns_override = a#b;c", "a#b;c"},
        {"dns_override = \"a ; b # c\"", "a ; b # c"},
        {"dns_override = \" ends \"  # why", " ends "},
        {"dns_override = \"say \\\"x\\\" \\\\\"", "say \"x\" \\"},
        {"dns_override = say \"x\"", "say \"x\""},
        {"dns_override = a = b", "a = b"},
        {"dns_override=tight", "tight"},
        {"   dns_override   =   loose   \r", "loose"},
        {"\xef\xbb\xbf"
         "dns_override = with a byte order mark",
         "with a byte order mark"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(read_text(rows[i].line), 0);
        assert_string_equal(config.dns_override, rows[i].value);
    }
}

static void an_indented_line_is_a_setting_of_its_own(void **state)
{
    assert_int_equal(read_text("user = ani\n  workers = 3\n"), 0);
    assert_string_equal(config.user, "ani");
    assert_true(config.workers == 3);
}

static void long_lines_are_read_whole_or_refused(void **state)
{
    struct buf text;

    buf_init(&text, 1 << 20);
    buf_adds(&text, "dns_override = ");
    for (int i = 0; i < 15000; i++)
        buf_addc(&text, 'x');
    buf_adds(&text, "\nworkers = 3\n");
    assert_int_equal(read_text(buf_c(&text)), 0);
    assert_int_equal(strlen(config.dns_override), 15000);
    assert_true(config.workers == 3);

    buf_truncate(&text, strlen("dns_override = ") + 15000);
    for (int i = 0; i < 15000; i++)
        buf_addc(&text, 'x');
    buf_adds(&text, "\nworkers = 4\n");
    assert_int_equal(read_text(buf_c(&text)), -1);
    assert_errors(":1: the line is longer than 16 KB: write it shorter\n");
    assert_true(config.workers == 4);
    buf_fini(&text);
}

static void nul_bytes_are_named(void **state)
{
    assert_int_equal(read_bytes("user = a\0b\nworkers = 3\n", 23), -1);
    assert_errors(":1: the line holds a NUL byte: write the file as plain text\n");
    assert_string_equal(config.user, "merpati");
    assert_true(config.workers == 3);
}

static void a_certificate_needs_its_key(void **state)
{
    assert_int_equal(read_text("tls_cert = /etc/cert.pem\n"), -1);
    assert_errors(": tls_cert is set without tls_key: set both or none\n");
    assert_int_equal(read_text("tls_cert = /etc/cert.pem\ntls_key = /etc/key.pem\n"), 0);
}

static void a_missing_file_and_a_folder_are_errors(void **state)
{
    assert_int_equal(config_read("/nonexistent/m.conf", &errors), -1);
    assert_string_equal(buf_c(&errors),
                        "/nonexistent/m.conf: cannot be read: No such file or directory\n");
    buf_clear(&errors);
    assert_int_equal(config_read(folder, &errors), -1);
    assert_non_null(strstr(buf_c(&errors), ": cannot be read: Is a directory\n"));
}

static void an_empty_file_changes_nothing(void **state)
{
    assert_int_equal(read_text(""), 0);
    assert_int_equal(read_text("\n\n# only comments\n; of both kinds\n[section]\n"), 0);
    assert_true(config.smtp_rcpt_max == 1000);
}

static char *printed(void (*print)(FILE *))
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);

    assert_non_null(f);
    print(f);
    assert_int_equal(fclose(f), 0);
    return text;
}

static void print_short(FILE *to)
{
    config_print(to, false);
}

static void print_long(FILE *to)
{
    config_print(to, true);
}

static void assert_set(const char *name, const char *value)
{
    assert_int_equal(config_set(str_c(name), str_c(value), NULL), 0);
}

static void what_is_printed_reads_back_the_same(void **state)
{
    void (*const printers[])(FILE *) = {print_short, print_long};

    for (size_t i = 0; i < 2; i++) {
        char *first, *second;

        config_defaults();
        assert_set("hostname", " \"odd\" # name \\");
        assert_set("dns_override", "a ; b");
        assert_set("database", ";begins like a comment");
        assert_set("user", "\"quoted\"");
        assert_set("recipient_delimiter", "#");
        assert_set("smtp_size_max", "70000");
        assert_set("auth_cache", "90s");
        assert_set("retention", "0");
        assert_set("auth_limit", "no");
        first = printed(printers[i]);
        config_defaults();
        assert_int_equal(read_text(first), 0);
        second = printed(printers[i]);
        assert_string_equal(first, second);
        assert_string_equal(config.hostname, " \"odd\" # name \\");
        assert_true(config.smtp_size_max == 70000);
        assert_true(config.auth_cache == 90000);
        assert_true(config.retention == 0);
        assert_false(config.auth_limit);
        free(first);
        free(second);
    }
}

static void json_holds_every_setting(void **state)
{
    char *text;

    assert_set("hostname", "a\"b\\c");
    text = printed(config_print_json);
    assert_non_null(strstr(text, "{\n  \"hostname\": \"a\\\"b\\\\c\",\n"));
    assert_non_null(strstr(text, "  \"drain_timeout\": 10000,\n"));
    assert_non_null(strstr(text, "  \"auth_limit\": true,\n"));
    assert_non_null(strstr(text, "\"\n}\n"));
    free(text);
}

static void docs_have_a_table_for_each_section(void **state)
{
    char *text = printed(config_print_docs);

    assert_non_null(strstr(text, "# Settings\n"));
    assert_non_null(strstr(text, "\n## General\n\n| Name | Type | Default | Range | Meaning |\n"));
    assert_non_null(strstr(text, "\n## Listeners\n\nAddresses separated by commas"));
    assert_non_null(strstr(text, "| `smtp_size_max` | bytes | `50M` | 64K to 2G | Largest"));
    assert_non_null(strstr(text, "| `smtp_rcpt_max` | count | `1000` | at least 100 | Recip"));
    assert_non_null(strstr(text, "| `hostname` | text |  |  | The server's"));
    free(text);
}

static void defaults_stay_within_their_ranges(void **state)
{
    char *text = printed(print_short);

    assert_int_equal(read_text(text), 0);
    free(text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(defaults_are_set),
        TEST(numbers_are_read_with_their_units),
        TEST(a_refused_value_leaves_the_old_one),
        TEST(every_error_names_its_mend),
        TEST(all_errors_are_reported_with_their_lines),
        TEST(comments_need_a_space_behind_a_value),
        TEST(an_indented_line_is_a_setting_of_its_own),
        TEST(long_lines_are_read_whole_or_refused),
        TEST(nul_bytes_are_named),
        TEST(a_certificate_needs_its_key),
        TEST(a_missing_file_and_a_folder_are_errors),
        TEST(an_empty_file_changes_nothing),
        TEST(what_is_printed_reads_back_the_same),
        TEST(json_holds_every_setting),
        TEST(docs_have_a_table_for_each_section),
        TEST(defaults_stay_within_their_ranges),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
