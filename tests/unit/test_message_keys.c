/* test_message_keys.c - sort keys through the cache: complete, whatever is cached, whatever the
 * order, and not longer than the messages live. */
#include "tests/unit/store_fixture.h"

struct reading {
    const int64_t *ids;
    struct str *subjects; /* by index; p NULL: not given out */
    size_t given;
};

static int take(void *arg, size_t index, const struct message_keys *m, struct error *err)
{
    struct reading *r = arg;

    assert_null(r->subjects[index].p);
    r->subjects[index] = arena_str(store_arena, m->keys.texts[SORT_SUBJECT]);
    r->given++;
    assert_true(m->size > 0);
    return 0;
}

/* Messages 1 .. n of the account have the subject "S<id>"; those above do not exist. */
static void read_and_check(const int64_t *ids, size_t count, int64_t last)
{
    struct reading r = {.ids = ids, .subjects = ARENA_ARRAY(store_arena, count + 1, struct str)};
    struct message_keys_reader reader = {
        .account_id = 1, .ids = ids, .count = count, .each = take, .arg = &r};

    assert_done(message_keys_read(&reader, &err));
    for (size_t i = 0; i < count; i++) {
        if (ids[i] > last) {
            assert_null(r.subjects[i].p);
            continue;
        }
        assert_str(r.subjects[i], arena_printf(store_arena, "S%d", (int)ids[i]));
    }
}

static void add_messages(int64_t from, int64_t to)
{
    for (int64_t id = from; id <= to; id++)
        store_append(1, INBOX, 0,
                     (const char *)arena_printf(store_arena, "Subject: s%d\r\n\r\nx", (int)id).p);
}

CASE(keys_come_from_cache_and_database_alike)
{
    const int64_t last = 600;
    int64_t ids[700];

    add_messages(1, last);
    for (int64_t i = 0; i < 700; i++)
        ids[i] = (i * 331) % 700 + 1; /* all from 1 to 700, mixed */
    read_and_check(ids, 10, last);    /* a few */
    read_and_check(ids, 700, last);   /* these are cached */
    read_and_check(ids, 700, last);   /* all are */
    message_keys_cache_clear();
    for (int64_t i = 0; i < 700; i++)
        ids[i] = i + 1;
    read_and_check(ids + 200, 300, last); /* a dense range */
    read_and_check(ids, 700, last);
    read_and_check(ids, 0, last);
}

/* So many that two fibers read them. */
CASE(keys_of_many_messages_come_once_each)
{
    const int64_t last = 2300;
    int64_t *ids = ARENA_ARRAY(store_arena, last, int64_t);

    add_messages(1, last);
    message_keys_cache_clear();
    for (int64_t i = 0; i < last; i++)
        ids[i] = (i * 1009) % last + 1;
    read_and_check(ids, (size_t)last, last);
    for (int64_t i = 0; i < last; i++)
        ids[i] = i + 1;
    read_and_check(ids, (size_t)last, last);
    message_keys_cache_clear();
    read_and_check(ids, (size_t)last, last);
}

static int refuse(void *arg, size_t index, const struct message_keys *m, struct error *err)
{
    return fail(err, ERR_CLOSED, "enough");
}

CASE(a_reader_that_has_enough_ends_both_fibers)
{
    int64_t ids[2300];
    struct message_keys_reader reader = {
        .account_id = 1, .ids = ids, .count = 2300, .each = refuse};

    add_messages(1, 1100);
    for (int64_t i = 0; i < 2300; i++)
        ids[i] = i + 1;
    assert_refused(message_keys_read(&reader, &err), ERR_CLOSED);
    message_keys_cache_clear();
    assert_refused(message_keys_read(&reader, &err), ERR_CLOSED);
}

static int take_sent(void *arg, size_t index, const struct message_keys *m, struct error *err)
{
    int64_t *sent = arg;

    sent[index] = m->sent_us;
    assert_int_equal(m->received_us, 1700000000000000);
    return 0;
}

CASE(the_date_is_in_utc_and_falls_back_to_the_arrival)
{
    const char *const texts[] = {"Date: Mon, 02 Jan 2023 10:00:00 +0700\r\n\r\n",
                                 "Date: soon\r\n\r\n"};
    struct delivery d = {.account_id = 1, .mailbox_id = INBOX, .received_us = 1700000000000000};
    int64_t ids[2], sent[2];
    struct message_keys_reader reader = {
        .account_id = 1, .ids = ids, .count = 2, .each = take_sent, .arg = sent};

    for (size_t i = 0; i < 2; i++) {
        struct message_prepared m = store_message(texts[i]);
        assert_done(mail_append(&m, &d, 1, &err));
        ids[i] = d.message_id;
    }
    assert_done(message_keys_read(&reader, &err));
    assert_int_equal(sent[0], 1672628400000000);
    assert_int_equal(sent[1], d.received_us);
}

static int fail_at_second(void *arg, size_t index, const struct message_keys *m, struct error *err)
{
    unsigned *calls = arg;

    return ++*calls == 2 ? fail(err, ERR_LIMIT, "enough") : 0;
}

CASE(the_reader_can_stop)
{
    int64_t ids[] = {1, 2, 3};
    unsigned calls = 0;
    struct message_keys_reader reader = {
        .account_id = 1, .ids = ids, .count = 3, .each = fail_at_second, .arg = &calls};

    add_messages(1, 3);
    assert_refused(message_keys_read(&reader, &err), ERR_LIMIT);
    assert_int_equal(calls, 2);
    calls = 0;
    assert_refused(message_keys_read(&reader, &err), ERR_LIMIT); /* from the cache */
}

CASE(a_copy_has_its_own_keys)
{
    struct uid_pair *pairs;
    size_t count;
    uint32_t validity, uid = 1;
    int64_t ids[] = {2};
    struct reading r = {.ids = ids, .subjects = ARENA_ARRAY(store_arena, 1, struct str)};
    struct message_keys_reader reader = {
        .account_id = 1, .ids = ids, .count = 1, .each = take, .arg = &r};

    add_messages(1, 1);
    assert_done(message_copy(store_arena, (struct mailbox_key){1, INBOX},
                             (struct mailbox_key){1, SENT}, 1, &uid, 1, &pairs, &count, &validity,
                             &err));
    assert_done(message_keys_read(&reader, &err));
    assert_str(r.subjects[0], STR("S1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_come_from_cache_and_database_alike),
        cmocka_unit_test(keys_of_many_messages_come_once_each),
        cmocka_unit_test(a_reader_that_has_enough_ends_both_fibers),
        cmocka_unit_test(the_date_is_in_utc_and_falls_back_to_the_arrival),
        cmocka_unit_test(the_reader_can_stop),
        cmocka_unit_test(a_copy_has_its_own_keys),
    };

    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
