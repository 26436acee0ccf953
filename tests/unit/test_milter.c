/* test_milter.c - packets of the milter protocol, the setting, and what milters change about a message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/milter/milter_list.h"
#include "mail/milter/milter_mail.h"

static struct arena *a;

static int setup(void **state)
{
    a = arena_new();
    return 0;
}

static int teardown(void **state)
{
    arena_free(&a);
    return 0;
}

static void is_text(struct str got, const char *wanted)
{
    if (!str_eq(got, str_c(wanted)))
        print_error("\"%.*s\" is not \"%s\"\n", STR_ARG(got), wanted);
    assert_true(str_eq(got, str_c(wanted)));
}

/* ---- packets -------------------------------------------------------------------------------------- */

static void a_packet_announces_its_size(void **state)
{
    struct buf b;
    size_t begun;

    buf_init(&b, 100);
    begun = milter_packet_begin(&b, MILTER_MAIL);
    milter_add_text(&b, STR("<a@b>"));
    milter_add_text(&b, STR("SIZE=1\0hidden"));
    milter_packet_end(&b, begun);
    assert_true(str_eq(buf_str(&b), STR("\0\0\0\x0eM<a@b>\0SIZE=1\0")));
    buf_fini(&b);
}

static void we_offer_version_6_and_all_that_we_can(void **state)
{
    struct buf b;

    buf_init(&b, 100);
    milter_add_options(&b);
    assert_true(str_eq(buf_str(&b), STR("\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xf7\xff")));
    buf_fini(&b);
}

static void sizes_of_answers_have_a_limit(void **state)
{
    static const struct {
        unsigned char head[4];
        bool is_good;
    } rows[] = {
        {{0, 0, 0, 1}, true},  {{0, 16, 0, 0}, true},         {{0, 16, 0, 1}, false},
        {{0, 0, 0, 0}, false}, {{255, 255, 255, 255}, false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint32_t size;

        assert_int_equal(milter_packet_size(rows[i].head, &size, NULL) == 0, rows[i].is_good);
    }
}

static void answers_are_taken_apart(void **state)
{
    static const struct {
        struct str packet;
        bool is_good;
        uint32_t index;
        const char *name, *value;
    } rows[] = {
        {{"c", 1}, true, 0, "", ""},
        {{"c\0", 2}, true, 0, "", ""},
        {{"p", 1}, true, 0, "", ""},
        {{"hX-A\0one\0", 9}, true, 0, "X-A", "one"},
        {{"i\0\0\0\2X-A\0one\0", 13}, true, 2, "X-A", "one"},
        {{"m\0\0\1\0X-A\0\0", 10}, true, 256, "X-A", ""},
        {{"+<a@b>\0", 7}, true, 0, "a@b", ""},
        {{"-a@b\0", 5}, true, 0, "a@b", ""},
        {{"2<a@b>\0NOTIFY=NEVER\0", 20}, true, 0, "a@b", "NOTIFY=NEVER"},
        {{"e<>\0", 4}, true, 0, "", ""},
        {{"b\0raw", 5}, true, 0, "", NULL},
        {{"qnot now\0", 9}, true, 0, "", "not now"},
        {{"y550 no\0", 8}, true, 0, "", "550 no"},
        {{"", 0}, false, 0, NULL, NULL},
        {{"\0", 1}, false, 0, NULL, NULL},
        {{"Z", 1}, false, 0, NULL, NULL},
        {{"chatter", 7}, false, 0, NULL, NULL},
        {{"hX-A\0one", 8}, false, 0, NULL, NULL},
        {{"h\0one\0", 6}, false, 0, NULL, NULL},
        {{"hX-A\0one\0two\0", 13}, false, 0, NULL, NULL},
        {{"i\0\0\2", 4}, false, 0, NULL, NULL},
        {{"+a@b", 4}, false, 0, NULL, NULL},
        {{"+a@b\r\nDATA\0", 11}, false, 0, NULL, NULL},
        {{"y550 no", 7}, false, 0, NULL, NULL},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct milter_answer answer;
        struct error err = {0};
        int status = milter_answer_read(rows[i].packet, &answer, &err);

        assert_int_equal(status == 0, rows[i].is_good);
        assert_int_equal(err.kind, rows[i].is_good ? ERR_NONE : ERR_SYNTAX);
        if (!rows[i].is_good)
            continue;
        assert_int_equal(answer.index, rows[i].index);
        is_text(answer.name, rows[i].name);
        if (rows[i].value != NULL)
            is_text(answer.value, rows[i].value);
    }
}

static void options_must_be_among_those_offered(void **state)
{
    static const struct {
        struct str packet;
        bool is_good;
    } rows[] = {
        {{"O\0\0\0\6\0\0\0\x11\0\0\0\0", 13}, true},
        {{"O\0\0\0\2\0\0\0\x11\0\0\0\0", 13}, true},
        {{"O\0\0\0\6\0\0\0\x11\0\x1f\xf7\xff", 13}, true},
        {{"O\0\0\0\1\0\0\0\x11\0\0\0\0", 13}, false},
        {{"O\0\0\0\7\0\0\0\x11\0\0\0\0", 13}, false},
        {{"O\0\0\0\6\0\0\x02\0\0\0\0\0", 13}, false},
        {{"O\0\0\0\6\0\0\0\0\0\0\x08\0", 13}, false},
        {{"O\0\0\0\6\0\0\0\0\x10\0\0\0", 13}, false},
        {{"O\0\0\0\6\0\0\0\0\0\0\0", 12}, false},
        {{"O\0\0\0\6\0\0\0\0\0\0\0\0\0\0\0\2i j\0", 21}, true},
        {{"O\0\0\0\6\0\0\0\0\0\0\0\0\0\0\0\x07i j\0", 21}, false},
        {{"O\0\0\0\6\0\0\0\0\0\0\0\0\0\0\0\2i j", 20}, false},
        {{"c", 1}, false},
        {{"220 mail ESMTP", 14}, false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct milter_options o;

        assert_int_equal(milter_options_read(rows[i].packet, &o, NULL) == 0, rows[i].is_good);
        if (i == 9) {
            is_text(o.macros[MILTER_AT_MAIL], "i j");
            assert_null(o.macros[MILTER_AT_CONNECT].p);
        }
    }
}

static void reply_codes_become_refusals(void **state)
{
    static const struct {
        const char *reply;
        int code;
        const char *enhanced, *text;
    } rows[] = {
        {"550 5.7.0 go away", 550, "5.7.0", "go away"},
        {"451 later", 451, "4.7.1", "later"},
        {"554", 554, "5.7.1", ""},
        {"550 4.7.0 mismatch", 550, "5.7.1", "4.7.0 mismatch"},
        {"550 5.7.1234 odd", 550, "5.7.1", "5.7.1234 odd"},
        {"550-5.7.1 one\r\n550 5.7.1 two", 550, "5.7.1", "one two"},
        {"550 5.1.1 100%% sure, 50%", 550, "5.1.1", "100% sure, 50%"},
        {"550 5.1.1 caf\xc3\xa9\x1b[0m", 550, "5.1.1", "caf???[0m"},
        {"250 2.0.0 fine", 0, NULL, NULL},
        {"999 what", 0, NULL, NULL},
        {"550x", 0, NULL, NULL},
        {"550-one\r\n551 two", 0, NULL, NULL},
        {"", 0, NULL, NULL},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct milter_refusal r;
        bool is_good = milter_refusal_read(str_c(rows[i].reply), &r);

        assert_int_equal(is_good, rows[i].code != 0);
        if (!is_good)
            continue;
        assert_int_equal(r.code, rows[i].code);
        assert_string_equal(r.enhanced, rows[i].enhanced);
        assert_string_equal(r.text, rows[i].text);
    }
}

static void a_long_refusal_is_cut(void **state)
{
    struct buf b;
    struct milter_refusal r;

    buf_init(&b, 100000);
    buf_adds(&b, "550 5.7.1 ");
    for (int i = 0; i < 5000; i++)
        buf_adds(&b, "word ");
    assert_true(milter_refusal_read(buf_str(&b), &r));
    assert_int_equal(strlen(r.text), MILTER_TEXT_MAX);
    buf_fini(&b);
}

/* ---- the setting ---------------------------------------------------------------------------------- */

static void the_setting_names_milters(void **state)
{
    static const struct {
        const char *setting;
        int count; /* -1: refused */
        const char *host;
        unsigned port;
        enum milter_away away;
    } rows[] = {
        {"", 0, NULL, 0, 0},
        {" , ", 0, NULL, 0, 0},
        {"inet:localhost:11332", 1, "localhost", 11332, MILTER_AWAY_TEMPFAIL},
        {"inet:[::1]:8891=accept", 1, "::1", 8891, MILTER_AWAY_ACCEPT},
        {"unix:/run/clamav/milter.sock=reject", 1, "/run/clamav/milter.sock", 0,
         MILTER_AWAY_REJECT},
        {"inet:127.0.0.1:1=tempfail, unix:/a unix:/b", 3, "127.0.0.1", 1, MILTER_AWAY_TEMPFAIL},
        {"inet:::1:8891", -1, NULL, 0, 0},
        {"inet:localhost", -1, NULL, 0, 0},
        {"inet:localhost:0", -1, NULL, 0, 0},
        {"inet:localhost:65536", -1, NULL, 0, 0},
        {"inet::25", -1, NULL, 0, 0},
        {"unix:relative", -1, NULL, 0, 0},
        {"inet:localhost:25=ignore", -1, NULL, 0, 0},
        {"local:/a", -1, NULL, 0, 0},
        {"unix:/1,unix:/2,unix:/3,unix:/4,unix:/5,unix:/6,unix:/7,unix:/8,unix:/9,unix:/10,unix:/"
         "11,"
         "unix:/12,unix:/13,unix:/14,unix:/15,unix:/16,unix:/17",
         -1, NULL, 0, 0},
        {"unix:/"
         "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234"
         "56789012345678901234567890",
         -1, NULL, 0, 0},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct milter_list list;
        struct error err = {0};

        if (milter_list_parse(a, str_c(rows[i].setting), &list, &err) < 0) {
            assert_int_equal(rows[i].count, -1);
            assert_true(str_starts(str_c(err.text), STR("milters: ")));
            continue;
        }
        assert_int_equal(rows[i].count, list.n);
        if (list.n == 0)
            continue;
        is_text(list.v[0].where.host, rows[i].host);
        assert_int_equal(list.v[0].where.port, rows[i].port);
        assert_int_equal(list.v[0].away, rows[i].away);
    }
}

/* ---- changes --------------------------------------------------------------------------------------- */

static const char letter[] =
    "Received: by x\r\nSubject: hello\r\nX-Dup: 1\r\nX-Dup: 2\r\n\r\nbody\r\n";

static void begin(struct milter_mail *m, const char *text)
{
    assert_int_equal(milter_mail_init(m, a, str_c(text), NULL), 0);
    m->body_size_max = 1000;
    m->rcpt_max = 4;
    m->sender = STR("from@x.test");
    milter_mail_add_rcpt(m, STR("one@x.test"), true);
    milter_mail_add_rcpt(m, STR("two@x.test"), true);
}

struct row_change {
    enum milter_reply kind;
    uint32_t index;
    const char *name, *value;
};

static int change(struct milter_mail *m, const struct row_change *v, size_t n, uint32_t actions)
{
    struct milter_changes c;
    int status = 0;

    milter_changes_init(&c, m);
    for (size_t i = 0; i < n && status == 0; i++) {
        struct milter_answer answer = {v[i].kind, v[i].index, str_c(v[i].name), str_c(v[i].value)};

        status = milter_changes_add(&c, m, &answer, actions, NULL);
    }
    while (status == 0 && milter_changes_apply_next(&c, m))
        ;
    milter_changes_fini(&c);
    return status;
}

static void fields_are_added_changed_and_taken_out(void **state)
{
    static const struct {
        struct row_change change;
        const char *after;
    } rows[] = {
        {{MILTER_ADD_FIELD, 0, "X-New", "v"},
         "Received: by x\r\nSubject: hello\r\nX-Dup: 1\r\nX-Dup: 2\r\nX-New: v\r\n\r\nbody\r\n"},
        {{MILTER_INSERT_FIELD, 0, "X-New", "v"},
         "X-New: v\r\nReceived: by x\r\nSubject: hello\r\nX-Dup: 1\r\nX-Dup: 2\r\n\r\nbody\r\n"},
        {{MILTER_INSERT_FIELD, 1, "X-New", "v"},
         "X-New: v\r\nReceived: by x\r\nSubject: hello\r\nX-Dup: 1\r\nX-Dup: 2\r\n\r\nbody\r\n"},
        {{MILTER_INSERT_FIELD, 2, "X-New", "v"},
         "Received: by x\r\nX-New: v\r\nSubject: hello\r\nX-Dup: 1\r\nX-Dup: 2\r\n\r\nbody\r\n"},
        {{MILTER_INSERT_FIELD, 4000000000u, "X-New", "v"},
         "Received: by x\r\nSubject: hello\r\nX-Dup: 1\r\nX-Dup: 2\r\nX-New: v\r\n\r\nbody\r\n"},
        {{MILTER_CHANGE_FIELD, 1, "subject", "[spam] hello"},
         "Received: by x\r\nSubject: [spam] hello\r\nX-Dup: 1\r\nX-Dup: 2\r\n\r\nbody\r\n"},
        {{MILTER_CHANGE_FIELD, 2, "X-Dup", "two"},
         "Received: by x\r\nSubject: hello\r\nX-Dup: 1\r\nX-Dup: two\r\n\r\nbody\r\n"},
        {{MILTER_CHANGE_FIELD, 1, "X-Dup", ""},
         "Received: by x\r\nSubject: hello\r\nX-Dup: 2\r\n\r\nbody\r\n"},
        {{MILTER_CHANGE_FIELD, 3, "X-Dup", ""}, letter},
        {{MILTER_CHANGE_FIELD, 1, "X-None", "now"},
         "Received: by x\r\nSubject: hello\r\nX-Dup: 1\r\nX-Dup: 2\r\nX-None: now\r\n\r\nbody\r\n"},
        {{MILTER_ADD_FIELD, 0, "X-New", "a\n\tb\nEvil: c\r\n\r\nbody"},
         "Received: by x\r\nSubject: hello\r\nX-Dup: 1\r\nX-Dup: 2\r\nX-New: a\r\n\tb Evil: c  "
         "body\r\n\r\nbody\r\n"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct milter_mail m;

        begin(&m, letter);
        assert_int_equal(change(&m, &rows[i].change, 1, MILTER_MAY_ALL), 0);
        is_text(milter_mail_text(&m, 100), rows[i].after);
        milter_mail_fini(&m);
    }
}

static void a_body_in_pieces_takes_the_old_ones_place(void **state)
{
    static const struct row_change first[] = {{MILTER_REPLACE_BODY, 0, "", "new "},
                                              {MILTER_ADD_FIELD, 0, "X-A", "1"},
                                              {MILTER_REPLACE_BODY, 0, "", "text\r\n"}};
    static const struct row_change second[] = {{MILTER_REPLACE_BODY, 0, "", ""}};
    struct milter_mail m;

    begin(&m, "Subject: x\r\n\r\nold");
    assert_false(milter_mail_is_changed(&m));
    assert_int_equal(change(&m, first, 3, MILTER_MAY_ALL), 0);
    assert_true(milter_mail_is_changed(&m));
    is_text(milter_mail_text(&m, 0), "Subject: x\r\nX-A: 1\r\n\r\nnew text\r\n");
    assert_int_equal(change(&m, second, 1, MILTER_MAY_ALL), 0);
    is_text(milter_mail_text(&m, 0), "Subject: x\r\nX-A: 1\r\n\r\n");
    milter_mail_fini(&m);
}

static void recipients_come_and_go(void **state)
{
    static const struct row_change v[] = {{MILTER_ADD_RCPT, 0, "three@x.test", ""},
                                          {MILTER_ADD_RCPT, 0, "ONE@x.test", ""},
                                          {MILTER_DELETE_RCPT, 0, "two@X.TEST", ""},
                                          {MILTER_DELETE_RCPT, 0, "three@x.test", ""}};
    static const struct row_change again[] = {
        {MILTER_ADD_RCPT_PARAMS, 0, "two@x.test", "NOTIFY=NEVER"}};
    struct milter_mail m;

    begin(&m, letter);
    assert_int_equal(change(&m, v, 4, MILTER_MAY_ALL), 0);
    assert_int_equal(m.rcpt_count, 3);
    assert_false(m.rcpts[0].is_removed);
    assert_true(m.rcpts[1].is_removed);
    assert_true(m.rcpts[2].is_removed);
    assert_false(m.rcpts[2].was_given);
    assert_false(milter_mail_is_changed(&m));
    assert_int_equal(change(&m, again, 1, MILTER_MAY_ALL), 0);
    assert_int_equal(m.rcpt_count, 3);
    assert_false(m.rcpts[1].is_removed);
    milter_mail_fini(&m);
}

static void what_was_not_agreed_is_not_done(void **state)
{
    static const struct row_change v[] = {{MILTER_ADD_FIELD, 0, "X-A", "1"},
                                          {MILTER_CHANGE_SENDER, 0, "other@x.test", ""}};
    struct milter_mail m;

    begin(&m, letter);
    assert_int_equal(change(&m, v, 2, MILTER_MAY_ADD_FIELDS), -1);
    is_text(m.sender, "from@x.test");
    is_text(milter_mail_text(&m, 0), letter);
    assert_int_equal(change(&m, v, 2, MILTER_MAY_ALL), 0);
    is_text(m.sender, "other@x.test");
    milter_mail_fini(&m);
}

static void changes_have_limits(void **state)
{
    static const struct row_change many = {MILTER_ADD_RCPT, 0, "n@x.test", ""};
    struct row_change v[3] = {many, many, many};
    struct milter_changes c;
    struct milter_answer answer = {MILTER_ADD_FIELD, 0, STR("X"), STR("1")};
    struct milter_answer body = {MILTER_REPLACE_BODY, 0, STR(""), {letter, 51}};
    struct milter_mail m;
    int status = 0;
    unsigned n;

    begin(&m, letter);
    assert_int_equal(change(&m, v, 3, MILTER_MAY_ALL), -1); /* 2 and 3 are more than 4 */
    milter_changes_init(&c, &m);
    for (n = 0; status == 0; n++)
        status = milter_changes_add(&c, &m, &answer, MILTER_MAY_ALL, NULL);
    assert_int_equal(n, MILTER_CHANGES_MAX + 1);
    for (status = 0, n = 0; status == 0; n++)
        status = milter_changes_add(&c, &m, &body, MILTER_MAY_ALL, NULL);
    assert_int_equal(n, 1000 / 51 + 1);
    milter_changes_fini(&c);
    milter_mail_fini(&m);
}

static void a_header_without_end_is_refused(void **state)
{
    size_t size = HEADER_EDIT_SIZE_MAX + 100;
    char *p = arena_alloc(a, size);
    struct milter_mail m;

    memset(p, 'x', size);
    memcpy(p, "A: ", 3);
    assert_int_equal(milter_mail_init(&m, a, str_of(p, size), NULL), -1);
    milter_mail_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_packet_announces_its_size),
        cmocka_unit_test(we_offer_version_6_and_all_that_we_can),
        cmocka_unit_test(sizes_of_answers_have_a_limit),
        cmocka_unit_test(answers_are_taken_apart),
        cmocka_unit_test(options_must_be_among_those_offered),
        cmocka_unit_test(reply_codes_become_refusals),
        cmocka_unit_test(a_long_refusal_is_cut),
        cmocka_unit_test(the_setting_names_milters),
        cmocka_unit_test(fields_are_added_changed_and_taken_out),
        cmocka_unit_test(a_body_in_pieces_takes_the_old_ones_place),
        cmocka_unit_test(recipients_come_and_go),
        cmocka_unit_test(what_was_not_agreed_is_not_done),
        cmocka_unit_test(changes_have_limits),
        cmocka_unit_test(a_header_without_end_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
