/* test_mailbox_index.c - views over one index against a naive client: whatever happens in the
 * mailbox and whenever a session asks, what it was told adds up to what is there. */
#include "tests/unit/store_fixture.h"

#include "server/run/metrics.h"

/* ---- a client that believes what it is told -------------------------------------------------- */

struct belief {
    uint32_t uid, flags;
};

struct client {
    struct mailbox_view *view;
    int64_t user_id;         /* the owner is 1 */
    struct belief *messages; /* by sequence number */
    size_t count, cap;
    uint32_t woken;
};

static void client_add(struct client *c, uint32_t uid, uint32_t flags)
{
    if (c->count == c->cap) {
        c->cap = c->cap * 2 + 64;
        c->messages = realloc(c->messages, c->cap * sizeof c->messages[0]);
        assert_non_null(c->messages);
    }
    c->messages[c->count++] = (struct belief){uid, flags};
}

/* As a client that fetches UID and FLAGS of what it was told is there. */
static void client_fetch_new(struct client *c)
{
    while (c->count < view_count(c->view)) {
        uint32_t uid = view_uid(c->view, (uint32_t)c->count + 1);
        struct index_entry e = {.flags = 0};

        assert_true(c->count == 0 || c->messages[c->count - 1].uid < uid);
        if (view_entry(c->view, uid, &e))
            assert_int_equal(e.uid, uid);
        client_add(c, uid, e.flags);
    }
}

static void client_open_as(struct client *c, int64_t mailbox_id, int64_t user_id)
{
    struct error err = {0};

    *c = (struct client){.view =
                             mailbox_view_open((struct mailbox_key){1, mailbox_id}, user_id, &err),
                         .user_id = user_id};
    if (c->view == NULL)
        broken("mailbox_view_open: %s", err.text);
    client_fetch_new(c);
}

static void client_open(struct client *c, int64_t mailbox_id)
{
    client_open_as(c, mailbox_id, 1);
}

static void client_close(struct client *c)
{
    mailbox_view_close(&c->view);
    free(c->messages);
    *c = (struct client){.view = NULL};
}

static void client_expunge(struct client *c, uint32_t seq, uint32_t uid)
{
    assert_in_range(seq, 1, c->count);
    assert_int_equal(c->messages[seq - 1].uid, uid);
    memmove(&c->messages[seq - 1], &c->messages[seq], (c->count - seq) * sizeof c->messages[0]);
    c->count--;
}

static struct view_changes client_take(struct client *c, bool expunges)
{
    struct view_changes changes;

    view_take_changes(c->view, store_arena, expunges, &changes);
    assert_true(expunges || changes.expunged_count == 0);
    for (size_t i = 0; i < changes.expunged_count; i++)
        client_expunge(c, changes.expunged_seqs[i], changes.expunged_uids[i]);
    assert_int_equal(changes.exists, view_count(c->view));
    assert_int_equal(changes.exists_changed, c->count < changes.exists);
    assert_true(c->count <= changes.exists);
    for (size_t i = 0; i < changes.flag_count; i++) {
        assert_in_range(changes.flag_seqs[i], 1, c->count);
        assert_int_equal(c->messages[changes.flag_seqs[i] - 1].uid, changes.flags[i].uid);
        c->messages[changes.flag_seqs[i] - 1].flags = changes.flags[i].flags;
    }
    client_fetch_new(c);
    return changes;
}

static void assert_numbers_agree(const struct client *c)
{
    assert_int_equal(view_count(c->view), c->count);
    for (size_t i = 0; i < c->count; i++) {
        assert_int_equal(view_uid(c->view, (uint32_t)i + 1), c->messages[i].uid);
        assert_int_equal(view_seq(c->view, c->messages[i].uid), i + 1);
        assert_int_equal(view_seq_at_least(c->view, c->messages[i].uid), i + 1);
    }
    assert_int_equal(view_seq(c->view, view_uid_max(c->view) + 1), 0);
    assert_int_equal(view_seq_at_least(c->view, view_uid_max(c->view) + 1), c->count + 1);
    assert_true(view_uid_max(c->view) < view_uid_next(c->view));
}

/* After a refresh and a take with expunges the client knows the mailbox as it is. */
static void assert_client_knows_all(struct client *c, int64_t mailbox_id)
{
    char sql[400];
    PGconn *pq = fixture_connect();
    PGresult *r;

    assert_done(view_refresh(c->view, &err));
    client_take(c, true);
    assert_numbers_agree(c);
    assert_false(view_is_behind(c->view));
    snprintf(
        sql, sizeof sql,
        "SELECT uid, CASE WHEN %d = 1 THEN flags ELSE (flags & ~1) | EXISTS (SELECT FROM "
        "mailbox_seen s WHERE s.account_id = 1 AND s.mailbox_id = m.mailbox_id AND user_id = "
        "%d AND uids @> uid)::integer END FROM message m WHERE account_id = 1 AND mailbox_id = "
        "%d ORDER BY uid",
        (int)c->user_id, (int)c->user_id, (int)mailbox_id);
    r = PQexec(pq, sql);
    assert_int_equal(PQntuples(r), c->count);
    for (size_t i = 0; i < c->count; i++) {
        assert_int_equal(atol(PQgetvalue(r, (int)i, 0)), c->messages[i].uid);
        assert_int_equal(atol(PQgetvalue(r, (int)i, 1)), c->messages[i].flags);
    }
    PQclear(r);
    PQfinish(pq);
    snprintf(sql, sizeof sql, "SELECT modseq FROM mailbox WHERE account_id = 1 AND mailbox_id = %d",
             (int)mailbox_id);
    assert_int_equal(fixture_sql(sql), view_highest_modseq(c->view));
}

static void assert_cannot_open(int64_t mailbox_id)
{
    struct error err = {0};

    assert_null(mailbox_view_open((struct mailbox_key){1, mailbox_id}, 1, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

/* ---- what happens in a mailbox --------------------------------------------------------------- */

static void append(int count)
{
    struct message_prepared m = store_message("Subject: x\r\n\r\n");

    for (int i = 0; i < count; i++) {
        struct delivery d = {.account_id = 1, .mailbox_id = INBOX};

        assert_done(mail_append(&m, &d, 1, &err));
    }
}

/* The session of `c` does it and tells its client itself; nobody's, when c is NULL. */
static void change_flags(struct client *c, const uint32_t *uids, size_t count,
                         enum flag_change change, uint32_t flags)
{
    struct message_state *states;
    size_t state_count, conflict_count;
    uint32_t *conflicts;

    assert_done(message_store_flags(store_arena, (struct mailbox_key){1, INBOX},
                                    c != NULL ? c->user_id : 1, uids, count, change, flags,
                                    (struct keywords){0}, UINT64_MAX, &states, &state_count,
                                    &conflicts, &conflict_count, &err));
    for (size_t i = 0; c != NULL && i < state_count; i++) {
        uint32_t seq = view_seq(c->view, states[i].uid);

        if (seq == 0)
            continue;
        view_mark_told(c->view, states[i].uid, states[i].modseq);
        c->messages[seq - 1].flags = states[i].flags;
    }
}

static void expunge(const uint32_t *uids, size_t count)
{
    uint32_t *removed;
    size_t removed_count;
    uint64_t modseq;

    assert_done(message_expunge(store_arena, (struct mailbox_key){1, INBOX}, uids, count, false,
                                &removed, &removed_count, &modseq, &err));
}

static void move(const uint32_t *uids, size_t count, int64_t to)
{
    struct uid_pair *pairs;
    size_t pair_count;
    uint32_t uid_validity;

    assert_done(message_move(store_arena, (struct mailbox_key){1, INBOX},
                             (struct mailbox_key){1, to}, 1, uids, count, &pairs, &pair_count,
                             &uid_validity, &err));
}

/* ---- cases ----------------------------------------------------------------------------------- */

CASE(a_view_shows_the_mailbox_as_it_was_opened)
{
    struct client c;
    struct index_entry e;

    append(3);
    client_open(&c, INBOX);
    append(1);
    expunge((const uint32_t[]){2}, 1);
    assert_int_equal(view_count(c.view), 3);
    assert_int_equal(view_uid(c.view, 2), 2);
    assert_true(view_entry(c.view, 2, &e));
    assert_done(view_refresh(c.view, &err));
    assert_int_equal(view_count(c.view), 3);
    assert_int_equal(view_seq(c.view, 3), 3);
    assert_false(view_entry(c.view, 2, &e));
    assert_false(view_entry(c.view, 4, &e));
    assert_true(view_is_behind(c.view));
    assert_client_knows_all(&c, INBOX);
    client_close(&c);
}

CASE(a_mailbox_that_is_not_there_cannot_be_opened)
{
    assert_cannot_open(77);
}

CASE(removals_wait_for_their_time_but_arrivals_do_not)
{
    struct client c, other;
    struct view_changes changes;
    uint64_t before;

    append(4);
    client_open(&c, INBOX);
    client_open(&other, INBOX);
    before = view_highest_modseq(c.view);
    expunge((const uint32_t[]){1, 3}, 2);
    append(2);
    assert_done(view_refresh(c.view, &err));
    changes = client_take(&c, false);
    assert_true(changes.exists_changed);
    assert_int_equal(changes.exists, 6);
    assert_int_equal(view_highest_modseq(c.view), before);
    assert_int_equal(view_count(other.view), 4);
    append(1);
    assert_done(view_refresh(c.view, &err));
    changes = client_take(&c, false);
    assert_int_equal(changes.exists, 7);
    changes = client_take(&c, true);
    assert_int_equal(changes.expunged_count, 2);
    assert_false(changes.exists_changed);
    assert_client_knows_all(&c, INBOX);
    assert_client_knows_all(&other, INBOX);
    client_close(&c);
    client_close(&other);
}

CASE(own_changes_are_left_out_and_others_are_not)
{
    struct client c, other;
    struct view_changes changes;

    append(3);
    client_open(&c, INBOX);
    client_open(&other, INBOX);
    change_flags(&c, (const uint32_t[]){1, 2}, 2, FLAGS_ADD, FLAG_SEEN);
    assert_done(view_refresh(c.view, &err));
    changes = client_take(&c, true);
    assert_int_equal(changes.flag_count, 0);
    changes = client_take(&other, true);
    assert_int_equal(changes.flag_count, 2);

    change_flags(&c, (const uint32_t[]){1, 2}, 2, FLAGS_ADD, FLAG_FLAGGED);
    change_flags(&other, (const uint32_t[]){2}, 1, FLAGS_ADD, FLAG_ANSWERED);
    assert_done(view_refresh(c.view, &err));
    changes = client_take(&c, true);
    assert_int_equal(changes.flag_count, 1);
    assert_int_equal(changes.flags[0].uid, 2);
    changes = client_take(&other, true);
    assert_int_equal(changes.flag_count, 1);
    assert_int_equal(changes.flags[0].uid, 1);
    assert_client_knows_all(&c, INBOX);
    client_close(&c);
    client_close(&other);
}

CASE(what_another_has_seen_is_told_to_their_sessions_alone)
{
    struct client owner, first, second;
    struct view_changes changes;

    append(3);
    client_open(&owner, INBOX);
    client_open_as(&first, INBOX, 2);
    client_open_as(&second, INBOX, 2);
    change_flags(&owner, (const uint32_t[]){1}, 1, FLAGS_ADD, FLAG_SEEN);
    change_flags(&first, (const uint32_t[]){2}, 1, FLAGS_ADD, FLAG_SEEN);
    assert_done(view_refresh(second.view, &err));
    changes = client_take(&first, true); /* refreshed by the other: the index is one */
    assert_int_equal(changes.flag_count, 1);
    assert_int_equal(changes.flags[0].uid, 1);
    assert_int_equal(changes.flags[0].flags, 0);
    changes = client_take(&second, true);
    assert_int_equal(changes.flag_count, 2);
    assert_int_equal(changes.flags[0].flags, 0);
    assert_int_equal(changes.flags[1].flags, FLAG_SEEN);
    changes = client_take(&owner, true);
    assert_int_equal(changes.flag_count, 1);
    assert_int_equal(changes.flags[0].flags, 0);
    assert_client_knows_all(&owner, INBOX);
    assert_client_knows_all(&first, INBOX);
    client_close(&first);
    client_close(&second);
    client_open_as(&first, INBOX, 3);
    assert_int_equal(first.messages[1].flags, 0);
    client_open_as(&second, INBOX, 2);
    assert_int_equal(second.messages[1].flags, FLAG_SEEN);
    client_close(&first);
    client_close(&second);
    client_close(&owner);
}

CASE(a_later_state_that_was_told_outranks_what_the_index_knows)
{
    struct client c;
    struct view_changes changes;

    append(2);
    client_open(&c, INBOX);
    view_mark_told(c.view, 1, view_highest_modseq(c.view));
    assert_false(view_is_ahead(c.view));
    view_mark_told(c.view, 1, view_highest_modseq(c.view) + 100);
    assert_true(view_is_ahead(c.view));
    change_flags(NULL, (const uint32_t[]){1, 2}, 2, FLAGS_ADD, FLAG_SEEN);
    assert_done(view_refresh(c.view, &err));
    changes = client_take(&c, true);
    assert_int_equal(changes.flag_count, 1);
    assert_int_equal(changes.flags[0].uid, 2);
    assert_true(view_is_ahead(c.view));
    client_close(&c);
}

CASE(a_removed_mailbox_is_gone_for_who_looks)
{
    struct client c;
    struct arena *a = arena_new();
    struct view_changes changes;
    int64_t id;

    assert_done(mailbox_create(1, STR("w"), STR(""), &id, &err));
    client_open(&c, id);
    assert_done(mailbox_remove(1, STR("w"), &err));
    assert_done(view_refresh(c.view, &err));
    assert_true(view_is_behind(c.view));
    view_take_changes(c.view, a, true, &changes);
    assert_true(changes.is_gone);
    assert_cannot_open(id);
    client_close(&c);
    arena_free(&a);
}

static void count_wake(void *arg)
{
    ++*(uint32_t *)arg;
}

CASE(a_watch_is_called_for_its_account_only)
{
    struct client c;

    client_open(&c, INBOX);
    view_watch(c.view, count_wake, &c.woken);
    store_append(2, INBOX, 0, "\r\n");
    assert_int_equal(c.woken, 0);
    append(1);
    assert_int_equal(c.woken, 1);
    view_unwatch(c.view);
    append(1);
    assert_int_equal(c.woken, 1);
    client_close(&c);
}

CASE(keywords_are_known_from_loading_and_from_changes)
{
    const struct str two[] = {STR("$Work"), STR("home")}, one[] = {STR("$WORK"), STR("x")};
    struct message_prepared m = store_message("\r\n");
    struct delivery d = {.account_id = 1, .keywords = {two, 2}};
    struct message_state *states;
    size_t n, n2;
    uint32_t *conflicts;
    struct index_entry e;
    struct str *names;
    struct client c;

    append(1);
    assert_done(mail_append(&m, &d, 1, &err));
    client_open(&c, INBOX);
    assert_true(view_entry(c.view, 1, &e));
    assert_null(e.keywords);
    assert_true(view_entry(c.view, 2, &e));
    assert_int_equal(e.keywords->n, 2);
    assert_str(e.keywords->v[0], STR("$Work"));
    assert_done(message_store_flags(
        store_arena, (struct mailbox_key){1, INBOX}, 1, (const uint32_t[]){1}, 1, FLAGS_ADD, 0,
        (struct keywords){one, 2}, UINT64_MAX, &states, &n, &conflicts, &n2, &err));
    assert_done(view_refresh(c.view, &err));
    assert_true(view_entry(c.view, 1, &e));
    assert_str(e.keywords->v[1], STR("x"));
    assert_int_equal(view_keywords(c.view, store_arena, &names), 3);
    client_close(&c);
}

CASE(a_closed_mailbox_is_kept_and_caught_up_when_opened_again)
{
    struct client c;
    int64_t before;

    append(5);
    client_open(&c, INBOX);
    client_close(&c);
    append(1);
    change_flags(NULL, (const uint32_t[]){2}, 1, FLAGS_ADD, FLAG_SEEN);
    expunge((const uint32_t[]){4}, 1);
    before = metrics_slot[METRIC_pg_queries];
    client_open(&c, INBOX);
    assert_int_equal(metrics_slot[METRIC_pg_queries] - before, 1 + 5);
    assert_int_equal(c.count, 5);
    assert_int_equal(c.messages[1].flags, FLAG_SEEN);
    assert_client_knows_all(&c, INBOX);
    client_close(&c);
    before = metrics_slot[METRIC_pg_queries];
    client_open(&c, INBOX); /* nothing happened: one look */
    assert_int_equal(metrics_slot[METRIC_pg_queries] - before, 1);
    client_close(&c);
}

CASE(a_mailbox_kept_for_longer_than_tombstones_shows_nothing_that_is_gone)
{
    struct client c;

    append(5);
    client_open(&c, INBOX);
    client_close(&c);
    expunge((const uint32_t[]){2, 4}, 2);
    fixture_sql("SELECT mail_forget_tombstones(1, modseq, modseq, 100) FROM account_state WHERE "
                "account_id = 1");
    client_open(&c, INBOX);
    assert_int_equal(c.count, 3);
    assert_client_knows_all(&c, INBOX);
    client_close(&c);
}

CASE(a_view_far_behind_learns_of_every_change)
{
    static uint32_t uids[50];
    struct client c, other;
    struct view_changes changes;

    append(50);
    for (uint32_t i = 0; i < 50; i++)
        uids[i] = i + 1;
    client_open(&c, INBOX);
    client_open(&other, INBOX);
    for (int round = 0; round < 100; round++) {
        change_flags(NULL, uids, 49, round % 2 ? FLAGS_REMOVE : FLAGS_ADD, FLAG_SEEN);
        assert_done(view_refresh(c.view, &err));
        client_take(&c, true);
    }
    change_flags(NULL, uids + 10, 1, FLAGS_ADD, FLAG_FLAGGED);
    assert_done(view_refresh(other.view, &err));
    changes = client_take(&other, true);
    assert_int_equal(changes.flag_count, 49);
    assert_client_knows_all(&other, INBOX);
    assert_client_knows_all(&c, INBOX);
    client_close(&c);
    client_close(&other);
}

/* ---- sharing one question -------------------------------------------------------------------- */

static unsigned opened, given_up, waiting;

static void open_view(void *arg)
{
    struct error err = {0};
    struct mailbox_view *v = mailbox_view_open((struct mailbox_key){1, INBOX}, 1, &err);

    waiting--;
    if (v == NULL) {
        assert_int_equal(err.kind, ERR_CANCELLED);
        given_up++;
        return;
    }
    assert_int_equal(view_count(v), 7);
    opened++;
    mailbox_view_close(&v);
}

CASE(who_opens_together_shares_one_load_that_survives_the_first)
{
    struct fiber *first;
    int64_t before;

    append(7);
    opened = given_up = 0;
    waiting = 5;
    before = metrics_slot[METRIC_pg_queries];
    first = fiber_start("open", open_view, NULL);
    for (int i = 0; i < 4; i++)
        fiber_start("open", open_view, NULL);
    fiber_yield();
    fiber_cancel(first);
    while (waiting > 0)
        fiber_sleep(1);
    assert_int_equal(opened, 4);
    assert_int_equal(given_up, 1);
    assert_int_equal(metrics_slot[METRIC_pg_queries] - before, 2);
}

/* ---- large mailboxes ------------------------------------------------------------------------- */

CASE(a_large_mailbox_is_loaded_in_slices_and_read_anew_after_much_change)
{
    struct client c, other;
    struct view_changes changes;

    fixture_sql("INSERT INTO message (account_id, message_id, mailbox_id, uid, modseq, "
                "created_modseq, thread_id, blob_id, "
                "size, received_at, flags, keywords) SELECT 1, g, 1, g, 5, 5, g, 1, 1, now(), 0, "
                "CASE WHEN g % 2 = 0 THEN "
                "ARRAY['k'] END FROM generate_series(1, 45000) g;"
                "UPDATE mailbox SET uid_next = 45001, modseq = 5, message_count = 45000 WHERE "
                "account_id = 1 AND "
                "mailbox_id = 1; UPDATE account_state SET modseq = 5, next_message_id = 45001 "
                "WHERE account_id = 1");
    client_open(&c, INBOX);
    client_open(&other, INBOX);
    assert_int_equal(view_count(c.view), 45000);
    assert_client_knows_all(&c, INBOX);

    fixture_sql(
        "UPDATE account_state SET modseq = 7 WHERE account_id = 1; UPDATE mailbox SET modseq = 7 "
        "WHERE account_id "
        "= 1 AND mailbox_id = 1; UPDATE message SET flags = 1, modseq = 6 WHERE uid > 20000;"
        "DELETE FROM message WHERE uid % 3 = 0;"
        "INSERT INTO mailbox_change SELECT 1, 1, 6, false, '{[20001,45001)}';"
        "INSERT INTO mailbox_change SELECT 1, 1, 7, true, range_agg(mail_uid_range(g)) FROM "
        "generate_series(3, 45000, 3) g");
    bus_publish(1);
    assert_done(view_refresh(c.view, &err));
    changes = client_take(&c, false);
    assert_int_equal(changes.flag_count, 25000 - 8334);
    changes = client_take(&c, true);
    assert_int_equal(changes.expunged_count, 15000);
    assert_client_knows_all(&c, INBOX);
    append(1);
    assert_client_knows_all(&other, INBOX);
    assert_client_knows_all(&c, INBOX);

    fixture_sql("UPDATE account_state SET modseq = 19 WHERE account_id = 1; UPDATE mailbox SET "
                "modseq = 19 WHERE account_id = 1 AND mailbox_id = 1;"
                "UPDATE message SET flags = 2, modseq = 19 WHERE uid <= 45000;"
                "INSERT INTO mailbox_change SELECT 1, 1, 19, false, '{[1,45001)}'");
    bus_publish(1);
    assert_done(view_refresh(c.view, &err));
    assert_int_equal(client_take(&c, true).flag_count, 30000);
    assert_client_knows_all(&other, INBOX);
    assert_client_knows_all(&c, INBOX);
    client_close(&c);
    client_close(&other);
}

/* ---- QRESYNC --------------------------------------------------------------------------------- */

CASE(what_vanished_since_is_told_even_when_it_was_forgotten)
{
    static const struct uid_range all[] = {{2, 3}, {5, 5}}, later[] = {{5, 5}};
    struct uid_range *uids;
    size_t count;
    uint64_t modseq;

    append(6);
    expunge((const uint32_t[]){2}, 1);
    move((const uint32_t[]){3}, 1, SENT);
    modseq = (uint64_t)fixture_sql("SELECT modseq FROM account_state WHERE account_id = 1");
    expunge((const uint32_t[]){5}, 1);
    for (int forgotten = 0; forgotten < 2; forgotten++) {
        assert_done(mailbox_vanished_since(store_arena, (struct mailbox_key){1, INBOX}, 0, &uids,
                                           &count, &err));
        assert_int_equal(count, 2);
        assert_memory_equal(uids, all, sizeof all);
        assert_done(mailbox_vanished_since(store_arena, (struct mailbox_key){1, INBOX}, modseq,
                                           &uids, &count, &err));
        assert_int_equal(count, 1);
        assert_memory_equal(uids, later, sizeof later);
        fixture_sql("SELECT mail_forget_tombstones(1, modseq - 1, modseq - 1, 100) FROM "
                    "account_state WHERE account_id = 1");
        assert_int_equal(fixture_sql("SELECT count(*) FROM mailbox_change"), 1);
    }
    assert_done(mailbox_vanished_since(store_arena, (struct mailbox_key){1, INBOX}, UINT64_MAX,
                                       &uids, &count, &err));
    assert_int_equal(count, 0);
    assert_refused(
        mailbox_vanished_since(store_arena, (struct mailbox_key){1, 77}, 0, &uids, &count, &err),
        ERR_NOT_FOUND);
}

/* ---- everything in any order ----------------------------------------------------------------- */

#define CLIENTS 5

static uint32_t seed;

static uint32_t pick(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % below;
}

static size_t pick_uids(uint32_t uid_next, uint32_t uids[6])
{
    size_t count = 1 + pick(6);

    for (size_t i = 0; i < count; i++)
        uids[i] = 1 + pick(uid_next);
    return count;
}

static void happen(struct client *clients)
{
    uint32_t uids[6];
    size_t count = pick_uids(view_uid_next(clients[0].view), uids);

    switch (pick(6)) {
    case 0:
    case 1:
        append(1 + (int)pick(4));
        break;
    case 2:
        expunge(uids, count);
        break;
    case 3:
        move(uids, count, pick(4) == 0 ? INBOX : SENT);
        break;
    case 4:
        change_flags(NULL, uids, count, pick(3), pick(32));
        break;
    default:
        change_flags(&clients[pick(CLIENTS)], uids, count, pick(3), pick(32));
    }
}

static void ask(struct client *c)
{
    if (pick(3) > 0)
        assert_done(view_refresh(c->view, &err));
    client_take(c, pick(2));
    assert_numbers_agree(c);
    if (pick(20) == 0) {
        int64_t user_id = c->user_id;

        client_close(c);
        client_open_as(c, INBOX, user_id);
    }
}

CASE(whatever_happens_each_client_ends_up_knowing_the_mailbox)
{
    struct client clients[CLIENTS];

    for (size_t i = 0; i < CLIENTS; i++)
        client_open_as(&clients[i], INBOX, 1 + (int64_t)i / 2); /* users 1, 1, 2, 2, 3 */
    for (seed = 1; seed <= 5; seed++) {
        uint32_t start = seed;

        for (int step = 0; step < 250; step++) {
            happen(clients);
            while (pick(2))
                ask(&clients[pick(CLIENTS)]);
        }
        for (size_t i = 0; i < CLIENTS; i++)
            assert_client_knows_all(&clients[i], INBOX);
        seed = start;
    }
    for (size_t i = 0; i < CLIENTS; i++)
        client_close(&clients[i]);
    assert_store_is_consistent();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_view_shows_the_mailbox_as_it_was_opened),
        cmocka_unit_test(a_mailbox_that_is_not_there_cannot_be_opened),
        cmocka_unit_test(removals_wait_for_their_time_but_arrivals_do_not),
        cmocka_unit_test(own_changes_are_left_out_and_others_are_not),
        cmocka_unit_test(what_another_has_seen_is_told_to_their_sessions_alone),
        cmocka_unit_test(a_later_state_that_was_told_outranks_what_the_index_knows),
        cmocka_unit_test(a_removed_mailbox_is_gone_for_who_looks),
        cmocka_unit_test(a_watch_is_called_for_its_account_only),
        cmocka_unit_test(keywords_are_known_from_loading_and_from_changes),
        cmocka_unit_test(a_closed_mailbox_is_kept_and_caught_up_when_opened_again),
        cmocka_unit_test(a_mailbox_kept_for_longer_than_tombstones_shows_nothing_that_is_gone),
        cmocka_unit_test(a_view_far_behind_learns_of_every_change),
        cmocka_unit_test(who_opens_together_shares_one_load_that_survives_the_first),
        cmocka_unit_test(a_large_mailbox_is_loaded_in_slices_and_read_anew_after_much_change),
        cmocka_unit_test(what_vanished_since_is_told_even_when_it_was_forgotten),
        cmocka_unit_test(whatever_happens_each_client_ends_up_knowing_the_mailbox),
    };

    if (getenv("TEST_FILTER"))
        cmocka_set_test_filter(getenv("TEST_FILTER"));
    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
