/* test_sort_keys.c - what messages are sorted and threaded by, packed and read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mail/store/sort_keys.h"

static struct sort_keys keys_of(struct arena *a, const char *header)
{
    struct sort_keys keys;
    struct buf out;

    buf_init(&out, SIZE_MAX);
    sort_keys_add(&out, a, str_c(header));
    sort_keys_read(arena_str(a, buf_str(&out)), &keys);
    buf_fini(&out);
    return keys;
}

static void texts_are_collation_forms(void **state)
{
    static const struct {
        const char *header;
        enum sort_text which;
        const char *text;
        bool is_reply;
    } rows[] = {
        {"Subject: Re: [list] hello  there (fwd)\r\n", SORT_SUBJECT, "HELLO THERE", true},
        {"Subject: [list]\r\n", SORT_SUBJECT, "[LIST]", false},
        {"Subject: [a] [b] c\r\n", SORT_SUBJECT, "C", false},
        {"Subject: [fwd: [x] re: y]\r\n", SORT_SUBJECT, "Y", true},
        {"Subject: Reply: z\r\n", SORT_SUBJECT, "REPLY: Z", false},
        {"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n", SORT_SUBJECT,
         "GRU\xcc\x88\xc3\x9f"
         "E",
         false},
        {"Subject:\r\n", SORT_SUBJECT, "", false},
        {"", SORT_SUBJECT, "", false},
        {"From: Ann B <ann@x.test>, bob@y.test\r\n", SORT_FROM, "ANN", false},
        {"From: Ann B <ann@x.test>\r\n", SORT_DISPLAY_FROM, "ANN B", false},
        {"From: ann@x.test\r\n", SORT_DISPLAY_FROM, "ANN@X.TEST", false},
        {"From: =?utf-8?q?=C3=84nn?= <ann@x.test>\r\n", SORT_DISPLAY_FROM, "A\xcc\x88NN", false},
        {"To: Team: a@x.test, b@x.test;\r\n", SORT_TO, "TEAM", false},
        {"To:\r\nTo: late@x.test\r\n", SORT_TO, "LATE", false},
        {"To: Team: a@x.test;\r\n", SORT_DISPLAY_TO, "TEAM", false},
        {"Cc: cc@x.test\r\n", SORT_CC, "CC", false},
    };
    struct arena *a = arena_new();

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sort_keys keys = keys_of(a, rows[i].header);
        print_message("%s is %.*s\n", rows[i].header, STR_ARG(keys.texts[rows[i].which]));
        assert_true(str_eq(keys.texts[rows[i].which], str_c(rows[i].text)));
        assert_int_equal(keys.is_reply, rows[i].is_reply);
    }
    arena_free(&a);
}

/* At whatever byte of a character the limit falls. */
static void long_texts_are_folded(void **state)
{
    struct arena *a = arena_new();
    struct buf header;

    (void)state;
    for (unsigned shift = 0; shift < 2; shift++) {
        struct sort_keys keys;
        buf_init(&header, SIZE_MAX);
        buf_adds(&header, shift == 0 ? "Subject: " : "Subject: x");
        for (unsigned i = 0; i < 3000; i++)
            buf_adds(&header, "\xD0\xB6"); /* zhe, small */
        buf_adds(&header, "\r\n");
        keys = keys_of(a, arena_c(a, buf_str(&header)));
        buf_fini(&header);
        assert_true(str_starts(str_from(keys.texts[SORT_SUBJECT], shift), STR("\xD0\x96")));
    }
    arena_free(&a);
}

static void long_texts_end_at_the_limit(void **state)
{
    struct arena *a = arena_new();
    char *header = malloc(20000);
    struct sort_keys keys;

    (void)state;
    assert_non_null(header);
    memset(header, 'x', 20000);
    memcpy(header, "Subject: ", 9);
    memcpy(header + 19997, "\r\n", 3);
    keys = keys_of(a, header);
    assert_int_equal(keys.texts[SORT_SUBJECT].n, SORT_TEXT_SIZE_MAX);
    free(header);
    arena_free(&a);
}

static uint64_t msgid_of(struct arena *a, const char *msgid)
{
    return keys_of(a, (const char *)arena_printf(a, "Message-ID: %s\r\n", msgid).p).msgid;
}

static void equal_message_ids_have_one_hash(void **state)
{
    struct arena *a = arena_new();
    uint64_t plain = msgid_of(a, "<a.b@c>");

    (void)state;
    assert_true(plain != 0);
    assert_true(msgid_of(a, "<\"a.b\"@c>") == plain);
    assert_true(msgid_of(a, "<\"a\\.b\"@c>") == plain);
    assert_true(msgid_of(a, "<a . b (who (am I)) @ c>") == plain);
    assert_true(msgid_of(a, "<A.b@c>") != plain);
    assert_true(msgid_of(a, "<\"a.b(x)\"@c>") != plain);
    assert_true(msgid_of(a, "") == 0);
    arena_free(&a);
}

static void references_go_before_in_reply_to(void **state)
{
    struct arena *a = arena_new();
    uint64_t one = msgid_of(a, "<1@x>"), two = msgid_of(a, "<2@x>");
    struct sort_keys keys = keys_of(a, "In-Reply-To: <2@x>\r\nReferences: <1@x>\r\n\t<2@x>\r\n");

    (void)state;
    assert_int_equal(keys.ref_count, 2);
    assert_true(sort_keys_ref(&keys, 0) == one && sort_keys_ref(&keys, 1) == two);
    keys = keys_of(a, "In-Reply-To: <2@x> <1@x>\r\n");
    assert_int_equal(keys.ref_count, 1);
    assert_true(sort_keys_ref(&keys, 0) == two);
    arena_free(&a);
}

static void endless_references_keep_their_ends(void **state)
{
    struct arena *a = arena_new();
    struct buf header;
    struct sort_keys keys;

    (void)state;
    buf_init(&header, SIZE_MAX);
    buf_adds(&header, "References:");
    for (unsigned i = 0; i < 500; i++)
        buf_addf(&header, " <%u@x>", i);
    buf_adds(&header, "\r\n");
    keys = keys_of(a, buf_c(&header));
    assert_int_equal(keys.ref_count, SORT_REFS_MAX);
    assert_true(sort_keys_ref(&keys, 0) == msgid_of(a, "<0@x>"));
    assert_true(sort_keys_ref(&keys, SORT_REFS_MAX - 1) == msgid_of(a, "<499@x>"));
    buf_fini(&header);
    arena_free(&a);
}

static void broken_forms_read_as_nothing(void **state)
{
    struct arena *a = arena_new();
    struct sort_keys keys;
    struct buf out;

    (void)state;
    buf_init(&out, SIZE_MAX);
    sort_keys_add(&out, a, STR("Subject: x\r\nReferences: <1@x>\r\nMessage-ID: <2@x>\r\n"));
    for (size_t n = 0; n < out.n; n++) {
        sort_keys_read(str_head(buf_str(&out), n), &keys);
        assert_int_equal(keys.msgid, 0);
        assert_int_equal(keys.ref_count, 0);
        assert_int_equal(keys.texts[SORT_SUBJECT].n, 0);
    }
    sort_keys_read(buf_str(&out), &keys);
    assert_int_equal(keys.ref_count, 1);
    out.p[0] = 2;
    sort_keys_read(buf_str(&out), &keys);
    assert_int_equal(keys.ref_count, 0);
    buf_fini(&out);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_collation_forms),
        cmocka_unit_test(long_texts_are_folded),
        cmocka_unit_test(long_texts_end_at_the_limit),
        cmocka_unit_test(equal_message_ids_have_one_hash),
        cmocka_unit_test(references_go_before_in_reply_to),
        cmocka_unit_test(endless_references_keep_their_ends),
        cmocka_unit_test(broken_forms_read_as_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
