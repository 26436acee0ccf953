/* test_access.c - rights as text, names of others' mailboxes, and grants in a real database. */
#include "tests/unit/store_fixture.h"

#include "mail/store/access.h"

/* ---- without a database ------------------------------------------------------------------------ */

static const char *text_of(unsigned rights)
{
    static char text[32];
    struct buf b;

    buf_init(&b, SIZE_MAX);
    rights_add(&b, rights);
    snprintf(text, sizeof text, "%.*s", STR_ARG(buf_str(&b)));
    buf_fini(&b);
    return text;
}

static void rights_read_back_with_their_virtual_ones(void **state)
{
    static const struct {
        const char *typed, *shown;
    } cases[] = {
        {"", ""},         {"l", "l"},       {"aeltxkpiwsr", "lrswipkxtecda"},
        {"lrr", "lr"},    {"c", "kxc"},     {"d", "ted"},
        {"k", "kc"},      {"x", "xc"},      {"e", "ed"},
        {"t", "td"},      {"cd", "kxtecd"}, {"lrswipkxtecda", "lrswipkxtecda"},
        {"sda", "steda"},
    };
    unsigned rights;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_done(rights_parse(str_c(cases[i].typed), &rights, &err));
        assert_string_equal(text_of(rights), cases[i].shown);
    }
    assert_done(rights_parse(STR("lrswipkxtea"), &rights, &err));
    assert_int_equal(rights, RIGHTS_ALL);
}

static void unknown_rights_are_refused(void **state)
{
    static const char *const bad[] = {"q", "lrL", "l r", "1", "lr\n", "+l", "l\xc3\xa9", "LR", "z"};
    unsigned rights;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(rights_parse(str_c(bad[i]), &rights, &err), ERR_SYNTAX);
}

static void rights_cover_flags_as_the_rfc_says(void **state)
{
    assert_int_equal(rights_flags(RIGHTS_ALL), FLAG_ALL);
    assert_int_equal(rights_flags(RIGHT_SEEN), FLAG_SEEN);
    assert_int_equal(rights_flags(RIGHT_DELETE_MESSAGES), FLAG_DELETED);
    assert_int_equal(rights_flags(RIGHT_WRITE),
                     FLAG_ANSWERED | FLAG_FLAGGED | FLAG_DRAFT | FLAG_KEYWORDS);
    assert_int_equal(rights_flags(RIGHT_LOOKUP | RIGHT_READ | RIGHT_INSERT | RIGHT_EXPUNGE), 0);
}

static void names_of_others_are_known_by_their_first_level(void **state)
{
    static const char *const foreign[] = {"Shared", "Shared/", "Other Users",
                                          "Other Users/a@b.test/INBOX"};
    static const char *const own[] = {"",         "INBOX", "shared", "Shared2", "Other Users2/x",
                                      "x/Shared", "Other"};

    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        assert_true(access_is_foreign_name(str_c(foreign[i])));
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        assert_false(access_is_foreign_name(str_c(own[i])));
}

static void canonical_names_fold_the_address_and_the_inbox(void **state)
{
    static const struct {
        const char *typed, *canonical; /* NULL: refused */
    } cases[] = {
        {"inbox", "INBOX"},
        {"Other Users/Ann@Example.TEST/inbox/x", "Other Users/ann@example.test/INBOX/x"},
        {"Shared/a=2fb@example.test/INBOX", "Shared/a=2Fb@example.test/INBOX"},
        {"Shared/no address/x", "Shared/no address/x"},
        {"Shared", "Shared"},
        {"Other Users/ann@example.test/a//b", NULL},
        {"Other Users/ann@example.test/a%b", NULL},
        {"a*b", NULL},
    };
    struct arena *a = arena_new();
    struct error cause = {0};
    struct str out;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (cases[i].canonical == NULL) {
            assert_refused(access_canonical_name(a, str_c(cases[i].typed), &out, &err), ERR_SYNTAX);
            continue;
        }
        assert_int_equal(access_canonical_name(a, str_c(cases[i].typed), &out, &cause), 0);
        assert_int_equal(cause.kind, ERR_NONE);
        assert_str(out, str_c(cases[i].canonical));
    }
    arena_free(&a);
}

/* ---- with one ---------------------------------------------------------------------------------- */

#define ALICE  1
#define BOB    2
#define CAROL  3
#define DESK   4 /* a shared account */
#define INNER  5 /* a group with BOB */
#define OUTER  6 /* a group with INNER and CAROL, and INNER holds it, too */
#define ANYONE 0

static void people(void)
{
    fixture_sql("SET client_min_messages = warning; TRUNCATE domain CASCADE;"
                "UPDATE account SET kind = 'shared' WHERE account_id = 4;"
                "UPDATE account SET kind = 'group' WHERE account_id IN (5, 6);"
                "INSERT INTO domain (name) VALUES ('example.test');"
                "INSERT INTO address SELECT n || '@example.test', domain_id, i, true FROM domain, "
                "unnest(ARRAY['alice', 'bob', 'carol', 'desk', 'inner', 'outer']) WITH ORDINALITY "
                "AS u (n, i);"
                "INSERT INTO address SELECT 'bobby@example.test', domain_id, 2, false FROM domain;"
                "INSERT INTO group_member VALUES (5, 2), (6, 5), (6, 3)");
    config.sharing_anyone = true;
}

static struct mailbox_key key(int64_t account_id, int64_t mailbox_id)
{
    return (struct mailbox_key){account_id, mailbox_id};
}

static void grant(struct mailbox_key mailbox, int64_t grantee, bool is_negative, const char *text)
{
    unsigned rights;

    assert_done(rights_parse(str_c(text), &rights, &err));
    assert_done(
        access_set(mailbox, (struct grantee){grantee, is_negative}, RIGHTS_REPLACE, rights, &err));
}

static const char *rights_of(int64_t user_id, struct mailbox_key mailbox)
{
    unsigned rights;

    assert_done(access_rights(user_id, mailbox, &rights, &err));
    return text_of(rights);
}

CASE(rights_of_user_groups_and_anyone_add_up_less_the_negative_ones)
{
    people();
    assert_string_equal(rights_of(ALICE, key(ALICE, SENT)), "lrswipkxtecda");
    assert_string_equal(rights_of(BOB, key(ALICE, SENT)), "");
    grant(key(ALICE, SENT), BOB, false, "l");
    grant(key(ALICE, SENT), INNER, false, "r");
    grant(key(ALICE, SENT), OUTER, false, "s");
    grant(key(ALICE, SENT), ANYONE, false, "w");
    assert_string_equal(rights_of(BOB, key(ALICE, SENT)), "lrsw");
    assert_string_equal(rights_of(CAROL, key(ALICE, SENT)), "sw");
    assert_string_equal(rights_of(DESK, key(ALICE, SENT)), "w");
    grant(key(ALICE, SENT), OUTER, true, "s");
    grant(key(ALICE, SENT), ANYONE, true, "w");
    assert_string_equal(rights_of(BOB, key(ALICE, SENT)), "lr");
    assert_string_equal(rights_of(CAROL, key(ALICE, SENT)), "");
    assert_string_equal(rights_of(ALICE, key(ALICE, SENT)), "lrswipkxtecda");
    fixture_sql("UPDATE account SET removed_at = now() WHERE account_id = 5");
    assert_string_equal(rights_of(BOB, key(ALICE, SENT)), "l");
    fixture_sql("UPDATE account SET removed_at = now() WHERE account_id = 1");
    assert_string_equal(rights_of(BOB, key(ALICE, SENT)), "");
    assert_string_equal(rights_of(BOB, key(ALICE, 99)), "");
}

CASE(a_grant_bumps_the_modseq_only_when_it_changes_something)
{
    struct mailbox before, after;
    struct grantee bob = {BOB, false};

    people();
    assert_done(mailbox_find(store_arena, ALICE, STR("Sent"), &before, &err));
    assert_done(access_set(key(ALICE, SENT), bob, RIGHTS_ADD, RIGHT_READ, &err));
    assert_done(mailbox_find(store_arena, ALICE, STR("Sent"), &after, &err));
    assert_true(after.modseq > before.modseq);
    assert_done(access_set(key(ALICE, SENT), bob, RIGHTS_ADD, RIGHT_READ, &err));
    assert_done(access_set(key(ALICE, SENT), bob, RIGHTS_REMOVE, RIGHT_WRITE, &err));
    assert_done(mailbox_find(store_arena, ALICE, STR("Sent"), &before, &err));
    assert_int_equal(after.modseq, before.modseq);
    assert_done(access_set(key(ALICE, SENT), bob, RIGHTS_REMOVE, RIGHT_READ, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM mailbox_grant"), 0);
    assert_refused(access_set(key(ALICE, 99), bob, RIGHTS_ADD, RIGHT_READ, &err), ERR_NOT_FOUND);
}

CASE(the_owner_has_no_grant_and_anyone_can_be_switched_off)
{
    people();
    assert_refused(
        access_set(key(ALICE, SENT), (struct grantee){ALICE, true}, RIGHTS_ADD, RIGHT_READ, &err),
        ERR_UNSUPPORTED);
    grant(key(ALICE, SENT), ANYONE, false, "lr");
    config.sharing_anyone = false;
    assert_refused(access_set(key(ALICE, SENT), (struct grantee){ANYONE, false}, RIGHTS_ADD,
                              RIGHT_WRITE, &err),
                   ERR_UNSUPPORTED);
    grant(key(ALICE, SENT), ANYONE, true, "l");
    grant(key(ALICE, SENT), ANYONE, false, "");
    assert_string_equal(rights_of(BOB, key(ALICE, SENT)), "");
}

CASE(new_mailboxes_take_the_grants_of_the_one_above_and_lose_them_with_themselves)
{
    int64_t id, top;

    people();
    grant(key(ALICE, SENT), BOB, false, "lr");
    grant(key(ALICE, INBOX), BOB, false, "l");
    grant(key(DESK, INBOX), BOB, false, "lrk");
    assert_done(mailbox_create(ALICE, STR("Sent/a/b"), STR(""), &id, &err));
    assert_string_equal(rights_of(BOB, key(ALICE, id)), "lr");
    assert_done(mailbox_rename(ALICE, STR("Sent/a"), STR("moved"), &err));
    assert_string_equal(rights_of(BOB, key(ALICE, id)), "lr");
    assert_done(mailbox_remove(ALICE, STR("moved/b"), &err));
    assert_int_equal(
        fixture_sql(
            "SELECT count(*) FROM mailbox_grant g WHERE NOT EXISTS (SELECT FROM mailbox b WHERE "
            "(b.account_id, b.mailbox_id) = (g.account_id, g.mailbox_id))"),
        0);
    assert_done(mailbox_create(ALICE, STR("top"), STR(""), &top, &err));
    assert_string_equal(rights_of(BOB, key(ALICE, top)), "");
    assert_done(mailbox_create(DESK, STR("top"), STR(""), &top, &err));
    assert_string_equal(rights_of(BOB, key(DESK, top)), "lrkc");
    assert_refused(mailbox_create(ALICE, STR("Shared/x"), STR(""), &id, &err), ERR_UNSUPPORTED);
    assert_refused(mailbox_rename(ALICE, STR("top"), STR("Other Users"), &err), ERR_UNSUPPORTED);
}

static void assert_place(int64_t user_id, const char *name, int64_t account_id,
                         const char *canonical)
{
    struct access_place place;

    assert_done(access_parse_name(store_arena, user_id, str_c(name), &place, &err));
    assert_int_equal(place.account_id, account_id);
    assert_str(place.name, str_c(canonical));
}

CASE(names_lead_only_where_something_is_granted)
{
    static const char *const nowhere[] = {
        "Other Users",
        "Other Users/bob@example.test",
        "Other Users/carol@example.test/INBOX",
        "Shared/x",
        "Other Users/nobody@example.test/x",
        "Other Users/desk@example.test/INBOX",
        "Shared/bob@example.test/INBOX",
        "Other Users/bob/INBOX",
        "Shared/d=65sk@example.test=/INBOX",
    };
    struct access_place place;

    people();
    grant(key(BOB, SENT), ANYONE, false, "lr");
    grant(key(DESK, SENT), INNER, false, "lr");
    assert_place(ALICE, "Other Users/bob@example.test/Work", BOB,
                 "Other Users/bob@example.test/Work");
    assert_place(ALICE, "Other Users/BOBBY@example.test/inbox", BOB,
                 "Other Users/bob@example.test/INBOX");
    assert_place(BOB, "Shared/desk@example.test/a/b", DESK, "Shared/desk@example.test/a/b");
    assert_place(ALICE, "Other Users/alice@example.test/x", ALICE,
                 "Other Users/alice@example.test/x");
    for (size_t i = 0; i < sizeof nowhere / sizeof *nowhere; i++)
        assert_refused(access_parse_name(store_arena, BOB, str_c(nowhere[i]), &place, &err),
                       ERR_NOT_FOUND);
    assert_refused(
        access_parse_name(store_arena, CAROL, STR("Shared/desk@example.test/INBOX"), &place, &err),
        ERR_NOT_FOUND);
    assert_refused(
        access_parse_name(store_arena, BOB, STR("Shared/desk@example.test/a//b"), &place, &err),
        ERR_SYNTAX);
}

CASE(everything_that_is_granted_is_listed_in_order)
{
    static const char *const expected[] = {
        "Other Users/alice@example.test/INBOX", "Other Users/alice@example.test/a",
        "Other Users/alice@example.test/a/b",   "Other Users/alice@example.test/a c",
        "Shared/desk@example.test/INBOX",       "Shared/desk@example.test/Archive",
    };
    struct shared_mailbox *v;
    size_t count;
    int64_t id;
    int shared;

    people();
    assert_done(mailbox_create(ALICE, STR("a c"), STR(""), &id, &err));
    grant(key(ALICE, id), ANYONE, false, "l");
    assert_done(mailbox_create(ALICE, STR("a"), STR(""), &id, &err));
    grant(key(ALICE, id), BOB, false, "l");
    assert_done(mailbox_create(ALICE, STR("a/b"), STR(""), &id, &err));
    grant(key(ALICE, INBOX), OUTER, false, "lrs");
    grant(key(ALICE, SENT), BOB, false, "rswi");
    grant(key(ALICE, DRAFTS), ANYONE, false, "lr");
    grant(key(ALICE, DRAFTS), INNER, true, "l");
    grant(key(BOB, SENT), ANYONE, false, "lr");
    assert_done(access_set_all(DESK, (struct grantee){INNER, false}, RIGHTS_ADD, RIGHT_LOOKUP,
                               &shared, &err));
    assert_int_equal(shared, 6);
    assert_done(access_list(store_arena, BOB, &v, &count, &err));
    assert_int_equal(count, 10);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_str(v[i].name, str_c(expected[i]));
    assert_string_equal(text_of(v[0].mailbox->rights), "lrs");
    assert_done(access_list(store_arena, DESK, &v, &count, &err));
    assert_int_equal(count, 3);
}

static void assert_grantee(const char *identifier, int64_t account_id, bool is_negative)
{
    struct grantee grantee;

    assert_done(grantee_parse(store_arena, str_c(identifier), &grantee, &err));
    assert_int_equal(grantee.account_id, account_id);
    assert_int_equal(grantee.is_negative, is_negative);
}

CASE(identifiers_are_names_that_log_in_groups_and_anyone)
{
    struct mailbox_grant *v;
    struct grantee grantee;
    size_t count;

    people();
    assert_grantee("bob@example.test", BOB, false);
    assert_grantee("-BOBBY@example.test", BOB, true);
    assert_grantee("carol", CAROL, false);
    assert_grantee("outer@example.test", OUTER, false);
    assert_grantee("anyone", ANYONE, false);
    assert_grantee("-authenticated", ANYONE, true);
    assert_refused(grantee_parse(store_arena, STR(""), &grantee, &err), ERR_SYNTAX);
    assert_refused(grantee_parse(store_arena, STR("-"), &grantee, &err), ERR_SYNTAX);
    assert_refused(grantee_parse(store_arena, STR("b\x01"), &grantee, &err), ERR_SYNTAX);
    assert_refused(grantee_parse(store_arena, STR("b\xff"), &grantee, &err), ERR_SYNTAX);
    assert_refused(grantee_parse(store_arena, STR("nobody"), &grantee, &err), ERR_UNSUPPORTED);
    assert_refused(grantee_parse(store_arena, STR("x@y@z"), &grantee, &err), ERR_UNSUPPORTED);

    grant(key(ALICE, SENT), ANYONE, false, "l");
    grant(key(ALICE, SENT), OUTER, true, "r");
    grant(key(ALICE, SENT), BOB, true, "w");
    grant(key(ALICE, SENT), BOB, false, "lr");
    assert_done(access_list_grants(store_arena, key(ALICE, SENT), &v, &count, &err));
    assert_int_equal(count, 5);
    assert_str(v[0].name, STR("alice@example.test"));
    assert_int_equal(v[0].rights, RIGHTS_ALL);
    assert_str(v[1].name, STR("bob@example.test"));
    assert_str(v[2].name, STR("-bob@example.test"));
    assert_str(v[3].name, STR("-outer@example.test"));
    assert_str(v[4].name, STR("anyone"));
}

CASE(finding_a_mailbox_tells_nothing_to_those_who_may_not_know)
{
    struct mailbox box;

    people();
    grant(key(ALICE, SENT), BOB, false, "swpte");
    assert_refused(access_find(store_arena, BOB, ALICE, STR("Sent"), &box, &err), ERR_NOT_FOUND);
    assert_refused(access_find(store_arena, BOB, ALICE, STR("none"), &box, &err), ERR_NOT_FOUND);
    grant(key(ALICE, SENT), BOB, false, "swptei");
    assert_done(access_find(store_arena, BOB, ALICE, STR("Sent"), &box, &err));
    assert_string_equal(text_of(box.rights), "swipted");
    assert_done(access_find(store_arena, ALICE, ALICE, STR("Sent"), &box, &err));
    assert_int_equal(box.rights, RIGHTS_ALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rights_read_back_with_their_virtual_ones),
        cmocka_unit_test(unknown_rights_are_refused),
        cmocka_unit_test(rights_cover_flags_as_the_rfc_says),
        cmocka_unit_test(names_of_others_are_known_by_their_first_level),
        cmocka_unit_test(canonical_names_fold_the_address_and_the_inbox),
        cmocka_unit_test(rights_of_user_groups_and_anyone_add_up_less_the_negative_ones),
        cmocka_unit_test(a_grant_bumps_the_modseq_only_when_it_changes_something),
        cmocka_unit_test(the_owner_has_no_grant_and_anyone_can_be_switched_off),
        cmocka_unit_test(
            new_mailboxes_take_the_grants_of_the_one_above_and_lose_them_with_themselves),
        cmocka_unit_test(names_lead_only_where_something_is_granted),
        cmocka_unit_test(everything_that_is_granted_is_listed_in_order),
        cmocka_unit_test(identifiers_are_names_that_log_in_groups_and_anyone),
        cmocka_unit_test(finding_a_mailbox_tells_nothing_to_those_who_may_not_know),
    };

    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
