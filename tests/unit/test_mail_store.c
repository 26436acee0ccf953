/* test_mail_store.c - the mail store against a real PostgreSQL: what goes in comes back, and
 * after whatever was done the counters say what the rows say. */
#include "tests/unit/store_fixture.h"

#include "mail/store/blob.h"
#include "mail/store/upkeep.h"
#include "server/base/buf.h"
#include "server/base/encode.h"

#define LETTER(id, subject, more)                                                                  \
    "Message-ID: <" id ">\r\nSubject: " subject                                                    \
    "\r\nFrom: ani@example.test\r\nX-Other: no\r\n" more "\r\nHello\r\n"

static const char letter[] =
    LETTER("1@example.test", "Lunch", "Date: Mon, 23 Nov 2026 10:00:00 +0700\r\n");

/* ---- preparing ------------------------------------------------------------------------------- */

CASE(preparing_keeps_the_fields_that_clients_ask_for)
{
    struct message_prepared m = store_message(letter);

    assert_str(m.headers,
               STR("Message-ID: <1@example.test>\r\nSubject: Lunch\r\nFrom: ani@example.test\r\n"
                   "Date: Mon, 23 Nov 2026 10:00:00 +0700\r\n"));
    assert_int_equal(m.sent_us, INT64_C(1795402800) * 1000000);
    assert_int_equal(m.thread.ref_count, 1);
    assert_true(m.envelope.n > 0 && m.envelope.p[0] == '(');
    assert_true(m.structure.n > 0 && m.structure.p[0] == '(');
}

CASE(headers_out_of_proportion_are_left_to_the_reader)
{
    struct buf text;
    struct message_prepared m;

    buf_init(&text, 1 << 20);
    for (int i = 0; i < 300; i++)
        buf_addf(&text, "To: someone-%060d@example.test,\r\n", i);
    buf_adds(&text, "\r\n");
    m = store_message(buf_c(&text));
    assert_null(m.headers.p);
    buf_fini(&text);
}

CASE(forms_out_of_proportion_are_not_kept)
{
    struct buf text;
    struct message_prepared m;

    buf_init(&text, 32 << 20);
    buf_adds(&text, "Content-Type: multipart/mixed; boundary=b\r\n\r\n");
    for (int part = 0; part < 40; part++) {
        buf_adds(&text, "--b\r\nContent-Description: ");
        for (int i = 0; i < 10000; i++)
            buf_adds(&text, "description");
        buf_adds(&text, "\r\n\r\nx\r\n");
    }
    buf_adds(&text, "--b--\r\n");
    message_prepare(store_arena, buf_str(&text), &m);
    assert_true(m.structure.n < 200);
    assert_true(str_starts(m.structure, STR("(\"TEXT\" \"PLAIN\"")));
    buf_fini(&text);
}

CASE(a_message_of_anything_can_be_prepared)
{
    static const char *const odd[] = {"",
                                      "\r\n",
                                      "\n",
                                      ":",
                                      "no header at all",
                                      "Subject: x",
                                      "Date: yesterday\r\n\r\n",
                                      "Message-ID: \r\n\r\n",
                                      "References: <a@b> <a@b> <a@b>\r\n\r\n"};

    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        struct message_prepared m = store_message(odd[i]);

        assert_int_equal(m.sent_us, INT64_MIN);
        assert_true(m.thread.ref_count <= 1);
        assert_true(m.structure.n > 0);
    }
    assert_str(store_message("Subject: x").headers, STR("Subject: x\r\n"));
}

CASE(a_large_message_is_prepared_on_a_helper_thread)
{
    size_t size = 600000;
    char *text = arena_alloc(store_arena, size + 1);
    struct message_prepared m;

    memset(text, 'x', size);
    memcpy(text, letter, sizeof letter - 1);
    m = store_message(text);
    assert_int_equal(m.thread.ref_count, 1);
    assert_int_equal(m.raw.n, size);
}

CASE(cached_fields_are_known_by_name_in_any_case)
{
    assert_true(message_header_is_cached(STR("message-id")));
    assert_true(message_header_is_cached(STR("List-ID")));
    assert_false(message_header_is_cached(STR("Received")));
    assert_false(message_header_is_cached(STR("")));
}

/* ---- delivery -------------------------------------------------------------------------------- */

CASE(one_message_reaches_many_accounts_with_one_blob)
{
    struct message_prepared m = store_message(letter);
    struct delivery v[] = {{.account_id = 7},
                           {.account_id = 2},
                           {.account_id = 2, .mailbox_id = SENT},
                           {.account_id = 5}};

    assert_done(mail_deliver(&m, v, 4, NULL, &err));
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(v[i].status, DELIVERED);
        assert_int_equal(v[i].uid, 1);
        assert_int_equal(v[i].thread_id, v[i].message_id == 2 ? 1 : v[i].message_id);
    }
    assert_int_equal(fixture_sql("SELECT uses FROM blob"), 4);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message WHERE mailbox_id = 3"), 1);
    assert_store_is_consistent();
}

CASE(who_cannot_have_it_does_not_keep_it_from_others)
{
    struct message_prepared m = store_message(letter);
    struct delivery v[] = {{.account_id = 9},
                           {.account_id = 1},
                           {.account_id = 999},
                           {.account_id = 3, .mailbox_id = 77},
                           {.account_id = 4}};

    fixture_sql("UPDATE account_state SET quota_bytes = 10 WHERE account_id = 1");
    fixture_sql("UPDATE account_state SET quota_messages = 1 WHERE account_id = 9");
    config.quota_bytes = 20;
    fixture_sql("UPDATE account_state SET quota_bytes = 0 WHERE account_id IN (9, 3)");
    assert_done(mail_deliver(&m, v, 5, NULL, &err));
    assert_int_equal(v[0].status, DELIVERED);
    assert_int_equal(v[1].status, DELIVERY_OVER_QUOTA);
    assert_int_equal(v[2].status, DELIVERY_NO_ACCOUNT);
    assert_int_equal(v[3].status, DELIVERY_NO_MAILBOX);
    assert_int_equal(v[4].status, DELIVERY_OVER_QUOTA);
    assert_store_is_consistent();

    assert_done(mail_deliver(&m, v, 1, NULL, &err));
    assert_int_equal(v[0].status, DELIVERY_OVER_QUOTA);
    assert_store_is_consistent();
}

CASE(what_was_admitted_before_may_exceed_the_quota)
{
    struct message_prepared m = store_message(letter);
    struct delivery d = {.account_id = 1, .may_exceed_quota = true};

    config.quota_messages = 1;
    fixture_sql("UPDATE account_state SET quota_bytes = 10");
    assert_done(mail_deliver(&m, &d, 1, NULL, &err));
    assert_int_equal(d.status, DELIVERED);
    assert_done(mail_deliver(&m, &d, 1, NULL, &err));
    assert_int_equal(d.status, DELIVERED);
    d.may_exceed_quota = false;
    assert_done(mail_deliver(&m, &d, 1, NULL, &err));
    assert_int_equal(d.status, DELIVERY_OVER_QUOTA);
    assert_store_is_consistent();
}

CASE(a_mailbox_ends_with_its_uids)
{
    struct message_prepared m = store_message(letter);
    struct delivery v[] = {{.account_id = 1, .may_exceed_quota = true}, {.account_id = 2}};
    struct uid_pair *pairs;
    size_t pair_count;
    uint32_t uid = store_append(1, DRAFTS, 0, letter), uid_validity;

    fixture_sql("UPDATE mailbox SET uid_next = 4294967294 WHERE account_id = 1 AND mailbox_id = 1");
    assert_int_equal(store_append(1, INBOX, 0, letter), 4294967294);
    assert_done(mail_deliver(&m, v, 2, NULL, &err));
    assert_int_equal(v[0].status, DELIVERY_OVER_QUOTA);
    assert_int_equal(v[1].status, DELIVERED);
    assert_refused(mail_append(&m, v, 1, &err), ERR_OVER_QUOTA);
    assert_refused(message_copy(store_arena, (struct mailbox_key){1, DRAFTS},
                                (struct mailbox_key){1, INBOX}, 1, &uid, 1, &pairs, &pair_count,
                                &uid_validity, &err),
                   ERR_OVER_QUOTA);
    assert_refused(message_move(store_arena, (struct mailbox_key){1, DRAFTS},
                                (struct mailbox_key){1, INBOX}, 1, &uid, 1, &pairs, &pair_count,
                                &uid_validity, &err),
                   ERR_OVER_QUOTA);
    fixture_sql("UPDATE message SET uid = 1 WHERE account_id = 1 AND mailbox_id = 1;"
                "UPDATE mailbox SET uid_next = 2 WHERE account_id = 1 AND mailbox_id = 1");
    assert_store_is_consistent();
}

CASE(a_message_that_nobody_could_have_is_collected)
{
    struct message_prepared m = store_message(letter);
    struct delivery d = {.account_id = 999};

    assert_done(mail_deliver(&m, &d, 1, NULL, &err));
    assert_int_equal(fixture_sql("SELECT uses + extra FROM blob JOIN blob_use USING (blob_id)"), 0);
    assert_done(store_purge(0, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob"), 1);
    fixture_sql("UPDATE blob_unused SET since = now() - interval '2 hours'");
    assert_done(store_purge(0, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob"), 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob_use"), 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob_unused"), 0);
}

CASE(an_append_is_all_or_nothing)
{
    struct message_prepared m[2] = {store_message(letter), store_message(letter)};
    struct delivery v[2] = {
        {.account_id = 1, .mailbox_id = DRAFTS, .flags = FLAG_SEEN | FLAG_DRAFT},
        {.account_id = 1, .mailbox_id = DRAFTS}};

    assert_done(mail_append(m, v, 2, &err));
    assert_int_equal(v[0].uid, 1);
    assert_int_equal(v[1].uid, 2);
    assert_true(v[1].modseq >= v[0].modseq);

    config.quota_messages = 3;
    assert_refused(mail_append(m, v, 2, &err), ERR_OVER_QUOTA);
    config.quota_messages = 0;
    v[1].mailbox_id = 77;
    assert_refused(mail_append(m, v, 2, &err), ERR_NOT_FOUND);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 2);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob"), 2);
    assert_store_is_consistent();
}

CASE(work_of_many_rounds_is_still_one_transaction)
{
    enum { COUNT = 450 };
    struct message_prepared *m = ARENA_ARRAY(store_arena, COUNT, struct message_prepared);
    struct delivery *v = ARENA_ARRAY(store_arena, COUNT, struct delivery);

    for (size_t i = 0; i < COUNT; i++) {
        m[i] = store_message(letter);
        v[i] = (struct delivery){.account_id = 1};
    }
    v[COUNT - 1].mailbox_id = 77;
    assert_refused(mail_append(m, v, COUNT, &err), ERR_NOT_FOUND);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 0);
    v[COUNT - 1].mailbox_id = 0;
    assert_done(mail_append(m, v, COUNT, &err));
    assert_int_equal(v[COUNT - 1].uid, COUNT);
    assert_store_is_consistent();
}

CASE(keywords_are_sorted_and_kept_once)
{
    const struct str given[] = {STR("$Forwarded"), STR("work"), STR("$forwarded"), STR("Alpha")};
    struct message_prepared m = store_message(letter);
    struct delivery d = {.account_id = 1, .keywords = {given, 4}};

    assert_done(mail_append(&m, &d, 1, &err));
    assert_int_equal(
        fixture_sql("SELECT count(*) FROM message WHERE keywords = '{$Forwarded,Alpha,work}'"), 1);
}

/* ---- threads --------------------------------------------------------------------------------- */

static int64_t thread_of(const char *text)
{
    struct message_prepared m = store_message(text);
    struct delivery d = {.account_id = 1};

    assert_done(mail_deliver(&m, &d, 1, NULL, &err));
    return d.thread_id;
}

CASE(a_thread_shares_a_message_id_and_the_subject)
{
    int64_t first = thread_of(LETTER("a@x", "Lunch", ""));

    assert_int_equal(thread_of(LETTER("b@x", "Re: Lunch", "In-Reply-To: <a@x>\r\n")), first);
    assert_int_equal(thread_of(LETTER("c@x", "RE: lunch", "References: <a@x> <b@x>\r\n")), first);
    assert_int_equal(thread_of(LETTER("d@x", "Fwd: Re: Lunch", "References: <c@x>\r\n")), first);
    assert_int_equal(thread_of(LETTER("a@x", "Lunch", "")), first);
    assert_int_not_equal(thread_of(LETTER("e@x", "Dinner", "References: <a@x>\r\n")), first);
    assert_int_not_equal(thread_of(LETTER("f@x", "Lunch", "")), first);
    assert_int_not_equal(thread_of("Subject: Lunch\r\n\r\n"), thread_of("Subject: Lunch\r\n\r\n"));
}

CASE(siblings_meet_although_their_parent_never_came)
{
    int64_t first = thread_of(LETTER("b@x", "Re: Lunch", "References: <missing@x>\r\n"));

    assert_int_equal(thread_of(LETTER("c@x", "Re: Lunch", "References: <missing@x>\r\n")), first);
}

CASE(a_message_that_joins_two_threads_goes_to_the_older)
{
    int64_t first = thread_of(LETTER("a@x", "Lunch", ""));

    thread_of(LETTER("b@x", "Lunch", ""));
    assert_int_equal(thread_of(LETTER("c@x", "Re: Lunch", "References: <b@x> <a@x>\r\n")), first);
}

/* ---- reading --------------------------------------------------------------------------------- */

struct seen {
    size_t index[64];
    struct message m[64];
    struct str blob[64];
    size_t n;
    size_t stop_at;
};

static int note_message(void *arg, size_t index, const struct message *m, struct error *err)
{
    struct seen *s = arg;

    if (s->n == s->stop_at)
        return fail(err, ERR_CLOSED, "enough");
    s->index[s->n] = index;
    s->m[s->n] = *m;
    s->m[s->n].headers = m->headers.p != NULL ? arena_str(store_arena, m->headers) : STR_NULL;
    s->blob[s->n++] = arena_str(store_arena, m->blob);
    return 0;
}

static struct seen read_ids(const int64_t *ids, size_t count, unsigned columns)
{
    struct seen s = {.stop_at = SIZE_MAX};
    struct message_reader r = {.account_id = 1,
                               .ids = ids,
                               .count = count,
                               .columns = columns,
                               .each = note_message,
                               .arg = &s};

    assert_done(message_read(&r, &err));
    return s;
}

static void append_numbered(int count)
{
    char text[200];

    for (int i = 0; i < count; i++) {
        snprintf(text, sizeof text, "Subject: %d\r\n\r\nbody %d\r\n", i + 1, i + 1);
        store_append(1, INBOX, 0, text);
    }
}

CASE(messages_come_in_the_order_asked_for)
{
    const int64_t scattered[] = {9, 3, 400, 3, 20, 1};
    const int64_t dense[] = {5, 4, 3, 6, 7};
    struct seen s;

    append_numbered(20);
    s = read_ids(scattered, 6, MESSAGE_ROW | MESSAGE_HEADERS | MESSAGE_BLOB);
    assert_int_equal(s.n, 5);
    assert_int_equal(s.m[0].message_id, 9);
    assert_int_equal(s.index[2], 3);
    assert_int_equal(s.m[2].message_id, 3);
    assert_str(s.blob[2], STR("Subject: 3\r\n\r\nbody 3\r\n"));
    assert_str(s.m[4].headers, STR("Subject: 1\r\n"));
    assert_int_equal(s.m[3].size, 24);

    s = read_ids(dense, 5, MESSAGE_HEADERS);
    assert_int_equal(s.n, 5);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(s.m[i].message_id, dense[i]);
    assert_str(s.m[0].headers, STR("Subject: 5\r\n"));

    s = read_ids(scattered, 6, 0);
    assert_int_equal(s.n, 5);
}

CASE(reading_stops_when_told)
{
    const int64_t ids[] = {1, 2, 3};
    struct seen s = {.stop_at = 2};
    struct message_reader r = {.account_id = 1,
                               .ids = ids,
                               .count = 3,
                               .columns = MESSAGE_BLOB,
                               .each = note_message,
                               .arg = &s};

    append_numbered(3);
    assert_refused(message_read(&r, &err), ERR_CLOSED);
    assert_int_equal(s.n, 2);
}

static int count_message(void *arg, size_t index, const struct message *m, struct error *err)
{
    size_t *n = arg;

    assert_true(m->blob.n > 100000);
    ++*n;
    return 0;
}

CASE(blobs_are_read_in_portions)
{
    enum { COUNT = 60 };
    size_t size = 200000, n = 0;
    char *text = arena_alloc(store_arena, size + 1);
    int64_t ids[COUNT];
    struct message_reader r = {.account_id = 1,
                               .ids = ids,
                               .count = COUNT,
                               .columns = MESSAGE_BLOB,
                               .each = count_message,
                               .arg = &n};

    memset(text, 'y', size);
    for (int i = 0; i < COUNT; i++) {
        store_append(1, INBOX, 0, text);
        ids[i] = COUNT - i;
    }
    assert_done(message_read(&r, &err));
    assert_int_equal(n, COUNT);
}

CASE(a_blob_is_read_whole_or_in_part)
{
    int64_t blob_id;
    struct buf out;

    buf_init(&out, 1000);
    store_append(1, INBOX, 0, letter);
    blob_id = fixture_sql("SELECT blob_id FROM blob");
    assert_done(blob_read(blob_id, 0, UINT64_MAX, &out, &err));
    assert_str(buf_str(&out), str_c(letter));
    buf_clear(&out);
    assert_done(blob_read(blob_id, 4, 5, &out, &err));
    assert_str(buf_str(&out), str_of(letter + 4, 5));
    buf_clear(&out);
    assert_done(blob_read(blob_id, 5000, 5, &out, &err));
    assert_int_equal(out.n, 0);
    assert_done(blob_read(blob_id, UINT64_MAX - 1, UINT64_MAX, &out, &err));
    assert_int_equal(out.n, 0);
    buf_fini(&out);
    buf_init(&out, 10);
    assert_refused(blob_read(blob_id, 0, UINT64_MAX, &out, &err), ERR_TOO_BIG);
    assert_refused(blob_read(blob_id + 1, 0, UINT64_MAX, &out, &err), ERR_NOT_FOUND);
    buf_fini(&out);
}

/* ---- flags ----------------------------------------------------------------------------------- */

static struct message_state *states;
static size_t state_count, conflict_count;
static uint32_t *conflicts;

static void store_flags(const uint32_t *uids, size_t count, enum flag_change change, uint32_t flags,
                        struct keywords keywords, uint64_t unchanged_since)
{
    assert_done(message_store_flags(store_arena, (struct mailbox_key){1, INBOX}, 1, uids, count,
                                    change, flags, keywords, unchanged_since, &states, &state_count,
                                    &conflicts, &conflict_count, &err));
}

CASE(only_what_changes_gets_a_new_modseq)
{
    const uint32_t uids[] = {3, 1, 2, 2, 99};
    uint64_t modseq;

    append_numbered(3);
    store_flags(uids, 5, FLAGS_ADD, FLAG_SEEN | FLAG_DELETED, (struct keywords){0}, UINT64_MAX);
    assert_int_equal(state_count, 3);
    assert_int_equal(states[0].uid, 1);
    assert_int_equal(states[2].flags, FLAG_SEEN | FLAG_DELETED);
    modseq = states[0].modseq;
    store_flags(uids, 5, FLAGS_ADD, FLAG_SEEN, (struct keywords){0}, UINT64_MAX);
    assert_int_equal(states[0].modseq, modseq);
    assert_int_equal(fixture_sql("SELECT modseq FROM account_state WHERE account_id = 1"), modseq);
    store_flags(uids, 2, FLAGS_REMOVE, FLAG_SEEN, (struct keywords){0}, UINT64_MAX);
    assert_int_equal(states[1].modseq, modseq + 1);
    assert_int_equal(states[1].flags, FLAG_DELETED);
    store_flags(uids, 1, FLAGS_REPLACE, FLAG_FLAGGED, (struct keywords){0}, UINT64_MAX);
    assert_int_equal(states[0].flags, FLAG_FLAGGED);
    assert_store_is_consistent();
}

CASE(what_changed_since_is_left_alone)
{
    const uint32_t uids[] = {1, 2};
    uint64_t before;

    append_numbered(2);
    before = (uint64_t)fixture_sql("SELECT modseq FROM account_state WHERE account_id = 1");
    store_flags(uids, 1, FLAGS_ADD, FLAG_SEEN, (struct keywords){0}, before);
    assert_int_equal(conflict_count, 0);
    store_flags(uids, 2, FLAGS_ADD, FLAG_FLAGGED, (struct keywords){0}, before);
    assert_int_equal(conflict_count, 1);
    assert_int_equal(conflicts[0], 1);
    assert_int_equal(states[0].flags, FLAG_SEEN);
    assert_int_equal(states[1].flags, FLAG_FLAGGED);
    store_flags(uids, 2, FLAGS_ADD, FLAG_ANSWERED, (struct keywords){0}, 0);
    assert_int_equal(conflict_count, 2);
    assert_store_is_consistent();
}

CASE(keywords_keep_the_case_first_seen)
{
    static const struct {
        enum flag_change change;
        struct str given[3];
        size_t given_count;
        struct str expected[3];
        size_t expected_count;
    } rows[] = {
        {FLAGS_ADD, {STR("$Junk"), STR("b")}, 2, {STR("$Junk"), STR("b")}, 2},
        {FLAGS_ADD, {STR("$junk"), STR("A")}, 2, {STR("$Junk"), STR("A"), STR("b")}, 3},
        {FLAGS_REMOVE, {STR("B"), STR("x")}, 2, {STR("$Junk"), STR("A")}, 2},
        {FLAGS_REPLACE, {STR("a"), STR("c")}, 2, {STR("A"), STR("c")}, 2},
        {FLAGS_ADD, {STR("c")}, 0, {STR("A"), STR("c")}, 2},
        {FLAGS_REPLACE, {STR("c")}, 0, {STR("")}, 0},
    };
    const uint32_t uid = 1;

    append_numbered(1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        store_flags(&uid, 1, rows[i].change, 0,
                    (struct keywords){rows[i].given, rows[i].given_count}, UINT64_MAX);
        assert_int_equal(states[0].keywords.n, rows[i].expected_count);
        for (size_t k = 0; k < rows[i].expected_count; k++)
            assert_str(states[0].keywords.v[k], rows[i].expected[k]);
    }
}

CASE(keywords_are_limited_in_number_and_size)
{
    char long_keyword[KEYWORD_SIZE_MAX + 1];
    struct str many[KEYWORDS_PER_MESSAGE_MAX + 1];
    const struct str one = STR("one"), too_long = {long_keyword, sizeof long_keyword};
    const uint32_t uid = 1;

    memset(long_keyword, 'k', sizeof long_keyword);
    for (size_t i = 0; i < KEYWORDS_PER_MESSAGE_MAX + 1; i++)
        many[i] = arena_printf(store_arena, "k%03zu", i);
    append_numbered(1);
    store_flags(&uid, 1, FLAGS_ADD, 0, (struct keywords){many, KEYWORDS_PER_MESSAGE_MAX},
                UINT64_MAX);
#define REFUSED(set)                                                                               \
    assert_refused(message_store_flags(store_arena, (struct mailbox_key){1, INBOX}, 1, &uid, 1,    \
                                       FLAGS_ADD, 0, set, UINT64_MAX, &states, &state_count,       \
                                       &conflicts, &conflict_count, &err),                         \
                   ERR_LIMIT)
    REFUSED(((struct keywords){&one, 1}));
    REFUSED(((struct keywords){&too_long, 1}));
    REFUSED(((struct keywords){many, KEYWORDS_PER_MESSAGE_MAX + 1}));
#undef REFUSED
    assert_store_is_consistent();
}

/* ---- copies, moves, removals ----------------------------------------------------------------- */

static struct uid_pair *pairs;
static size_t pair_count;
static uint32_t uid_validity;

CASE(a_copy_is_a_new_message_with_the_same_blob)
{
    const uint32_t uids[] = {2, 3, 9};

    append_numbered(3);
    assert_done(message_copy(store_arena, (struct mailbox_key){1, INBOX},
                             (struct mailbox_key){1, SENT}, 1, uids, 3, &pairs, &pair_count,
                             &uid_validity, &err));
    assert_int_equal(pair_count, 2);
    assert_int_equal(pairs[1].from, 3);
    assert_int_equal(pairs[1].to, 2);
    assert_int_equal(
        uid_validity,
        fixture_sql("SELECT uid_validity FROM mailbox WHERE account_id = 1 AND mailbox_id = 3"));
    assert_int_equal(fixture_sql("SELECT count(DISTINCT message_id) FROM message"), 5);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob_use WHERE extra = 1"), 2);
    assert_store_is_consistent();

    config.quota_messages = 6;
    assert_refused(message_copy(store_arena, (struct mailbox_key){1, INBOX},
                                (struct mailbox_key){1, SENT}, 1, uids, 3, &pairs, &pair_count,
                                &uid_validity, &err),
                   ERR_OVER_QUOTA);
    assert_refused(message_copy(store_arena, (struct mailbox_key){1, INBOX},
                                (struct mailbox_key){1, 77}, 1, uids, 3, &pairs, &pair_count,
                                &uid_validity, &err),
                   ERR_NOT_FOUND);
    assert_store_is_consistent();
}

CASE(a_moved_message_stays_the_same_message)
{
    const uint32_t uids[] = {1, 3};
    int64_t before;

    append_numbered(3);
    before = fixture_sql("SELECT sum(message_id) FROM message");
    assert_done(message_move(store_arena, (struct mailbox_key){1, INBOX},
                             (struct mailbox_key){1, SENT}, 1, uids, 2, &pairs, &pair_count,
                             &uid_validity, &err));
    assert_int_equal(pair_count, 2);
    assert_int_equal(pairs[1].to, 2);
    assert_int_equal(fixture_sql("SELECT sum(message_id) FROM message"), before);
    assert_int_equal(fixture_sql("SELECT sum(mail_range_count(uids)) FROM mailbox_change WHERE "
                                 "mailbox_id = 1 AND is_vanished"),
                     2);
    assert_store_is_consistent();

    assert_done(message_move(store_arena, (struct mailbox_key){1, INBOX},
                             (struct mailbox_key){1, SENT}, 1, uids, 2, &pairs, &pair_count,
                             &uid_validity, &err));
    assert_int_equal(pair_count, 0);
    assert_refused(message_move(store_arena, (struct mailbox_key){1, SENT},
                                (struct mailbox_key){1, 77}, 1, uids, 2, &pairs, &pair_count,
                                &uid_validity, &err),
                   ERR_NOT_FOUND);
    assert_done(message_move(store_arena, (struct mailbox_key){1, SENT},
                             (struct mailbox_key){1, SENT}, 1, uids, 1, &pairs, &pair_count,
                             &uid_validity, &err));
    assert_int_equal(pairs[0].to, 3);
    assert_store_is_consistent();
}

CASE(an_expunge_removes_what_is_marked_and_keeps_it_restorable)
{
    const uint32_t uids[] = {1, 2};
    uint32_t *removed;
    size_t count;
    uint64_t modseq;

    append_numbered(4);
    store_flags((const uint32_t[]){2, 4}, 2, FLAGS_ADD, FLAG_DELETED, (struct keywords){0},
                UINT64_MAX);
    assert_done(message_expunge(store_arena, (struct mailbox_key){1, INBOX}, uids, 2, true,
                                &removed, &count, &modseq, &err));
    assert_int_equal(count, 1);
    assert_int_equal(removed[0], 2);
    assert_int_equal(modseq, fixture_sql("SELECT modseq FROM account_state WHERE account_id = 1"));
    assert_store_is_consistent();
    assert_done(message_expunge(store_arena, (struct mailbox_key){1, INBOX}, NULL, 0, true,
                                &removed, &count, &modseq, &err));
    assert_int_equal(count, 1);
    assert_int_equal(removed[0], 4);
    assert_done(message_expunge(store_arena, (struct mailbox_key){1, INBOX}, uids, 2, false,
                                &removed, &count, &modseq, &err));
    assert_int_equal(count, 1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message_removed"), 3);
    assert_done(message_expunge(store_arena, (struct mailbox_key){1, INBOX}, uids, 2, false,
                                &removed, &count, &modseq, &err));
    assert_int_equal(count, 0);
    assert_int_equal(modseq, 0);
    assert_store_is_consistent();
}

CASE(after_the_retention_only_tombstones_are_left)
{
    uint32_t *removed;
    size_t count;
    uint64_t modseq;

    append_numbered(3);
    assert_done(message_expunge(store_arena, (struct mailbox_key){1, INBOX},
                                (const uint32_t[]){1, 2}, 2, false, &removed, &count, &modseq,
                                &err));
    assert_done(store_purge(3600 * 1000, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM message_removed WHERE blob_id IS NOT NULL"),
                     2);
    assert_done(store_purge(-1000, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM message_removed WHERE blob_id IS NULL"), 2);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob_unused"), 2);
    assert_store_is_consistent();
}

CASE(a_miscounted_blob_is_corrected)
{
    int64_t count;

    append_numbered(3);
    fixture_sql("UPDATE blob SET uses = 5 WHERE blob_id = (SELECT min(blob_id) FROM blob);"
                "INSERT INTO blob_use SELECT max(blob_id), -3 FROM blob");
    assert_done(store_audit_blobs(&count, &err));
    assert_int_equal(count, 2);
    assert_store_is_consistent();
    assert_done(store_audit_blobs(&count, &err));
    assert_int_equal(count, 0);
}

/* ---- mailboxes ------------------------------------------------------------------------------- */

CASE(paths_have_one_form)
{
    static const struct {
        const char *given, *canonical;
    } rows[] = {
        {"INBOX", "INBOX"},
        {"inbox", "INBOX"},
        {"Inbox/Kids", "INBOX/Kids"},
        {"inboxes", "inboxes"},
        {"Work/Inbox", "Work/Inbox"},
        {"Cafe\xcc\x81", "Caf\xc3\xa9"},
        {"a b&c", "a b&c"},
        {"", NULL},
        {"/a", NULL},
        {"a/", NULL},
        {"a//b", NULL},
        {"a*", NULL},
        {"a%b", NULL},
        {"a\tb", NULL},
        {"a\x7f", NULL},
        {"\xff", NULL},
        {"a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/"
         "a/a/a/a/a/a/a",
         NULL},
    };
    struct str out;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int rc = mailbox_path_canonical(store_arena, str_c(rows[i].given), &out, NULL);

        assert_int_equal(rc, rows[i].canonical != NULL ? 0 : -1);
        if (rc == 0)
            assert_str(out, str_c(rows[i].canonical));
    }
}

static struct mailbox *list;
static size_t list_count;

static void assert_paths(const char *const *expected, size_t count)
{
    assert_done(mailbox_list(store_arena, 1, &list, &list_count, &err));
    for (size_t i = 0; i < count && i < list_count; i++)
        assert_str(list[i].path, str_c(expected[i]));
    assert_int_equal(list_count, count);
}

CASE(a_new_account_has_its_folders)
{
    static const char *const paths[] = {"INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"};
    struct mailbox box;

    assert_paths(paths, 6);
    assert_str(list[0].role, STR("inbox"));
    assert_done(mailbox_find_role(store_arena, 1, STR("junk"), &box, &err));
    assert_str(box.path, STR("Junk"));
    assert_int_equal(
        fixture_sql("SELECT count(DISTINCT uid_validity) FROM mailbox WHERE account_id = 1"), 6);
    assert_refused(mailbox_find_role(store_arena, 1, STR("all"), &box, &err), ERR_NOT_FOUND);
    assert_refused(mailbox_get(store_arena, 1, 77, &box, &err), ERR_NOT_FOUND);
}

CASE(parents_are_made_and_children_known)
{
    static const char *const paths[] = {"INBOX", "INBOX/b", "Archive", "Drafts", "Junk", "Sent",
                                        "Trash", "a",       "a/b",     "a/b/c",  "a b"};
    int64_t id;

    assert_done(mailbox_create(1, STR("a/b/c"), STR(""), &id, &err));
    assert_done(mailbox_create(1, STR("a b"), STR(""), &id, &err));
    assert_done(mailbox_create(1, STR("inbox/b"), STR(""), &id, &err));
    assert_paths(paths, 11);
    assert_true(list[0].has_children);
    assert_true(list[7].has_children);
    assert_true(list[8].has_children);
    assert_false(list[9].has_children);
    assert_refused(mailbox_create(1, STR("a/b"), STR(""), &id, &err), ERR_EXISTS);
    assert_refused(mailbox_create(1, STR("x"), STR("junk"), &id, &err), ERR_EXISTS);
    assert_refused(mailbox_create(999, STR("x"), STR(""), &id, &err), ERR_NOT_FOUND);
}

CASE(a_mailbox_goes_with_its_messages)
{
    int64_t id;
    struct mailbox box;

    assert_done(mailbox_create(1, STR("a/b"), STR(""), &id, &err));
    store_append(1, id, 0, letter);
    assert_refused(mailbox_remove(1, STR("a"), &err), ERR_CONFLICT);
    assert_refused(mailbox_remove(1, STR("Inbox"), &err), ERR_DENIED);
    assert_refused(mailbox_remove(1, STR("Trash"), &err), ERR_DENIED);
    assert_refused(mailbox_remove(1, STR("nope"), &err), ERR_NOT_FOUND);
    assert_done(mailbox_remove(1, STR("a/b"), &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM message_removed"), 1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM mailbox_removed"), 1);
    assert_done(mailbox_remove(1, STR("a"), &err));
    assert_store_is_consistent();

    assert_done(mailbox_create(1, STR("a/b"), STR(""), &id, &err));
    assert_done(mailbox_get(store_arena, 1, id, &box, &err));
    assert_int_equal(box.uid_next, 1);
    assert_true(box.uid_validity >
                fixture_sql("SELECT max(uid_validity) FROM mailbox WHERE mailbox_id < 7"));
}

CASE(a_rename_takes_along_what_is_below)
{
    static const char *const paths[] = {"INBOX", "Archive", "Drafts", "Junk", "Sent",
                                        "Trash", "ab",      "x",      "x/y",  "x/y/b"};
    struct str deep = arena_printf(store_arena, "%0*d", MAILBOX_PATH_SIZE_MAX - 10, 0);
    int64_t id;

    assert_done(mailbox_create(1, STR("a/b"), STR(""), &id, &err));
    assert_done(mailbox_create(1, STR("ab"), STR(""), &id, &err));
    assert_refused(mailbox_rename(1, STR("a"), STR("a/c"), &err), ERR_DENIED);
    assert_refused(mailbox_rename(1, STR("a"), STR("ab"), &err), ERR_EXISTS);
    assert_refused(mailbox_rename(1, STR("a"), STR("a"), &err), ERR_EXISTS);
    assert_refused(mailbox_rename(1, STR("nope"), STR("c"), &err), ERR_NOT_FOUND);
    assert_done(mailbox_rename(1, STR("a"), STR("x/y"), &err));
    assert_paths(paths, 10);
    assert_done(mailbox_create(1, STR("long/0123456789"), STR(""), &id, &err));
    assert_refused(mailbox_rename(1, STR("long"), deep, &err), ERR_TOO_BIG);
}

CASE(renaming_inbox_empties_it)
{
    struct mailbox box;

    append_numbered(3);
    assert_done(mailbox_rename(1, STR("INBOX"), STR("Old/2026"), &err));
    assert_done(mailbox_find(store_arena, 1, STR("Old/2026"), &box, &err));
    assert_int_equal(box.message_count, 3);
    assert_done(mailbox_find(store_arena, 1, STR("inbox"), &box, &err));
    assert_int_equal(box.message_count, 0);
    assert_int_equal(box.uid_next, 4);
    assert_store_is_consistent();
}

CASE(subscriptions_are_kept)
{
    struct mailbox box;

    assert_done(mailbox_subscribe(1, STR("Sent"), false, &err));
    assert_done(mailbox_find(store_arena, 1, STR("Sent"), &box, &err));
    assert_false(box.is_subscribed);
    assert_done(mailbox_subscribe(1, STR("sent"), true, &err));
    assert_done(mailbox_find(store_arena, 1, STR("Sent"), &box, &err));
    assert_false(box.is_subscribed);
    assert_refused(mailbox_subscribe(1, STR("a*b"), true, &err), ERR_SYNTAX);
}

static bool is_subscribed(int64_t account_id, struct str name)
{
    struct str *names;
    size_t count;

    assert_done(mailbox_subscriptions(store_arena, account_id, &names, &count, &err));
    for (size_t i = 0; i < count; i++)
        if (str_eq(names[i], name))
            return true;
    return false;
}

CASE(a_subscription_survives_its_mailbox_and_follows_a_rename)
{
    int64_t id;

    assert_done(mailbox_create(1, STR("a/b"), STR(""), &id, &err));
    assert_true(is_subscribed(1, STR("a")));
    assert_true(is_subscribed(1, STR("a/b")));
    assert_done(mailbox_subscribe(1, STR("Other Users/bob@example.test/Team"), true, &err));
    assert_done(mailbox_subscribe(1, STR("c/b"), true, &err));
    assert_done(mailbox_rename(1, STR("a"), STR("c"), &err));
    assert_false(is_subscribed(1, STR("a")));
    assert_false(is_subscribed(1, STR("a/b")));
    assert_true(is_subscribed(1, STR("c/b")));
    assert_done(mailbox_remove(1, STR("c/b"), &err));
    assert_true(is_subscribed(1, STR("c/b")));
    assert_done(mailbox_subscribe(1, STR("c/b"), false, &err));
    assert_false(is_subscribed(1, STR("c/b")));
    assert_true(is_subscribed(1, STR("Other Users/bob@example.test/Team")));
    assert_false(is_subscribed(2, STR("c")));
}

CASE(an_account_has_a_limited_number_of_mailboxes)
{
    int64_t id;

    fixture_sql("INSERT INTO mailbox (account_id, mailbox_id, path, uid_validity, modseq, "
                "created_modseq, changed_modseq) SELECT 1, 1000 + g, 'many' || g, 1, 1, 1, 1 "
                "FROM generate_series(1, 10000 - 1 - (SELECT count(*) FROM mailbox WHERE "
                "account_id = 1)) AS g");
    assert_refused(mailbox_create(1, STR("two/levels"), STR(""), &id, &err), ERR_LIMIT);
    assert_done(mailbox_create(1, STR("last"), STR(""), &id, &err));
    assert_refused(mailbox_create(1, STR("more"), STR(""), &id, &err), ERR_LIMIT);
    assert_refused(mailbox_rename(1, STR("INBOX"), STR("more"), &err), ERR_LIMIT);
    assert_done(mailbox_rename(1, STR("last"), STR("renamed"), &err));
}

CASE(subscriptions_have_a_limit)
{
    fixture_sql("INSERT INTO mailbox_subscription SELECT 1, 'n' || g FROM generate_series(1, 9993) "
                "g");
    assert_done(mailbox_subscribe(1, STR("the last"), true, &err));
    assert_refused(mailbox_subscribe(1, STR("one more"), true, &err), ERR_LIMIT);
    assert_done(mailbox_subscribe(1, STR("n1"), false, &err));
    assert_done(mailbox_subscribe(1, STR("one more"), true, &err));
}

CASE(usage_shows_the_limits_in_force)
{
    struct mail_usage usage;

    config.quota_bytes = 1000;
    fixture_sql("UPDATE account_state SET quota_messages = 7 WHERE account_id = 1");
    store_append(1, INBOX, 0, letter);
    assert_done(mail_usage(1, &usage, &err));
    assert_int_equal(usage.bytes, sizeof letter - 1);
    assert_int_equal(usage.messages, 1);
    assert_int_equal(usage.bytes_max, 1000);
    assert_int_equal(usage.messages_max, 7);
}

/* ---- whose \Seen ------------------------------------------------------------------------------ */

/* What a user sees of a message: asked for by a change that changes nothing. */
static uint32_t flags_seen_by(int64_t user_id, struct mailbox_key mailbox, uint32_t uid)
{
    assert_done(message_store_flags(store_arena, mailbox, user_id, &uid, 1, FLAGS_ADD, 0,
                                    (struct keywords){0}, UINT64_MAX, &states, &state_count,
                                    &conflicts, &conflict_count, &err));
    return state_count == 1 ? states[0].flags : UINT32_MAX;
}

static void store_flags_by(int64_t user_id, uint32_t uid, enum flag_change change, uint32_t flags)
{
    assert_done(message_store_flags(store_arena, (struct mailbox_key){1, INBOX}, user_id, &uid, 1,
                                    change, flags, (struct keywords){0}, UINT64_MAX, &states,
                                    &state_count, &conflicts, &conflict_count, &err));
}

static uint32_t unseen_by(int64_t user_id)
{
    uint32_t count;

    assert_done(mailbox_unseen_count((struct mailbox_key){1, INBOX}, user_id, &count, &err));
    return count;
}

CASE(each_user_has_a_seen_of_their_own_and_shares_the_rest)
{
    const struct mailbox_key inbox = {1, INBOX};

    append_numbered(3);
    store_flags_by(1, 1, FLAGS_ADD, FLAG_SEEN);
    store_flags_by(2, 2, FLAGS_ADD, FLAG_SEEN | FLAG_FLAGGED);
    store_flags_by(3, 2, FLAGS_REPLACE, FLAG_SEEN | FLAG_ANSWERED);
    assert_int_equal(states[0].flags, FLAG_SEEN | FLAG_ANSWERED);
    assert_int_equal(flags_seen_by(1, inbox, 1), FLAG_SEEN);
    assert_int_equal(flags_seen_by(2, inbox, 1), 0);
    assert_int_equal(flags_seen_by(1, inbox, 2), FLAG_ANSWERED);
    assert_int_equal(flags_seen_by(2, inbox, 2), FLAG_SEEN | FLAG_ANSWERED);
    store_flags_by(2, 2, FLAGS_REPLACE, 0);
    assert_int_equal(flags_seen_by(2, inbox, 2), 0);
    assert_int_equal(flags_seen_by(3, inbox, 2), FLAG_SEEN);
    assert_int_equal(unseen_by(1), 2);
    assert_int_equal(unseen_by(0), 2);
    assert_int_equal(unseen_by(2), 3);
    assert_int_equal(unseen_by(3), 2);
    assert_store_is_consistent();
}

CASE(what_another_has_seen_raises_the_modseq_once)
{
    uint64_t before;

    append_numbered(2);
    store_flags_by(2, 1, FLAGS_ADD, FLAG_SEEN);
    before = states[0].modseq;
    assert_int_equal(before, fixture_sql("SELECT modseq FROM message WHERE uid = 1"));
    store_flags_by(2, 1, FLAGS_ADD, FLAG_SEEN);
    assert_int_equal(states[0].modseq, before);
    assert_int_equal(before, fixture_sql("SELECT modseq FROM account_state WHERE account_id = 1"));
    assert_store_is_consistent();
}

CASE(an_append_sets_the_seen_of_who_appends)
{
    struct message_prepared m[2] = {store_message(letter), store_message(letter)};
    struct delivery v[2] = {
        {.account_id = 1, .mailbox_id = INBOX, .user_id = 2, .flags = FLAG_SEEN | FLAG_DRAFT},
        {.account_id = 1, .mailbox_id = INBOX, .user_id = 2}};

    assert_done(mail_append(m, v, 1, &err));
    assert_done(mail_append(m, v, 2, &err));
    assert_int_equal(flags_seen_by(1, (struct mailbox_key){1, INBOX}, 1), FLAG_DRAFT);
    assert_int_equal(flags_seen_by(2, (struct mailbox_key){1, INBOX}, 2), FLAG_SEEN | FLAG_DRAFT);
    assert_int_equal(unseen_by(1), 3);
    assert_int_equal(unseen_by(2), 1);
    assert_store_is_consistent();
}

CASE(within_an_account_everybodys_seen_goes_along)
{
    const uint32_t uids[] = {1, 2, 3};

    append_numbered(3);
    store_flags_by(2, 2, FLAGS_ADD, FLAG_SEEN);
    store_flags_by(3, 3, FLAGS_ADD, FLAG_SEEN);
    assert_done(message_copy(store_arena, (struct mailbox_key){1, INBOX},
                             (struct mailbox_key){1, SENT}, 2, uids, 3, &pairs, &pair_count,
                             &uid_validity, &err));
    assert_int_equal(flags_seen_by(2, (struct mailbox_key){1, SENT}, pairs[1].to), FLAG_SEEN);
    assert_int_equal(flags_seen_by(3, (struct mailbox_key){1, SENT}, pairs[1].to), 0);
    assert_done(message_move(store_arena, (struct mailbox_key){1, INBOX},
                             (struct mailbox_key){1, SENT}, 2, uids + 1, 2, &pairs, &pair_count,
                             &uid_validity, &err));
    assert_int_equal(flags_seen_by(3, (struct mailbox_key){1, SENT}, pairs[1].to), FLAG_SEEN);
    assert_int_equal(unseen_by(2), 1);
    assert_store_is_consistent();
    assert_done(mailbox_rename(1, STR("INBOX"), STR("Old"), &err));
    assert_int_equal(unseen_by(2), 0);
    assert_store_is_consistent();
}

CASE(removing_a_mailbox_forgets_who_has_seen_what)
{
    const uint32_t uid = 1;
    int64_t id;

    assert_done(mailbox_create(1, STR("x"), STR(""), &id, &err));
    store_append(1, id, 0, letter);
    assert_done(message_store_flags(store_arena, (struct mailbox_key){1, id}, 2, &uid, 1, FLAGS_ADD,
                                    FLAG_SEEN, (struct keywords){0}, UINT64_MAX, &states,
                                    &state_count, &conflicts, &conflict_count, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM mailbox_seen"), 1);
    assert_done(mailbox_remove(1, STR("x"), &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM mailbox_seen"), 0);
    assert_store_is_consistent();
}

/* Flags of 12 messages as 4 users see them, changed at random here and there. */
static uint32_t seed;
static uint32_t pick(uint32_t below);

CASE(whatever_users_mark_each_sees_what_the_model_says)
{
    enum { MESSAGES = 12, USERS = 4 };
    uint32_t shared[MESSAGES + 1] = {0}, seen[USERS + 1][MESSAGES + 1] = {{0}};

    append_numbered(MESSAGES);
    for (seed = 7; seed < 10; seed++)
        for (int step = 0; step < 150; step++) {
            uint32_t user = 1 + pick(USERS), uid = 1 + pick(MESSAGES), flags = pick(32);
            enum flag_change change = pick(3);
            uint32_t before = shared[uid] | seen[user][uid];
            uint32_t after = change == FLAGS_ADD      ? before | flags
                             : change == FLAGS_REMOVE ? before & ~flags
                                                      : flags;

            store_flags_by(user, uid, change, flags);
            shared[uid] = after & ~(uint32_t)FLAG_SEEN;
            seen[user][uid] = after & FLAG_SEEN;
            assert_int_equal(states[0].flags, after);
        }
    for (uint32_t user = 1; user <= USERS; user++) {
        uint32_t unseen = 0;

        for (uint32_t uid = 1; uid <= MESSAGES; uid++) {
            assert_int_equal(flags_seen_by(user, (struct mailbox_key){1, INBOX}, uid),
                             shared[uid] | seen[user][uid]);
            unseen += seen[user][uid] == 0;
        }
        assert_int_equal(unseen_by(user), unseen);
    }
    assert_store_is_consistent();
}

/* ---- between accounts ------------------------------------------------------------------------ */

CASE(a_copy_into_another_account_is_a_message_of_that_account)
{
    const uint32_t uids[] = {1, 2, 9};

    store_append(2, INBOX, 0, letter); /* the thread is known there */
    store_append(1, INBOX, FLAG_SEEN | FLAG_FLAGGED, letter);
    store_append(1, INBOX, 0, "Message-ID: <other@x>\r\nSubject: other\r\n\r\n");
    assert_done(message_copy(store_arena, (struct mailbox_key){1, INBOX},
                             (struct mailbox_key){2, SENT}, 2, uids, 3, &pairs, &pair_count,
                             &uid_validity, &err));
    assert_int_equal(pair_count, 2);
    assert_int_equal(pairs[1].from, 2);
    assert_int_equal(pairs[1].to, 2);
    assert_int_equal(uid_validity, fixture_sql("SELECT uid_validity FROM mailbox WHERE account_id "
                                               "= 2 AND mailbox_id = 3"));
    assert_int_equal(fixture_sql("SELECT sum(message_id) FROM message WHERE account_id = 2"),
                     1 + 2 + 3);
    assert_int_equal(fixture_sql("SELECT thread_id FROM message WHERE account_id = 2 AND "
                                 "message_id = 2"),
                     1);
    assert_int_equal(fixture_sql("SELECT thread_id FROM message WHERE account_id = 2 AND "
                                 "message_id = 3"),
                     3);
    assert_int_equal(fixture_sql("SELECT flags FROM message WHERE account_id = 2 AND message_id = "
                                 "2"),
                     FLAG_FLAGGED);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob"), 3);
    assert_int_equal(fixture_sql("SELECT sum(extra) FROM blob_use"), 2);
    assert_store_is_consistent();

    /* an answer to what was copied finds its thread */
    store_append(2, INBOX, 0,
                 "Message-ID: <re@x>\r\nIn-Reply-To: <other@x>\r\nSubject: Re: other\r\n\r\n");
    assert_int_equal(fixture_sql("SELECT thread_id FROM message WHERE account_id = 2 AND "
                                 "message_id = 4"),
                     3);
}

CASE(a_copy_keeps_what_its_maker_has_seen)
{
    const uint32_t uids[] = {1, 2, 3};

    append_numbered(3);
    store_flags_by(1, 1, FLAGS_ADD, FLAG_SEEN);
    store_flags_by(2, 2, FLAGS_ADD, FLAG_SEEN);
    assert_done(message_copy(store_arena, (struct mailbox_key){1, INBOX},
                             (struct mailbox_key){2, INBOX}, 2, uids, 3, &pairs, &pair_count,
                             &uid_validity, &err)); /* into one's own account */
    assert_int_equal(flags_seen_by(2, (struct mailbox_key){2, INBOX}, 1), 0);
    assert_int_equal(flags_seen_by(2, (struct mailbox_key){2, INBOX}, 2), FLAG_SEEN);
    assert_done(message_copy(store_arena, (struct mailbox_key){1, INBOX},
                             (struct mailbox_key){3, INBOX}, 1, uids, 3, &pairs, &pair_count,
                             &uid_validity, &err)); /* from one's own account */
    assert_int_equal(flags_seen_by(1, (struct mailbox_key){3, INBOX}, 1), FLAG_SEEN);
    assert_int_equal(flags_seen_by(3, (struct mailbox_key){3, INBOX}, 1), 0);
    assert_int_equal(flags_seen_by(1, (struct mailbox_key){3, INBOX}, 2), 0);
    assert_store_is_consistent();
}

CASE(a_move_into_another_account_leaves_tombstones)
{
    const uint32_t uids[] = {1, 3};

    append_numbered(3);
    assert_done(message_move(store_arena, (struct mailbox_key){1, INBOX},
                             (struct mailbox_key){2, INBOX}, 1, uids, 2, &pairs, &pair_count,
                             &uid_validity, &err));
    assert_int_equal(pair_count, 2);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message WHERE account_id = 1"), 1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message WHERE account_id = 2"), 2);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message_removed WHERE account_id = 1"), 2);
    assert_int_equal(fixture_sql("SELECT mail_range_count(uids) FROM mailbox_change WHERE "
                                 "account_id = 1 AND is_vanished"),
                     2);
    assert_store_is_consistent();
    assert_done(store_purge(-1000, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob_unused"), 0);
    assert_store_is_consistent();
}

CASE(the_quota_of_the_other_account_counts_and_all_stays_or_goes)
{
    const uint32_t uids[] = {1, 2, 3};

    append_numbered(3);
    fixture_sql("UPDATE account_state SET quota_messages = 2 WHERE account_id = 2");
    assert_refused(message_move(store_arena, (struct mailbox_key){1, INBOX},
                                (struct mailbox_key){2, INBOX}, 1, uids, 3, &pairs, &pair_count,
                                &uid_validity, &err),
                   ERR_OVER_QUOTA);
    assert_refused(message_copy(store_arena, (struct mailbox_key){1, INBOX},
                                (struct mailbox_key){2, 77}, 1, uids, 3, &pairs, &pair_count,
                                &uid_validity, &err),
                   ERR_NOT_FOUND);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message WHERE account_id = 1"), 3);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message WHERE account_id = 2"), 0);
    assert_store_is_consistent();
}

CASE(a_message_whose_header_was_too_large_to_keep_finds_its_thread_elsewhere)
{
    const uint32_t uid = 1;
    struct buf text;
    struct str raw;

    buf_init(&text, 1 << 20);
    buf_adds(&text, "Message-ID: <a@x>\r\nSubject: long\r\nTo: ");
    for (int i = 0; i < 2000; i++)
        buf_addf(&text, "someone%d@example.test,\r\n ", i);
    buf_adds(&text, "x@example.test\r\nReferences: <known@x>\r\n\r\n");
    buf_addc(&text, '\0');
    raw = arena_str(store_arena, buf_str(&text));
    buf_fini(&text);
    store_append(2, INBOX, 0, "Message-ID: <known@x>\r\nSubject: long\r\n\r\n");
    store_append(1, INBOX, 0, raw.p);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message_meta WHERE headers IS NULL"), 1);
    assert_done(message_copy(store_arena, (struct mailbox_key){1, INBOX},
                             (struct mailbox_key){2, INBOX}, 2, &uid, 1, &pairs, &pair_count,
                             &uid_validity, &err));
    assert_int_equal(fixture_sql("SELECT count(DISTINCT thread_id) FROM message WHERE account_id = "
                                 "2"),
                     1);
}

/* ---- many at once ---------------------------------------------------------------------------- */

/* Ten messages of three conversations, as an import has them, one by one and together: the
 * threads must be the same. */
CASE(messages_appended_together_find_the_threads_they_would_find_alone)
{
    enum { COUNT = 40 };
    static char texts[COUNT][200];
    struct message_prepared *m = ARENA_ARRAY(store_arena, COUNT, struct message_prepared);
    struct delivery *v = ARENA_ARRAY(store_arena, COUNT, struct delivery);
    const struct str word[] = {STR("b"), STR("a")};

    for (seed = 1; seed < 6; seed++) {
        uint32_t start = seed;

        for (int i = 0; i < COUNT; i++) {
            snprintf(texts[i], sizeof texts[i],
                     "Message-ID: <%d.%u@x>\r\nReferences: <%u.%u@x> <%u.%u@x>\r\n"
                     "Subject: Re: %u\r\n\r\n",
                     i, start, pick(60), start, pick(60), start, pick(3));
            store_append(1, INBOX, 0, texts[i]);
            m[i] = store_message(texts[i]);
            v[i] = (struct delivery){.account_id = 2, .received_us = INT64_C(1000000) * i};
            if (i % 3 == 0)
                v[i].keywords = (struct keywords){word, 2};
        }
        assert_done(mail_append(m, v, 15, &err));
        assert_done(mail_append(m + 15, v + 15, COUNT - 15, &err));
        seed = start;
    }
    assert_int_equal(fixture_sql("SELECT count(*) FROM message a JOIN message b USING (uid, "
                                 "thread_id, message_id) WHERE a.account_id = 1 AND b.account_id = "
                                 "2"),
                     5 * COUNT);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message WHERE account_id = 2 AND keywords = "
                                 "'{a,b}'"),
                     5 * 14);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message WHERE account_id = 2 AND "
                                 "received_at = to_timestamp(7)"),
                     5);
    assert_store_is_consistent();
}

CASE(a_removed_mailbox_of_many_messages_is_emptied_in_portions)
{
    int64_t id;

    assert_done(mailbox_create(1, STR("x"), STR(""), &id, &err));
    for (int i = 0; i < 5; i++)
        store_append(1, id, 0, letter);
    fixture_sql("SELECT mail_remove_mailbox(1, 'x', 2)");
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 3);
    assert_int_equal(fixture_sql("SELECT message_count FROM account_state WHERE account_id = 1"),
                     0);
    assert_done(store_purge(3600 * 1000, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message_removed"), 5);
    assert_int_equal(fixture_sql("SELECT count(*) FROM mailbox_removed WHERE NOT is_emptied"), 0);
    assert_store_is_consistent();
}

/* ---- everything in any order ----------------------------------------------------------------- */

static uint32_t pick(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % below;
}

static uint32_t *pick_uids(size_t *count)
{
    uint32_t *uids = ARENA_ARRAY(store_arena, 8, uint32_t);

    *count = pick(8);
    for (size_t i = 0; i < *count; i++)
        uids[i] = 1 + pick(30);
    return uids;
}

static int64_t pick_mailbox(void)
{
    return 1 + pick(8);
}

static void random_step(int64_t account_id)
{
    static const char *const paths[] = {"x", "x/y", "x/z", "w"};
    struct message_prepared m = store_message(letter);
    int64_t user_id = 1 + pick(4);
    struct delivery v[3] = {
        {.account_id = account_id, .mailbox_id = pick_mailbox(), .flags = pick(32)},
        {.account_id = 1 + pick(4)},
        {.account_id = 1 + pick(4), .flags = FLAG_SEEN}};
    size_t count, n;
    uint32_t *uids = pick_uids(&count), *removed;
    uint64_t modseq;

    switch (pick(11)) {
    case 0:
    case 1:
        mail_deliver(&m, v, 3, NULL, NULL);
        break;
    case 2:
        v[0].user_id = user_id;
        mail_append(&m, v, 1, NULL);
        break;
    case 9:
        message_copy(store_arena, (struct mailbox_key){account_id, pick_mailbox()},
                     (struct mailbox_key){1 + pick(4), pick_mailbox()}, user_id, uids, count,
                     &pairs, &pair_count, &uid_validity, NULL);
        break;
    case 10:
        message_move(store_arena, (struct mailbox_key){account_id, pick_mailbox()},
                     (struct mailbox_key){1 + pick(4), pick_mailbox()}, user_id, uids, count,
                     &pairs, &pair_count, &uid_validity, NULL);
        break;
    case 3:
        message_store_flags(store_arena, (struct mailbox_key){account_id, pick_mailbox()}, user_id,
                            uids, count, pick(3), pick(32), (struct keywords){0}, UINT64_MAX,
                            &states, &state_count, &conflicts, &conflict_count, NULL);
        break;
    case 4:
        message_copy(store_arena, (struct mailbox_key){account_id, pick_mailbox()},
                     (struct mailbox_key){account_id, pick_mailbox()}, account_id, uids, count,
                     &pairs, &pair_count, &uid_validity, NULL);
        break;
    case 5:
        message_move(store_arena, (struct mailbox_key){account_id, pick_mailbox()},
                     (struct mailbox_key){account_id, pick_mailbox()}, account_id, uids, count,
                     &pairs, &pair_count, &uid_validity, NULL);
        break;
    case 6:
        message_expunge(store_arena, (struct mailbox_key){account_id, pick_mailbox()},
                        pick(2) ? uids : NULL, count, pick(2) > 0, &removed, &n, &modseq, NULL);
        break;
    case 7:
        mailbox_create(account_id, str_c(paths[pick(4)]), STR(""), NULL, NULL);
        break;
    default:
        if (pick(2))
            mailbox_remove(account_id, str_c(paths[pick(4)]), NULL);
        else
            mailbox_rename(account_id, pick(4) ? str_c(paths[pick(4)]) : STR("INBOX"),
                           str_c(paths[pick(4)]), NULL);
    }
}

CASE(after_anything_the_counters_are_right)
{
    config.quota_messages = 120;
    config.quota_bytes = 20000;
    for (seed = 1; seed < 4; seed++)
        for (int step = 0; step < 600; step++) {
            random_step(1 + pick(4));
            if (step % 200 == 199)
                assert_store_is_consistent();
        }
    assert_true(fixture_sql("SELECT count(*) FROM message") > 50);
    assert_true(fixture_sql("SELECT count(*) FROM message_removed") > 50);
    assert_true(fixture_sql("SELECT count(*) FROM mailbox_seen") > 5);
    assert_done(store_purge(-1000, &err));
    assert_store_is_consistent();
}

/* ---- at the same time ------------------------------------------------------------------------ */

static unsigned fibers_left;

static void deliver_many(void *arg)
{
    struct message_prepared m = store_message(letter);
    size_t from = (size_t)arg;

    for (int round = 0; round < 20; round++) {
        struct delivery v[STORE_ACCOUNTS];

        for (size_t i = 0; i < STORE_ACCOUNTS; i++)
            v[i] = (struct delivery){.account_id = (int64_t)((from + i * 5) % STORE_ACCOUNTS) + 1};
        assert_done(mail_deliver(&m, v, STORE_ACCOUNTS, NULL, &err));
    }
    fibers_left--;
}

CASE(deliveries_to_the_same_people_do_not_get_in_each_others_way)
{
    fibers_left = 6;
    for (size_t i = 0; i < 6; i++)
        fiber_start("deliver", deliver_many, (void *)i);
    while (fibers_left > 0)
        fiber_sleep(5);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 6 * 20 * STORE_ACCOUNTS);
    assert_int_equal(fixture_sql("SELECT max(uid) FROM message"), 6 * 20);
    assert_store_is_consistent();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(preparing_keeps_the_fields_that_clients_ask_for),
        cmocka_unit_test(headers_out_of_proportion_are_left_to_the_reader),
        cmocka_unit_test(forms_out_of_proportion_are_not_kept),
        cmocka_unit_test(a_message_of_anything_can_be_prepared),
        cmocka_unit_test(a_large_message_is_prepared_on_a_helper_thread),
        cmocka_unit_test(cached_fields_are_known_by_name_in_any_case),
        cmocka_unit_test(one_message_reaches_many_accounts_with_one_blob),
        cmocka_unit_test(who_cannot_have_it_does_not_keep_it_from_others),
        cmocka_unit_test(what_was_admitted_before_may_exceed_the_quota),
        cmocka_unit_test(a_mailbox_ends_with_its_uids),
        cmocka_unit_test(a_message_that_nobody_could_have_is_collected),
        cmocka_unit_test(an_append_is_all_or_nothing),
        cmocka_unit_test(work_of_many_rounds_is_still_one_transaction),
        cmocka_unit_test(keywords_are_sorted_and_kept_once),
        cmocka_unit_test(a_thread_shares_a_message_id_and_the_subject),
        cmocka_unit_test(siblings_meet_although_their_parent_never_came),
        cmocka_unit_test(a_message_that_joins_two_threads_goes_to_the_older),
        cmocka_unit_test(messages_come_in_the_order_asked_for),
        cmocka_unit_test(reading_stops_when_told),
        cmocka_unit_test(blobs_are_read_in_portions),
        cmocka_unit_test(a_blob_is_read_whole_or_in_part),
        cmocka_unit_test(only_what_changes_gets_a_new_modseq),
        cmocka_unit_test(what_changed_since_is_left_alone),
        cmocka_unit_test(keywords_keep_the_case_first_seen),
        cmocka_unit_test(keywords_are_limited_in_number_and_size),
        cmocka_unit_test(a_copy_is_a_new_message_with_the_same_blob),
        cmocka_unit_test(a_moved_message_stays_the_same_message),
        cmocka_unit_test(an_expunge_removes_what_is_marked_and_keeps_it_restorable),
        cmocka_unit_test(after_the_retention_only_tombstones_are_left),
        cmocka_unit_test(a_miscounted_blob_is_corrected),
        cmocka_unit_test(paths_have_one_form),
        cmocka_unit_test(a_new_account_has_its_folders),
        cmocka_unit_test(parents_are_made_and_children_known),
        cmocka_unit_test(a_mailbox_goes_with_its_messages),
        cmocka_unit_test(a_rename_takes_along_what_is_below),
        cmocka_unit_test(renaming_inbox_empties_it),
        cmocka_unit_test(subscriptions_are_kept),
        cmocka_unit_test(a_subscription_survives_its_mailbox_and_follows_a_rename),
        cmocka_unit_test(an_account_has_a_limited_number_of_mailboxes),
        cmocka_unit_test(subscriptions_have_a_limit),
        cmocka_unit_test(each_user_has_a_seen_of_their_own_and_shares_the_rest),
        cmocka_unit_test(what_another_has_seen_raises_the_modseq_once),
        cmocka_unit_test(an_append_sets_the_seen_of_who_appends),
        cmocka_unit_test(within_an_account_everybodys_seen_goes_along),
        cmocka_unit_test(removing_a_mailbox_forgets_who_has_seen_what),
        cmocka_unit_test(whatever_users_mark_each_sees_what_the_model_says),
        cmocka_unit_test(a_copy_into_another_account_is_a_message_of_that_account),
        cmocka_unit_test(a_copy_keeps_what_its_maker_has_seen),
        cmocka_unit_test(a_move_into_another_account_leaves_tombstones),
        cmocka_unit_test(the_quota_of_the_other_account_counts_and_all_stays_or_goes),
        cmocka_unit_test(a_message_whose_header_was_too_large_to_keep_finds_its_thread_elsewhere),
        cmocka_unit_test(messages_appended_together_find_the_threads_they_would_find_alone),
        cmocka_unit_test(a_removed_mailbox_of_many_messages_is_emptied_in_portions),
        cmocka_unit_test(usage_shows_the_limits_in_force),
        cmocka_unit_test(after_anything_the_counters_are_right),
        cmocka_unit_test(deliveries_to_the_same_people_do_not_get_in_each_others_way),
    };

    if (getenv("TEST_FILTER"))
        cmocka_set_test_filter(getenv("TEST_FILTER"));
    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
