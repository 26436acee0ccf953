/* test_directory.c - accounts and addresses against a real server: who is found, where mail goes, what is refused. */
#include "tests/unit/directory_fixture.h"

static struct recipients resolved;

static enum error_kind resolve(const char *local, const char *domain)
{
    struct error err = {0};

    directory_resolve(arena, str_c(local), str_c(domain), &resolved, &err);
    return err.kind;
}

static void join(const char *group, const char *member)
{
    struct error err = {0};

    if (group_add_member(str_c(group), str_c(member), &err) < 0)
        print_error("%s + %s: %s\n", group, member, err.text);
    assert_int_equal(err.kind, ERR_NONE);
}

CASE(mail_finds_its_way)
{
    static const struct {
        const char *local, *domain;
        enum error_kind refusal;
        int64_t account_id;
        const char *address, *detail;
    } rows[] = {
        {"ani", "example.test", ERR_NONE, 1, "ani@example.test", ""},
        {"ANI", "EXAMPLE.Test", ERR_NONE, 1, "ani@example.test", ""},
        {"ani+shop", "example.test", ERR_NONE, 1, "ani@example.test", "shop"},
        {"ani+", "example.test", ERR_NONE, 1, "ani@example.test", ""},
        {"ani+a+b", "example.test", ERR_NONE, 1, "ani@example.test", "a+b"},
        {"ani+own", "example.test", ERR_NONE, 2, "ani+own@example.test", ""},
        {"a.putri", "other.test", ERR_NONE, 1, "a.putri@other.test", ""},
        {"a.putri+x", "other.test", ERR_NONE, 1, "a.putri@other.test", "x"},
        {"+ani", "example.test", ERR_NOT_FOUND, 0, "", ""},
        {"budi", "example.test", ERR_NOT_FOUND, 0, "", ""},
        {"ani", "other.test", ERR_NOT_FOUND, 0, "", ""},
        {"ani", "nowhere.test", ERR_DENIED, 0, "", ""},
        {"ani", "sub.example.test", ERR_DENIED, 0, "", ""},
        {"", "example.test", ERR_SYNTAX, 0, "", ""},
        {"ani", "[192.0.2.1]", ERR_SYNTAX, 0, "", ""},
    };
    struct error err = {0};

    make_person("ani@example.test");
    make_person("ani+own@example.test");
    assert_int_equal(alias_add(STR("a.putri@other.test"), STR("ani@example.test"), &err), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(resolve(rows[i].local, rows[i].domain), rows[i].refusal);
        assert_int_equal(resolved.n, rows[i].refusal == ERR_NONE);
        if (resolved.n == 0)
            continue;
        assert_int_equal(resolved.v[0].account_id, rows[i].account_id);
        assert_str(resolved.v[0].address, rows[i].address);
        assert_str(resolved.v[0].detail, rows[i].detail);
    }
}

CASE(no_delimiter_means_no_detail)
{
    make_person("ani@example.test");
    config_set(STR("recipient_delimiter"), STR(""), NULL);
    assert_int_equal(resolve("ani+shop", "example.test"), ERR_NOT_FOUND);
    config_set(STR("recipient_delimiter"), STR("-"), NULL);
    assert_int_equal(resolve("ani-shop", "example.test"), ERR_NONE);
    assert_str(resolved.v[0].detail, "shop");
}

CASE(a_group_leads_to_each_member_once)
{
    make_person("a@example.test");
    make_person("b@example.test");
    make_account("inner@example.test", ACCOUNT_GROUP, NULL);
    make_account("outer@example.test", ACCOUNT_GROUP, NULL);
    make_account("empty@example.test", ACCOUNT_GROUP, NULL);
    join("inner@example.test", "a@example.test");
    join("inner@example.test", "outer@example.test");
    join("outer@example.test", "a@example.test");
    join("outer@example.test", "b@example.test");
    join("outer@example.test", "inner@example.test");

    assert_int_equal(resolve("outer", "example.test"), ERR_NONE);
    assert_int_equal(resolved.n, 2);
    assert_str(resolved.v[0].address, "outer@example.test");
    assert_int_equal(resolve("inner", "example.test"), ERR_NONE);
    assert_int_equal(resolved.n, 2);
    assert_int_equal(resolve("empty", "example.test"), ERR_NOT_FOUND);
}

CASE(a_removed_member_gets_nothing_until_restored)
{
    struct error err = {0};

    make_person("a@example.test");
    make_account("all@example.test", ACCOUNT_GROUP, NULL);
    join("all@example.test", "a@example.test");
    assert_int_equal(account_remove(STR("a@example.test"), &err), 0);
    assert_int_equal(resolve("all", "example.test"), ERR_NOT_FOUND);
    assert_int_equal(resolve("a", "example.test"), ERR_NOT_FOUND);
    assert_int_equal(account_restore(1, STR_NULL, &err), 0);
    assert_int_equal(resolve("all", "example.test"), ERR_NONE);
    assert_int_equal(resolve("a", "example.test"), ERR_NONE);
}

CASE(a_removed_group_leads_nobody_on)
{
    struct error err = {0};

    make_person("a@example.test");
    make_person("b@example.test");
    make_account("inner@example.test", ACCOUNT_GROUP, NULL);
    make_account("outer@example.test", ACCOUNT_GROUP, NULL);
    join("inner@example.test", "a@example.test");
    join("outer@example.test", "inner@example.test");
    join("outer@example.test", "b@example.test");
    assert_int_equal(account_remove(STR("inner@example.test"), &err), 0);
    assert_int_equal(resolve("outer", "example.test"), ERR_NONE);
    assert_int_equal(resolved.n, 1);
    assert_int_equal(resolved.v[0].account_id, 2);
    assert_int_equal(account_restore(3, STR_NULL, &err), 0);
    assert_int_equal(resolve("outer", "example.test"), ERR_NONE);
    assert_int_equal(resolved.n, 2);
}

CASE(a_group_beyond_the_limit_is_refused)
{
    make_account("all@example.test", ACCOUNT_GROUP, NULL);
    fixture_sql("INSERT INTO account (kind) SELECT 'person' FROM generate_series(1, 10001);"
                "INSERT INTO group_member SELECT 1, account_id FROM account WHERE kind = 'person'");
    assert_int_equal(resolve("all", "example.test"), ERR_LIMIT);
    fixture_sql("DELETE FROM group_member WHERE member_account_id = 2");
    assert_int_equal(resolve("all", "example.test"), ERR_NONE);
    assert_int_equal(resolved.n, RECIPIENTS_MAX);
}

CASE(postmaster_always_leads_somewhere)
{
    struct error err = {0};

    assert_int_equal(resolve("postmaster", "example.test"), ERR_NOT_FOUND);
    make_account("room@example.test", ACCOUNT_ROOM, NULL);
    make_person("first@other.test");
    assert_int_equal(resolve("Postmaster", "example.test"), ERR_NONE);
    assert_int_equal(resolved.v[0].account_id, 2);
    make_person("second@example.test");
    assert_int_equal(resolve("abuse", "example.test"), ERR_NONE);
    assert_int_equal(resolved.v[0].account_id, 3);
    assert_int_equal(account_set_active(STR("second@example.test"), false, &err), 0);
    assert_int_equal(resolve("abuse", "example.test"), ERR_NONE);
    assert_int_equal(resolved.v[0].account_id, 2);
    assert_int_equal(alias_add(STR("postmaster@example.test"), STR("room@example.test"), &err), 0);
    assert_int_equal(resolve("postmaster", "example.test"), ERR_NONE);
    assert_int_equal(resolved.v[0].account_id, 1);
    assert_int_equal(resolve("postmaster", "nowhere.test"), ERR_DENIED);
}

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

CASE(only_own_addresses_may_send)
{
    bool is_allowed;
    struct error err = {0};

    make_person("a@example.test");
    make_person("b@example.test");
    alias_add(STR("c@other.test"), STR("a@example.test"), &err);
    assert_int_equal(directory_may_send_as(1, STR("A@example.test"), &is_allowed, &err), 0);
    assert_true(is_allowed);
    directory_may_send_as(1, STR("c@other.test"), &is_allowed, &err);
    assert_true(is_allowed);
    directory_may_send_as(1, STR("b@example.test"), &is_allowed, &err);
    assert_false(is_allowed);
    directory_may_send_as(1, STR("nonsense"), &is_allowed, &err);
    assert_false(is_allowed);
    assert_int_equal(err.kind, ERR_NONE);
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
        cmocka_unit_test(mail_finds_its_way),
        cmocka_unit_test(no_delimiter_means_no_detail),
        cmocka_unit_test(a_group_leads_to_each_member_once),
        cmocka_unit_test(a_removed_member_gets_nothing_until_restored),
        cmocka_unit_test(a_removed_group_leads_nobody_on),
        cmocka_unit_test(a_group_beyond_the_limit_is_refused),
        cmocka_unit_test(postmaster_always_leads_somewhere),
        cmocka_unit_test(an_account_is_found_by_each_of_its_addresses),
        cmocka_unit_test(only_own_addresses_may_send),
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
