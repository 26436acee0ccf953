/* test_text_fuzzy.c - what is near, and how near. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/mime/text_fold.h"
#include "mail/store/text_fuzzy.h"
#include "mail/store/text_segment.h"

static unsigned score(const char *sought, const char *text)
{
    struct arena *a = arena_new();
    struct str folded = text_fold_arena(a, str_c(text));
    struct fuzzy_text f;
    unsigned result;

    fuzzy_parse(a, text_fold_arena(a, str_c(sought)), &f);
    result = fuzzy_score(a, &f, &folded, 1);
    arena_free(&a);
    return result;
}

static void what_is_near_is_found(void **state)
{
    static const struct {
        const char *sought, *text;
    } cases[] = {
        {"meeting room", "Meeting room 3 is free"},
        {"room meeting", "Meeting room 3 is free"}, /* any order */
        {"cafe", "Caf\xC3\xA9 am Morgen"},          /* accents */
        {"caf\xC3\xA9", "cafe"},
        {"meetings", "one meeting"}, /* English forms */
        {"planning", "we plan"},
        {"invoices", "the invoiced amount"},
        {"mengirimkan", "kiriman dikirim hari ini"}, /* Indonesian forms */
        {"pembayaran", "sudah dibayar"},
        {"suratnya", "surat itu"},
        {"Helo", "hello"}, /* RFC 6203, 4 */
        {"Helo", "help"},
        {"recieve", "please receive"}, /* swapped */
        {"tommorow", "until tomorrow"},
        {"invoce", "Invoices"}, /* and an ending */
        {"\xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82\xD1\x81",
         "\xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82!"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (score(cases[i].sought, cases[i].text) == 0)
            print_error("%s\n", cases[i].sought);
        assert_in_range(score(cases[i].sought, cases[i].text), 1, 100);
    }
}

struct presence {
    uint32_t trigrams[200];
    size_t n;
};

static bool note_trigram(void *arg, uint32_t trigram)
{
    struct presence *p = arg;

    for (size_t i = 0; i < p->n; i++)
        if (p->trigrams[i] == trigram)
            return true;
    p->trigrams[p->n++] = trigram;
    return true;
}

static unsigned count_missing(struct str word, struct str text)
{
    struct presence of_word = {.n = 0}, of_both;

    text_trigrams(text, note_trigram, &of_word);
    of_both = of_word;
    text_trigrams(word, note_trigram, &of_both);
    return (unsigned)(of_both.n - of_word.n);
}

/* Or the index would hide it. */
static void what_is_near_has_enough_trigrams(void **state)
{
    static const struct {
        const char *sought, *text;
    } cases[] = {
        {"recieve", "receive"},
        {"\xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82", /* two Cyrillic letters swapped */
         "\xD0\xBF\xD1\x80\xD0\xB2\xD0\xB8\xD0\xB5\xD1\x82"},
        {"\xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82",
         "\xD0\xBF\xD0\xB8\xD1\x80\xD0\xB2\xD0\xB5\xD1\x82"},
        {"\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E\xE5\xAD\xA6\xE6\xA0\xA1", /* two of five Kanji */
         "\xE6\x97\xA5\xE8\xAA\x9E\xE6\x9C\xAC\xE5\xAD\xA6\xE6\xA0\xA1"},
        {"blablablas", "blablabla"}, /* stems that repeat themselves */
        {"aaaaaaaing", "aaaaaa"},
        {"mengirimkan", "dikirim"},
    };
    struct arena *a = arena_new();

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct str text = text_fold_arena(a, str_c(cases[i].text));
        struct fuzzy_text f;
        fuzzy_parse(a, text_fold_arena(a, str_c(cases[i].sought)), &f);
        assert_int_equal(f.count, 1);
        print_message("%s\n", cases[i].sought);
        assert_true(fuzzy_score(a, &f, &text, 1) > 0);
        assert_true(count_missing(f.words[0].text, text) <= f.words[0].missing_max);
    }
    arena_free(&a);
}

static void what_is_not_near_is_not(void **state)
{
    static const struct {
        const char *sought, *text;
    } cases[] = {
        {"meeting room", "Meeting in the hall"},
        {"cat", "cut"},
        {"helo", "yellow"},
        {"budget", "bucket list of gadgets"},
        {"invoice", ""},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "aaaa"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (score(cases[i].sought, cases[i].text) != 0)
            print_error("%s\n", cases[i].sought);
        assert_int_equal(score(cases[i].sought, cases[i].text), 0);
    }
}

static void nearer_scores_higher(void **state)
{
    static const char *const texts[] = {"the project plan", "plan of the project",
                                        "projects planned", "the projectile plan b",
                                        "projekt plan"};
    unsigned phrase = score("project plan", texts[0]), words = score("project plan", texts[1]),
             pieces = score("project plan", texts[2]), mistake = score("project plan", texts[4]);

    assert_int_equal(phrase, 100);
    assert_true(phrase > words);
    assert_true(words > pieces);
    assert_true(pieces > mistake);
    assert_true(mistake > 0);
}

static void a_stem_is_a_piece_of_its_word(void **state)
{
    static const char *const words[] = {
        "meetings",    "planning",   "mengirimkannya", "stories",
        "berkeluarga", "diperbaiki", "running",        "nationalisations",
        "a",           "ab",         "abcd",           "pelajaran"};
    struct arena *a = arena_new();

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        struct fuzzy_text f;
        fuzzy_parse(a, str_c(words[i]), &f);
        assert_int_equal(f.count, 1);
        for (unsigned s = 0; s < 2; s++)
            if (f.words[0].stems[s].n > 0) {
                assert_true(str_find(f.words[0].text, f.words[0].stems[s]) >= 0);
                assert_true(f.words[0].stems[s].n >= 4);
            }
    }
    arena_free(&a);
}

static void many_words_are_bounded(void **state)
{
    struct arena *a = arena_new();
    struct fuzzy_text f;
    struct buf text;

    buf_init(&text, SIZE_MAX);
    for (unsigned i = 0; i < 1000; i++)
        buf_addf(&text, "w%u ", i);
    fuzzy_parse(a, buf_str(&text), &f);
    assert_int_equal(f.count, FUZZY_WORDS_MAX);
    buf_fini(&text);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_near_is_found),
        cmocka_unit_test(what_is_near_has_enough_trigrams),
        cmocka_unit_test(what_is_not_near_is_not),
        cmocka_unit_test(nearer_scores_higher),
        cmocka_unit_test(a_stem_is_a_piece_of_its_word),
        cmocka_unit_test(many_words_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
