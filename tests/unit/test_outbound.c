/* test_outbound.c - the outbound queue in the database: what goes in, who claims it, what becomes of it. */
#include "tests/unit/store_fixture.h"

#include "mail/store/outbound.h"
#include "mail/store/upkeep.h"

#define MESSAGE      "Return-Path: <a@b.test>\r\nSubject: x\r\n\r\nbody\r\n"
#define RETURN_SIZE  25
#define WORKERS_HOST 77

static int64_t worker, other_worker;

/* Workers 0 and 1 of one host, and an empty queue. */
static void start_clean(void)
{
    fixture_sql("SET client_min_messages = warning; TRUNCATE queue_message, queue_recipient, "
                "queue_destination, queue_worker");
    config.queue_lifetime = INT64_C(5) * 86400 * 1000;
    config.queue_delay_warning = INT64_C(4) * 3600 * 1000;
    assert_done(outbound_worker_begin(WORKERS_HOST, 0, &worker, &err));
    assert_done(outbound_worker_begin(WORKERS_HOST, 1, &other_worker, &err));
}

static struct outbound make_outbound(const char *const *addresses, size_t count)
{
    struct outbound o = {.trace_id = 5,
                         .account_id = 1,
                         .sender = STR("a@b.test"),
                         .envid = STR("e1"),
                         .language = STR("en"),
                         .blob_offset = RETURN_SIZE,
                         .rcpt_count = count,
                         .arena = store_arena};

    o.rcpts = ARENA_ARRAY(store_arena, count, struct outbound_recipient);
    for (size_t i = 0; i < count; i++)
        o.rcpts[i].address = str_c(addresses[i]);
    return o;
}

#define OUTBOUND(...)                                                                              \
    make_outbound((const char *const[]){__VA_ARGS__},                                              \
                  sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void put(struct outbound *o)
{
    struct message_prepared m = store_message(MESSAGE);

    assert_done(mail_deliver(&m, NULL, 0, o, &err));
}

/* As whoever accepted it does behind the commit. */
static void put_due(struct outbound *o)
{
    put(o);
    for (size_t i = 0; i < o->rcpt_count; i++) {
        struct str hop = outbound_hop(&o->rcpts[i]);
        assert_done(outbound_note_due(&hop, 1, &err));
    }
}

static struct outbound_claims claim_as(int64_t as, int hops, int rcpts, int per_hop)
{
    struct outbound_claim_limits limits = {.hops = hops,
                                           .rcpts = rcpts,
                                           .rcpts_per_hop = per_hop,
                                           .rcpts_per_new_hop = per_hop,
                                           .probe_ms = 60000};
    struct outbound_claims out;

    assert_done(outbound_claim(store_arena, as, &limits, &out, &err));
    return out;
}

static struct outbound_claims claim_all(int64_t as)
{
    return claim_as(as, 100, 1000, 1000);
}

static void finish_one(int64_t as, const struct outbound_claim *c, size_t i, bool is_done,
                       int64_t delay_ms)
{
    struct outbound_result r = {.queue_id = c->o.queue_id,
                                .no = c->o.rcpts[i].no,
                                .is_done = is_done,
                                .delay_ms = delay_ms,
                                .code = 451,
                                .enhanced = STR("4.2.0"),
                                .text = STR("come back \xff later"),
                                .host = STR("mx.test [192.0.2.1]:25")};

    assert_done(outbound_finish(as, &r, 1, NULL, 0, NULL, 0, &err));
}

static const int64_t delays[] = {60000, 120000};

static struct outbound_hop_news block(const char *hop)
{
    struct outbound_hop_news news = {
        .hop = str_c(hop), .error = STR("refused"), .is_blocked = true};

    assert_done(outbound_finish(worker, NULL, 0, &news, 1, delays, 2, &err));
    return news;
}

static void unblock(const char *hop)
{
    struct outbound_hop_news news = {.hop = str_c(hop)};

    assert_done(outbound_finish(worker, NULL, 0, &news, 1, delays, 2, &err));
}

static void assert_empty(void)
{
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_message"), 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_recipient"), 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob"), 0);
}

/* ---- in ---------------------------------------------------------------------------------------- */

CASE(a_claim_tells_all_that_was_queued)
{
    struct outbound o = OUTBOUND("x@Example.TEST", "y@example.test");
    struct outbound_claims c;
    struct buf text;

    start_clean();
    o.ret = OUTBOUND_RET_HDRS;
    o.body = OUTBOUND_BODY_8BITMIME;
    o.priority = -3;
    o.requires_tls = o.deliver_by_notify = true;
    o.deliver_by_us = time_now_us() + 3600000000;
    o.rcpts[1].notify = OUTBOUND_NOTIFY_SUCCESS;
    o.rcpts[1].orcpt = STR("rfc822;z@example.test");
    put_due(&o);
    c = claim_all(worker);
    assert_int_equal(c.count, 1);
    assert_int_equal(c.v[0].o.rcpt_count, 2);
    assert_int_equal(c.v[0].o.queue_id, o.queue_id);
    assert_int_equal(c.v[0].o.trace_id, 5);
    assert_int_equal(c.v[0].o.account_id, 1);
    assert_int_equal(c.v[0].o.ret, OUTBOUND_RET_HDRS);
    assert_int_equal(c.v[0].o.body, OUTBOUND_BODY_8BITMIME);
    assert_int_equal(c.v[0].o.priority, -3);
    assert_true(c.v[0].o.requires_tls);
    assert_true(c.v[0].o.deliver_by_notify);
    assert_false(c.v[0].o.is_utf8);
    assert_int_equal(c.v[0].o.deliver_by_us, o.deliver_by_us);
    assert_str(c.v[0].o.sender, STR("a@b.test"));
    assert_str(c.v[0].o.rcpts[0].address, STR("x@Example.TEST"));
    assert_str(c.v[0].o.rcpts[0].destination, STR("example.test"));
    assert_str(c.v[0].o.rcpts[1].orcpt, STR("rfc822;z@example.test"));
    assert_int_equal(c.v[0].o.rcpts[1].notify, OUTBOUND_NOTIFY_SUCCESS);
    assert_int_equal(c.v[0].size, strlen(MESSAGE) - RETURN_SIZE);

    buf_init(&text, 1000);
    assert_done(outbound_read(store_arena, worker, &c.v[0], &text, &err));
    assert_str(buf_str(&text), str_from(STR(MESSAGE), RETURN_SIZE));
    buf_fini(&text);
}

CASE(local_copies_and_the_queue_are_one_transaction_and_one_blob)
{
    struct outbound o = OUTBOUND("x@example.test");
    struct message_prepared m = store_message(MESSAGE);
    struct delivery d[] = {{.account_id = 2, .received_us = 1},
                           {.account_id = 3, .received_us = 1}};
    struct outbound_claims c;

    start_clean();
    assert_done(mail_deliver(&m, d, 2, &o, &err));
    assert_int_equal(d[1].status, DELIVERED);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob WHERE uses = 3"), 1);
    assert_done(outbound_sweep(&err)); /* nobody noted it */
    c = claim_all(worker);
    assert_int_equal(c.count, 1);
    finish_one(worker, &c.v[0], 0, true, 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_message"), 0);
    assert_store_is_consistent();

    o.rcpts[0].address = STR("bad\xff@example.test");
    assert_refused(mail_deliver(&m, d, 2, &o, &err), ERR_SYNTAX);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 2);
    assert_store_is_consistent();
}

CASE(several_messages_and_their_queue_entries_are_one_transaction)
{
    struct outbound away = OUTBOUND("x@example.test"), answer = OUTBOUND("y@example.test");
    struct message_prepared first = store_message(MESSAGE),
                            edited = store_message(MESSAGE "more\r\n"),
                            unused = store_message(MESSAGE);
    struct delivery to_first[] = {{.account_id = 3}, {.account_id = 1}};
    struct delivery to_edited[] = {{.account_id = 2}, {.account_id = 1}};
    struct mail_item items[] = {
        {&first, to_first, 2, &away}, {&unused, NULL, 0, NULL}, {&edited, to_edited, 2, &answer}};

    start_clean();
    assert_done(mail_deliver_all(items, 3, &err));
    assert_int_equal(to_first[1].uid, 1);
    assert_int_equal(to_edited[0].status, DELIVERED);
    assert_int_equal(to_edited[1].uid, 2); /* in the order of the messages */
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob WHERE uses = 3"), 2);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_message"), 2);
    assert_store_is_consistent();

    answer.rcpts[0].address = STR("bad\xff@example.test");
    assert_refused(mail_deliver_all(items, 3, &err), ERR_SYNTAX);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 4);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob"), 2);
    assert_store_is_consistent();
}

CASE(what_only_the_queue_used_is_gone_at_once)
{
    struct outbound o = OUTBOUND("x@example.test", "y@example.test", "z@other.test");
    struct outbound_claims c;

    start_clean();
    put_due(&o);
    c = claim_all(worker);
    assert_int_equal(c.count, 2);
    assert_int_equal(c.rcpt_count, 3);
    for (size_t i = 0; i < c.count; i++)
        for (size_t k = 0; k < c.v[i].o.rcpt_count; k++) {
            assert_int_equal(fixture_sql("SELECT count(*) FROM blob"), 1);
            finish_one(worker, &c.v[i], k, true, 0);
        }
    assert_empty();
}

CASE(the_audit_counts_the_queue_as_a_use)
{
    struct outbound o = OUTBOUND("x@example.test");
    int64_t count;

    start_clean();
    put(&o);
    assert_done(store_audit_blobs(&count, &err));
    assert_int_equal(count, 0);
}

/* ---- claims -------------------------------------------------------------------------------------- */

CASE(what_one_worker_has_claimed_no_other_gets)
{
    struct outbound o = OUTBOUND("x@example.test"), own = OUTBOUND("y@example.test");

    start_clean();
    own.claimed_by = worker;
    put_due(&own);
    assert_int_equal(claim_all(other_worker).count, 0);
    put_due(&o);
    assert_int_equal(claim_all(other_worker).count, 1);
    assert_int_equal(claim_all(worker).count, 0);
}

/* A connection of another worker holds the row of a hop, and of a recipient. */
CASE(claims_pass_over_what_is_locked)
{
    struct outbound a = OUTBOUND("x@a.test", "x@b.test", "y@b.test");
    PGconn *pq = fixture_connect();
    struct outbound_claims c;

    start_clean();
    put_due(&a);
    PQclear(PQexec(pq, "BEGIN"));
    PQclear(PQexec(pq, "SELECT FROM queue_destination WHERE hop = 'a.test' FOR UPDATE"));
    PQclear(PQexec(pq, "SELECT FROM queue_recipient WHERE address = 'x@b.test' FOR UPDATE"));
    c = claim_all(worker);
    assert_int_equal(c.rcpt_count, 1);
    assert_str(c.v[0].o.rcpts[0].address, STR("y@b.test"));
    PQclear(PQexec(pq, "ROLLBACK"));
    PQfinish(pq);
    c = claim_all(other_worker);
    assert_int_equal(c.rcpt_count, 2);
}

CASE(each_hop_gives_a_window_and_the_rest_stays_due)
{
    struct outbound o = OUTBOUND("1@a.test", "2@a.test", "3@a.test", "4@b.test", "5@b.test");
    struct outbound_claims c;
    size_t total = 0;

    start_clean();
    put_due(&o);
    c = claim_as(worker, 10, 10, 1);
    assert_int_equal(c.count, 2);
    assert_int_equal(c.rcpt_count, 2);
    for (int i = 0; i < 5; i++)
        total += claim_as(other_worker, 10, 2, 2).rcpt_count;
    assert_int_equal(total, 3);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_destination"), 0);
}

CASE(the_urgent_are_taken_before_those_that_wait_longer)
{
    struct outbound bulk = OUTBOUND("1@a.test", "2@a.test", "3@a.test");
    struct outbound urgent = OUTBOUND("4@a.test"), most_urgent = OUTBOUND("5@a.test");
    struct outbound_claims c;

    start_clean();
    put_due(&bulk);
    urgent.priority = 1;
    put_due(&urgent);
    most_urgent.priority = 6;
    put_due(&most_urgent);
    c = claim_as(worker, 10, 1, 1);
    assert_int_equal(c.v[0].o.priority, 6);
    c = claim_as(worker, 10, 2, 2);
    assert_int_equal(c.count, 2);
    assert_int_equal(c.v[0].o.priority, 1);
    assert_int_equal(c.v[1].o.priority, 0);
    assert_int_equal(claim_all(worker).rcpt_count, 2);
}

CASE(hops_that_are_busy_are_passed_over)
{
    struct outbound o = OUTBOUND("1@a.test", "4@b.test");
    struct str skip[] = {STR("a.test")};
    struct outbound_claim_limits limits = {.hops = 10,
                                           .rcpts = 10,
                                           .rcpts_per_hop = 10,
                                           .rcpts_per_new_hop = 10,
                                           .probe_ms = 60000,
                                           .skip = skip,
                                           .skip_count = 1};
    struct outbound_claims c;

    start_clean();
    put_due(&o);
    assert_done(outbound_claim(store_arena, worker, &limits, &c, &err));
    assert_int_equal(c.count, 1);
    assert_str(c.v[0].o.rcpts[0].destination, STR("b.test"));
}

CASE(of_hops_that_may_be_dead_little_is_claimed_or_nothing)
{
    struct outbound o = OUTBOUND("1@a.test", "2@a.test", "3@a.test", "4@b.test", "5@b.test");
    struct str proven[] = {STR("b.test")};
    struct outbound_claim_limits limits = {.hops = 10,
                                           .rcpts = 10,
                                           .rcpts_per_hop = 10,
                                           .probe_ms = 60000,
                                           .proven = proven,
                                           .proven_count = 1};
    struct outbound_claims c;

    start_clean();
    put_due(&o);
    assert_done(outbound_claim(store_arena, worker, &limits, &c, &err));
    assert_int_equal(c.rcpt_count, 2);
    assert_str(c.v[0].o.rcpts[0].destination, STR("b.test"));
    limits.rcpts_per_new_hop = 2;
    assert_done(outbound_claim(store_arena, worker, &limits, &c, &err));
    assert_int_equal(c.rcpt_count, 2);
    assert_str(c.v[0].o.rcpts[0].destination, STR("a.test"));
}

CASE(a_smarthost_is_one_hop_for_all_domains)
{
    struct outbound o = OUTBOUND("1@a.test", "2@b.test");
    struct outbound_claims c;
    int64_t count;

    start_clean();
    o.rcpts[0].route = o.rcpts[1].route = STR("relay.test:587");
    put_due(&o);
    c = claim_all(worker);
    assert_int_equal(c.count, 1);
    assert_str(c.v[0].o.rcpts[1].route, STR("relay.test:587"));
    assert_str(c.v[0].o.rcpts[1].destination, STR("b.test"));
    finish_one(worker, &c.v[0], 0, false, 0);
    finish_one(worker, &c.v[0], 1, false, 0);

    assert_done(outbound_reroute(&(struct outbound_filter){.destination = STR("a.test")}, STR(""),
                                 &count, &err));
    assert_int_equal(count, 1);
    c = claim_all(worker);
    assert_int_equal(c.count, 2);
    for (size_t i = 0; i < 2; i++)
        assert_str(c.v[i].o.rcpts[0].route, str_eq(c.v[i].o.rcpts[0].destination, STR("a.test"))
                                                ? STR("")
                                                : STR("relay.test:587"));
}

CASE(mail_for_accounts_of_ours_is_not_rerouted)
{
    struct outbound o = OUTBOUND("1@a.test", "2@a.test");
    struct outbound_claims c;
    int64_t count;

    start_clean();
    o.rcpts[0].route = STR(OUTBOUND_ROUTE_HERE);
    put_due(&o);
    assert_done(outbound_reroute(&(struct outbound_filter){.destination = STR("a.test")},
                                 STR("relay.test:587"), &count, &err));
    assert_int_equal(count, 1);
    c = claim_all(worker);
    assert_int_equal(c.count, 2);
    assert_str(c.v[0].o.rcpts[0].route,
               c.v[0].o.rcpts[0].no == 1 ? STR(OUTBOUND_ROUTE_HERE) : STR("relay.test:587"));
}

/* ---- leases -------------------------------------------------------------------------------------- */

CASE(the_next_worker_of_the_place_gets_what_its_predecessor_held)
{
    struct outbound o = OUTBOUND("x@example.test");
    int64_t next;

    start_clean();
    o.claimed_by = worker;
    put(&o);
    assert_done(outbound_worker_begin(WORKERS_HOST + 1, 0, &next, &err));
    assert_int_equal(claim_all(next).count, 0);
    assert_done(outbound_worker_begin(WORKERS_HOST, 0, &next, &err));
    assert_int_equal(claim_all(next).count, 1);
}

CASE(a_lease_that_nobody_renews_ends)
{
    struct outbound o = OUTBOUND("x@example.test");
    bool is_alive;

    start_clean();
    o.claimed_by = worker;
    put(&o);
    assert_done(outbound_worker_renew(worker, &is_alive, &err));
    assert_true(is_alive);
    assert_done(outbound_sweep(&err));
    assert_int_equal(claim_all(other_worker).count, 0);
    fixture_sql("UPDATE queue_worker SET alive_until = now() - interval '1 second' WHERE slot = 0");
    assert_done(outbound_worker_renew(worker, &is_alive, &err));
    assert_false(is_alive);
    assert_done(outbound_sweep(&err));
    assert_int_equal(claim_all(other_worker).count, 1);
}

CASE(claims_of_nobody_known_return)
{
    struct outbound o = OUTBOUND("x@example.test");

    start_clean();
    o.claimed_by = 987654;
    put(&o);
    assert_done(outbound_sweep(&err));
    assert_int_equal(claim_all(worker).count, 1);
}

CASE(a_worker_that_ends_gives_back_what_it_holds)
{
    struct outbound o = OUTBOUND("x@example.test");

    start_clean();
    o.claimed_by = worker;
    put(&o);
    assert_done(outbound_worker_end(worker, &err));
    assert_int_equal(claim_all(other_worker).count, 1);
}

CASE(who_lost_the_claim_cannot_defer_but_delivered_is_delivered)
{
    struct outbound o = OUTBOUND("x@example.test");
    struct outbound_claims mine, theirs;

    start_clean();
    put_due(&o);
    mine = claim_all(worker);
    assert_done(outbound_worker_end(worker, &err));
    theirs = claim_all(other_worker);
    assert_int_equal(theirs.count, 1);
    finish_one(worker, &mine.v[0], 0, false, 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_recipient WHERE claimed_by IS NULL"),
                     0);
    finish_one(worker, &mine.v[0], 0, true, 0);
    assert_empty();
    finish_one(other_worker, &theirs.v[0], 0, false, 0); /* has no effect */
    assert_empty();
}

/* ---- deferral ------------------------------------------------------------------------------------- */

CASE(a_deferred_recipient_comes_again_when_its_time_has_come)
{
    struct outbound o = OUTBOUND("x@example.test");
    struct outbound_claims c;

    start_clean();
    put_due(&o);
    c = claim_all(worker);
    finish_one(worker, &c.v[0], 0, false, 3600000);
    assert_int_equal(claim_all(worker).count, 0);
    assert_int_equal(
        fixture_sql("SELECT count(*) FROM queue_destination WHERE next_at > now() + "
                    "interval '59 minutes' AND next_at < now() + interval '61 minutes'"),
        1);
    fixture_sql(
        "UPDATE queue_recipient SET next_at = now(); UPDATE queue_destination SET next_at = now()");
    c = claim_all(worker);
    assert_int_equal(c.count, 1);
    assert_int_equal(c.v[0].o.rcpts[0].attempts, 1);
    assert_int_equal(c.v[0].o.rcpts[0].last_code, 451);
    assert_str(c.v[0].o.rcpts[0].last_text, STR("come back ? later"));
    assert_str(c.v[0].o.rcpts[0].last_host, STR("mx.test [192.0.2.1]:25"));
}

CASE(what_was_not_tried_counts_no_attempt)
{
    struct outbound o = OUTBOUND("x@example.test");
    struct outbound_claims c;
    struct outbound_result r;

    start_clean();
    put_due(&o);
    c = claim_all(worker);
    r = (struct outbound_result){.queue_id = c.v[0].o.queue_id, .no = 1, .code = -1};
    assert_done(outbound_finish(worker, &r, 1, NULL, 0, NULL, 0, &err));
    c = claim_all(worker);
    assert_int_equal(c.v[0].o.rcpts[0].attempts, 0);
}

CASE(a_dead_hop_costs_one_recipient_a_retry_until_it_lives)
{
    struct outbound o = OUTBOUND("1@dead.test", "2@dead.test", "3@dead.test", "4@live.test");
    struct outbound_hop_news news;
    struct outbound_claims c;

    start_clean();
    put_due(&o);
    news = block("dead.test");
    assert_int_equal(news.failures, 1);
    assert_in_range(news.blocked_ms, 55000, 60000);
    news = block("dead.test"); /* another delivery found the same */
    assert_int_equal(news.failures, 1);
    c = claim_all(worker);
    assert_int_equal(c.count, 1);
    assert_str(c.v[0].o.rcpts[0].destination, STR("live.test"));

    fixture_sql("UPDATE queue_destination SET next_at = now(), blocked_until = now()");
    c = claim_all(worker);
    assert_int_equal(c.rcpt_count, 1);
    assert_int_equal(c.v[0].failures, 1);
    assert_int_equal(claim_all(other_worker).count,
                     0); /* while it is not known what became of it */
    news = block("dead.test");
    assert_int_equal(news.failures, 2);
    assert_in_range(news.blocked_ms, 110000, 120000);
    finish_one(worker, &c.v[0], 0, false, 0);
    assert_int_equal(claim_all(worker).count, 0);

    unblock("dead.test");
    assert_int_equal(claim_all(worker).rcpt_count, 3);
}

/* ---- late ------------------------------------------------------------------------------------------ */

static struct outbound_claims late_as(int64_t as)
{
    struct outbound_claims c;

    assert_done(outbound_claim_late(store_arena, as, 100, &c, &err));
    return c;
}

CASE(a_sender_is_warned_once_and_later_it_is_over)
{
    struct outbound o = OUTBOUND("x@example.test", "y@other.test");
    struct outbound_claims c;

    start_clean();
    put_due(&o);
    assert_int_equal(late_as(worker).count, 0);
    fixture_sql("UPDATE queue_message SET warn_at = now(), check_at = now()");
    c = late_as(worker);
    assert_int_equal(c.count, 1);
    assert_false(c.v[0].is_over);
    assert_int_equal(c.v[0].o.rcpt_count, 2);
    assert_int_equal(late_as(worker).count, 0); /* not at once again, when it goes wrong */
    assert_done(outbound_set_warned(o.queue_id, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_message WHERE check_at = expires_at"),
                     1);

    fixture_sql("UPDATE queue_message SET expires_at = now(), check_at = now()");
    c = late_as(worker);
    assert_int_equal(c.count, 1);
    assert_true(c.v[0].is_over);
    assert_int_equal(c.v[0].o.rcpt_count, 2);
    assert_int_equal(claim_all(other_worker).count, 0);
}

CASE(what_is_in_delivery_or_held_does_not_expire_under_the_hands)
{
    struct outbound a = OUTBOUND("x@example.test"), b = OUTBOUND("y@example.test");
    int64_t count;

    start_clean();
    a.claimed_by = worker;
    put(&a);
    put(&b);
    assert_done(
        outbound_hold(&(struct outbound_filter){.queue_id = b.queue_id}, STR("why"), &count, &err));
    fixture_sql("UPDATE queue_message SET expires_at = now(), check_at = now()");
    assert_int_equal(late_as(other_worker).count, 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_message WHERE check_at = 'infinity'"),
                     1);
}

CASE(delivery_by_a_time_brings_the_end_or_the_warning_forward)
{
    struct outbound a = OUTBOUND("x@example.test"), b = OUTBOUND("y@example.test");

    start_clean();
    a.deliver_by_us = b.deliver_by_us = time_now_us() + 60000000;
    b.deliver_by_notify = true;
    put(&a);
    put(&b);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_message WHERE expires_at = deliver_by "
                                 "AND NOT deliver_by_notify"),
                     1);
    assert_int_equal(
        fixture_sql("SELECT count(*) FROM queue_message WHERE warn_at = deliver_by "
                    "AND deliver_by_notify AND expires_at > now() + interval '4 days'"),
        1);
}

/* ---- reports ---------------------------------------------------------------------------------------- */

CASE(a_report_and_the_end_of_its_recipients_are_one_transaction)
{
    struct outbound o = OUTBOUND("x@example.test", "y@example.test"), report = {.rcpt_count = 0};
    struct message_prepared m = store_message("Subject: report\r\n\r\n");
    struct delivery d = {.account_id = 1, .received_us = 1};
    struct outbound_claims c;
    int32_t nos[] = {1, 2};
    struct outbound_ends ends = {.nos = nos, .count = 2};

    start_clean();
    put_due(&o);
    c = claim_all(worker);
    ends.queue_id = c.v[0].o.queue_id;
    ends.worker_id = other_worker;
    report.ends = &ends;
    assert_refused(mail_deliver(&m, &d, 1, &report, &err), ERR_NOT_FOUND);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 0);
    ends.worker_id = worker;
    assert_done(mail_deliver(&m, &d, 1, &report, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_message"), 0);
    assert_refused(mail_deliver(&m, &d, 1, &report, &err), ERR_NOT_FOUND);
    assert_store_is_consistent();
}

CASE(a_warning_may_itself_go_into_the_queue)
{
    struct outbound o = OUTBOUND("x@example.test"), report = OUTBOUND("a@b.test");
    struct outbound_ends ends = {.is_warning = true};

    start_clean();
    put(&o);
    ends.queue_id = o.queue_id;
    report.ends = &ends;
    report.sender = STR("");
    put_due(&report);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_message WHERE warn_at = 'infinity'"),
                     1);
    assert_int_equal(claim_all(worker).count, 1);
}

/* ---- administration ---------------------------------------------------------------------------------- */

CASE(held_mail_waits_until_it_is_released)
{
    struct outbound a = OUTBOUND("x@example.test"), b = OUTBOUND("y@example.test");
    int64_t count;

    start_clean();
    b.account_id = 2;
    put_due(&a);
    put_due(&b);
    assert_done(
        outbound_hold(&(struct outbound_filter){.account_id = 1}, STR("misused"), &count, &err));
    assert_int_equal(count, 1);
    assert_int_equal(claim_all(worker).count, 1);
    assert_done(outbound_retry(&(struct outbound_filter){.account_id = 1}, &count, &err));
    assert_int_equal(claim_all(worker).count, 0);
    assert_done(outbound_release(&(struct outbound_filter){.account_id = 1}, &count, &err));
    assert_int_equal(count, 1);
    assert_int_equal(claim_all(worker).count, 1);
}

CASE(what_is_held_while_it_is_claimed_is_not_read)
{
    struct outbound o = OUTBOUND("x@example.test");
    struct outbound_claims c;
    struct buf text;
    int64_t count;

    start_clean();
    put_due(&o);
    c = claim_all(worker);
    assert_done(outbound_hold(&(struct outbound_filter){.recipient = STR("X@example.test")},
                              STR("why"), &count, &err));
    assert_int_equal(count, 1);
    buf_init(&text, 1000);
    assert_refused(outbound_read(store_arena, worker, &c.v[0], &text, &err), ERR_NOT_FOUND);
    buf_fini(&text);
    assert_done(outbound_release(&(struct outbound_filter){.is_held = true}, &count, &err));
    assert_int_equal(claim_all(worker).count, 1); /* it was given back */
}

CASE(mail_that_comes_held_or_for_later_is_not_due)
{
    struct outbound held = OUTBOUND("x@example.test"), later = OUTBOUND("y@example.test");
    int64_t count;

    start_clean();
    held.held = STR("spam?");
    later.hold_until_us = time_now_us() + 3600000000;
    put_due(&held);
    put_due(&later);
    assert_int_equal(claim_all(worker).count, 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_destination WHERE next_at > now()"),
                     1);
    assert_done(
        outbound_release(&(struct outbound_filter){.sender = STR("*@B.test")}, &count, &err));
    assert_int_equal(count, 2);
    assert_int_equal(claim_all(worker).rcpt_count, 2);
}

CASE(retry_makes_due_and_unblocks)
{
    struct outbound o = OUTBOUND("x@example.test");
    struct outbound_claims c;
    int64_t count;

    start_clean();
    put_due(&o);
    c = claim_all(worker);
    finish_one(worker, &c.v[0], 0, false, 3600000);
    block("example.test");
    assert_done(outbound_retry(&(struct outbound_filter){.destination = STR("example.test")},
                               &count, &err));
    assert_int_equal(count, 1);
    assert_int_equal(claim_all(worker).count, 1);
}

CASE(deletion_takes_what_the_filter_finds_and_the_blob_with_the_last)
{
    struct outbound o = OUTBOUND("x@a.test", "y@b.test", "z@b.test");
    int64_t count;

    start_clean();
    put_due(&o);
    assert_done(
        outbound_delete(&(struct outbound_filter){.recipient = STR("*@b.test")}, &count, &err));
    assert_int_equal(count, 2);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob"), 1);
    assert_done(
        outbound_delete(&(struct outbound_filter){.recipient = STR("*@b.test")}, &count, &err));
    assert_int_equal(count, 0);
    assert_done(outbound_delete(&(struct outbound_filter){.queue_id = o.queue_id}, &count, &err));
    assert_int_equal(count, 1);
    assert_empty();
}

CASE(what_an_administrator_refuses_is_over_for_those_recipients_alone)
{
    struct outbound o = OUTBOUND("x@a.test", "y@b.test");
    struct outbound_claims c;
    int64_t count;

    start_clean();
    put_due(&o);
    assert_done(
        outbound_bounce(&(struct outbound_filter){.destination = STR("b.test")}, &count, &err));
    c = late_as(worker);
    assert_int_equal(c.count, 1);
    assert_true(c.v[0].is_over);
    assert_int_equal(c.v[0].o.rcpt_count, 1);
    assert_true(c.v[0].o.rcpts[0].is_refused);
    assert_str(c.v[0].o.rcpts[0].address, STR("y@b.test"));
    assert_int_equal(claim_all(worker).rcpt_count, 1);
}

CASE(the_list_goes_page_by_page)
{
    struct outbound o = OUTBOUND("x@a.test", "y@b.test", "z@c.test");
    struct outbound_entry *v;
    struct outbound_filter all = {0};
    struct outbound_counts counts;
    size_t count;
    int64_t changed;

    start_clean();
    put_due(&o);
    assert_done(outbound_list(store_arena, &all, 0, 0, 2, &v, &count, &err));
    assert_int_equal(count, 2);
    assert_str(v[1].address, STR("y@b.test"));
    assert_int_equal(v[0].queue_id, o.queue_id);
    assert_false(v[0].is_claimed);
    assert_done(outbound_list(store_arena, &all, v[1].queue_id, v[1].no, 2, &v, &count, &err));
    assert_int_equal(count, 1);
    assert_done(outbound_hold(&(struct outbound_filter){.destination = STR("c.test")}, STR("why"),
                              &changed, &err));
    assert_done(outbound_list(store_arena, &(struct outbound_filter){.is_held = true}, 0, 0, 10, &v,
                              &count, &err));
    assert_int_equal(count, 1);
    assert_str(v[0].held, STR("why"));
    assert_int_equal(v[0].next_us, INT64_MAX);
    assert_done(outbound_count(&counts, &err));
    assert_int_equal(counts.messages, 1);
    assert_int_equal(counts.recipients, 3);
    assert_int_equal(counts.held, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_claim_tells_all_that_was_queued),
        cmocka_unit_test(local_copies_and_the_queue_are_one_transaction_and_one_blob),
        cmocka_unit_test(several_messages_and_their_queue_entries_are_one_transaction),
        cmocka_unit_test(what_only_the_queue_used_is_gone_at_once),
        cmocka_unit_test(the_audit_counts_the_queue_as_a_use),
        cmocka_unit_test(what_one_worker_has_claimed_no_other_gets),
        cmocka_unit_test(claims_pass_over_what_is_locked),
        cmocka_unit_test(each_hop_gives_a_window_and_the_rest_stays_due),
        cmocka_unit_test(hops_that_are_busy_are_passed_over),
        cmocka_unit_test(the_urgent_are_taken_before_those_that_wait_longer),
        cmocka_unit_test(of_hops_that_may_be_dead_little_is_claimed_or_nothing),
        cmocka_unit_test(a_smarthost_is_one_hop_for_all_domains),
        cmocka_unit_test(mail_for_accounts_of_ours_is_not_rerouted),
        cmocka_unit_test(the_next_worker_of_the_place_gets_what_its_predecessor_held),
        cmocka_unit_test(a_lease_that_nobody_renews_ends),
        cmocka_unit_test(claims_of_nobody_known_return),
        cmocka_unit_test(a_worker_that_ends_gives_back_what_it_holds),
        cmocka_unit_test(who_lost_the_claim_cannot_defer_but_delivered_is_delivered),
        cmocka_unit_test(a_deferred_recipient_comes_again_when_its_time_has_come),
        cmocka_unit_test(what_was_not_tried_counts_no_attempt),
        cmocka_unit_test(a_dead_hop_costs_one_recipient_a_retry_until_it_lives),
        cmocka_unit_test(a_sender_is_warned_once_and_later_it_is_over),
        cmocka_unit_test(what_is_in_delivery_or_held_does_not_expire_under_the_hands),
        cmocka_unit_test(delivery_by_a_time_brings_the_end_or_the_warning_forward),
        cmocka_unit_test(a_report_and_the_end_of_its_recipients_are_one_transaction),
        cmocka_unit_test(a_warning_may_itself_go_into_the_queue),
        cmocka_unit_test(held_mail_waits_until_it_is_released),
        cmocka_unit_test(what_is_held_while_it_is_claimed_is_not_read),
        cmocka_unit_test(mail_that_comes_held_or_for_later_is_not_due),
        cmocka_unit_test(retry_makes_due_and_unblocks),
        cmocka_unit_test(deletion_takes_what_the_filter_finds_and_the_blob_with_the_last),
        cmocka_unit_test(what_an_administrator_refuses_is_over_for_those_recipients_alone),
        cmocka_unit_test(the_list_goes_page_by_page),
    };

    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
