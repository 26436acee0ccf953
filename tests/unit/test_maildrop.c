/* test_maildrop.c - who has a maildrop, and until when; sizes as messages are sent. */
#include "tests/unit/store_fixture.h"

#include "mail/store/maildrop.h"
#include "mail/store/upkeep.h"

static void start_clean(void)
{
    fixture_sql("TRUNCATE maildrop_claim, message_growth");
    maildrop_keeper_start(0);
    assert_done(maildrop_renew_all(&err));
}

/* Another worker, as far as rows tell. */
static void steal(int64_t account_id)
{
    char sql[200];

    snprintf(sql, sizeof sql,
             "UPDATE maildrop_claim SET slot = 1, worker = 1, session = 1 WHERE account_id = %lld",
             (long long)account_id);
    fixture_sql(sql);
}

CASE(a_maildrop_is_one_sessions_until_it_is_released)
{
    struct maildrop_claim first, second;

    start_clean();
    assert_done(maildrop_claim(&first, 1, &err));
    assert_refused(maildrop_claim(&second, 1, &err), ERR_CONFLICT);
    assert_done(maildrop_claim(&second, 2, &err));
    maildrop_release(&first);
    maildrop_release(&first);
    assert_done(maildrop_claim(&first, 1, &err));
    maildrop_release(&first);
    maildrop_release(&second);
    assert_int_equal(fixture_sql("SELECT count(*) FROM maildrop_claim"), 0);
    maildrop_keeper_stop();
}

CASE(a_claim_that_nobody_renews_ends)
{
    struct maildrop_claim c;

    start_clean();
    fixture_sql("INSERT INTO maildrop_claim VALUES (1, 1, 1, 1, now() + interval '30s')");
    assert_refused(maildrop_claim(&c, 1, &err), ERR_CONFLICT);
    fixture_sql("UPDATE maildrop_claim SET expires_at = now() - interval '1s'");
    assert_done(maildrop_claim(&c, 1, &err));
    maildrop_release(&c);
    maildrop_keeper_stop();
}

CASE(renewing_puts_the_end_off_and_makes_lost_rows_anew)
{
    struct maildrop_claim one, two;

    start_clean();
    assert_done(maildrop_claim(&one, 1, &err));
    assert_done(maildrop_claim(&two, 2, &err));
    fixture_sql("UPDATE maildrop_claim SET expires_at = now() + interval '1s'");
    fixture_sql("DELETE FROM maildrop_claim WHERE account_id = 2");
    assert_done(maildrop_renew_all(&err));
    assert_int_equal(
        fixture_sql(
            "SELECT count(*) FROM maildrop_claim WHERE expires_at > now() + interval '20s'"),
        2);
    assert_false(one.is_lost);
    assert_false(two.is_lost);
    maildrop_release(&one);
    maildrop_release(&two);
    maildrop_keeper_stop();
}

CASE(a_claim_that_another_took_is_lost_and_stays_theirs)
{
    struct maildrop_claim c;

    start_clean();
    assert_done(maildrop_claim(&c, 1, &err));
    steal(1);
    assert_done(maildrop_renew_all(&err));
    assert_true(c.is_lost);
    maildrop_release(&c);
    assert_int_equal(fixture_sql("SELECT worker FROM maildrop_claim WHERE account_id = 1"), 1);
    maildrop_keeper_stop();
}

CASE(the_next_worker_of_the_slot_ends_its_predecessors_claims)
{
    struct maildrop_claim old, other, fresh, refused;

    start_clean();
    assert_done(maildrop_claim(&old, 1, &err));
    assert_done(maildrop_claim(&other, 2, &err));
    steal(2);
    maildrop_keeper_stop();
    list_remove(&old.link); /* its memory is gone */
    list_remove(&other.link);
    maildrop_keeper_start(0);
    assert_done(maildrop_claim(&fresh, 1, &err));
    assert_refused(maildrop_claim(&refused, 2, &err), ERR_CONFLICT);
    maildrop_release(&fresh);
    maildrop_keeper_stop();
}

struct sizes {
    uint32_t uids[8];
    uint64_t v[8];
    size_t n;
};

static void take_size(void *arg, uint32_t uid, uint64_t size)
{
    struct sizes *s = arg;

    s->uids[s->n] = uid;
    s->v[s->n++] = size;
}

CASE(sizes_are_those_of_lines_that_end_in_crlf)
{
    struct mailbox_key inbox = {1, INBOX};
    struct sizes s = {.n = 0};
    struct uid_pair *pairs;
    size_t pair_count;
    uint32_t uid_validity;

    start_clean();
    store_append(1, INBOX, 0, "Subject: a\r\n\r\ngood\r\n");
    store_append(1, DRAFTS, 0, "Subject: a\n\nbare\n");
    store_append(1, INBOX, 0, "Subject: a\n\nbare");
    store_append(1, INBOX, 0, "Subject: beyond\r\n");
    assert_done(message_copy(store_arena, (struct mailbox_key){1, DRAFTS}, inbox, 1,
                             (uint32_t[]){1}, 1, &pairs, &pair_count, &uid_validity, &err));
    assert_done(maildrop_read_sizes(inbox, 2, take_size, &s, &err));
    assert_int_equal(s.n, 2);
    assert_int_equal(s.uids[1], 2);
    assert_int_equal(s.v[0], strlen("Subject: a\r\n\r\ngood\r\n"));
    assert_int_equal(s.v[1], strlen("Subject: a\r\n\r\nbare\r\n"));
    s.n = 0;
    assert_done(maildrop_read_sizes(inbox, 4, take_size, &s, &err));
    assert_int_equal(s.n, 4);
    assert_int_equal(s.v[3], strlen("Subject: a\r\n\r\nbare\r\n"));
    assert_int_equal(fixture_sql("SELECT count(*) FROM message_growth"), 2);

    fixture_sql("INSERT INTO message_growth VALUES (1, 999999, 5), (2, 999999, 5)");
    fixture_sql("DELETE FROM message WHERE account_id = 1 AND mailbox_id = 1 AND uid = 2");
    assert_done(store_forget_growth(&err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM message_growth"), 1);
    maildrop_keeper_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_maildrop_is_one_sessions_until_it_is_released),
        cmocka_unit_test(a_claim_that_nobody_renews_ends),
        cmocka_unit_test(renewing_puts_the_end_off_and_makes_lost_rows_anew),
        cmocka_unit_test(a_claim_that_another_took_is_lost_and_stays_theirs),
        cmocka_unit_test(the_next_worker_of_the_slot_ends_its_predecessors_claims),
        cmocka_unit_test(sizes_are_those_of_lines_that_end_in_crlf),
    };

    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
