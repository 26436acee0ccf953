/* test_geoip.c - countries from a database of our own making. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <unistd.h>

#include "server/base/log.h"
#include "server/run/config.h"
#include "server/run/geoip.h"
#include "tests/unit/mmdb_fixture.h"

static char path[64];

static int start(void **state)
{
    log_set_level(LOG_LEVEL_ERROR + 1);
    config_defaults();
    snprintf(path, sizeof path, "/tmp/merpati-geoip-%d.mmdb", (int)getpid());
    config.geoip_database = path;
    return 0;
}

static int stop(void **state)
{
    geoip_close();
    unlink(path);
    config.geoip_database = "";
    config_fini();
    return 0;
}

static void write_first(void)
{
    const struct mmdb_network v[] = {{"192.0.2.0", 24, "ID"}, {"198.51.100.0", 25, "DE"}};

    mmdb_write(path, v, 2);
}

static const char *country_of(const char *text)
{
    static char country[3];
    struct sockaddr_storage address = {0};

    if (inet_pton(AF_INET, text, &((struct sockaddr_in *)&address)->sin_addr) == 1)
        address.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)&address)->sin6_addr) == 1)
        address.ss_family = AF_INET6;
    return geoip_country(&address, country) ? country : "?";
}

static void addresses_have_the_country_of_their_network(void **state)
{
    write_first();
    geoip_refresh();
    assert_string_equal(country_of("192.0.2.7"), "ID");
    assert_string_equal(country_of("198.51.100.127"), "DE");
    assert_string_equal(country_of("198.51.100.128"), "?");
    assert_string_equal(country_of("203.0.113.1"), "?");
    assert_string_equal(country_of("2001:db8::1"), "?");
    assert_string_equal(country_of("unix"), "?");
}

static void a_file_that_is_replaced_is_read_anew(void **state)
{
    const struct mmdb_network v[] = {{"192.0.2.0", 24, "FR"}};

    write_first();
    geoip_refresh();
    mmdb_write(path, v, 1);
    assert_string_equal(country_of("192.0.2.7"), "ID");
    geoip_refresh();
    assert_string_equal(country_of("192.0.2.7"), "FR");
}

static void a_broken_file_leaves_the_old_one_in_use(void **state)
{
    struct error err = {0};
    FILE *f;

    write_first();
    geoip_refresh();
    unlink(path);
    f = fopen(path, "we");
    fputs("this is no database", f);
    fclose(f);
    geoip_refresh();
    assert_string_equal(country_of("192.0.2.7"), "ID");
    assert_int_equal(geoip_check_settings(&err), -1);
    assert_non_null(strstr(err.text, path));
}

static void what_is_no_country_is_unknown(void **state)
{
    const struct mmdb_network v[] = {{"192.0.2.0", 24, "xx"}, {"198.51.100.0", 25, "LONG"}};

    mmdb_write(path, v, 2);
    geoip_refresh();
    assert_string_equal(country_of("192.0.2.7"), "?");
    assert_string_equal(country_of("198.51.100.1"), "?");
}

static void without_the_setting_nothing_is_known(void **state)
{
    struct error err = {0};

    geoip_close();
    config.geoip_database = "";
    geoip_refresh();
    assert_int_equal(geoip_check_settings(&err), 0);
    assert_string_equal(country_of("192.0.2.7"), "?");
    config.geoip_database = path;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_have_the_country_of_their_network),
        cmocka_unit_test(a_file_that_is_replaced_is_read_anew),
        cmocka_unit_test(a_broken_file_leaves_the_old_one_in_use),
        cmocka_unit_test(what_is_no_country_is_unknown),
        cmocka_unit_test(without_the_setting_nothing_is_known),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
