/* test_limiter.c - guessing is slowed down, and nobody is locked out for another's guesses. */
#include "tests/unit/directory_fixture.h"

#include "server/run/channel.h"

static struct str network = STR_NULL;

static enum error_kind try(const char *name, const char *password)
{
    struct login_origin origin = {.service = STR("test"), .address = network};
    struct account account;
    struct error err = {0};

    credential_verify(arena, str_c(name), str_c(password), &origin, &account, &err);
    return err.kind;
}

/* Other passwords each time. */
static void guess(const char *name, int count)
{
    static int serial;

    for (int i = 0; i < count; i++)
        assert_int_equal(try(name, arena_printf(arena, "guess%d", serial++).p), ERR_AUTH);
}

static void begin(void)
{
    struct error err = {0};

    network = STR("192.0.2.7");
    config.auth_guesses_account_max = 3;
    config.auth_guesses_network_max = 6;
    make_person("ani@example.test");
    make_person("budi@example.test");
    assert_int_equal(credential_set_hash(1, STR("$1$saltsalt$wCrc3hcrR95SV83Xh8Z.41"), &err), 0);
    assert_int_equal(credential_set_hash(2, STR("$1$saltsalt$wCrc3hcrR95SV83Xh8Z.41"), &err), 0);
}

CASE(the_same_wrong_password_is_one_guess)
{
    begin();
    for (int i = 0; i < 10; i++)
        assert_int_equal(try("ani@example.test", "stale"), ERR_AUTH);
    assert_int_equal(fixture_sql("SELECT count(*) FROM login_guess"), 1);
    assert_int_equal(try("ani@example.test", "pencil"), ERR_NONE);
}

CASE(different_ones_close_the_account_for_that_network_only)
{
    begin();
    guess("ani@example.test", 3);
    assert_int_equal(try("ani@example.test", "guess again"), ERR_LIMIT);
    assert_int_equal(try("ani@example.test", "pencil"), ERR_LIMIT);
    assert_int_equal(try("Ani@EXAMPLE.test", "pencil"), ERR_LIMIT);
    assert_int_equal(try("budi@example.test", "pencil"), ERR_NONE);
    network = STR("192.0.2.8");
    assert_int_equal(try("ani@example.test", "pencil"), ERR_NONE);
}

CASE(an_alias_is_no_second_chance)
{
    begin();
    assert_int_equal(alias_add(STR("a@example.test"), STR("ani@example.test"), NULL), 0);
    guess("ani@example.test", 2);
    guess("a@example.test", 1);
    assert_int_equal(try("a@example.test", "pencil"), ERR_LIMIT);
}

CASE(a_strange_network_is_closed_as_a_whole)
{
    begin();
    guess("nobody1@example.test", 2);
    guess("nobody2@example.test", 2);
    guess("nobody3@example.test", 2);
    assert_int_equal(try("budi@example.test", "pencil"), ERR_LIMIT);
    network = STR("192.0.2.8");
    assert_int_equal(try("budi@example.test", "pencil"), ERR_NONE);
}

CASE(each_name_that_works_in_a_network_makes_room_there_for_strangers)
{
    begin();
    assert_int_equal(try("budi@example.test", "pencil"), ERR_NONE);
    for (int i = 0; i < 3; i++)
        guess(arena_printf(arena, "nobody%d@example.test", i).p, 3);
    assert_int_equal(try("nobody1@example.test", "x"), ERR_LIMIT);
    assert_int_equal(try("ani@example.test", "pencil"), ERR_NONE);
}

/* One good account is no licence to try everybody else's. */
CASE(a_guesser_with_an_account_of_its_own_is_stopped_all_the_same)
{
    begin();
    for (int i = 0; i < 12; i++) {
        assert_int_equal(try("budi@example.test", "pencil"), ERR_NONE);
        guess(arena_printf(arena, "nobody%d@example.test", i).p, 1);
    }
    assert_int_equal(try("nobody99@example.test", "x"), ERR_LIMIT);
    assert_int_equal(try("ani@example.test", "pencil"), ERR_LIMIT);
    assert_int_equal(try("budi@example.test", "pencil"), ERR_NONE);
    assert_int_equal(try("budi@example.test", "wrong"), ERR_AUTH);
}

CASE(what_is_older_than_the_window_is_forgotten)
{
    begin();
    guess("ani@example.test", 3);
    fixture_sql("UPDATE login_guess SET at = at - interval '30 minutes'");
    assert_int_equal(try("ani@example.test", "pencil"), ERR_LIMIT);
    fixture_sql("UPDATE login_guess SET at = at - interval '31 minutes'");
    assert_int_equal(try("ani@example.test", "pencil"), ERR_NONE);
}

CASE(an_old_guess_made_again_counts_again)
{
    begin();
    assert_int_equal(try("ani@example.test", "stale"), ERR_AUTH);
    fixture_sql("UPDATE login_guess SET at = at - interval '2 hours'");
    assert_int_equal(try("ani@example.test", "stale"), ERR_AUTH);
    assert_int_equal(
        fixture_sql("SELECT count(*) FROM login_guess WHERE at > now() - interval '1 minute'"), 1);
}

CASE(ipv6_counts_by_sixty_four_bits)
{
    begin();
    network = STR("2001:db8:1:2::1");
    guess("ani@example.test", 2);
    network = STR("2001:db8:1:2:ffff::9");
    guess("ani@example.test", 1);
    assert_int_equal(try("ani@example.test", "pencil"), ERR_LIMIT);
    network = STR("2001:db8:1:3::1");
    assert_int_equal(try("ani@example.test", "pencil"), ERR_NONE);
    network = STR("::ffff:192.0.2.7");
    guess("ani@example.test", 1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM login_guess WHERE network = '192.0.2.7'"),
                     1);
}

CASE(a_right_password_leaves_no_guess_behind)
{
    begin();
    assert_int_equal(try("ani@example.test", "pencil"), ERR_NONE);
    assert_int_equal(fixture_sql("SELECT count(*) FROM login_guess"), 0);
    assert_int_equal(
        fixture_sql("SELECT count(*) FROM login_success WHERE name = 'ani@example.test'"), 1);
}

CASE(switched_off_it_counts_nothing)
{
    begin();
    config.auth_limit = false;
    guess("ani@example.test", 20);
    assert_int_equal(try("ani@example.test", "pencil"), ERR_NONE);
    assert_int_equal(fixture_sql("SELECT count(*) FROM login_guess"), 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM login_success"), 0);
}

/* --- all at once ----------------------------------------------------------------------------------- */

static struct {
    int running, serial, admitted, limited;
    struct wait_queue ended;
} flood;

static void guess_in_flood(void *arg)
{
    enum error_kind kind =
        try("ani@example.test", arena_printf(arena, "flood%d", flood.serial++).p);

    flood.admitted += kind == ERR_AUTH;
    flood.limited += kind == ERR_LIMIT;
    if (--flood.running == 0)
        wait_queue_wake_all(&flood.ended);
}

/* Those whose counts cross on their way may all see themselves within the limit: at most one per connection more. */
CASE(a_flood_of_guesses_is_admitted_no_further)
{
    begin();
    config.auth_guesses_network_max = 1000;
    flood.admitted = flood.limited = 0;
    wait_queue_init(&flood.ended);
    for (flood.running = 0; flood.running < 40; flood.running++)
        fiber_start("guesser", guess_in_flood, NULL);
    while (flood.running > 0)
        wait_queue_wait(&flood.ended, NO_DEADLINE);
    assert_int_equal(flood.admitted + flood.limited, 40);
    assert_true(flood.admitted <= 3 + 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_wrong_password_is_one_guess),
        cmocka_unit_test(different_ones_close_the_account_for_that_network_only),
        cmocka_unit_test(an_alias_is_no_second_chance),
        cmocka_unit_test(a_strange_network_is_closed_as_a_whole),
        cmocka_unit_test(each_name_that_works_in_a_network_makes_room_there_for_strangers),
        cmocka_unit_test(a_guesser_with_an_account_of_its_own_is_stopped_all_the_same),
        cmocka_unit_test(what_is_older_than_the_window_is_forgotten),
        cmocka_unit_test(an_old_guess_made_again_counts_again),
        cmocka_unit_test(ipv6_counts_by_sixty_four_bits),
        cmocka_unit_test(a_right_password_leaves_no_guess_behind),
        cmocka_unit_test(switched_off_it_counts_nothing),
        cmocka_unit_test(a_flood_of_guesses_is_admitted_no_further),
    };

    return cmocka_run_group_tests(tests, directory_start, fixture_stop);
}
