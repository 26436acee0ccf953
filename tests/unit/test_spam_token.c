/* test_spam_token.c - what the filter sees of a message, and what it is not misled by. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/spam/spam_token.h"
#include "server/base/buf.h"

static struct arena *arena;

static struct spam_features features_of(struct str message)
{
    struct spam_features out;

    spam_features(arena, mime_parse(arena, message), message, &out);
    return out;
}

static bool says(const char *message, const char *text)
{
    struct spam_features f = features_of(str_c(message));

    for (size_t i = 0; i < f.n; i++)
        if (str_eq(spam_feature_text(arena, &f.v[i]), str_c(text)))
            return true;
    return false;
}

#define HEAD "From: Ann <ann@pills.example>\r\nSubject: Cheap pills\r\n"
#define TEXT HEAD "Content-Type: text/plain; charset=utf-8\r\n\r\n"
#define HTML HEAD "Content-Type: text/html; charset=utf-8\r\n\r\n"

static void features_are_said_in_words(void **state)
{
    static const struct {
        const char *message, *text;
        bool is_said;
    } cases[] = {
        {TEXT "buy it now", "the text says \"buy\"", true},
        {TEXT "buy it now", "the text says \"buy\" before \"now\"", true},
        {TEXT "buy it now", "the text says \"cheap\"", false},
        {TEXT "", "the subject says \"cheap\"", true},
        {TEXT "", "the sender: of pills.example", true},
        {TEXT "", "the header: from, then subject", true},
        {TEXT "see http://user@shop.example:81/x", "a link to shop.example", true},
        {TEXT "see http://user@shop.example:81/x", "a link with a user before the host", true},
        {TEXT "see http://10.1.2.3/", "a link to an address in numbers", true},
        {HTML "<a href=\"https://shop.example/\">x</a>", "a link to shop.example", true},
        {HTML "<font color=red>x</font>", "the layout has <font color=red>", true},
        {TEXT "in 2026", "the text says \"(year)\"", true},
        {TEXT "in 2026", "the text says \"2026\"", false},
        {"Received: from a.example (a.example [192.0.2.1]) by x\r\n" TEXT "",
         "the way here: network 192.0.2", true},
        {"Received: from localhost (localhost [127.0.0.1]) by x\r\n" TEXT "",
         "the way here: network 127.0.0", false},
        {"X-Spam-Status: No\r\n" TEXT "", "the header: x-spam-status", false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (says(cases[i].message, cases[i].text) != cases[i].is_said)
            print_error("row %zu: %s\n", i, cases[i].text);
        assert_int_equal(says(cases[i].message, cases[i].text), cases[i].is_said);
    }
}

static void tricks_leave_the_word_what_it_reads_as(void **state)
{
    static const char *const forms[] = {
        TEXT "viagra",
        TEXT "VIAGRA",
        TEXT "v\xC3\xAD"
             "agra", /* an accent */
        TEXT "vi\xE2\x80\x8B"
             "agra", /* a space of no width */
        TEXT "vi\xC2\xAD"
             "agra",          /* a soft hyphen */
        TEXT "vi\xD0\xB0gra", /* Cyrillic a */
        TEXT "\xEF\xBD\x96\xEF\xBD\x89\xEF\xBD\x81\xEF\xBD\x87\xEF\xBD\x92\xEF\xBD\x81", /* wide */
        HTML "vi<!-- x -->agra",
        HTML "vi<b></b>agra",
        HTML "&#118;iagra",
        HEAD "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\ndmlhZ3Jh\r\n",
    };

    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (!says(forms[i], "the text says \"viagra\""))
            print_error("form %zu\n", i);
        assert_true(says(forms[i], "the text says \"viagra\""));
    }
}

static void hidden_text_does_not_count_as_words(void **state)
{
    const char *message = HTML "<p>pills</p><div style=\"display:none\">meeting <div>agenda</div> "
                               "minutes</div><p>here</p>";

    assert_true(says(message, "the text says \"pills\""));
    assert_true(says(message, "the text says \"here\""));
    assert_false(says(message, "the text says \"meeting\""));
    assert_false(says(message, "the text says \"minutes\""));
    assert_true(says(message, "the layout has text that is hidden"));
}

static void a_flood_of_words_leaves_room_for_the_header(void **state)
{
    struct buf b;
    struct spam_features f;

    buf_init(&b, SIZE_MAX);
    buf_adds(&b, TEXT);
    for (unsigned i = 0; b.n < (4u << 20); i++)
        buf_addf(&b, "w%x ", i * 2654435761u);
    f = features_of(buf_str(&b));
    assert_true(f.n <= SPAM_FEATURES_MAX);
    assert_int_equal(f.v[0].kind, SPAM_HEADER);
    buf_fini(&b);
}

static void a_flood_of_fields_leaves_room_for_the_text(void **state)
{
    struct buf b;
    struct spam_features f;
    bool has_word = false;

    buf_init(&b, SIZE_MAX);
    for (unsigned i = 0; i < 5000; i++)
        buf_addf(&b, "X-%u: a\r\n", i);
    buf_adds(&b, TEXT "pills");
    f = features_of(buf_str(&b));
    for (size_t i = 0; i < f.n; i++)
        has_word |= f.v[i].kind == SPAM_WORD;
    assert_true(has_word);
    buf_fini(&b);
}

static void the_same_message_has_the_same_features(void **state)
{
    struct spam_features a = features_of(STR(HTML "<b>one</b> two http://x.example/")),
                         b = features_of(STR(HTML "<b>one</b> two http://x.example/"));

    assert_int_equal(a.n, b.n);
    for (size_t i = 0; i < a.n; i++)
        assert_int_equal(a.v[i].hash, b.v[i].hash);
}

static int start(void **state)
{
    arena = arena_new();
    return 0;
}

static int stop(void **state)
{
    arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_are_said_in_words),
        cmocka_unit_test(tricks_leave_the_word_what_it_reads_as),
        cmocka_unit_test(hidden_text_does_not_count_as_words),
        cmocka_unit_test(a_flood_of_words_leaves_room_for_the_header),
        cmocka_unit_test(a_flood_of_fields_leaves_room_for_the_text),
        cmocka_unit_test(the_same_message_has_the_same_features),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
