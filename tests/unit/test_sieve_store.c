/* test_sieve_store.c - scripts of accounts and domains, and what their runs remember. */
#include "tests/unit/store_fixture.h"

#include "mail/sieve/sieve.h"
#include "mail/store/sieve_store.h"
#include "server/base/date.h"

static void start_clean(void)
{
    fixture_sql("TRUNCATE sieve_script, sieve_domain_script, sieve_memory");
}

static size_t count_scripts(int64_t account_id)
{
    struct sieve_listed *v;
    size_t count;

    assert_done(sieve_store_list(store_arena, account_id, &v, &count, &err));
    return count;
}

CASE(a_script_is_kept_under_its_name)
{
    struct sieve_listed *v;
    struct str content;
    size_t count;

    start_clean();
    assert_done(sieve_store_put(1, STR("b"), STR("keep;"), &err));
    assert_done(sieve_store_put(1, STR("a \xc3\xbc"), STR("discard;"), &err));
    assert_done(sieve_store_put(1, STR("b"), STR("keep; # again"), &err));
    assert_done(sieve_store_list(store_arena, 1, &v, &count, &err));
    assert_int_equal(count, 2);
    assert_str(v[0].name, STR("a \xc3\xbc"));
    assert_str(v[1].name, STR("b"));
    assert_int_equal(v[1].size, 13);
    assert_false(v[1].is_active);
    assert_done(sieve_store_get(store_arena, 1, STR("b"), &content, &err));
    assert_str(content, STR("keep; # again"));
    assert_refused(sieve_store_get(store_arena, 2, STR("b"), &content, &err), ERR_NOT_FOUND);
    assert_refused(sieve_store_put(999, STR("b"), STR("keep;"), &err), ERR_NOT_FOUND);
}

CASE(one_script_is_active_and_cannot_be_removed)
{
    start_clean();
    assert_done(sieve_store_put(1, STR("a"), STR("keep;"), &err));
    assert_done(sieve_store_put(1, STR("b"), STR("keep;"), &err));
    assert_done(sieve_store_activate(1, STR("a"), &err));
    assert_refused(sieve_store_activate(1, STR("c"), &err), ERR_NOT_FOUND);
    assert_int_equal(fixture_sql("SELECT count(*) FROM sieve_script WHERE is_active"), 1);
    assert_refused(sieve_store_remove(1, STR("a"), &err), ERR_CONFLICT);
    assert_done(sieve_store_activate(1, STR("b"), &err));
    assert_done(sieve_store_remove(1, STR("a"), &err));
    assert_done(sieve_store_rename(1, STR("b"), STR("a"), &err));
    assert_int_equal(
        fixture_sql("SELECT count(*) FROM sieve_script WHERE is_active AND name = 'a'"), 1);
    assert_done(sieve_store_activate(1, STR(""), &err));
    assert_refused(sieve_store_remove(1, STR("b"), &err), ERR_NOT_FOUND);
    assert_done(sieve_store_remove(1, STR("a"), &err));
    assert_int_equal(count_scripts(1), 0);
}

CASE(a_rename_takes_no_other_name)
{
    start_clean();
    assert_done(sieve_store_put(1, STR("a"), STR("keep;"), &err));
    assert_done(sieve_store_put(1, STR("b"), STR("keep;"), &err));
    assert_refused(sieve_store_rename(1, STR("a"), STR("b"), &err), ERR_EXISTS);
    assert_refused(sieve_store_rename(1, STR("c"), STR("d"), &err), ERR_NOT_FOUND);
    assert_refused(sieve_store_rename(1, STR("a"), STR("x\ny"), &err), ERR_SYNTAX);
    assert_int_equal(count_scripts(1), 2);
}

CASE(the_number_of_scripts_and_their_bytes_are_limited)
{
    struct str big = arena_printf(store_arena, "keep; #%*s", 1000000, "");
    char name[20];

    start_clean();
    for (int i = 0; i < SIEVE_SCRIPTS_MAX; i++) {
        snprintf(name, sizeof name, "s%d", i);
        assert_done(sieve_store_put(1, str_c(name), STR("keep;"), &err));
    }
    assert_refused(sieve_store_put(1, STR("one more"), STR("keep;"), &err), ERR_LIMIT);
    assert_refused(sieve_store_check_room(1, STR("one more"), 5, &err), ERR_LIMIT);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "s%d", i);
        assert_done(sieve_store_put(1, str_c(name), big, &err));
    }
    assert_refused(sieve_store_put(1, STR("s4"), big, &err), ERR_OVER_QUOTA);
    assert_refused(sieve_store_check_room(1, STR("s4"), big.n, &err), ERR_OVER_QUOTA);
    assert_done(sieve_store_check_room(1, STR("s3"), big.n, &err));
    assert_refused(sieve_store_check_room(1, STR("s3"), SIEVE_SIZE_MAX + 1, &err), ERR_TOO_BIG);
    assert_int_equal(count_scripts(1), SIEVE_SCRIPTS_MAX);
}

CASE(names_are_text_without_control_characters)
{
    char long_name[SIEVE_NAME_SIZE_MAX + 2];

    memset(long_name, 'x', sizeof long_name);
    assert_done(sieve_name_check(STR("r\xc3\xa9gles \xf0\x9f\x93\xa7 /\"'"), &err));
    assert_done(sieve_name_check(str_of(long_name, SIEVE_NAME_SIZE_MAX), &err));
    assert_refused(sieve_name_check(str_of(long_name, SIEVE_NAME_SIZE_MAX + 1), &err), ERR_SYNTAX);
    assert_refused(sieve_name_check(STR(""), &err), ERR_SYNTAX);
    assert_refused(sieve_name_check(STR("a\tb"), &err), ERR_SYNTAX);
    assert_refused(sieve_name_check(STR("a\xe2\x80\xa8z"), &err), ERR_SYNTAX);
    assert_refused(sieve_name_check(STR("a\xc2\x85z"), &err), ERR_SYNTAX);
    assert_refused(sieve_name_check(STR("a\xffz"), &err), ERR_SYNTAX);
}

CASE(scripts_of_the_domain_run_around_the_accounts_own)
{
    struct sieve_domain_listed *listed;
    struct sieve_running *v;
    struct str content;
    size_t count;

    start_clean();
    assert_done(sieve_store_running(store_arena, 1, &v, &count, &err));
    assert_int_equal(count, 0);
    fixture_sql("INSERT INTO domain (name) VALUES ('sieve.test') ON CONFLICT DO NOTHING");
    fixture_sql("INSERT INTO address (address, domain_id, account_id, is_primary) "
                "SELECT 'one@sieve.test', domain_id, 1, true FROM domain WHERE name = 'sieve.test' "
                "ON CONFLICT DO NOTHING");
    assert_done(
        sieve_store_domain_put(STR("sieve.test"), STR("z"), SIEVE_PLACE_BEFORE, STR("1"), &err));
    assert_done(
        sieve_store_domain_put(STR("sieve.test"), STR("b"), SIEVE_PLACE_BEFORE, STR("0"), &err));
    assert_done(
        sieve_store_domain_put(STR("sieve.test"), STR("a"), SIEVE_PLACE_AFTER, STR("3"), &err));
    assert_done(
        sieve_store_domain_put(STR("sieve.test"), STR("i"), SIEVE_PLACE_INCLUDE, STR("9"), &err));
    assert_done(sieve_store_put(1, STR("own"), STR("2"), &err));
    assert_done(sieve_store_put(1, STR("other"), STR("8"), &err));
    assert_done(sieve_store_activate(1, STR("own"), &err));
    assert_done(sieve_store_running(store_arena, 1, &v, &count, &err));
    assert_int_equal(count, 4);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(v[i].content.p[0], '0' + i);
    assert_int_equal(v[1].turn, SIEVE_TURN_BEFORE);
    assert_int_equal(v[2].turn, SIEVE_TURN_OWN);
    assert_int_equal(v[3].turn, SIEVE_TURN_AFTER);

    assert_done(sieve_store_get_global(store_arena, 1, STR("i"), &content, &err));
    assert_str(content, STR("9"));
    assert_refused(sieve_store_get_global(store_arena, 2, STR("i"), &content, &err), ERR_NOT_FOUND);
    assert_done(sieve_store_domain_list(store_arena, STR("sieve.test"), &listed, &count, &err));
    assert_int_equal(count, 4);
    assert_int_equal(listed[0].place, SIEVE_PLACE_AFTER);
    assert_refused(
        sieve_store_domain_put(STR("else.test"), STR("z"), SIEVE_PLACE_BEFORE, STR("1"), &err),
        ERR_NOT_FOUND);
    assert_done(sieve_store_domain_remove(STR("sieve.test"), STR("i"), &err));
    assert_refused(sieve_store_domain_remove(STR("sieve.test"), STR("i"), &err), ERR_NOT_FOUND);
    assert_refused(sieve_store_domain_get(store_arena, STR("sieve.test"), STR("i"), &content, &err),
                   ERR_NOT_FOUND);
}

CASE(what_was_remembered_is_until_it_expires)
{
    struct str told[] = {STR("vacation"), STR("h"), STR("x@example.net")};
    struct str like[] = {STR("vacation"), STR("hx"), STR("@example.net")};
    int64_t now_us = time_now_us(), count;
    bool is_new, is_known;

    start_clean();
    assert_done(sieve_store_remembers(1, told, 3, &is_known, &err));
    assert_false(is_known);
    assert_done(sieve_store_remember(1, told, 3, now_us + 60000000, &is_new, &err));
    assert_true(is_new);
    assert_done(sieve_store_remember(1, told, 3, now_us + 90000000, &is_new, &err));
    assert_false(is_new);
    assert_done(sieve_store_remember(2, told, 3, now_us - 1000000, &is_new, &err));
    assert_true(is_new);
    assert_done(sieve_store_remember(1, like, 3, now_us - 1000000, &is_new, &err));
    assert_true(is_new);
    assert_done(sieve_store_remembers(1, told, 3, &is_known, &err));
    assert_true(is_known);
    assert_done(sieve_store_remembers(1, like, 3, &is_known, &err));
    assert_false(is_known);
    assert_done(sieve_store_forget_expired(&count, &err));
    assert_int_equal(count, 2);
    assert_done(sieve_store_forget_expired(&count, &err));
    assert_int_equal(count, 0);

    assert_done(sieve_store_remember_anew(1, told, 3, now_us - 1000000, &err));
    assert_done(sieve_store_remembers(1, told, 3, &is_known, &err));
    assert_false(is_known);
    assert_done(sieve_store_remember_anew(1, told, 3, now_us + 60000000, &err));
    assert_done(sieve_store_forget(1, told, 3, &err));
    assert_done(sieve_store_remembers(1, told, 3, &is_known, &err));
    assert_false(is_known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_script_is_kept_under_its_name),
        cmocka_unit_test(one_script_is_active_and_cannot_be_removed),
        cmocka_unit_test(a_rename_takes_no_other_name),
        cmocka_unit_test(the_number_of_scripts_and_their_bytes_are_limited),
        cmocka_unit_test(names_are_text_without_control_characters),
        cmocka_unit_test(scripts_of_the_domain_run_around_the_accounts_own),
        cmocka_unit_test(what_was_remembered_is_until_it_expires),
    };
    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
