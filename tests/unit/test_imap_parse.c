/* test_imap_parse.c - tokens of IMAP commands, and the arguments of the large ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/imap/imap_append_parse.h"
#include "mail/imap/imap_fetch_parse.h"
#include "mail/imap/imap_fetch_structure.h"
#include "mail/imap/imap_list_parse.h"
#include "mail/imap/imap_parse.h"
#include "mail/imap/imap_search_parse.h"
#include "mail/imap/imap_url.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct arena *arena;

static int set_up(void **state)
{
    (void)state;
    arena = arena_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

static struct imap_parser parser(struct str text)
{
    struct imap_parser p;

    imap_parser_init(&p, text);
    return p;
}

static void assert_str(struct str got, struct str want)
{
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.p, want.p, want.n);
}

static void an_astring_is_an_atom_a_quoted_string_or_a_literal(void **state)
{
    static const struct {
        struct str text, value;
        bool ok;
    } rows[] = {
        {{"INBOX", 5}, {"INBOX", 5}, true},
        {{"a]b", 3}, {"a]b", 3}, true},
        {{"\"a b\"", 5}, {"a b", 3}, true},
        {{"\"a\\\"\\\\b\"", 8}, {"a\"\\b", 4}, true},
        {{"\"\"", 2}, {"", 0}, true},
        {{"{3}\r\na\nb", 8}, {"a\nb", 3}, true},
        {{"{3+}\r\nabc", 9}, {"abc", 3}, true},
        {{"{3}\r\na\0b", 8}, {0}, false},
        {{"{4}\r\nabc", 8}, {0}, false},
        {{"{99999999999999999999999}\r\nabc", 30}, {0}, false},
        {{"\"abc", 4}, {0}, false},
        {{"\"a\\x\"", 5}, {0}, false},
        {{"\"a\rb\"", 5}, {0}, false},
        {{"", 0}, {0}, false},
        {{"(", 1}, {0}, false},
        {{"%", 1}, {0}, false},
        {{"{3}abc", 6}, {0}, false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct imap_parser p = parser(rows[i].text);
        struct error err = {0};
        struct str value;
        int status = imap_parse_astring(&p, arena, &value, "a name", &err);
        assert_int_equal(status, rows[i].ok ? 0 : -1);
        if (rows[i].ok)
            assert_str(value, rows[i].value);
        else
            assert_int_equal(err.kind, ERR_SYNTAX);
    }
}

static void an_announced_literal_is_seen_at_the_end_of_a_line(void **state)
{
    static const struct {
        struct str line;
        bool is_literal, is_sync, is_binary;
        uint64_t size;
    } rows[] = {
        {{"a LOGIN {5}", 11}, true, true, false, 5},
        {{"a LOGIN {5+}", 12}, true, false, false, 5},
        {{"a APPEND x ~{7}", 15}, true, true, true, 7},
        {{"{18446744073709551616}", 22}, true, true, false, UINT64_MAX},
        {{"a {}", 4}, false, false, false, 0},
        {{"a {+}", 5}, false, false, false, 0},
        {{"a {5", 4}, false, false, false, 0},
        {{"a 5}", 4}, false, false, false, 0},
        {{"a {5} ", 6}, false, false, false, 0},
        {{"5}", 2}, false, false, false, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct imap_literal literal;
        assert_int_equal(imap_literal_at_end(rows[i].line, &literal), rows[i].is_literal);
        if (!rows[i].is_literal)
            continue;
        assert_int_equal(literal.is_sync, rows[i].is_sync);
        assert_int_equal(literal.is_binary, rows[i].is_binary);
        assert_true(literal.size == rows[i].size);
    }
}

static void numbers_end_where_32_bits_end(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        uint32_t value;
    } rows[] = {
        {"1", true, 1},           {"4294967295", true, UINT32_MAX},
        {"4294967296", false, 0}, {"0", false, 0},
        {"-1", false, 0},         {"", false, 0},
        {"x", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct imap_parser p = parser(str_c(rows[i].text));
        uint32_t value;
        assert_int_equal(imap_parse_nonzero(&p, &value, "a number", NULL), rows[i].ok ? 0 : -1);
        if (rows[i].ok)
            assert_int_equal(value, rows[i].value);
    }
}

static void flags_are_sorted_and_stand_once(void **state)
{
    struct imap_parser p = parser(STR("(\\Seen zeta Alpha \\deleted ALPHA)"));
    struct keywords keywords;
    uint32_t flags;

    (void)state;
    assert_int_equal(imap_parse_flags(&p, arena, false, &flags, &keywords, NULL), 0);
    assert_int_equal(flags, FLAG_SEEN | FLAG_DELETED);
    assert_int_equal(keywords.n, 2);
    assert_true(str_ieq(keywords.v[0], STR("alpha")));
    assert_true(imap_parse_at_end(&p));
}

static void malformed_flags_are_refused(void **state)
{
    static const char *const rows[] = {"(\\Recent)", "(\\Seen", "(\\Seen )", "( \\Seen)", "\\",
                                       "(\\)",       "(a b",    "(a(b))",    "(a%b)"};

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct imap_parser p = parser(str_c(rows[i]));
        struct keywords keywords;
        uint32_t flags;
        int status = imap_parse_flags(&p, arena, true, &flags, &keywords, NULL);
        assert_int_equal(status, -1);
    }
}

static void what_was_wrong_is_said_in_one_printable_line(void **state)
{
    struct imap_parser p = parser(STR("\x01\xff\r\n and very much more than is shown"));
    struct error err = {0};

    (void)state;
    assert_int_equal(imap_parse_expected(&p, "a tag", &err), -1);
    assert_string_equal(err.text, "expected a tag before: ???? and very much more ");
}

/* --- FETCH ------------------------------------------------------------------------------------ */

static int parse_fetch(const char *text, bool by_uid, struct fetch_request *r)
{
    struct imap_parser p = parser(str_c(text));

    return imap_parse_fetch(&p, arena, by_uid, false, r, NULL);
}

static void fetch_items_keep_their_labels(void **state)
{
    static const struct {
        const char *text, *label;
        bool sets_seen;
    } rows[] = {
        {"1 BODY[]", "BODY[]", true},
        {"1 body.peek[1.2.header]", "BODY[1.2.HEADER]", false},
        {"1 BODY.PEEK[HEADER.FIELDS (From To)]", "BODY[HEADER.FIELDS (From To)]", false},
        {"1 BODY[2.HEADER.FIELDS.NOT (\"X Y\")]<5.10>", "BODY[2.HEADER.FIELDS.NOT ({3}\r\nX Y)]<5>",
         true},
        {"1 BODY[3.MIME]", "BODY[3.MIME]", true},
        {"1 BINARY.PEEK[1.1]<0.7>", "BINARY[1.1]<0>", false},
        {"1 BINARY.SIZE[4]", "BINARY.SIZE[4]", false},
        {"1 RFC822.HEADER", "RFC822.HEADER", false},
        {"1 RFC822.TEXT", "RFC822.TEXT", true},
    };
    struct fetch_request r;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        assert_int_equal(parse_fetch(rows[i].text, false, &r), 0);
        assert_int_equal(r.count, 1);
        assert_str(r.items[0].label, str_c(rows[i].label));
        assert_int_equal(r.items[0].sets_seen, rows[i].sets_seen);
    }
}

static void fetch_macros_and_uids_are_spelled_out(void **state)
{
    struct fetch_request r;

    (void)state;
    assert_int_equal(parse_fetch("1:* FULL", true, &r), 0);
    assert_int_equal(r.count, 6);
    assert_true(imap_fetch_has(&r, FETCH_UID));
    assert_int_equal(parse_fetch("1:* (FLAGS) (CHANGEDSINCE 12)", false, &r), 0);
    assert_true(imap_fetch_has(&r, FETCH_MODSEQ));
    assert_true(r.changed_since == 12);
}

static void malformed_fetches_are_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "1",
        "1 ",
        "x FLAGS",
        "0 FLAGS",
        "1 (FLAGS",
        "1 ()",
        "1 (FLAGS )",
        "1 FLAGS UID",
        "1 BODY[",
        "1 BODY[0]",
        "1 BODY[1.]",
        "1 BODY[MIME]",
        "1 BODY[TEXT.1]",
        "1 BODY[HEADER.FIELDS]",
        "1 BODY[HEADER.FIELDS ()]",
        "1 BODY[]<1>",
        "1 BODY[]<1.0>",
        "1 BODY[]<.5>",
        "1 BINARY[TEXT]",
        "1 (ALL FLAGS)",
        "1 FLAGS (CHANGEDSINCE)",
        "1 FLAGS (VANISHED)",
        "1 FLAGS (CHANGEDSINCE 1 VANISHED)",
        "1: FLAGS",
        "1,,2 FLAGS",
        "1 BODY[99999999999]",
        "1 NONSENSE",
    };
    struct fetch_request r;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(parse_fetch(rows[i], false, &r), -1);
}

static void body_is_bodystructure_without_extensions(void **state)
{
    static const struct {
        const char *full, *basic;
    } rows[] = {
        {"(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"utf-8\") NIL NIL \"7BIT\" 10 2 NIL NIL NIL NIL)",
         "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"utf-8\") NIL NIL \"7BIT\" 10 2)"},
        {"((\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 1 1 NIL NIL NIL NIL)(\"IMAGE\" \"PNG\" "
         "(\"NAME\" \"a)\\\"b\") NIL NIL \"BASE64\" 9 NIL "
         "(\"ATTACHMENT\" (\"FILENAME\" {3}\r\n)x()) NIL NIL) \"MIXED\" (\"BOUNDARY\" \"x\") NIL "
         "NIL NIL)",
         "((\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 1 1)(\"IMAGE\" \"PNG\" (\"NAME\" \"a)\\\"b\") "
         "NIL NIL \"BASE64\" 9) \"MIXED\")"},
        {"(\"MESSAGE\" \"RFC822\" NIL NIL NIL \"7BIT\" 99 (NIL NIL NIL) (\"TEXT\" \"PLAIN\" NIL "
         "NIL NIL \"7BIT\" 1 1 NIL) 5 NIL NIL)",
         "(\"MESSAGE\" \"RFC822\" NIL NIL NIL \"7BIT\" 99 (NIL NIL NIL) (\"TEXT\" \"PLAIN\" NIL "
         "NIL NIL \"7BIT\" 1 1) 5)"},
    };
    static const char *const broken[] = {"",
                                         "(",
                                         "()",
                                         "(\"TEXT\")",
                                         "(\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 1",
                                         "((((((",
                                         "(\"A\" \"B\" ("};
    struct buf out;

    (void)state;
    buf_init(&out, SIZE_MAX);
    for (size_t i = 0; i < COUNT(rows); i++) {
        buf_clear(&out);
        assert_true(imap_add_basic_structure(&out, str_c(rows[i].full)));
        assert_str(buf_str(&out), str_c(rows[i].basic));
    }
    for (size_t i = 0; i < COUNT(broken); i++)
        assert_false(imap_add_basic_structure(&out, str_c(broken[i])));
    buf_fini(&out);
}

/* --- SEARCH, LIST, APPEND --------------------------------------------------------------------- */

static int parse_search(const char *text, struct search_request *r)
{
    struct imap_parser p = parser(str_c(text));

    return imap_parse_search(&p, arena, r, NULL);
}

static void search_keys_become_a_tree(void **state)
{
    struct search_request r;
    const struct search_key * or ;

    (void)state;
    assert_int_equal(parse_search("RETURN (MIN COUNT) CHARSET utf-8 OR (SEEN FLAGGED) NOT SUBJECT "
                                  "\"Gr\xc3\x9c\xc3\x9f\" 1:5",
                                  &r),
                     0);
    assert_true(r.is_extended && r.wants_min && r.wants_count && !r.wants_all);
    or = r.root->first_child;
    assert_int_equal(or->kind, KEY_OR);
    assert_int_equal(or->first_child->kind, KEY_AND);
    assert_true(or->first_child->next->is_negated);
    assert_str(or->first_child->next->first_child->text, STR("gru\xcc\x88\xc3\x9f"));
    assert_int_equal(or->next->kind, KEY_SEQUENCE);
}

static void fuzzy_is_for_the_key_behind_it(void **state)
{
    struct search_request r;
    const struct search_key *key;

    (void)state;
    assert_int_equal(parse_search("FUZZY (SUBJECT one NOT FROM two) BODY three", &r), 0);
    assert_true(r.has_fuzzy);
    key = r.root->first_child->first_child;
    assert_int_equal(key->kind, KEY_AND);
    assert_non_null(key->first_child->fuzzy);
    assert_non_null(key->first_child->next->first_child->fuzzy);
    assert_null(r.root->first_child->next->fuzzy);
    assert_int_equal(parse_search("SUBJECT one", &r), 0);
    assert_false(r.has_fuzzy);
}

static void malformed_searches_are_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "NONSENSE",
        "SUBJECT",
        "OR SEEN",
        "NOT",
        "(SEEN",
        "(SEEN))",
        "SEEN  FLAGGED",
        "BEFORE 1-Foo-2020",
        "BEFORE yesterday",
        "LARGER x",
        "RETURN MIN ALL",
        "RETURN (FOO) ALL",
        "CHARSET klingon ALL",
        "UID x",
        "HEADER a",
        "YOUNGER 0",
        "KEYWORD \\Seen",
        "RETURN (MIN)",
        "()",
        "FUZZY",
        "FUZZY FUZZY",
        "FUZZYTEXT x",
    };
    struct search_request r;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(parse_search(rows[i], &r), -1);
}

static void deep_nesting_of_search_keys_is_refused(void **state)
{
    char text[4000];
    struct search_request r;

    (void)state;
    memset(text, '(', sizeof text);
    text[sizeof text - 1] = '\0';
    assert_int_equal(parse_search(text, &r), -1);
}

static void list_options_are_understood(void **state)
{
    struct imap_list_request r;
    struct imap_parser p = parser(STR("(SUBSCRIBED RECURSIVEMATCH) \"\" (INBOX \"A*\") RETURN "
                                      "(CHILDREN STATUS (MESSAGES UNSEEN))"));

    (void)state;
    assert_int_equal(imap_parse_list(&p, arena, false, &r, NULL), 0);
    assert_true(r.select_subscribed && r.select_recursive && r.return_status &&
                r.return_subscribed);
    assert_int_equal(r.pattern_count, 2);
}

static void malformed_lists_are_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "\"\"",
        "\"\" ",
        "\"\" (",
        "\"\" () ",
        "(FOO) \"\" *",
        "(RECURSIVEMATCH) \"\" *",
        "\"\" * RETURN",
        "\"\" * RETURN (FOO)",
        "\"\" * RETURN (STATUS ())",
        "\"\" * x",
        "\"\" \"&AAA\"",
    };
    struct imap_list_request r;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct imap_parser p = parser(str_c(rows[i]));
        assert_int_equal(imap_parse_list(&p, arena, false, &r, NULL), -1);
    }
}

static void the_message_of_an_append_is_told_from_its_arguments(void **state)
{
    static const struct {
        const char *text;
        bool is_message;
    } rows[] = {
        {"a APPEND INBOX {10}", true},
        {"a append \"x y\" (\\Seen) {10+}", true},
        {"a APPEND {3}\r\nabc \"23-Nov-2026 10:00:00 +0700\" ~{10}", true},
        {"a APPEND INBOX UTF8 (~{10}", true},
        {"a APPEND INBOX CATENATE (TEXT {10+}", true},
        {"a APPEND INBOX (\\Seen) CATENATE (URL \"/a/;UID=1\" URL b TEXT ~{10}", true},
        {"a APPEND INBOX CATENATE (URL {10}", true},
        {"a REPLACE 4 INBOX {10}", true},
        {"a UID REPLACE * INBOX (\\Seen) {10}", true},
        {"a UID APPEND INBOX {10}", false},
        {"a REPLACE INBOX {10}", false},
        {"a REPLACE 4 {10}", false},
        {"a APPEND INBOX UTF8 ({10}", false},
        {"a APPEND INBOX CATENATE (FOO {10}", false},
        {"a APPEND INBOX CATENATE TEXT {10}", false},
        {"a APPEND INBOX CATENATE (URL /a/;UID=1)", false},
        {"a APPEND {10}", false},
        {"a LOGIN bob {10}", false},
        {"a APPEND INBOX (\\Foo) {10}", false},
        {"a APPEND INBOX (\\Seen) \"46-Nov-2026 10:00:00 +0700\" {10+}", false},
        {"a APPEND INBOX", false},
        {"{10}", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct imap_literal literal;
        assert_int_equal(imap_append_is_at_message(arena, str_c(rows[i].text), true, &literal),
                         rows[i].is_message);
    }
}

static void urls_name_a_message_by_its_path(void **state)
{
    static const struct {
        const char *url, *mailbox;
        uint32_t uid_validity, uid;
        enum fetch_part part;
        unsigned number_count;
        uint64_t offset, size_max;
    } rows[] = {
        {"/INBOX/;UID=20", "INBOX", 0, 20, PART_WHOLE, 0, 0, 0},
        {"/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER", "Drafts", 385759045, 20,
         PART_HEADER, 0, 0, 0},
        {"/a/b%20c%C3%A9%3B/;uid=1/;SECTION=1.2.MIME/;PARTIAL=5.70", "a/b c\xC3\xA9;", 0, 1,
         PART_MIME, 2, 5, 70},
        {"/x/;UID=1/;PARTIAL=9", "x", 0, 1, PART_WHOLE, 0, 9, UINT64_MAX},
        {"/x/;UID=4294967295/;SECTION=HEADER.FIELDS%20(To%20Cc)", "x", 0, UINT32_MAX,
         PART_HEADER_FIELDS, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct error err = {0};
        struct imap_url url;
        assert_int_equal(imap_url_parse(str_c(rows[i].url), arena, &url, &err), 0);
        assert_true(str_eq(url.mailbox, str_c(rows[i].mailbox)));
        assert_int_equal(url.uid_validity, rows[i].uid_validity);
        assert_int_equal(url.uid, rows[i].uid);
        assert_int_equal(url.item.part, rows[i].part);
        assert_int_equal(url.item.number_count, rows[i].number_count);
        assert_true(url.item.offset == rows[i].offset && url.item.size_max == rows[i].size_max);
    }
}

static void other_urls_are_refused(void **state)
{
    static const char *const urls[] = {
        "",
        "/",
        "x",
        "/x",
        "//host/x/;UID=1",
        "imap://host/x/;UID=1",
        "/x/;UID=0",
        "/x/;UID=",
        "/x/;UID=1x",
        "/x/;UID=4294967296",
        "/x;UIDVALIDITY=0/;UID=1",
        "/x;FOO=1/;UID=1",
        "/x/;UID=1/;SECTION=x",
        "/x/;UID=1/;SECTION=1]",
        "/x/;UID=1/;PARTIAL=",
        "/x/;UID=1/;PARTIAL=1.",
        "/x/;UID=1/;PARTIAL=1.2/;SECTION=1",
        "/x/;UID=1;URLAUTH=a",
        "/x/;SECTION=1",
        "/%x/;UID=1",
        "/%1",
        "/%00/;UID=1",
        "/%ff/;UID=1",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(urls); i++) {
        struct error err = {0};
        struct imap_url url;
        if (imap_url_parse(str_c(urls[i]), arena, &url, &err) == 0) {
            print_error("%s\n", urls[i]);
            assert_true(false);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_astring_is_an_atom_a_quoted_string_or_a_literal),
        cmocka_unit_test(an_announced_literal_is_seen_at_the_end_of_a_line),
        cmocka_unit_test(numbers_end_where_32_bits_end),
        cmocka_unit_test(flags_are_sorted_and_stand_once),
        cmocka_unit_test(malformed_flags_are_refused),
        cmocka_unit_test(what_was_wrong_is_said_in_one_printable_line),
        cmocka_unit_test(fetch_items_keep_their_labels),
        cmocka_unit_test(fetch_macros_and_uids_are_spelled_out),
        cmocka_unit_test(malformed_fetches_are_refused),
        cmocka_unit_test(body_is_bodystructure_without_extensions),
        cmocka_unit_test(search_keys_become_a_tree),
        cmocka_unit_test(fuzzy_is_for_the_key_behind_it),
        cmocka_unit_test(malformed_searches_are_refused),
        cmocka_unit_test(deep_nesting_of_search_keys_is_refused),
        cmocka_unit_test(list_options_are_understood),
        cmocka_unit_test(malformed_lists_are_refused),
        cmocka_unit_test(the_message_of_an_append_is_told_from_its_arguments),
        cmocka_unit_test(urls_name_a_message_by_its_path),
        cmocka_unit_test(other_urls_are_refused),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
