/* test_spam_classifier.c - learning, unlearning and judging, with the store behind it. */
#include "tests/unit/store_fixture.h"

#include "mail/spam/spam_classifier.h"
#include "mail/spam/spam_model.h"

#include <unistd.h>

#define ANN 1
#define BOB 2

/* Rows go behind the server's back: no notice says so. */
static void start_clean(void)
{
    spam_classifier_stop();
    fixture_sql("TRUNCATE spam_example, spam_account, spam_model_piece;"
                "UPDATE spam_model_state SET made_at = '-infinity', claimed_at = '-infinity'");
    config.data_dir = fixture_dir;
}

/* The same number gives the same message: of one kind, all speak of the same things. */
static struct str message_of(bool is_spam, unsigned number)
{
    static const char *const pills[] = {"cheap", "pills", "offer", "winner"}, *const work[] = {
                                                                                  "meeting",
                                                                                  "agenda",
                                                                                  "minutes",
                                                                                  "report"};
    const char *const *words = is_spam ? pills : work;

    return arena_printf(
        store_arena, "From: %s%u@example.test\r\nSubject: %s %s\r\n\r\n%s %s today, number %u.\r\n",
        is_spam ? "shop" : "colleague", number, words[number % 4], words[number / 4 % 4],
        words[number / 16 % 4], words[number % 3], number);
}

static struct spam_features features_of(struct str message)
{
    struct spam_features out;

    spam_features(store_arena, mime_parse(store_arena, message), message, &out);
    return out;
}

static void learn(int64_t account, struct str message, bool is_spam)
{
    struct spam_features f = features_of(message);

    assert_done(spam_learn(account, &f, message, is_spam, &err));
}

static void learn_many(int64_t account, unsigned from, unsigned count)
{
    for (unsigned i = from; i < from + count; i++) {
        learn(account, message_of(true, i), true);
        learn(account, message_of(false, i), false);
    }
}

static struct spam_opinion judge(int64_t account, struct str message)
{
    struct spam_features f = features_of(message);
    struct spam_opinion out;

    assert_done(spam_classify(store_arena, &f, account, &out, &err));
    return out;
}

CASE(who_learnt_little_has_no_opinion)
{
    start_clean();
    assert_false(judge(ANN, message_of(true, 500)).is_known);
    learn_many(ANN, 0, SPAM_OWN_MIN - 1);
    assert_done(spam_classifier_refresh(&err));
    assert_false(judge(ANN, message_of(true, 500)).is_known);
}

CASE(what_one_account_learnt_is_its_own_at_first)
{
    start_clean();
    learn_many(ANN, 0, 20);
    assert_done(spam_classifier_refresh(&err));
    assert_true(judge(ANN, message_of(true, 500)).is_known);
    assert_true(judge(ANN, message_of(true, 500)).score > 0);
    assert_true(judge(ANN, message_of(false, 500)).score < 0);
    assert_false(judge(BOB, message_of(true, 500)).is_known);
}

CASE(what_many_messages_taught_holds_for_all_with_reasons)
{
    struct spam_opinion spam, ham;

    start_clean();
    learn_many(ANN, 0, SPAM_EXAMPLES_MIN + 10);
    assert_done(spam_classifier_refresh(&err));
    spam = judge(BOB, message_of(true, 500));
    ham = judge(BOB, message_of(false, 500));
    assert_true(spam.is_known);
    assert_true(spam.is_spam);
    assert_true(spam.percent > 90);
    assert_true(spam.reason_count > 0);
    assert_true(spam.reasons[0].weight > 0);
    assert_false(ham.is_spam);
    assert_true(ham.percent < 10);
    assert_true(ham.reasons[0].weight < 0);
}

CASE(a_message_counts_once_and_the_last_word_counts)
{
    struct str message = message_of(true, 7);

    start_clean();
    learn(ANN, message, true);
    learn(ANN, message, true);
    assert_int_equal(fixture_sql("SELECT count(*) FROM spam_example WHERE is_spam"), 1);
    learn(ANN, message, false);
    assert_int_equal(fixture_sql("SELECT count(*) FROM spam_example WHERE is_spam"), 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM spam_example"), 1);
    assert_done(spam_unlearn(ANN, message, &err));
    assert_done(spam_unlearn(ANN, message, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM spam_example"), 0);
}

CASE(an_account_can_think_otherwise)
{
    start_clean();
    learn_many(BOB, 0, SPAM_EXAMPLES_MIN + 10);
    for (unsigned i = 200; i < 240; i++)
        learn(ANN, message_of(true, i), false);
    assert_done(spam_classifier_refresh(&err));
    assert_false(judge(ANN, message_of(true, 500)).is_spam);
    assert_true(judge(BOB, message_of(true, 500)).is_spam);
}

CASE(an_own_model_is_kept_until_there_is_another)
{
    double before;

    start_clean();
    learn_many(ANN, 0, 20);
    assert_done(spam_classifier_refresh(&err));
    before = judge(ANN, message_of(true, 500)).score;
    fixture_sql("UPDATE spam_account SET model = NULL");
    assert_true(judge(ANN, message_of(true, 500)).score == before);
    learn_many(ANN, 20, 20);
    assert_done(spam_classifier_refresh(&err));
    assert_true(judge(ANN, message_of(true, 500)).score != before);
}

CASE(a_file_of_another_database_is_not_taken_for_the_model)
{
    int64_t generation, stamp;

    start_clean();
    learn_many(ANN, 0, SPAM_EXAMPLES_MIN + 10);
    assert_done(spam_classifier_refresh(&err));
    generation = fixture_sql("SELECT generation FROM spam_model_state");
    stamp = fixture_sql("SELECT stamp FROM spam_model_state");
    fixture_sql("UPDATE spam_model_state SET generation = generation - 1");
    learn_many(BOB, 300, 1);
    assert_done(spam_classifier_refresh(&err));
    assert_int_equal(fixture_sql("SELECT generation FROM spam_model_state"), generation);
    assert_true(fixture_sql("SELECT stamp FROM spam_model_state") != stamp);
    assert_int_not_equal(
        access(arena_c(store_arena,
                       arena_printf(store_arena, "%s/spam-model-%lld-%016llx", fixture_dir,
                                    (long long)generation, (unsigned long long)stamp)),
               F_OK),
        0);
    assert_true(judge(ANN, message_of(true, 500)).is_known);
}

CASE(nothing_is_made_when_nothing_changed)
{
    int64_t generation;

    start_clean();
    learn_many(ANN, 0, 3);
    assert_done(spam_classifier_refresh(&err));
    generation = fixture_sql("SELECT generation FROM spam_model_state");
    learn_many(ANN, 0, 3);
    assert_done(spam_classifier_refresh(&err));
    assert_int_equal(fixture_sql("SELECT generation FROM spam_model_state"), generation);
    learn_many(ANN, 3, 1);
    assert_done(spam_classifier_refresh(&err));
    assert_int_equal(fixture_sql("SELECT generation FROM spam_model_state"), generation + 1);
}

CASE(an_account_keeps_a_limited_number_of_examples)
{
    start_clean();
    fixture_sql("INSERT INTO spam_example (account_id, message_key, is_spam, version, features) "
                "SELECT 1, int4send(i), true, 0, '' FROM generate_series(1, 700) AS i");
    learn(ANN, message_of(true, 1), true);
    assert_int_equal(fixture_sql("SELECT count(*) FROM spam_example"), 500);
    assert_int_equal(fixture_sql("SELECT count(*) FROM spam_example WHERE version > 0"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_learnt_little_has_no_opinion),
        cmocka_unit_test(what_one_account_learnt_is_its_own_at_first),
        cmocka_unit_test(what_many_messages_taught_holds_for_all_with_reasons),
        cmocka_unit_test(a_message_counts_once_and_the_last_word_counts),
        cmocka_unit_test(an_account_can_think_otherwise),
        cmocka_unit_test(an_own_model_is_kept_until_there_is_another),
        cmocka_unit_test(a_file_of_another_database_is_not_taken_for_the_model),
        cmocka_unit_test(nothing_is_made_when_nothing_changed),
        cmocka_unit_test(an_account_keeps_a_limited_number_of_examples),
    };

    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
