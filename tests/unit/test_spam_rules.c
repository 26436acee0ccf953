/* test_spam_rules.c - what rules, links and look-alikes are found in messages, and in which not. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/spam/spam.h"
#include "mail/spam/spam_confusable.h"
#include "server/base/utf8.h"

static struct arena *arena;

#define NOW_US (INT64_C(1795996800) * 1000000) /* 30 Nov 2026 */
#define HEAD                                                                                       \
    "From: Ann <ann@shop.example>\r\nTo: bob@ours.example\r\nSubject: Hello\r\n"                   \
    "Date: Mon, 30 Nov 2026 10:00:00 +0700\r\nMessage-ID: <a1@shop.example>\r\n"
#define TEXT HEAD "Content-Type: text/plain; charset=utf-8\r\n\r\n"
#define HTML HEAD "Content-Type: text/html; charset=utf-8\r\n\r\n"

static struct spam_circumstances circumstances(void)
{
    static const struct str hosts[] = {{"mx.ours.example", 15}};
    struct spam_known *known = spam_known_new(arena);

    spam_known_add_domain(known, STR("ours.example"), true);
    spam_known_add_domain(known, STR("partner.example"), false);
    spam_known_add_domain(known,
                          STR("b\xC3\xBC"
                              "cherei.example"),
                          false);
    spam_known_add_person(known, STR("Dewi Sari"), STR("dewi@ours.example"));
    spam_known_add_person(known, STR("Budi"), STR("budi@ours.example"));
    return (struct spam_circumstances){.now_us = NOW_US,
                                       .own_hosts = hosts,
                                       .own_host_count = 1,
                                       .own_received_count = 1,
                                       .known = known};
}

static struct spam_findings inspect(const char *text)
{
    struct spam_circumstances facts = circumstances();
    struct str message = str_c(text);
    struct spam_findings out;

    spam_inspect(arena, mime_parse(arena, message), message, &facts, &out, NULL);
    return out;
}

struct found {
    const char *message;
    enum spam_finding_kind kind;
    bool is_found;
};

#define FOUND(id, text)                                                                            \
    {                                                                                              \
        text, SPAM_FINDING_##id, true                                                              \
    }
#define NOT_FOUND(id, text)                                                                        \
    {                                                                                              \
        text, SPAM_FINDING_##id, false                                                             \
    }

static void check(const struct found *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct spam_findings f = inspect(cases[i].message);
        if (spam_has_found(&f, cases[i].kind) != cases[i].is_found)
            print_error("case %zu: %s\n", i, cases[i].message);
        assert_int_equal(spam_has_found(&f, cases[i].kind), cases[i].is_found);
    }
}
#define CHECK(cases) check(cases, sizeof(cases) / sizeof *(cases))

static void decent_mail_shows_nothing(void **state)
{
    struct spam_findings f = inspect(
        TEXT "See https://www.shop.example/orders/17 and <https://docs.example/a?b=c>.\r\n");

    (void)state;
    assert_int_equal(f.n, 0);
    f = inspect(HTML "<p>Read <a href=\"https://news.shop.example/x\">the news</a> at "
                     "<a href='https://www.shop.example/'>shop.example</a></p>");
    assert_int_equal(f.n, 0);
}

static void links_that_hide_where_they_lead_are_found(void **state)
{
    static const struct found cases[] = {
        FOUND(LINK_NUMERIC, TEXT "http://192.0.2.7/x"),
        FOUND(LINK_NUMERIC, TEXT "http://3232235777/"),
        FOUND(LINK_NUMERIC, TEXT "http://0x7f.1/"),
        FOUND(LINK_NUMERIC, HTML "<a href='http://[2001:db8::1]/'>x</a>"),
        NOT_FOUND(LINK_NUMERIC, TEXT "https://4shared.example/ https://a.163.example/"),
        FOUND(LINK_USERINFO, TEXT "https://bank.example@evil.example/"),
        FOUND(LINK_USERINFO, HTML "<a href='https:\\\\bank.example@evil.example'>x</a>"),
        NOT_FOUND(LINK_USERINFO, TEXT "https://maps.example/@1,2"),
        FOUND(LINK_TEXT_LIES,
              HTML "<a href='https://evil.example/'>https://www.bank.example/x</a>"),
        FOUND(LINK_TEXT_LIES, HTML "<a href='https://evil.example/'><b>bank.example</b></a>"),
        NOT_FOUND(LINK_TEXT_LIES, HTML "<a href='https://a.bank.example/'>www.bank.example</a>"),
        NOT_FOUND(LINK_TEXT_LIES, HTML "<a href='https://a.example/'>Click here. Now</a>"),
        FOUND(LINK_HOMOGRAPH, HTML "<a href='https://p\xD0\xB0ypal.example/'>x</a>"),
        FOUND(LINK_HOMOGRAPH, TEXT "https://xn--pypal-4ve.example/"),
        NOT_FOUND(LINK_HOMOGRAPH, TEXT "https://xn--bcherei-n2a.example/"),
        NOT_FOUND(LINK_HOMOGRAPH, TEXT "https://xn--e1afmkfd.example/"),
        FOUND(LINK_IMITATES, TEXT "https://login.partners.example/"),
        FOUND(LINK_SCRIPT, HTML "<a href=\"java&#115;cript:alert(1)\">x</a>"),
        FOUND(LINK_SCRIPT, HTML "<a href=\"data:text/html;base64,AAAA\">x</a>"),
        FOUND(LINK_SCRIPT, HTML "<a href=\"java\nscript:alert(1)\">x</a>"),
        FOUND(LINK_SHORTENED, TEXT "https://bit.ly/3xYz"),
        FOUND(LINK_SHORTENED, TEXT "https://zz.example.x/ https://q.ex/aB3dE9"),
        NOT_FOUND(LINKS_SHORTENED, TEXT "https://bit.ly/3xYz https://s.id/abc"),
        FOUND(LINKS_SHORTENED, TEXT "https://bit.ly/a https://s.id/b https://t.co/c"),
        FOUND(LINK_REDIRECTED, TEXT "https://a.example/go?u=https%3A%2F%2Fevil.example"),
        FOUND(LINK_PORT, TEXT "http://a.example:8181/"),
        NOT_FOUND(LINK_PORT, TEXT "https://a.example:443/"),
    };

    (void)state;
    CHECK(cases);
}

#define FROM(from)                                                                                 \
    "From: " from "\r\nTo: bob@ours.example\r\nSubject: Hello\r\n"                                 \
    "Date: Mon, 30 Nov 2026 10:00:00 +0700\r\nMessage-ID: <a1@shop.example>\r\n\r\nx\r\n"

static void senders_that_pretend_to_be_others_are_found(void **state)
{
    static const struct found cases[] = {
        FOUND(NAME_OF_COLLEAGUE, FROM("Dewi Sari <x@free.example>")),
        FOUND(NAME_OF_COLLEAGUE, FROM("\"SARI, Dewi\" <x@free.example>")),
        FOUND(NAME_OF_COLLEAGUE, FROM("=?utf-8?q?D=D0=B5wi_Sari?= <x@free.example>")),
        NOT_FOUND(NAME_OF_COLLEAGUE, FROM("Dewi Sari <dewi@ours.example>")),
        NOT_FOUND(NAME_OF_COLLEAGUE, FROM("Budi <budi@free.example>")),
        NOT_FOUND(NAME_OF_COLLEAGUE, FROM("Dewi Lestari <x@free.example>")),
        FOUND(NAME_IS_OUR_ADDRESS, FROM("\"dewi@ours.example\" <x@free.example>")),
        FOUND(NAME_IS_ADDRESS, FROM("\"Ann (ann@bank.example)\" <x@free.example>")),
        NOT_FOUND(NAME_IS_ADDRESS, FROM("\"ann@mail.free.example\" <ann@free.example>")),
        NOT_FOUND(NAME_IS_ADDRESS, FROM("\"Ann @ Shop\" <ann@free.example>")),
        FOUND(DOMAIN_IMITATES, FROM("Ann <ann@partne.example>")),
        FOUND(DOMAIN_IMITATES, FROM("Ann <ann@mail.parnter.example>")),
        NOT_FOUND(DOMAIN_IMITATES, FROM("Ann <ann@partner.example>")),
        NOT_FOUND(DOMAIN_IMITATES, FROM("Ann <ann@mail.partner.example>")),
        NOT_FOUND(DOMAIN_IMITATES, FROM("Ann <ann@partly.example>")),
        FOUND(FROM_MISSING, FROM("")),
    };

    (void)state;
    CHECK(cases);
}

static void domains_with_letters_that_look_like_others_are_homographs(void **state)
{
    struct spam_circumstances f = circumstances();

    (void)state;
    assert_int_equal(spam_likeness(arena, f.known, STR("p\xD0\xB0rtner.example")), SPAM_HOMOGRAPH);
    assert_int_equal(spam_likeness(arena, f.known, STR("partner.example")), SPAM_UNLIKE);
    assert_int_equal(spam_likeness(arena, f.known, STR("p\xC3\xA0rtner.example")), SPAM_HOMOGRAPH);
    assert_int_equal(spam_likeness(arena, f.known, STR("partnner.example")), SPAM_ONE_EDIT);
    assert_int_equal(spam_likeness(arena, f.known, STR("bucherei.example")), SPAM_HOMOGRAPH);
    assert_int_equal(spam_likeness(arena, f.known, STR("xn--bcherei-n2a.example")), SPAM_UNLIKE);
    assert_int_equal(spam_likeness(arena, f.known, STR("pa.example")), SPAM_UNLIKE);
}

#define LINES(fields) fields "\r\nx\r\n"

static void what_is_missing_or_forged_in_the_header_is_found(void **state)
{
    static const struct found cases[] = {
        FOUND(DATE_MISSING, LINES("Subject: x\r\n")),
        FOUND(DATE_BROKEN, LINES("Date: yesterday\r\n")),
        FOUND(DATE_FUTURE, LINES("Date: Mon, 7 Dec 2026 10:00:00 +0000\r\n")),
        FOUND(DATE_PAST, LINES("Date: Mon, 7 Sep 2020 10:00:00 +0000\r\n")),
        NOT_FOUND(DATE_FUTURE, LINES("Date: Tue, 1 Dec 2026 10:00:00 +0000\r\n")),
        FOUND(ID_MISSING, LINES("Subject: x\r\n")),
        FOUND(ID_BROKEN, LINES("Message-ID: 123\r\n")),
        FOUND(ID_FORGED, LINES("Message-ID: <1@mx.ours.example>\r\n")),
        NOT_FOUND(ID_FORGED, LINES("List-Id: <l.example>\r\nMessage-ID: <1@mx.ours.example>\r\n")),
        FOUND(FIELD_TWICE, LINES("Subject: x\r\nSubject: y\r\n")),
        FOUND(RECEIVED_FORGED, LINES("Received: from a by mx.ours.example with ESMTP; now\r\n"
                                     "Received: from b by mx.ours.example with ESMTP; then\r\n")),
        NOT_FOUND(RECEIVED_FORGED, LINES("Received: from a by mx.ours.example with ESMTP; now\r\n"
                                         "Received: from b by mx.ours.example.org; then\r\n")),
        FOUND(SUBJECT_DISGUISED, LINES("Subject: =?utf-8?q?V=D1=96agra?=\r\n")),
        FOUND(SUBJECT_DISGUISED, LINES("Subject: =?utf-8?q?Via=E2=80=8Bgra?=\r\n")),
        NOT_FOUND(SUBJECT_DISGUISED, LINES("Subject: =?utf-8?b?0J/RgNC40LLQtdGC?= Ann\r\n")),
        FOUND(SUBJECT_CAPITALS, LINES("Subject: EARN MONEY NOW\r\n")),
        NOT_FOUND(SUBJECT_CAPITALS, LINES("Subject: RFC 5321\r\n")),
        FOUND(SUBJECT_GAP, LINES("Subject: Hello                   x7q9\r\n")),
        FOUND(SUBJECT_NO_ANSWER, LINES("Subject: Re: money\r\n")),
        NOT_FOUND(SUBJECT_NO_ANSWER, LINES("Subject: Re: money\r\nIn-Reply-To: <a@b>\r\n")),
        FOUND(SUBJECT_EMPTY, LINES("From: a@b.example\r\n")),
    };

    (void)state;
    CHECK(cases);
}

#define FILE_NAMED(name)                                                                           \
    HEAD "Content-Type: application/octet-stream\r\n"                                              \
         "Content-Disposition: attachment; filename=" name "\r\n\r\nx\r\n"
/* Heads of entries a.txt and b.exe; the second: a.txt, encrypted. */
#define ZIP_OF_PROGRAM                                                                             \
    "UEsDBAoAAAAAAAAAAAAAAAAAAAAAAAAAAAAFAAAAYS50eHRQSwMECgAAAAAAAAAAAAAAAAAAAAAAAAAAAAUAAABiLmV4" \
    "ZQ=="
#define ZIP_LOCKED "UEsDBAoAAQAAAAAAAAAAAAAAAAAAAAAAAAAFAAAAYS50eHQ="
#define WITH_ZIP(text, zip)                                                                        \
    HEAD "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" text "\r\n--b\r\n"         \
         "Content-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: "                \
         "base64\r\n\r\n" zip "\r\n--b--\r\n"

static void attachments_that_do_harm_are_found(void **state)
{
    static const struct found cases[] = {
        FOUND(FILE_PROGRAM, FILE_NAMED("setup.EXE")),
        NOT_FOUND(FILE_PROGRAM, FILE_NAMED("report.pdf")),
        FOUND(FILE_DOUBLE, FILE_NAMED("invoice.pdf.exe")),
        FOUND(FILE_DOUBLE, FILE_NAMED("\"invoice.pdf      .scr\"")),
        NOT_FOUND(FILE_DOUBLE, FILE_NAMED("archive.tar.gz")),
        FOUND(FILE_MACROS, FILE_NAMED("plan.xlsm")),
        FOUND(FILE_IMAGE, FILE_NAMED("scan.iso")),
        FOUND(FILE_PAGE, FILE_NAMED("voice.html")),
        FOUND(FILE_DISGUISED, FILE_NAMED("\"inv\xE2\x80\xAE"
                                         "fdp.exe\"")),
        FOUND(ARCHIVE_PROGRAM, WITH_ZIP("see", ZIP_OF_PROGRAM)),
        NOT_FOUND(ARCHIVE_LOCKED, WITH_ZIP("the password is 1", ZIP_OF_PROGRAM)),
        FOUND(ARCHIVE_LOCKED, WITH_ZIP("Kata sandi: 1234", ZIP_LOCKED)),
        NOT_FOUND(ARCHIVE_LOCKED, WITH_ZIP("see", ZIP_LOCKED)),
        FOUND(HIDDEN_TEXT, HTML "<p style=\"DISPLAY:none\">x</p>"),
        FOUND(HTML_ALONE_HIDDEN, HTML "<p STYLE=\"font-size:0\">x</p>y"),
        NOT_FOUND(HIDDEN_TEXT, HTML "<p style='color:red'>x</p>"),
    };

    (void)state;
    CHECK(cases);
}

static void what_the_server_found_out_counts(void **state)
{
    static const struct str lists[] = {{"zen.example", 11}};
    struct spam_circumstances f = circumstances();
    struct str message = STR(TEXT "x");
    struct spam_findings out;

    (void)state;
    f.spf = f.dkim = f.dmarc = SPAM_FAIL;
    f.is_correspondent = true; /* but anybody could be it */
    f.helo = STR("mx.ours.example");
    f.address_lists = f.host_lists = lists;
    f.address_list_count = f.host_list_count = 1;
    spam_inspect(arena, mime_parse(arena, message), message, &f, &out, NULL);
    assert_true(spam_has_found(&out, SPAM_FINDING_SPF_FAIL));
    assert_true(spam_has_found(&out, SPAM_FINDING_DKIM_FAIL));
    assert_true(spam_has_found(&out, SPAM_FINDING_DMARC_FAIL));
    assert_true(spam_has_found(&out, SPAM_FINDING_HELO_FORGED));
    assert_true(spam_has_found(&out, SPAM_FINDING_ADDRESS_LISTED));
    assert_true(spam_has_found(&out, SPAM_FINDING_LINK_LISTED));
    assert_false(spam_has_found(&out, SPAM_FINDING_KNOWN_CORRESPONDENT));
    f.dmarc = SPAM_PASS;
    spam_inspect(arena, mime_parse(arena, message), message, &f, &out, NULL);
    assert_true(spam_has_found(&out, SPAM_FINDING_KNOWN_CORRESPONDENT));
}

static void hosts_of_links_are_told_once(void **state)
{
    struct spam_circumstances f = circumstances();
    struct str message = STR(TEXT "http://A.example:80/ https://u@b.example/ https://a.example/y");
    struct spam_findings out;
    struct spam_hosts hosts;

    (void)state;
    spam_inspect(arena, mime_parse(arena, message), message, &f, &out, &hosts);
    assert_int_equal(hosts.n, 2);
    assert_true(str_eq(hosts.v[0], STR("a.example")));
    assert_true(str_eq(hosts.v[1], STR("b.example")));
}

static void sentences_are_clean_and_in_both_languages(void **state)
{
    struct spam_findings out = {.n = 0};

    (void)state;
    spam_find(arena, &out, SPAM_FINDING_FILE_PROGRAM, STR("a\r\nX-Evil: \xE2\x80\xAE\xFF.exe"));
    spam_find(arena, &out, SPAM_FINDING_FILE_PROGRAM, STR("another"));
    assert_int_equal(out.n, 1);
    assert_true(utf8_valid(out.v[0].english));
    assert_int_equal(str_index(out.v[0].english, '\r'), -1);
    assert_true(str_find(out.v[0].english, STR("aX-Evil: ")) > 0);
    assert_true(str_starts(out.v[0].indonesian, STR("Lampiran aX-Evil")));
}

static void a_verdict_joins_both_with_the_heaviest_reason_first(void **state)
{
    struct spam_opinion opinion = {
        .is_known = true, .is_spam = true, .score = 1.0, .reason_count = 1};
    struct spam_findings found = {.n = 0};
    struct spam_verdict v;

    (void)state;
    opinion.reasons[0].text = STR("the text says \"pills\"");
    opinion.reasons[0].weight = 2.0;
    spam_judge(arena, &opinion, &found, 2.5, &v);
    assert_false(v.is_spam);
    spam_find(arena, &found, SPAM_FINDING_SUBJECT_CAPITALS, STR(""));
    spam_find(arena, &found, SPAM_FINDING_FILE_PROGRAM, STR("a.exe"));
    spam_judge(arena, &opinion, &found, 2.5, &v);
    assert_true(v.is_spam);
    assert_true(v.is_learnt);
    assert_int_equal(v.reason_count, 3);
    assert_string_equal(v.reasons[0].name, "FILE_PROGRAM");
    assert_string_equal(v.reasons[1].name, "LEARNT");
    assert_string_equal(v.reasons[2].name, "SUBJECT_CAPITALS");
}

static void without_learning_one_small_finding_is_not_enough(void **state)
{
    struct spam_findings found = {.n = 0};
    struct spam_verdict v;

    (void)state;
    spam_find(arena, &found, SPAM_FINDING_ID_MISSING, STR(""));
    spam_judge(arena, NULL, &found, 2.5, &v);
    assert_false(v.is_spam);
    spam_find(arena, &found, SPAM_FINDING_FILE_DOUBLE, STR("a.pdf.exe"));
    spam_find(arena, &found, SPAM_FINDING_DMARC_FAIL, STR(""));
    spam_judge(arena, NULL, &found, 2.5, &v);
    assert_true(v.is_spam);
    assert_false(v.is_learnt);
}

static int start(void **state)
{
    (void)state;
    arena = arena_new();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decent_mail_shows_nothing),
        cmocka_unit_test(links_that_hide_where_they_lead_are_found),
        cmocka_unit_test(senders_that_pretend_to_be_others_are_found),
        cmocka_unit_test(domains_with_letters_that_look_like_others_are_homographs),
        cmocka_unit_test(what_is_missing_or_forged_in_the_header_is_found),
        cmocka_unit_test(attachments_that_do_harm_are_found),
        cmocka_unit_test(what_the_server_found_out_counts),
        cmocka_unit_test(hosts_of_links_are_told_once),
        cmocka_unit_test(sentences_are_clean_and_in_both_languages),
        cmocka_unit_test(a_verdict_joins_both_with_the_heaviest_reason_first),
        cmocka_unit_test(without_learning_one_small_finding_is_not_enough),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
