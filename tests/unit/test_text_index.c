/* test_text_index.c - the index of an account on a real PostgreSQL: never a message too few, few too many,
 * whatever comes, goes, is merged or breaks. */
#include "tests/unit/store_fixture.h"

#include "mail/mime/text_fold.h"
#include "mail/store/text_batch.h"
#include "mail/store/text_index.h"
#include "mail/store/text_indexer.h"
#include "mail/store/upkeep.h"

#define ACCOUNT 1
static const struct mailbox_key inbox = {ACCOUNT, INBOX};

static uint64_t seed = 7;

static uint32_t any(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed % below);
}

/* "word17" style words: the number says which messages have it. */
static void append_text(uint32_t number)
{
    char text[400];

    snprintf(text, sizeof text,
             "Subject: topic%u common\r\nFrom: writer%u@example.org\r\nX-Trace: trace%u\r\n\r\n"
             "Everybody says hello. marker%uend multiple%uof seven\r\n",
             number, number % 5, number, number, number % 7);
    store_append(ACCOUNT, INBOX, 0, text);
}

static void append_texts(uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        append_text(i);
}

static void index_all(void)
{
    assert_done(text_index_account(ACCOUNT, &err));
}

static struct text_candidates ask(const char *text, unsigned places)
{
    struct text_candidates c;

    assert_done(text_index_candidates(store_arena, ACCOUNT,
                                      text_fold_arena(store_arena, str_c(text)), places, &c, &err));
    return c;
}

/* Message ids are 1, 2, ... in order of appending. */
static void assert_candidates(const char *text, unsigned places, const int64_t *ids, size_t count)
{
    struct text_candidates c = ask(text, places);

    assert_false(c.is_everything);
    if (c.count != count)
        print_error("%s: %zu candidates instead of %zu\n", text, c.count, count);
    assert_int_equal(c.count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(c.ids[i], ids[i]);
}

CASE(a_message_is_found_where_its_text_is)
{
    append_texts(0, 40);
    index_all();
    assert_candidates("marker17end", PLACES_ALL, (int64_t[]){18}, 1);
    assert_candidates("MARKER17END", PLACE_BIT(PLACE_BODY), (int64_t[]){18}, 1);
    assert_candidates("marker17end", PLACE_BIT(PLACE_ENVELOPE), NULL, 0);
    assert_candidates("topic17 ", PLACE_BIT(PLACE_ENVELOPE), (int64_t[]){18}, 1);
    assert_candidates("topic17 ", PLACE_BIT(PLACE_HEADER), NULL, 0);
    assert_candidates("trace17", PLACE_BIT(PLACE_HEADER), (int64_t[]){18}, 1);
    assert_candidates("not there", PLACES_ALL, NULL, 0);
    assert_int_equal(ask("everybody", PLACES_ALL).count, 40);
    assert_true(ask("ab", PLACES_ALL).is_everything);
    assert_true(ask("", PLACES_ALL).is_everything);
}

CASE(what_is_not_indexed_yet_is_a_candidate)
{
    struct text_candidates c;

    append_texts(0, 3);
    c = ask("marker1end", PLACES_ALL);
    assert_true(text_candidates_contain(&c, 1) && text_candidates_contain(&c, 3));
    index_all();
    append_texts(3, 5);
    c = ask("marker1end", PLACES_ALL);
    assert_int_equal(c.indexed_message_id, 3);
    assert_false(text_candidates_contain(&c, 1));
    assert_true(text_candidates_contain(&c, 2));
    assert_false(text_candidates_contain(&c, 3));
    assert_true(text_candidates_contain(&c, 4) && text_candidates_contain(&c, 5));
    assert_true(text_candidates_contain(&c, 2)); /* backwards, too */
    assert_false(text_candidates_contain(&c, 1));
}

/* The account's whole text is asked for in batches, merges, copies and removals. */
static void assert_all_found(uint32_t from, uint32_t to)
{
    char word[40];
    size_t sum = 0;

    for (uint32_t i = from; i < to; i++) {
        struct text_candidates c;
        snprintf(word, sizeof word, "marker%uend", i);
        c = ask(word, PLACES_ALL);
        assert_true(text_candidates_contain(&c, (int64_t)i + 1));
        sum += c.count;
    }
    assert_true(sum < (size_t)10 * (to - from)); /* neighbours in number share most of it */
}

CASE(merges_lose_nothing)
{
    for (uint32_t i = 0; i < 160; i += 2) {
        append_texts(i, i + 2);
        index_all();
    }
    assert_all_found(0, 160);
    assert_int_equal(fixture_sql("SELECT max(level) FROM text_segment"), 2);
    assert_true(fixture_sql("SELECT count(*) FROM text_segment") < 16);
    assert_int_equal(fixture_sql("SELECT sum(message_count) FROM text_segment"), 160);
    assert_int_equal(fixture_sql("SELECT count(*) FROM text_bucket b WHERE NOT EXISTS (SELECT FROM "
                                 "text_segment s WHERE s.segment_id = b.segment_id)"),
                     0);
}

static uint32_t *removed_uids;
static size_t removed_count;

static void remove_uids(const uint32_t *uids, size_t count)
{
    uint64_t modseq;

    assert_done(message_expunge(store_arena, inbox, uids, count, false, &removed_uids,
                                &removed_count, &modseq, &err));
}

CASE(merges_leave_out_who_is_gone_for_good)
{
    for (uint32_t i = 0; i < 7; i++) {
        append_texts(i, i + 1);
        index_all();
    }
    remove_uids((uint32_t[]){1, 2, 3}, 3);
    fixture_sql("UPDATE message_removed SET removed_at = now() - interval '2 days' WHERE uid < 3");
    assert_done(store_purge(86400 * 1000, &err));
    append_texts(7, 8);
    index_all();
    assert_int_equal(fixture_sql("SELECT count(*) FROM text_segment"), 1);
    assert_int_equal(fixture_sql("SELECT sum(message_count) FROM text_segment"), 6);
    assert_candidates("marker1end", PLACES_ALL, NULL, 0);
    assert_candidates("marker2end", PLACES_ALL, (int64_t[]){3}, 1); /* restorable still */
    assert_all_found(3, 8);
}

CASE(a_copy_is_indexed_from_the_kept_text)
{
    struct uid_pair *pairs;
    size_t count;
    uint32_t uid_validity;

    append_texts(0, 2);
    index_all();
    fixture_sql("UPDATE blob SET data = 'gone'");
    assert_done(message_copy(store_arena, inbox, (struct mailbox_key){ACCOUNT, SENT}, ACCOUNT,
                             (uint32_t[]){1}, 1, &pairs, &count, &uid_validity, &err));
    index_all();
    assert_candidates("marker0end", PLACES_ALL, (int64_t[]){1, 3}, 2);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob_text"), 2);
}

CASE(a_text_goes_with_its_blob)
{
    append_texts(0, 2);
    index_all();
    remove_uids((uint32_t[]){1}, 1);
    fixture_sql("UPDATE message_removed SET removed_at = now() - interval '2 days'");
    assert_done(store_purge(86400 * 1000, &err));
    fixture_sql("UPDATE blob_unused SET since = now() - interval '2 days'");
    assert_done(store_purge(86400 * 1000, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob"), 1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob_text"), 1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob_text JOIN blob USING (blob_id)"), 1);
}

CASE(only_one_worker_indexes_an_account)
{
    append_texts(0, 2);
    fixture_sql("INSERT INTO text_state (account_id, claim, claimed_until) VALUES (1, 99, now() + "
                "interval '1 minute')");
    assert_refused(text_index_account(ACCOUNT, &err), ERR_CONFLICT);
    fixture_sql("UPDATE text_state SET claimed_until = now() - interval '1 second'");
    index_all();
    assert_all_found(0, 2);
}

/* A worker that slept through its claim must not write what another one has written meanwhile. */
CASE(who_lost_the_claim_writes_nothing)
{
    struct text_claim late = {.account_id = ACCOUNT, .claim = 5, .last_message_id = 2};

    append_texts(0, 2);
    fixture_sql("INSERT INTO text_state (account_id, claim) VALUES (1, 6)");
    assert_refused(text_index_batch(&late, &err), ERR_CONFLICT);
    assert_int_equal(fixture_sql("SELECT count(*) FROM text_segment"), 0);
    late.claim = 6;
    late.indexed_message_id = 1; /* not where the index is */
    assert_refused(text_index_batch(&late, &err), ERR_CONFLICT);
    assert_int_equal(fixture_sql("SELECT count(*) FROM text_segment"), 0);
    index_all();
    assert_all_found(0, 2);
}

CASE(a_damaged_index_is_no_answer_and_is_made_anew)
{
    for (uint32_t i = 0; i < 7; i++) {
        append_texts(i, i + 1);
        index_all();
    }
    fixture_sql("UPDATE text_bucket SET data = '\\xffffffffffff' WHERE segment_id = 3");
    assert_true(ask("marker1end", PLACES_ALL).is_everything);
    append_texts(7, 8);
    assert_refused(text_index_account(ACCOUNT, &err), ERR_INTERNAL);
    assert_int_equal(fixture_sql("SELECT indexed_message_id FROM text_state"), 0);
    index_all();
    assert_all_found(0, 8);

    fixture_sql("DELETE FROM text_bucket");
    assert_true(ask("marker1end", PLACES_ALL).is_everything);
    fixture_sql("UPDATE text_segment SET messages = 'x'");
    assert_true(ask("marker1end", PLACES_ALL).is_everything);
}

CASE(what_a_dead_worker_left_of_a_merge_is_dropped)
{
    append_texts(0, 1);
    index_all();
    fixture_sql("INSERT INTO text_bucket (account_id, segment_id, bucket, data) SELECT 1, "
                "next_segment_id, 0, 'left over' FROM text_state");
    append_texts(1, 2);
    index_all();
    assert_all_found(0, 2);
}

CASE(odd_messages_do_not_stop_the_queue)
{
    static char huge[3 << 20];

    store_append(ACCOUNT, INBOX, 0, "");
    store_append(ACCOUNT, INBOX, 0,
                 "Content-Type: multipart/mixed; boundary=\r\n\r\n--\r\n--\r\n--");
    store_append(ACCOUNT, INBOX, 0, "\xFF\xFE no header at all \x01\x02");
    memset(huge, 'x', sizeof huge - 1);
    memcpy(huge, "Subject: huge\r\n\r\n", 17);
    memcpy(huge + sizeof huge - 20, " last words ", 12);
    store_append(ACCOUNT, INBOX, 0, huge);
    append_texts(4, 6);
    index_all();
    assert_all_found(4, 6);
    assert_candidates("last words", PLACES_ALL, (int64_t[]){4}, 1);
    assert_int_equal(fixture_sql("SELECT get_byte(data, 0) FROM blob_text ORDER BY "
                                 "length(data) DESC LIMIT 1"),
                     1); /* cut */
}

CASE(random_texts_are_never_missed)
{
    static const char letters[] = "abcdefg .";
    static char texts[200][120];

    for (unsigned i = 0; i < 200; i++) {
        char raw[200];
        for (unsigned k = 0; k < sizeof texts[0] - 1; k++)
            texts[i][k] = letters[any(sizeof letters - 1)];
        snprintf(raw, sizeof raw, "Subject: %u\r\n\r\n%s\r\n", i, texts[i]);
        store_append(ACCOUNT, INBOX, 0, raw);
        if (any(12) == 0)
            index_all();
    }
    index_all();
    for (unsigned round = 0; round < 400; round++) {
        char needle[20];
        size_t n = 3 + any(12);
        struct text_candidates c;
        memcpy(needle, texts[any(200)] + any(sizeof texts[0] - 1 - (uint32_t)n), n);
        needle[n] = '\0';
        c = ask(needle, PLACE_BIT(PLACE_BODY));
        for (unsigned i = 0; i < 200; i++)
            if (strstr(texts[i], needle) != NULL)
                assert_true(text_candidates_contain(&c, (int64_t)i + 1));
    }
}

CASE(words_that_are_near_are_candidates)
{
    struct text_candidates c;

    append_texts(0, 40);
    index_all();
    assert_done(
        text_index_similar(store_arena, ACCOUNT, STR("everibody"), 4, PLACES_ALL, &c, &err));
    assert_int_equal(c.count, 40);
    assert_done(
        text_index_similar(store_arena, ACCOUNT, STR("zzzqqqyyy"), 4, PLACES_ALL, &c, &err));
    assert_int_equal(c.count, 0);
    assert_done(text_index_similar(store_arena, ACCOUNT, STR("abcd"), 2, PLACES_ALL, &c, &err));
    assert_true(c.is_everything);
}

static struct str read_body;

static int take_text(void *arg, size_t index, const struct message *m, struct error *err)
{
    read_body = m->text_header.p == NULL ? STR_NULL : arena_str(store_arena, m->text_body);
    return 0;
}

CASE(texts_are_read_where_they_are_kept)
{
    struct message_reader reader = {.account_id = ACCOUNT,
                                    .ids = (int64_t[]){1},
                                    .count = 1,
                                    .columns = MESSAGE_TEXT,
                                    .each = take_text};

    append_texts(0, 1);
    assert_done(message_read(&reader, &err));
    assert_null(read_body.p);
    index_all();
    assert_done(message_read(&reader, &err));
    assert_str(read_body, STR("everybody says hello. marker0end multiple0of seven\n\n"));
    fixture_sql("UPDATE blob_text SET data = 'x'");
    assert_done(message_read(&reader, &err));
    assert_null(read_body.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_found_where_its_text_is),
        cmocka_unit_test(what_is_not_indexed_yet_is_a_candidate),
        cmocka_unit_test(merges_lose_nothing),
        cmocka_unit_test(merges_leave_out_who_is_gone_for_good),
        cmocka_unit_test(a_copy_is_indexed_from_the_kept_text),
        cmocka_unit_test(a_text_goes_with_its_blob),
        cmocka_unit_test(only_one_worker_indexes_an_account),
        cmocka_unit_test(who_lost_the_claim_writes_nothing),
        cmocka_unit_test(a_damaged_index_is_no_answer_and_is_made_anew),
        cmocka_unit_test(what_a_dead_worker_left_of_a_merge_is_dropped),
        cmocka_unit_test(odd_messages_do_not_stop_the_queue),
        cmocka_unit_test(random_texts_are_never_missed),
        cmocka_unit_test(words_that_are_near_are_candidates),
        cmocka_unit_test(texts_are_read_where_they_are_kept),
    };

    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
