/* test_imap_search_text.c - texts of a message against the keys of a search. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mail/imap/imap_search_match.h"
#include "mail/mime/text_fold.h"
#include "mail/store/message.h"

static struct search_key *parse(struct arena *a, struct str keys)
{
    struct search_request *r = ARENA_NEW(a, struct search_request);
    struct imap_parser p;
    struct error err = {0};

    imap_parser_init(&p, keys);
    assert_int_equal(imap_parse_search(&p, a, r, &err), 0);
    return r->root;
}

static struct str many(struct arena *a, const char *format, unsigned count)
{
    struct buf out;
    struct str keys;

    buf_init(&out, SIZE_MAX);
    for (unsigned i = 0; i < count; i++) {
        buf_addf(&out, format, i);
        buf_addc(&out, ' ');
    }
    keys = arena_str(a, str_head(buf_str(&out), out.n - 1));
    buf_fini(&out);
    return keys;
}

/* Each looks through all of a text, some of them through a copy. */
static void many_keys_need_the_memory_of_one(void **state)
{
    static const char *const keys[] = {"NOT FUZZY TEXT qq%uqqqq",
                                       "NOT FUZZY HEADER X-Long qq%uqqqq", "NOT TEXT qq%uqqqq",
                                       "NOT FUZZY SUBJECT qq%uqqqq", "NOT SUBJECT qq%uqqqq"};
    struct arena *a = arena_new(), *of_message = arena_new(), *scratch = arena_new();
    struct str words = many(a, "caf\xC3\xA9%u", 10000), folded = text_fold_arena(a, words);
    struct message m = {
        .text_header = arena_printf(a, "x-long: %.*s\n", STR_ARG(folded)),
        .text_parts = STR(""),
        .text_body = folded,
        .headers = arena_printf(a, "Subject: %.*s\r\n\r\n", STR_ARG(words)),
    };

    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct search_subject subject = {.seq = 1,
                                         .message = &m,
                                         .columns = MESSAGE_TEXT | MESSAGE_HEADERS,
                                         .a = of_message,
                                         .scratch = scratch};
        struct search_key *root = parse(a, many(a, keys[i], 100));
        print_message("%s\n", keys[i]);
        assert_int_equal(search_matches(root, &subject), SEARCH_YES);
        assert_true(arena_size(of_message) + arena_size(scratch) < 2 * m.text_body.n);
    }
    arena_free(&a);
    arena_free(&of_message);
    arena_free(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_keys_need_the_memory_of_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
