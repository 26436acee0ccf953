/* test_directory.c - accounts and addresses against a real server: who is found, what is refused. */
#include "tests/unit/directory_fixture.h"

CASE(an_account_is_found_by_each_of_its_addresses)
{
    struct account_new n = {.kind = ACCOUNT_SHARED,
                            .address = STR("Info@EXAMPLE.test"),
                            .name = STR("Büro"),
                            .quota_bytes = 5 << 20,
                            .quota_messages = QUOTA_UNLIMITED};
    struct account found;
    struct error err = {0};
    int64_t account_id;

    config.quota_messages = 7;
    assert_int_equal(account_add(&n, &account_id, &err), 0);
    assert_int_equal(alias_add(STR("contact@other.test"), STR("info@example.test"), &err), 0);
    assert_int_equal(directory_find_account(arena, STR("Contact@Other.Test"), &found, &err), 0);
    assert_int_equal(found.account_id, account_id);
    assert_int_equal(found.kind, ACCOUNT_SHARED);
    assert_true(found.is_active);
    assert_str(found.address, "info@example.test");
    assert_str(found.name, "Büro");
    assert_int_equal(found.quota_bytes, 5 << 20);
    assert_int_equal(found.quota_messages, 0);
    assert_int_equal(
        account_set_quota(STR("info@example.test"), QUOTA_DEFAULT, QUOTA_DEFAULT, &err), 0);
    assert_int_equal(directory_get_account(arena, account_id, &found, &err), 0);
    assert_int_equal(found.quota_messages, 7);
}

CASE(account_add_refuses)
{
    static const struct {
        struct account_new n;
        enum error_kind refusal;
        const char *says;
    } rows[] = {
        {{.address = STR("x@nowhere.test")}, ERR_NOT_FOUND, "merpati domain add nowhere.test"},
        {{.address = STR("A@example.test")}, ERR_EXISTS, "a@example.test is taken"},
        {{.address = STR("alias@example.test")}, ERR_EXISTS, "taken"},
        {{.address = STR("nonsense")}, ERR_SYNTAX, "name@domain"},
        {{.address = STR("x@example.test"), .name = STR("\xff")}, ERR_SYNTAX, "UTF-8"},
        {{.address = STR("x@example.test"), .password = STR("p"), .password_hash = STR("$6$")},
         ERR_SYNTAX,
         "not both"},
        {{.address = STR("x@example.test"), .password_hash = STR("{SSHA}abc")},
         ERR_UNSUPPORTED,
         "SSHA"},
        {{.address = STR("x@example.test"), .kind = ACCOUNT_GROUP, .password = STR("p")},
         ERR_SYNTAX,
         "group"},
    };
    struct error err = {0};

    make_person("a@example.test");
    alias_add(STR("alias@example.test"), STR("a@example.test"), &err);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        err = (struct error){0};
        assert_int_equal(account_add(&rows[i].n, NULL, &err), -1);
        assert_int_equal(err.kind, rows[i].refusal);
        assert_non_null(strstr(err.text, rows[i].says));
    }
    assert_int_equal(fixture_sql("SELECT count(*) FROM account"), 1);
}

CASE(many_accounts_stop_at_the_first_refusal)
{
    enum { COUNT = 130, BAD = 117 };
    struct account_new *v = ARENA_ARRAY(arena, COUNT, struct account_new);
    struct error err = {0};
    size_t done;

    for (int i = 0; i < COUNT; i++)
        v[i].address = arena_printf(arena, "u%d@%s", i, i == BAD ? "nowhere.test" : "example.test");
    v[3].password = v[4].password = STR("the same");
    assert_int_equal(account_add_many(v, COUNT, &done, &err), -1);
    assert_int_equal(done, BAD);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_int_equal(fixture_sql("SELECT count(*) FROM account"), BAD);
    assert_int_equal(fixture_sql("SELECT count(DISTINCT crypt) FROM credential"), 2);

    v[BAD].address = STR("nonsense");
    assert_int_equal(account_add_many(v + BAD - 2, 10, &done, &err), -1);
    assert_int_equal(done, 0);
    err = (struct error){0};
    assert_int_equal(account_add_many(v + BAD, 5, &done, &err), -1);
    assert_int_equal(err.kind, ERR_SYNTAX);
    v[BAD].address = STR("good@example.test");
    assert_int_equal(account_add_many(v + BAD, 5, &done, &err), 0);
    assert_int_equal(done, 5);
}

CASE(a_new_account_has_mailboxes_unless_it_is_a_group)
{
    make_person("a@example.test");
    make_account("g@example.test", ACCOUNT_GROUP, NULL);
    assert_true(fixture_sql("SELECT count(*) FROM mailbox WHERE account_id = 1") > 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM mailbox WHERE account_id = 2"), 0);
}

CASE(a_removed_account_keeps_its_number)
{
    struct account found;
    struct error err = {0};

    make_person("a@example.test");
    assert_int_equal(account_remove(STR("a@example.test"), &err), 0);
    assert_int_equal(directory_find_account(arena, STR("a@example.test"), &found, &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_int_equal(make_person("a@example.test"), 2);
    err = (struct error){0};
    assert_int_equal(account_restore(1, STR_NULL, &err), -1);
    assert_int_equal(err.kind, ERR_EXISTS);
    err = (struct error){0};
    assert_int_equal(account_restore(1, STR("old@example.test"), &err), 0);
    assert_int_equal(directory_find_account(arena, STR("old@example.test"), &found, &err), 0);
    assert_int_equal(found.account_id, 1);
    assert_int_equal(account_restore(1, STR_NULL, &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

CASE(a_domain_in_use_stays)
{
    struct error err = {0};
    struct str *names;
    size_t count;

    make_person("a@example.test");
    assert_int_equal(domain_remove(STR("example.test"), &err), -1);
    assert_int_equal(err.kind, ERR_CONFLICT);
    err = (struct error){0};
    assert_int_equal(domain_remove(STR("nowhere.test"), &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_int_equal(domain_remove(STR("other.test"), &err), 0);
    err = (struct error){0};
    assert_int_equal(domain_add(STR("Example.TEST"), &err), -1);
    assert_int_equal(err.kind, ERR_EXISTS);
    assert_int_equal(domain_add(STR("büro.example"), NULL), 0);
    assert_int_equal(domain_list(arena, &names, &count, &err), 0);
    assert_int_equal(count, 2);
    assert_str(names[1], "xn--bro-hoa.example");
}

CASE(lists_come_in_pages)
{
    struct account_usage *usage;
    struct account *accounts;
    struct error err = {0};
    size_t count;

    make_person("b@example.test");
    make_person("a@other.test");
    make_person("a@example.test");
    assert_int_equal(account_list(arena, STR_NULL, STR_NULL, 2, &accounts, &usage, &count, &err),
                     0);
    assert_int_equal(count, 2);
    assert_str(accounts[0].address, "a@example.test");
    assert_str(accounts[1].address, "a@other.test");
    assert_int_equal(
        account_list(arena, STR_NULL, accounts[1].address, 2, &accounts, &usage, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_int_equal(
        account_list(arena, STR("OTHER.test"), STR_NULL, 10, &accounts, &usage, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_int_equal(
        account_list(arena, STR("nowhere.test"), STR_NULL, 10, &accounts, &usage, &count, &err), 0);
    assert_int_equal(count, 0);
}

CASE(groups_tell_why_not)
{
    static const struct {
        const char *group, *member;
        enum error_kind refusal;
    } rows[] = {
        {"g@example.test", "a@example.test", ERR_NONE},
        {"g@example.test", "a@example.test", ERR_EXISTS},
        {"g@example.test", "g@example.test", ERR_DENIED},
        {"a@example.test", "g@example.test", ERR_DENIED},
        {"g@example.test", "nobody@example.test", ERR_NOT_FOUND},
        {"nobody@example.test", "a@example.test", ERR_NOT_FOUND},
        {"nonsense", "a@example.test", ERR_SYNTAX},
    };

    make_person("a@example.test");
    make_account("g@example.test", ACCOUNT_GROUP, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct error err = {0};
        group_add_member(str_c(rows[i].group), str_c(rows[i].member), &err);
        assert_int_equal(err.kind, rows[i].refusal);
    }
    assert_int_equal(group_remove_member(STR("g@example.test"), STR("a@example.test"), NULL), 0);
    assert_int_equal(group_remove_member(STR("g@example.test"), STR("a@example.test"), NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_account_is_found_by_each_of_its_addresses),
        cmocka_unit_test(account_add_refuses),
        cmocka_unit_test(many_accounts_stop_at_the_first_refusal),
        cmocka_unit_test(a_new_account_has_mailboxes_unless_it_is_a_group),
        cmocka_unit_test(a_removed_account_keeps_its_number),
        cmocka_unit_test(a_domain_in_use_stays),
        cmocka_unit_test(lists_come_in_pages),
        cmocka_unit_test(groups_tell_why_not),
    };

    return cmocka_run_group_tests(tests, directory_start, fixture_stop);
}
