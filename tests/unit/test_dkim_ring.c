/* test_dkim_ring.c - signing keys: the first ones, their rotation, and what becomes of those that are held. */
#include "tests/unit/directory_fixture.h"

#include "mail/authentic/dkim_key.h"
#include "mail/authentic/dkim_ring.h"
#include "server/base/date.h"
#include "server/run/channel.h"
#include "server/run/dns.h"

#define OURS   STR("example.test")
#define RSA    STR("rsa-sha256")
#define HEADER "From: a@example.test\r\nSubject: x\r\n\r\nbody\r\n"

#undef CASE
#define CASE(name)                                                                                 \
    static void name##_claim(void);                                                                \
    static void name##_body(void)                                                                  \
    {                                                                                              \
        name##_claim();                                                                            \
        dns_fini();                                                                                \
        dkim_ring_fini();                                                                          \
    }                                                                                              \
    static void name(void **state)                                                                 \
    {                                                                                              \
        directory_in_fiber(name##_body);                                                           \
    }                                                                                              \
    static void name##_claim(void)

#define assert_same(actual, expected)                                                              \
    do {                                                                                           \
        struct str actual_ = (actual), expected_ = (expected);                                     \
        assert_int_equal(actual_.n, expected_.n);                                                  \
        assert_memory_equal(actual_.p, expected_.p, expected_.n);                                  \
    } while (0)

/* Overrides are read when the first question is asked. */
static void set_dns(const char *records)
{
    struct error err = {0};

    dns_fini();
    assert_int_equal(config_set(STR("dns_override"), str_c(records), &err), 0);
}

static struct dkim_key_row *keys_of(struct str domain, size_t *count)
{
    struct dkim_key_row *rows;
    struct error err = {0};

    assert_int_equal(dkim_key_store_of(arena, domain, &rows, count, &err), 0);
    return rows;
}

static const struct dkim_key_row *find_key(struct str algorithm, enum dkim_key_state state)
{
    size_t count;
    struct dkim_key_row *rows = keys_of(OURS, &count);

    for (size_t i = 0; i < count; i++)
        if (rows[i].state == state && str_eq(rows[i].algorithm, algorithm))
            return &rows[i];
    return NULL;
}

/* In dns_override a semicolon would end the record. */
static struct str escape_semicolons(struct str text)
{
    struct str out = STR(""), part;
    bool more = true;

    while (more) {
        more = str_cut(text, ';', &part, &text);
        out = arena_printf(arena, "%.*s%.*s%s", STR_ARG(out), STR_ARG(part), more ? "\\059" : "");
    }
    return out;
}

static void publish(const struct dkim_key_row *row)
{
    struct error err = {0};
    struct dkim_key *key = dkim_key_new(row->pem, &err);
    struct str record, head;

    assert_non_null(key);
    record = dkim_key_record(arena, key);
    dkim_key_free(&key);
    head = str_head(record, 200); /* a character string holds 255 bytes (RFC 1035, 3.3) */
    record = str_from(record, 200);
    head = escape_semicolons(head);
    set_dns(arena_printf(arena, "%.*s._domainkey.%.*s TXT \"%.*s\" \"%.*s\"",
                         STR_ARG(row->selector), STR_ARG(row->domain), STR_ARG(head),
                         STR_ARG(record))
                .p);
}

static struct dkim_signers hold(struct str domain)
{
    struct dkim_signers signers;
    struct error err = {0};

    assert_int_equal(dkim_ring_hold(arena, domain, &signers, &err), 0);
    return signers;
}

static void rotate(void)
{
    struct error err = {0};

    if (dkim_ring_rotate(&err) < 0)
        print_error("%s\n", err.text);
    assert_int_equal(err.kind, ERR_NONE);
}

/* Signs with what is held: fails under the sanitizer when the keys are gone. */
static void assert_signs(const struct dkim_signers *signers)
{
    struct error err = {0};
    struct str fields;

    assert_int_equal(
        dkim_sign(arena, STR(HEADER), signers->v, signers->n, 1700000000, &fields, &err), 0);
    for (size_t i = 0; i < signers->n; i++)
        assert_true(
            str_find(fields, arena_printf(arena, "s=%.*s;", STR_ARG(signers->v[i].selector))) >= 0);
}

/* ---- the first keys -------------------------------------------------------------------------- */

CASE(a_domain_of_ours_gets_its_first_keys_when_they_are_needed)
{
    struct dkim_signers signers = hold(OURS);

    assert_int_equal(signers.n, 2);
    assert_same(signers.v[0].domain, OURS);
    assert_int_equal(dkim_key_algorithm(signers.v[0].key), DKIM_RSA_SHA256);
    assert_int_equal(dkim_key_bits(signers.v[0].key), 2048);
    assert_int_equal(dkim_key_algorithm(signers.v[1].key), DKIM_ED25519_SHA256);
    assert_signs(&signers);
    dkim_ring_release(&signers);
    assert_null(signers.ring);
    assert_int_equal(fixture_sql("SELECT count(*) FROM dkim_key WHERE state = 'active'"), 2);
}

struct racer {
    struct fiber *fiber;
    struct wait_queue *ended;
    int status;
};

static void race(void *arg)
{
    struct racer *r = arg;
    struct error err = {0};

    r->status = dkim_ring_make_first(OURS, &err);
    r->fiber = NULL;
    wait_queue_wake_all(r->ended);
}

CASE(the_first_keys_are_made_once_however_many_workers_want_them)
{
    struct racer racers[4];
    struct wait_queue ended;

    wait_queue_init(&ended);
    for (int i = 0; i < 4; i++) {
        racers[i] = (struct racer){.ended = &ended, .status = -1};
        racers[i].fiber = fiber_start("racer", race, &racers[i]);
    }
    for (int i = 0; i < 4; i++)
        while (racers[i].fiber != NULL)
            wait_queue_wait(&ended, NO_DEADLINE);
    for (int i = 0; i < 4; i++)
        assert_int_equal(racers[i].status, 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM dkim_key"), 2);
    assert_int_equal(fixture_sql("SELECT count(DISTINCT algorithm) FROM dkim_key"), 2);
}

CASE(a_domain_that_is_not_ours_signs_nothing)
{
    struct dkim_signers signers = hold(STR("elsewhere.test"));

    assert_int_equal(signers.n, 0);
    dkim_ring_release(&signers);
    signers = hold(STR(""));
    assert_int_equal(signers.n, 0);
    dkim_ring_release(&signers);
    assert_int_equal(fixture_sql("SELECT count(*) FROM dkim_key"), 0);
}

CASE(no_keys_are_made_where_the_setting_says_so)
{
    struct dkim_signers signers;

    config.dkim_make_keys = false;
    signers = hold(OURS);
    assert_int_equal(signers.n, 0);
    dkim_ring_release(&signers);
    rotate();
    assert_int_equal(fixture_sql("SELECT count(*) FROM dkim_key"), 0);
}

CASE(a_round_makes_the_first_keys_of_every_domain)
{
    rotate();
    assert_int_equal(fixture_sql("SELECT count(*) FROM dkim_key JOIN domain USING (domain_id) "
                                 "WHERE name IN ('example.test', 'other.test')"),
                     4);
    rotate();
    assert_int_equal(fixture_sql("SELECT count(*) FROM dkim_key"), 4);
}

CASE(a_domain_whose_keys_were_all_retired_gets_no_others_by_itself)
{
    struct error err = {0};
    struct dkim_signers signers;

    assert_int_equal(dkim_ring_make_first(OURS, &err), 0);
    fixture_sql("UPDATE dkim_key SET state = 'retired'");
    assert_int_equal(dkim_ring_make_first(OURS, &err), 0);
    signers = hold(OURS);
    assert_int_equal(signers.n, 0);
    dkim_ring_release(&signers);
    assert_int_equal(fixture_sql("SELECT count(*) FROM dkim_key"), 2);
}

CASE(an_unreadable_key_is_left_out_and_the_others_sign)
{
    struct error err = {0};
    struct dkim_signers signers;

    assert_int_equal(dkim_ring_make_first(OURS, &err), 0);
    fixture_sql("UPDATE dkim_key SET private_key = 'nonsense' WHERE algorithm = 'rsa-sha256'");
    signers = hold(OURS);
    assert_int_equal(signers.n, 1);
    assert_int_equal(dkim_key_algorithm(signers.v[0].key), DKIM_ED25519_SHA256);
    assert_signs(&signers);
    dkim_ring_release(&signers);
}

/* ---- rotation -------------------------------------------------------------------------------- */

static void let_keys_age(int days)
{
    fixture_sql(arena_printf(arena,
                             "UPDATE dkim_key SET changed_at = changed_at - '%d days'::interval",
                             days)
                    .p);
}

CASE(a_new_key_is_made_in_time_and_waits_for_its_record)
{
    struct str first;

    set_dns("");
    rotate();
    first = find_key(RSA, DKIM_KEY_ACTIVE)->selector;
    let_keys_age(179);
    rotate();
    assert_null(find_key(RSA, DKIM_KEY_NEW));
    let_keys_age(2);
    rotate();
    assert_non_null(find_key(RSA, DKIM_KEY_NEW));
    assert_non_null(find_key(STR("ed25519-sha256"), DKIM_KEY_NEW));
    rotate();
    assert_same(find_key(RSA, DKIM_KEY_ACTIVE)->selector, first);
    assert_int_equal(find_key(RSA, DKIM_KEY_NEW)->seen_us, 0);
    assert_int_equal(
        fixture_sql("SELECT count(*) FROM dkim_key JOIN domain USING (domain_id) WHERE name = "
                    "'example.test'"),
        4);
}

CASE(a_published_key_takes_over_and_the_old_one_goes_after_its_time)
{
    struct str old, next;
    struct error err = {0};

    assert_int_equal(dkim_ring_make_first(OURS, &err), 0);
    old = find_key(RSA, DKIM_KEY_ACTIVE)->selector;
    assert_int_equal(dkim_ring_make_next(arena, OURS, DKIM_RSA_SHA256, &next, &err), 0);
    publish(find_key(RSA, DKIM_KEY_NEW));
    rotate();
    assert_same(find_key(RSA, DKIM_KEY_ACTIVE)->selector, next);
    assert_true(find_key(RSA, DKIM_KEY_ACTIVE)->seen_us > 0);
    assert_same(find_key(RSA, DKIM_KEY_RETIRED)->selector, old);
    assert_non_null(find_key(STR("ed25519-sha256"), DKIM_KEY_ACTIVE));
    let_keys_age(20);
    rotate();
    assert_non_null(find_key(RSA, DKIM_KEY_RETIRED));
    let_keys_age(2);
    rotate();
    assert_null(find_key(RSA, DKIM_KEY_RETIRED));
    assert_same(find_key(RSA, DKIM_KEY_ACTIVE)->selector, next);
}

CASE(retired_keys_stay_as_long_as_the_queue_may_hold_their_mail)
{
    struct error err = {0};

    assert_int_equal(dkim_ring_make_first(OURS, &err), 0);
    config.queue_lifetime = INT64_C(60) * 86400 * 1000;
    config.dkim_rotate_interval = 0;
    fixture_sql("UPDATE dkim_key SET state = 'retired' WHERE algorithm = 'rsa-sha256'");
    let_keys_age(70);
    rotate();
    assert_non_null(find_key(RSA, DKIM_KEY_RETIRED));
    let_keys_age(10);
    rotate();
    assert_null(find_key(RSA, DKIM_KEY_RETIRED));
}

CASE(the_record_of_another_key_does_not_let_a_new_one_take_over)
{
    struct error err = {0};
    struct dkim_key_row wrong;

    assert_int_equal(dkim_ring_make_first(OURS, &err), 0);
    assert_int_equal(dkim_ring_make_next(arena, OURS, DKIM_RSA_SHA256, NULL, &err), 0);
    wrong = *find_key(RSA, DKIM_KEY_ACTIVE);
    wrong.selector = find_key(RSA, DKIM_KEY_NEW)->selector;
    publish(&wrong);
    rotate();
    assert_non_null(find_key(RSA, DKIM_KEY_NEW));
}

CASE(with_rotation_off_no_key_is_too_old)
{
    config.dkim_rotate_interval = 0;
    rotate();
    let_keys_age(3000);
    rotate();
    assert_null(find_key(RSA, DKIM_KEY_NEW));
}

CASE(held_keys_outlive_rotation_and_the_ring)
{
    struct dkim_signers held = hold(OURS), fresh;
    struct error err = {0};
    struct str next;

    assert_int_equal(dkim_ring_make_next(arena, OURS, DKIM_RSA_SHA256, &next, &err), 0);
    publish(find_key(RSA, DKIM_KEY_NEW));
    rotate();
    dkim_ring_fini();
    fresh = hold(OURS);
    assert_same(fresh.v[0].selector, next);
    assert_signs(&held);
    assert_false(str_eq(held.v[0].selector, next));
    dkim_ring_release(&held);
    assert_signs(&fresh);
    dkim_ring_release(&fresh);
}

CASE(keys_go_with_their_domain_and_held_ones_finish)
{
    struct dkim_signers held = hold(OURS), after;

    fixture_sql("DELETE FROM domain WHERE name = 'example.test'");
    rotate();
    dkim_ring_fini();
    after = hold(OURS);
    assert_int_equal(after.n, 0);
    assert_signs(&held);
    dkim_ring_release(&held);
    dkim_ring_release(&after);
    assert_int_equal(fixture_sql("SELECT count(*) FROM dkim_key JOIN domain USING (domain_id) "
                                 "WHERE name <> 'other.test'"),
                     0);
}

CASE(a_round_covers_more_domains_than_one_page_holds)
{
    struct error err = {0};

    config.dkim_make_keys = false;
    assert_int_equal(dkim_ring_make_first(OURS, &err), 0);
    fixture_sql(
        "INSERT INTO domain (name) SELECT 'd' || i || '.test' FROM generate_series(1, 700) i;"
        "INSERT INTO dkim_key (domain_id, selector, algorithm, state, private_key, changed_at) "
        "SELECT domain_id, 's' || n, 'rsa-sha256', 'retired', 'x', now() - '90 days'::interval "
        "FROM domain, generate_series(1, 3) n");
    rotate();
    assert_int_equal(fixture_sql("SELECT count(*) FROM dkim_key WHERE state = 'retired'"), 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM dkim_key"), 2);
}

/* ---- by hand --------------------------------------------------------------------------------- */

CASE(of_each_algorithm_one_new_key_waits)
{
    struct error err = {0};

    assert_int_equal(dkim_ring_make_next(arena, OURS, DKIM_RSA_SHA256, NULL, &err), 0);
    assert_int_equal(dkim_ring_make_next(arena, OURS, DKIM_RSA_SHA256, NULL, &err), -1);
    assert_int_equal(err.kind, ERR_EXISTS);
    assert_true(str_find(str_c(err.text), STR("remove it first")) >= 0);
    error_clear(&err);
    assert_int_equal(dkim_ring_make_next(arena, OURS, DKIM_ED25519_SHA256, NULL, &err), 0);
    assert_int_equal(dkim_ring_make_next(arena, STR("elsewhere.test"), DKIM_RSA_SHA256, NULL, &err),
                     -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

CASE(selectors_of_one_day_differ)
{
    struct error err = {0};
    struct str first, second;

    assert_int_equal(dkim_ring_make_next(arena, OURS, DKIM_RSA_SHA256, &first, &err), 0);
    assert_int_equal(dkim_key_store_activate(OURS, first, &err), 0);
    assert_int_equal(dkim_ring_make_next(arena, OURS, DKIM_RSA_SHA256, &second, &err), 0);
    assert_false(str_eq(first, second));
}

CASE(the_signing_key_is_not_removed_and_activating_it_again_keeps_its_age)
{
    struct error err = {0};
    struct str selector;
    int64_t since;

    assert_int_equal(dkim_ring_make_first(OURS, &err), 0);
    let_keys_age(10);
    selector = find_key(RSA, DKIM_KEY_ACTIVE)->selector;
    since = find_key(RSA, DKIM_KEY_ACTIVE)->changed_us;
    assert_int_equal(dkim_key_store_remove(OURS, selector, &err), -1);
    assert_int_equal(err.kind, ERR_CONFLICT);
    error_clear(&err);
    assert_int_equal(dkim_key_store_activate(OURS, selector, &err), 0);
    assert_int_equal(find_key(RSA, DKIM_KEY_ACTIVE)->changed_us, since);
    assert_int_equal(dkim_key_store_retire(OURS, selector, &err), 0);
    assert_int_equal(dkim_key_store_remove(OURS, selector, &err), 0);
    assert_null(find_key(RSA, DKIM_KEY_ACTIVE));
    assert_int_equal(dkim_key_store_activate(OURS, selector, &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_non_null(find_key(STR("ed25519-sha256"), DKIM_KEY_ACTIVE));
}

CASE(an_imported_key_signs_when_its_record_is_there)
{
    struct error err = {0};
    struct dkim_key *key = dkim_key_make(DKIM_RSA_SHA256, &err);
    struct dkim_key_row row = {
        .domain = OURS, .selector = STR("old1"), .pem = dkim_key_pem(arena, key)};
    struct dkim_signers signers;
    bool is_active;

    dkim_key_free(&key);
    set_dns("");
    assert_int_equal(
        dkim_ring_import(arena, STR("other.test"), STR("Old1"), row.pem, &is_active, &err), 0);
    assert_false(is_active);
    publish(&row);
    assert_int_equal(dkim_ring_import(arena, OURS, STR("Old1"), row.pem, &is_active, &err), 0);
    assert_true(is_active);
    signers = hold(OURS);
    assert_int_equal(signers.n, 1);
    assert_same(signers.v[0].selector, STR("old1"));
    dkim_ring_release(&signers);
    assert_int_equal(dkim_ring_import(arena, OURS, STR("old1"), row.pem, &is_active, &err), -1);
    assert_int_equal(err.kind, ERR_EXISTS);
}

CASE(what_is_no_selector_or_no_key_is_not_imported)
{
    static const char *const bad[] = {"", "a b", "a..b", ".a", "a.", "a;b", "a\"b", "\xc3\xa4"};
    struct dkim_key *key;
    struct error err = {0};
    struct str pem;
    bool is_active;

    key = dkim_key_make(DKIM_ED25519_SHA256, &err);
    pem = dkim_key_pem(arena, key);
    dkim_key_free(&key);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error_clear(&err);
        assert_int_equal(dkim_ring_import(arena, OURS, str_c(bad[i]), pem, &is_active, &err), -1);
        assert_int_equal(err.kind, ERR_SYNTAX);
    }
    assert_int_equal(dkim_ring_import(arena, OURS, STR("s"), STR("nonsense"), &is_active, &err),
                     -1);
    assert_int_equal(err.kind, ERR_SYNTAX);
    error_clear(&err);
    assert_int_equal(
        dkim_ring_import(arena, STR("elsewhere.test"), STR("s"), pem, &is_active, &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_int_equal(fixture_sql("SELECT count(*) FROM dkim_key"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_domain_of_ours_gets_its_first_keys_when_they_are_needed),
        cmocka_unit_test(the_first_keys_are_made_once_however_many_workers_want_them),
        cmocka_unit_test(a_domain_that_is_not_ours_signs_nothing),
        cmocka_unit_test(no_keys_are_made_where_the_setting_says_so),
        cmocka_unit_test(a_round_makes_the_first_keys_of_every_domain),
        cmocka_unit_test(a_domain_whose_keys_were_all_retired_gets_no_others_by_itself),
        cmocka_unit_test(an_unreadable_key_is_left_out_and_the_others_sign),
        cmocka_unit_test(a_new_key_is_made_in_time_and_waits_for_its_record),
        cmocka_unit_test(a_published_key_takes_over_and_the_old_one_goes_after_its_time),
        cmocka_unit_test(retired_keys_stay_as_long_as_the_queue_may_hold_their_mail),
        cmocka_unit_test(the_record_of_another_key_does_not_let_a_new_one_take_over),
        cmocka_unit_test(with_rotation_off_no_key_is_too_old),
        cmocka_unit_test(held_keys_outlive_rotation_and_the_ring),
        cmocka_unit_test(keys_go_with_their_domain_and_held_ones_finish),
        cmocka_unit_test(a_round_covers_more_domains_than_one_page_holds),
        cmocka_unit_test(of_each_algorithm_one_new_key_waits),
        cmocka_unit_test(selectors_of_one_day_differ),
        cmocka_unit_test(the_signing_key_is_not_removed_and_activating_it_again_keeps_its_age),
        cmocka_unit_test(an_imported_key_signs_when_its_record_is_there),
        cmocka_unit_test(what_is_no_selector_or_no_key_is_not_imported),
    };

    return cmocka_run_group_tests(tests, directory_start, fixture_stop);
}
