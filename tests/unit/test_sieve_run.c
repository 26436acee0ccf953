/* test_sieve_run.c - scripts run over messages: what each of them decides, and what a fault leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/offload.h"
#include "tests/unit/sieve_fixture.h"

static struct arena *arena;
static struct sieve_mail mail;
static struct sieve_hooks hooks;
static struct sieve_outcome out;
static struct str own[2];

static const char plain[] = "Received: from b by c; Tue, 10 Nov 2026 08:00:00 +0100\r\n"
                            "Received: from a by b; Mon, 9 Nov 2026 23:30:00 -0500\r\n"
                            "From: \"Ani B.\" <ani+shop@Example.ORG>\r\n"
                            "To: Budi <budi@example.com>, team: citra@example.net, dewi@x.test;\r\n"
                            "Cc: other@example.com\r\n"
                            "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from\r\n the shop\r\n"
                            "Date: Mon, 9 Nov 2026 22:15:07 -0500\r\n"
                            "Message-ID: <1@example.org>\r\n"
                            "X-Twice: one\r\nX-Twice: two\r\nX-Twice: three\r\n"
                            "X-Empty:\r\n"
                            "\r\n"
                            "Please make money fast.\r\n";

static void set_up_case(void)
{
    own[0] = STR("budi@example.com");
    own[1] = STR("sales@example.com");
    mail = (struct sieve_mail){
        .message = STR(plain),
        .sender = STR("ani@example.org"),
        .recipient = STR("budi+news@example.com"),
        .account_address = STR("budi@example.com"),
        .own_addresses = own,
        .own_addresses_count = 2,
        .now_us = 1794278107000000, /* 2026-11-10 04:15:07 +0000... */
        .zone_min = 7 * 60,
        .spam_percent = -1,
    };
    mail.now_us = 1794276907LL * 1000000;
    hooks = (struct sieve_hooks){.context = NULL};
}

static struct sieve_script *compiled(const char *text)
{
    struct sieve_script *script = NULL;
    struct sieve_fault fault = {0};

    if (sieve_compile(str_c(text), &script, arena, &fault) < 0)
        print_error("%s\n%u:%u: %.*s\n", text, fault.line, fault.column, STR_ARG(fault.text));
    assert_non_null(script);
    return script;
}

/* With hooks and mail as the case has set them. */
static const char *run_all(const char *const *texts, size_t count)
{
    struct sieve_script *scripts[4] = {NULL};
    const char *text;
    struct buf b;

    for (size_t i = 0; i < count; i++)
        scripts[i] = compiled(texts[i]);
    sieve_run(arena, scripts, count, &mail, &hooks, &out);
    for (size_t i = 0; i < count; i++)
        sieve_script_free(&scripts[i]);
    buf_init(&b, SIZE_MAX);
    describe_outcome(&b, &out);
    text = arena_c(arena, buf_str(&b));
    buf_fini(&b);
    return text;
}

static const char *run(const char *text)
{
    return run_all(&text, 1);
}

/* "true", "false" or the fault. */
static const char *test(const char *require, const char *condition)
{
    const char *got =
        run(arena_c(arena, arena_printf(arena, "require [\"ihave\"%s%s];\nif %s { stop; } discard;",
                                        require[0] != '\0' ? "," : "", require, condition)));

    return strcmp(got, "implicit") == 0 ? "true" : strcmp(got, "discard") == 0 ? "false" : got;
}

static void run_case(void *arg)
{
    ((void (*)(void))arg)();
}

static void in_fiber(void (*body)(void))
{
    config_fini();
    config_defaults();
    arena = arena_new();
    set_up_case();
    loop_init();
    loop_run_fiber("case", run_case, (void *)body);
    offload_fini();
    fiber_pool_fini();
    loop_fini();
    arena_free(&arena);
}

#define CASE(name)                                                                                 \
    static void name##_body(void);                                                                 \
    static void name(void **state)                                                                 \
    {                                                                                              \
        in_fiber(name##_body);                                                                     \
    }                                                                                              \
    static void name##_body(void)

struct row {
    const char *require, *condition, *answer;
};

static void check_tests(const struct row *rows, size_t count)
{
    size_t wrong = 0;

    for (size_t i = 0; i < count; i++) {
        const char *got = test(rows[i].require, rows[i].condition);
        if (strcmp(got, rows[i].answer) != 0) {
            print_error("%s: %s, not %s\n", rows[i].condition, got, rows[i].answer);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

#define CHECK_TESTS(rows) check_tests(rows, sizeof rows / sizeof rows[0])

struct script_row {
    const char *script, *outcome;
};

static void check_scripts(const struct script_row *rows, size_t count)
{
    size_t wrong = 0;

    for (size_t i = 0; i < count; i++) {
        const char *got = run(rows[i].script);
        if (strcmp(got, rows[i].outcome) != 0) {
            print_error("%s\n   gives: %s\n   not:   %s\n", rows[i].script, got, rows[i].outcome);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

#define CHECK_SCRIPTS(rows) check_scripts(rows, sizeof rows / sizeof rows[0])

CASE(header_tests_see_decoded_trimmed_values)
{
    static const struct row rows[] = {
        {"",
         "header \"subject\" \"Gr\xc3\xbc\xc3\x9f"
         "e from the shop\"",
         "true"},
        {"", "header :contains \"SUBJECT\" \"THE SHOP\"", "true"},
        {"", "header :matches [\"x-none\", \"subject\"] \"*from the*\"", "true"},
        {"", "header :is \"x-empty\" \"\"", "true"},
        {"", "header :contains \"x-empty\" \"\"", "true"},
        {"", "header :contains \"x-none\" \"\"", "false"},
        {"", "header :is \"x-twice\" \"two\"", "true"},
        {"\"index\"", "header :index 2 :is \"x-twice\" \"two\"", "true"},
        {"\"index\"", "header :index 1 :last :is \"x-twice\" \"three\"", "true"},
        {"\"index\"", "header :index 4 :contains \"x-twice\" \"\"", "false"},
        {"\"relational\",\"comparator-i;ascii-numeric\"",
         "header :count \"eq\" :comparator \"i;ascii-numeric\" [\"x-twice\", \"x-empty\"] \"4\"",
         "true"},
        {"\"relational\"", "header :value \"gt\" \"x-twice\" \"thr\"", "true"},
        {"\"comparator-i;unicode-casemap\"",
         "header :comparator \"i;unicode-casemap\" :contains \"subject\" \"GR\xc3\x9c\"", "true"},
        {"", "header :comparator \"i;octet\" :contains \"subject\" \"FROM\"", "false"},
        {"\"regex\"", "header :regex \"subject\" \"from the (shop|store)$\"", "true"},
        {"", "exists [\"from\", \"to\"]", "true"},
        {"", "exists [\"from\", \"x-none\"]", "false"},
        {"", "not exists \"x-none\"", "true"},
        {"", "size :over 100", "true"},
        {"", "size :over 1K", "false"},
        {"", "size :under 1K", "true"},
        {"", "allof (true, not false, anyof (false, true))", "true"},
        {"", "anyof (false, false)", "false"},
    };

    CHECK_TESTS(rows);
}

CASE(address_tests_see_parts_and_members_of_groups)
{
    static const struct row rows[] = {
        {"", "address \"from\" \"ani+shop@example.org\"", "true"},
        {"", "address :domain \"from\" \"example.org\"", "true"},
        {"", "address :localpart \"from\" \"ani+shop\"", "true"},
        {"\"subaddress\"", "address :user \"from\" \"ani\"", "true"},
        {"\"subaddress\"", "address :detail \"from\" \"shop\"", "true"},
        {"\"subaddress\"", "address :detail :contains \"to\" \"\"", "false"},
        {"", "address :all :contains \"from\" \"Ani B\"", "false"},
        {"", "address :is \"to\" \"citra@example.net\"", "true"},
        {"", "address :contains \"to\" \"team\"", "false"},
        {"\"relational\",\"comparator-i;ascii-numeric\"",
         "address :count \"eq\" :comparator \"i;ascii-numeric\" \"to\" \"3\"", "true"},
        {"\"envelope\"", "envelope \"from\" \"ani@example.org\"", "true"},
        {"\"envelope\"", "envelope :domain \"to\" \"example.com\"", "true"},
        {"\"envelope\",\"subaddress\"", "envelope :detail \"to\" \"news\"", "true"},
        {"\"envelope\",\"subaddress\"", "envelope :detail :contains \"from\" \"\"", "false"},
    };

    CHECK_TESTS(rows);
    mail.sender = STR("");
    assert_string_equal(test("\"envelope\"", "envelope :is \"from\" \"\""), "true");
    assert_string_equal(test("\"envelope\"", "envelope :domain :is \"from\" \"\""), "true");
}

CASE(dates_are_shifted_and_taken_apart)
{
    static const struct row rows[] = {
        {"\"date\"", "date :originalzone \"date\" \"date\" \"2026-11-09\"", "true"},
        {"\"date\"", "date \"date\" \"date\" \"2026-11-10\"", "true"},
        {"\"date\"", "date \"date\" \"hour\" \"10\"", "true"},
        {"\"date\"", "date :zone \"+0000\" \"date\" \"time\" \"03:15:07\"", "true"},
        {"\"date\"", "date :originalzone \"date\" \"zone\" \"-0500\"", "true"},
        {"\"date\"", "date :originalzone \"date\" \"weekday\" \"1\"", "true"},
        {"\"date\"", "date :originalzone \"date\" \"year\" \"2026\"", "true"},
        {"\"date\"", "date :originalzone \"date\" \"month\" \"11\"", "true"},
        {"\"date\"", "date :originalzone \"date\" \"day\" \"09\"", "true"},
        {"\"date\"", "date :originalzone \"date\" \"minute\" \"15\"", "true"},
        {"\"date\"", "date :originalzone \"date\" \"second\" \"07\"", "true"},
        {"\"date\"", "date :zone \"+0000\" \"date\" \"julian\" \"61354\"", "true"},
        {"\"date\"", "date :originalzone \"date\" \"iso8601\" \"2026-11-09T22:15:07-05:00\"",
         "true"},
        {"\"date\"", "date :originalzone \"date\" \"std11\" \"Mon, 9 Nov 2026 22:15:07 -0500\"",
         "true"},
        {"\"date\"", "date :originalzone \"received\" \"date\" \"2026-11-10\"", "true"},
        {"\"date\",\"index\"", "date :index 2 :originalzone \"received\" \"date\" \"2026-11-09\"",
         "true"},
        {"\"date\",\"index\"", "date :index 1 :last :originalzone \"received\" \"hour\" \"23\"",
         "true"},
        {"\"date\"", "date :contains \"subject\" \"year\" \"\"", "false"},
        {"\"date\"", "date :contains \"x-none\" \"year\" \"\"", "false"},
        {"\"date\",\"relational\"", "currentdate :value \"ge\" \"date\" \"2026-11-10\"", "true"},
        {"\"date\",\"relational\"",
         "allof (currentdate :value \"ge\" \"hour\" \"09\", currentdate :value \"lt\" \"hour\" "
         "\"17\")",
         "true"},
        {"\"date\"", "currentdate :zone \"-0100\" \"weekday\" \"2\"", "true"},
    };

    CHECK_TESTS(rows);
}

CASE(bodies_are_decoded_and_html_is_read)
{
    static const struct row rows[] = {
        {"\"body\"", "body :raw :contains \"=C3=A4\"", "true"},
        {"\"body\"", "body :contains \"\xc3\xa4pfel\"", "true"},
        {"\"body\"", "body :text :contains \"Bold and plain\"", "true"},
        {"\"body\"", "body :text :contains \"<b>\"", "false"},
        {"\"body\"", "body :content \"text/html\" :contains \"<b>Bold</b>\"", "true"},
        {"\"body\"", "body :content \"text\" :contains \"\xc3\xa4pfel\"", "true"},
        {"\"body\"", "body :content \"multipart\" :contains \"prologue\"", "true"},
        {"\"body\"", "body :content \"multipart\" :contains \"epilogue\"", "true"},
        {"\"body\"", "body :content \"multipart\" :contains \"pfel\"", "false"},
        {"\"body\"", "body :content \"message/rfc822\" :contains \"hello request\"", "true"},
        {"\"body\"", "body :content \"message/rfc822\" :contains \"inner text\"", "false"},
        {"\"body\"", "body :content \"application/pdf\" :contains \"%PDF\"", "true"},
        {"\"body\"", "body :content \"audio\" :contains \"\"", "false"},
        {"\"body\"", "body :content \"/\" :contains \"\"", "false"},
        {"\"body\"", "body :content \"text/\" :contains \"\"", "false"},
        {"\"mime\"", "header :mime :anychild :contenttype \"content-type\" \"application/pdf\"",
         "true"},
        {"\"mime\"", "header :mime :contenttype \"content-type\" \"application/pdf\"", "false"},
        {"\"mime\"", "header :mime :type \"content-type\" \"multipart\"", "true"},
        {"\"mime\"", "header :mime :subtype \"content-type\" \"mixed\"", "true"},
        {"\"mime\"",
         "header :mime :anychild :param \"filename\" :is \"content-disposition\" "
         "\"r\xc3\xa9sum\xc3\xa9.pdf\"",
         "true"},
        {"\"mime\"", "header :mime :anychild :type \"content-disposition\" \"attachment\"", "true"},
        {"\"mime\"", "exists :mime :anychild \"content-disposition\"", "true"},
        {"\"mime\"", "exists :mime \"content-disposition\"", "false"},
        {"\"mime\"", "address :mime :anychild \"from\" \"inner@example.org\"", "true"},
        {"\"mime\"", "address :mime \"from\" \"inner@example.org\"", "false"},
    };

    mail.message =
        STR("From: a@example.org\r\nMIME-Version: 1.0\r\n"
            "Content-Type: multipart/mixed; boundary=out\r\n\r\nthe prologue\r\n"
            "--out\r\nContent-Type: text/plain; charset=utf-8\r\n"
            "Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A4pfel\r\n"
            "--out\r\nContent-Type: text/html\r\n\r\n<p><b>Bold</b> and plain</p>\r\n"
            "--out\r\nContent-Type: message/rfc822\r\n\r\n"
            "From: inner@example.org\r\nSubject: hello request\r\n\r\ninner text\r\n"
            "--out\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n"
            "Content-Disposition: attachment; filename*=utf-8''r%C3%A9sum%C3%A9.pdf\r\n\r\n"
            "JVBERi0xLjQ=\r\n--out--\r\nthe epilogue\r\n");
    CHECK_TESTS(rows);
}

CASE(spam_and_virus_values_have_the_scales_of_rfc_5235)
{
    static const struct {
        int percent;
        const char *value;
    } rows[] = {{-1, "0"}, {0, "1"}, {1, "2"}, {50, "5"}, {99, "9"}, {100, "10"}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        mail.spam_percent = rows[i].percent;
        assert_string_equal(
            test("\"spamtest\"",
                 arena_c(arena, arena_printf(arena, "spamtest \"%s\"", rows[i].value))),
            "true");
    }
    assert_string_equal(test("\"spamtestplus\"", "spamtest :percent \"100\""), "true");
    mail.spam_percent = -1;
    assert_string_equal(test("\"spamtestplus\"", "spamtest :percent \"0\""), "true");
    assert_string_equal(test("\"spamtest\",\"relational\"", "spamtest :count \"eq\" \"0\""),
                        "true");
    mail.virus_value = 5;
    assert_string_equal(test("\"virustest\",\"relational\",\"comparator-i;ascii-numeric\"",
                             "virustest :value \"eq\" :comparator \"i;ascii-numeric\" \"5\""),
                        "true");
}

CASE(environment_items_and_unknown_ones)
{
    static const struct row rows[] = {
        {"\"environment\"", "environment :is \"name\" \"Merpati\"", "true"},
        {"\"environment\"", "environment :matches \"version\" \"*.*\"", "true"},
        {"\"environment\"", "environment \"phase\" \"during\"", "true"},
        {"\"environment\"", "environment \"remote-ip\" \"192.0.2.7\"", "true"},
        {"\"environment\"", "environment :contains \"vnd.unknown\" \"\"", "false"},
        {"\"environment\"", "environment :contains \"host\" \"\"", "false"},
    };

    mail.env_phase = STR("during");
    mail.env_remote_ip = STR("192.0.2.7");
    CHECK_TESTS(rows);
}

CASE(actions_come_out_in_order_and_cancel_the_implicit_keep)
{
    static const struct script_row rows[] = {
        {"", "implicit"},
        {"stop; discard;", "implicit"},
        {"keep;", "keep"},
        {"discard;", "discard"},
        {"require \"fileinto\"; fileinto \"A\"; fileinto \"B\";", "fileinto A; fileinto B"},
        {"require \"fileinto\"; fileinto \"A\"; fileinto \"A\";", "fileinto A"},
        {"require \"fileinto\"; keep; fileinto \"inbox\";", "keep"},
        {"require [\"fileinto\",\"copy\"]; fileinto :copy \"A\";", "fileinto copy A; implicit"},
        {"require [\"fileinto\",\"mailbox\"]; fileinto :create \"A\";", "fileinto A create"},
        {"require [\"fileinto\",\"special-use\"]; fileinto :specialuse \"\\\\Junk\" \"A\";",
         "fileinto A use=\\Junk"},
        {"require [\"fileinto\",\"mailboxid\"]; fileinto :mailboxid \"F6\" \"A\";",
         "fileinto A id=F6"},
        {"redirect \"x@example.org\"; redirect \"X@example.org\";", "redirect x@example.org"},
        {"require \"copy\"; redirect :copy \"x@example.org\";",
         "redirect copy x@example.org; implicit"},
        {"require \"reject\"; reject \"no\";", "reject text=no"},
        {"require \"ereject\"; ereject \"no\";", "ereject text=no"},
        {"require \"reject\"; reject \"no\"; reject \"no\";",
         "implicit; fault 1: a message cannot be rejected twice"},
        {"require [\"reject\",\"fileinto\"]; fileinto \"A\"; reject \"no\";",
         "implicit; fault 1: a message that is delivered cannot be rejected, too"},
        {"require [\"reject\"]; reject \"no\";\nkeep;",
         "implicit; fault 2: a message that is rejected cannot be delivered, too"},
        {"require [\"reject\",\"vacation\"]; vacation \"x\"; reject \"no\";",
         "implicit; fault 1: a message that is answered by vacation cannot be rejected, too"},
        {"if false { keep; } elsif true { discard; } else { keep; }", "discard"},
        {"require \"ihave\"; if not ihave \"unknown\" { discard; }", "discard"},
        {"require \"ihave\";\nif ihave \"fileinto\" { fileinto \"A\"; }", "fileinto A"},
        {"require \"ihave\";\n\nerror \"enough\";",
         "implicit; fault 3: the script ended itself: enough"},
    };

    CHECK_SCRIPTS(rows);
}

CASE(flags_belong_to_what_is_filed)
{
    static const struct script_row rows[] = {
        {"require \"imap4flags\"; addflag \"\\\\Seen\";", "implicit (\\Seen)"},
        {"require \"imap4flags\"; addflag [\"\\\\Seen\", \"a b\"]; addflag \"\\\\SEEN\"; keep;",
         "keep (\\Seen a b)"},
        {"require \"imap4flags\"; setflag \"a b c\"; removeflag \"B\"; keep;", "keep (a c)"},
        {"require [\"imap4flags\",\"fileinto\"]; setflag \"a\"; fileinto :flags \"\\\\Deleted\" "
         "\"X\"; keep;",
         "fileinto X (\\Deleted); keep (a)"},
        {"require [\"imap4flags\",\"fileinto\"]; fileinto \"X\"; setflag \"a\"; fileinto \"X\";",
         "fileinto X (a)"},
        {"require [\"imap4flags\",\"variables\"]; set \"f\" \"x y\"; addflag \"f\" \"z\"; keep "
         ":flags \"${f}\";",
         "keep (x y z)"},
        {"require [\"imap4flags\"]; setflag \"a b\"; if hasflag \"B\" { discard; }", "discard"},
        {"require [\"imap4flags\",\"relational\",\"comparator-i;ascii-numeric\"]; setflag \"a b\";"
         "if hasflag :count \"ge\" :comparator \"i;ascii-numeric\" \"2\" { discard; }",
         "discard"},
        {"require [\"imap4flags\"]; if hasflag :contains \"\" { discard; }", "implicit"},
    };

    CHECK_SCRIPTS(rows);
}

#define VARIABLES                                                                                  \
    "require "                                                                                     \
    "[\"variables\",\"fileinto\",\"enotify\",\"regex\",\"body\",\"relational\",\"comparator-i;"    \
    "ascii-numeric\"];"

CASE(variables_are_put_in_and_modified)
{
    static const struct script_row rows[] = {
        {VARIABLES "set \"a\" \"X\"; fileinto \"${a}-${A}-${none}-${\";", "fileinto X-X--${"},
        {VARIABLES "set :lower \"a\" \"\xc3\x84"
                   "Bc\"; fileinto \"${a}\";",
         "fileinto \xc3\xa4"
         "bc"},
        {VARIABLES "set :upperfirst :lower \"a\" \"juMBlEd\"; fileinto \"${a}\";",
         "fileinto Jumbled"},
        {VARIABLES "set :lowerfirst :upper \"a\" \"juMBlEd\"; fileinto \"${a}\";",
         "fileinto jUMBLED"},
        {VARIABLES "set :length \"a\" \"\xc3\xa4"
                   "bc\"; fileinto \"${a}\";",
         "fileinto 3"},
        {VARIABLES "set :quotewildcard \"a\" \"a*b?c\\\\\"; fileinto \"${a}\";",
         "fileinto a\\*b\\?c\\\\"},
        {VARIABLES "set :encodeurl \"a\" \"a b/\xc3\xa4~\"; fileinto \"${a}\";",
         "fileinto a%20b%2F%C3%A4~"},
        {VARIABLES
         "if header :matches \"subject\" \"* from the *\" { fileinto \"${2}.${1}.${3}${0}\"; }",
         "fileinto shop.Gr\xc3\xbc\xc3\x9f"
         "e.Gr\xc3\xbc\xc3\x9f"
         "e from the shop"},
        {VARIABLES
         "if header :regex \"subject\" \"from (the) (x)?(shop)\" { fileinto \"${1}-${2}-${3}\"; }",
         "fileinto the--shop"},
        /* A test that is false leaves them alone; one in an inner block sets them for the outer. */
        {VARIABLES
         "if header :matches \"subject\" \"*e from*\" {} if header :matches \"subject\" \"x*\" {}"
         "fileinto \"${1}\";",
         "fileinto Gr\xc3\xbc\xc3\x9f"},
        {VARIABLES "if header :matches \"x-twice\" \"t*\" {} if body :matches \"*money*\" {} "
                   "fileinto \"${1}\";",
         "fileinto wo"},
        {VARIABLES "set \"a\" \"b\"; if string :is \"${a}\" \"b\" { discard; }", "discard"},
        {VARIABLES "if string :count \"eq\" :comparator \"i;ascii-numeric\" [\"\", \"x\", "
                   "\"${y}\"] \"1\" { discard; }",
         "discard"},
        {VARIABLES "set \"k\" \"shop\"; if header :contains \"subject\" \"${k}\" { discard; }",
         "discard"},
        {VARIABLES "set \"k\" \"[\";\nif header :regex \"subject\" \"${k}\" { discard; }", NULL},
        {VARIABLES "set \"h\" \"subject\"; if header :contains \"${h}\" \"shop\" { discard; }",
         "discard"},
        {VARIABLES "set \"n\" \"\";\nfileinto \"${n}\";",
         "implicit; fault 2: \"\" cannot be the name of a mailbox"},
        {VARIABLES "set \"n\" \"nobody\";\nredirect \"${n}\";",
         "implicit; fault 2: \"nobody\" is no address to redirect to"},
        {VARIABLES
         "set \"a\" \"x\"; set \"a\" \"${a}${a}\"; set \"a\" \"${a}${a}\"; fileinto \"${a}\";",
         "fileinto xxxx"},
    };
    size_t wrong = 0;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *got = run(rows[i].script);
        if (rows[i].outcome == NULL ? out.end != SIEVE_FAILED || out.fault.line != 2
                                    : strcmp(got, rows[i].outcome) != 0) {
            print_error("%s\n   gives: %s\n   not:   %s\n", rows[i].script, got, rows[i].outcome);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

CASE(values_are_cut_at_the_limit_between_characters)
{
    run("require [\"variables\",\"fileinto\"]; set \"a\" \"\xc3\xa4x\";"
        "set \"a\" \"${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}\";"
        "set \"a\" \"${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}\";"
        "set \"a\" \"${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}\";"
        "redirect \"x@example.org\"; set :length \"n\" \"${a}\"; fileinto \"${n}\";");
    assert_int_equal(out.n, 2);
    /* 8192 bytes hold 2730 pairs and the two bytes of one more letter. */
    assert_memory_equal(out.v[1].target.mailbox.p, "5461", 4);
}

CASE(edited_headers_are_seen_and_filed)
{
    static const struct script_row rows[] = {
        {"require [\"editheader\"]; addheader \"X-A\" \"b\"; if header \"x-a\" \"b\" { discard; }",
         "discard"},
        {"require [\"editheader\"]; deleteheader \"subject\"; if not exists \"subject\" { discard; "
         "}",
         "discard"},
        {"require [\"editheader\"]; deleteheader :index 2 \"x-twice\"; if not header \"x-twice\" "
         "\"two\" { discard; }",
         "discard"},
        {"require [\"editheader\"]; deleteheader :index 1 :last \"x-twice\"; if not header "
         "\"x-twice\" \"three\" { discard; }",
         "discard"},
        {"require [\"editheader\"]; deleteheader :contains \"x-twice\" [\"o\"]; if header "
         "\"x-twice\" \"three\" { discard; }",
         "discard"},
        {"require [\"editheader\"]; deleteheader \"received\"; if exists \"received\" { discard; }",
         "discard"},
        {"require [\"editheader\"]; addheader \"Received\" \"x\"; if not header \"received\" \"x\" "
         "{ discard; }",
         "discard"},
    };
    CHECK_SCRIPTS(rows);

    run("require [\"editheader\",\"fileinto\"]; fileinto \"Before\"; addheader \"X-First\" "
        "\"\xc3\xa4\"; addheader :last \"X-Last\" \"z\";");
    assert_true(str_eq(out.v[0].message, STR(plain)));
    assert_false(out.v[0].is_edited);
    assert_false(out.keeps_implicitly);
    assert_true(str_starts(out.implicit.message, STR("X-First: =?UTF-8?")));
    assert_true(str_find(out.implicit.message, STR("\r\nX-Last: z\r\n\r\nPlease")) > 0);
    assert_true(out.implicit.is_edited);
    /* A fault takes the changes back. */
    run("require [\"editheader\",\"ihave\"]; addheader \"X-First\" \"1\"; error \"x\";");
    assert_int_equal(out.end, SIEVE_FAILED);
    assert_true(str_eq(out.implicit.message, STR(plain)));
    assert_false(out.implicit.is_edited);
}

static const char parts[] =
    "From: a@example.org\r\nSubject: s\r\nMIME-Version: 1.0\r\n"
    "Content-Type: multipart/mixed; boundary=out\r\n\r\n"
    "--out\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\nOne \xe4\r\n"
    "--out\r\nContent-Type: multipart/alternative; boundary=in\r\n\r\n"
    "--in\r\nContent-Type: text/html\r\n\r\n<p>Two</p>\r\n"
    "--in\r\nContent-Type: image/png\r\n\r\nPNG\r\n--in--\r\n"
    "--out\r\nContent-Type: application/exe; name=\"virus.exe\"\r\n\r\nMZ\r\n"
    "--out\r\nContent-Type: application/zip\r\n\r\nPK\r\n--out--\r\n";

#define MIME                                                                                       \
    "require "                                                                                     \
    "[\"foreverypart\",\"mime\",\"variables\",\"extracttext\",\"replace\",\"enclose\","            \
    "\"fileinto\"];"

CASE(loops_visit_every_part)
{
    static const struct script_row rows[] = {
        {MIME "foreverypart { if header :mime :matches :contenttype \"content-type\" \"*\" { set "
              "\"a\" \"${a} ${1}\"; } } fileinto \"${a}\";",
         "fileinto  multipart/mixed text/plain multipart/alternative text/html image/png "
         "application/exe application/zip"},
        {MIME
         "foreverypart { if header :mime :subtype \"content-type\" \"alternative\" { foreverypart {"
         "if header :mime :matches :contenttype \"content-type\" \"*\" { set \"a\" \"${a} ${1}\"; "
         "} } } } fileinto \"${a}\";",
         "fileinto  text/html image/png"},
        {MIME "foreverypart { if header :mime :type \"content-type\" \"text\" { extracttext :first "
              "5 \"t\"; break; } } fileinto \"${t}\";",
         "fileinto One \xc3\xa4"},
        {MIME "foreverypart :name \"o\" { foreverypart { if header :mime :type \"content-type\" "
              "\"image\" { break :name \"o\"; } set \"a\" \"${a}x\"; } set \"a\" \"${a}y\"; } "
              "fileinto \"${a}\";",
         "fileinto xxx"},
    };

    mail.message = str_of(parts, sizeof parts - 1);
    CHECK_SCRIPTS(rows);
}

CASE(replaced_parts_leave_the_others_byte_for_byte)
{
    struct str m;

    mail.message = str_of(parts, sizeof parts - 1);
    assert_string_equal(
        run(MIME "foreverypart { set \"a\" \"${a}.\"; if anyof(header :mime :subtype "
                 "\"content-type\" \"exe\", header :mime :subtype \"content-type\" \"alternative\")"
                 "{ replace \"gone \xc3\xa4\"; } } fileinto \"${a}\";"),
        "fileinto .....");
    m = out.v[0].message;
    assert_true(out.v[0].is_edited);
    assert_true(str_find(m, STR("--out\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\nOne "
                                "\xe4\r\n--out\r\n")) > 0);
    assert_true(str_find(m, STR("gone =C3=A4\r\n--out\r\n")) > 0);
    assert_true(str_find(m, STR("exe")) < 0);
    assert_true(str_find(m, STR("--in")) < 0);
    assert_true(
        str_ends(m, STR("--out\r\nContent-Type: application/zip\r\n\r\nPK\r\n--out--\r\n")));
}

CASE(a_replaced_message_keeps_its_fields_and_its_old_subject)
{
    struct str m;

    mail.message = str_of(parts, sizeof parts - 1);
    run(MIME "replace :subject \"new\" :from \"x@example.org\" \"all of it\"; if header :mime "
             ":type \"content-type\" \"text\" { fileinto \"A\"; }");
    m = out.v[0].message;
    assert_true(str_find(m, STR("Original-Subject: s\r\n")) >= 0);
    assert_true(str_find(m, STR("Original-From: a@example.org\r\n")) > 0);
    assert_true(str_find(m, STR("\r\nSubject: new\r\n")) > 0);
    assert_true(str_ends(m, STR("\r\n\r\nall of it\r\n")));
    assert_true(str_find(m, STR("multipart")) < 0);
}

CASE(an_enclosed_message_is_whole_and_redirect_sends_the_old_one)
{
    struct str m;

    run(MIME "enclose :subject \"Warning\" :headers \"to\" \"look\"; fileinto \"A\"; redirect "
             "\"x@example.org\";"
             "if header \"subject\" \"warning\" { keep; }");
    m = out.v[0].message;
    assert_int_equal(out.n, 3);
    assert_true(str_find(m, STR(plain)) > 0);
    assert_true(str_find(m, STR("Subject: Warning\r\n")) > 0);
    assert_true(str_find(m, STR("From: <budi@example.com>\r\n")) >= 0);
    assert_true(str_starts(m, STR("To: Budi")));
    assert_true(str_eq(out.v[1].message, STR(plain)));
    assert_true(str_eq(out.v[2].message, m));
}

CASE(vacation_answers_people_who_wrote_to_me)
{
    static const char script[] =
        "require [\"vacation\"]; vacation :days 3 :addresses \"me@old.test\" \"gone\";";
    static const char answer[] =
        "vacation a@x.test subject=Auto: hi text=gone seconds=259200; implicit";
    static const struct {
        const char *sender, *header;
        bool answers;
    } rows[] = {
        {"a@x.test", "To: budi@example.com\r\n", true},
        {"a@x.test", "To: Someone <BUDI+x@EXAMPLE.com>\r\n", true},
        {"a@x.test", "Cc: sales@example.com\r\n", true},
        {"a@x.test", "Bcc: me@old.test\r\n", true},
        {"a@x.test", "Resent-To: budi@example.com\r\n", true},
        {"a@x.test", "To: all@example.com\r\n", false},
        {"a@x.test", "", false},
        {"", "To: budi@example.com\r\n", false},
        {"budi@example.com", "To: budi@example.com\r\n", false},
        {"MAILER-DAEMON@x.test", "To: budi@example.com\r\n", false},
        {"owner-list@x.test", "To: budi@example.com\r\n", false},
        {"list-request@x.test", "To: budi@example.com\r\n", false},
        {"no-reply@x.test", "To: budi@example.com\r\n", false},
        {"a@x.test", "To: budi@example.com\r\nAuto-Submitted: auto-replied\r\n", false},
        {"a@x.test", "To: budi@example.com\r\nAuto-Submitted: no\r\n", true},
        {"a@x.test", "To: budi@example.com\r\nAuto-Submitted: No (a person)\r\n", true},
        {"a@x.test", "To: budi@example.com\r\nList-Id: <l.x.test>\r\n", false},
        {"a@x.test", "To: budi@example.com\r\nPrecedence: bulk\r\n", false},
        {"a@x.test", "To: budi@example.com\r\nPrecedence: first-class\r\n", true},
        {"a@x.test", "To: budi@example.com\r\nX-Auto-Response-Suppress: OOF, DR\r\n", false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        mail.sender = str_c(rows[i].sender);
        mail.message = arena_printf(arena, "%sSubject: hi\r\n\r\nx\r\n", rows[i].header);
        print_message("# %s %s\n", rows[i].sender, rows[i].header);
        assert_string_equal(run(script), rows[i].answers ? answer : "implicit");
        if (!rows[i].answers) {
            assert_int_equal(out.notes_count, 1);
            assert_true(str_eq(out.notes[0].test, STR("vacation")));
            assert_true(out.notes[0].value.n > 0);
        }
    }
    mail.sender = STR("a@x.test");
    mail.message = STR("To: budi@example.com\r\n\r\n");
    assert_string_equal(
        run("require \"vacation\"; vacation \"a\";\nvacation \"b\";"),
        "implicit; fault 2: vacation is called twice: one answer is all that a message may get");
    assert_string_equal(
        run("require [\"vacation\",\"vacation-seconds\",\"fcc\"]; vacation :seconds 0 :subject "
            "\"S\" :from \"sales@example.com\" :fcc \"Sent\" \"b\";"),
        "vacation a@x.test subject=S from=sales@example.com text=b seconds=0 fcc Sent; implicit");
}

CASE(notices_are_resolved)
{
    static const struct script_row rows[] = {
        {"require \"enotify\"; notify :message \"m\" :importance \"1\" \"mailto:a@example.org\";",
         "notify mailto:a@example.org text=m; implicit"},
        {"require [\"enotify\",\"variables\"]; if header :matches \"x-twice\" \"o*\" {} notify "
         ":message \"${1}\" \"mailto:a@example.org?subject=x\";",
         "notify mailto:a@example.org?subject=x text=ne; implicit"},
        {"require [\"enotify\",\"variables\"]; set \"u\" \"xmpp:a\";\nnotify \"${u}\";",
         "implicit; fault 2: \"xmpp:a\" is no mailto: URI with a recipient"},
        {"require \"enotify\"; if valid_notify_method [\"mailto:a@b.test\"] { discard; }",
         "discard"},
        {"require \"enotify\"; if valid_notify_method [\"mailto:a@b.test\", \"xmpp:a@b\"] { "
         "discard; }",
         "implicit"},
        {"require \"enotify\"; if notify_method_capability \"mailto:a@b.test\" \"Online\" "
         "[\"yes\",\"maybe\"] { discard; }",
         "discard"},
        {"require \"enotify\"; if notify_method_capability \"mailto:a@b.test\" \"other\" "
         "[\"yes\",\"maybe\"] { discard; }",
         "implicit"},
    };

    CHECK_SCRIPTS(rows);
}

/* ---- hooks ------------------------------------------------------------------------------------ */

static const char *const library[][2] = {
    {"flags", "require \"imap4flags\"; addflag \"inc\";"},
    {"stop", "discard; stop;"},
    {"back", "require \"include\"; return; discard;"},
    {"circle", "require \"include\"; include \"circle2\";"},
    {"circle2", "require \"include\"; include \"circle\";"},
    {"faulty", "keep;\nkeep keep;"},
    {"setter", "require [\"include\",\"variables\"]; global \"g\"; set \"g\" \"${g}+\"; set "
               "\"own\" \"x\"; if header :matches \"subject\" \"*\" {}"},
    {"late", "require \"ihave\";\n\nerror \"x\";"},
};

static int include(void *context, enum sieve_location location, struct str name, struct arena *a,
                   struct sieve_script **script, struct sieve_fault *fault)
{
    for (size_t i = 0; i < sizeof library / sizeof library[0]; i++)
        if (location == SIEVE_PERSONAL && str_eq(name, str_c(library[i][0])))
            return sieve_compile(str_c(library[i][1]), script, a, fault) < 0;
    return str_eq(name, STR("away")) ? -1 : 0;
}

CASE(scripts_include_each_other_within_bounds)
{
    static const struct script_row rows[] = {
        {"require \"include\"; include \"flags\";", "implicit (inc)"},
        {"require \"include\"; include \"stop\"; keep;", "discard"},
        {"require \"include\"; include \"back\"; keep;", "keep"},
        {"require \"include\"; include :optional \"none\"; keep;", "keep"},
        {"require \"include\";\ninclude \"none\"; keep;",
         "implicit; fault 2: there is no script \"none\" to include: make it, or say :optional"},
        {"require \"include\"; include :global :optional \"flags\"; keep;", "keep"},
        {"require \"include\"; include \"circle\";",
         "implicit; fault 1: the script includes itself, directly or through others"},
        {"require \"include\"; include \"away\";", "implicit; later"},
        {"require [\"include\",\"variables\",\"fileinto\"]; global \"g\"; set \"g\" \"a\"; set "
         "\"own\" \"mine\";"
         "if header :matches \"x-twice\" \"t*\" {} include \"setter\"; include :once \"setter\"; "
         "include \"setter\";"
         "fileinto \"${g} ${own} ${global.g} ${1}\";",
         "fileinto a++ mine a++ wo"},
        {"require [\"include\"]; include \"late\";",
         "implicit; fault 3: the script ended itself: x"},
    };

    hooks.include = include;
    CHECK_SCRIPTS(rows);
    assert_true(str_eq(out.fault_included, STR("late")));
    run("require \"include\";\ninclude \"faulty\";");
    assert_int_equal(out.end, SIEVE_FAILED);
    assert_int_equal(out.fault.line, 2);
    assert_true(str_find(out.fault.text, STR("has a fault in line 2")) > 0);
}

/* Script "dN" nests and includes "dN+1"; the last one decodes a body. */
static int include_deeper(void *context, enum sieve_location location, struct str name,
                          struct arena *a, struct sieve_script **script, struct sieve_fault *fault)
{
    int n = atoi(name.p + 1), levels = *(int *)context;
    struct buf b;
    int answer;

    buf_init(&b, SIZE_MAX);
    buf_adds(&b, "require [\"include\",\"body\",\"regex\",\"mime\"];");
    for (int i = 0; i < levels; i++)
        buf_adds(&b, "if true {");
    if (n < 10)
        buf_addf(&b, "include \"d%d\";", n + 1);
    else
        buf_adds(&b, "if anyof (body :text :regex \"^(fa|x)+y$\", header :mime :anychild :param "
                     "\"name\" :matches \"content-type\" \"*.exe\") { discard; }");
    for (int i = 0; i < levels; i++)
        buf_addc(&b, '}');
    answer = sieve_compile(buf_str(&b), script, a, fault) < 0;
    buf_fini(&b);
    return answer;
}

CASE(the_deepest_nesting_fits_a_stack)
{
    int levels = 4;

    mail.message = STR("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: "
                       "text/html; name=a.exe\r\n\r\n<p>fast</p>\r\n--x--\r\n");
    hooks.context = &levels;
    hooks.include = include_deeper;
    assert_string_equal(run("require \"include\"; include \"d1\";"), "discard");
    levels = 8;
    run("require \"include\"; include \"d1\";");
    assert_int_equal(out.end, SIEVE_FAILED);
    assert_true(str_find(out.fault.text, STR("nested")) > 0);
}

static int mailbox_exists(void *context, struct str path, bool *exists)
{
    *exists = str_eq(path, STR("Known"));
    return 0;
}

static int mailbox_by_id(void *context, struct arena *a, struct str id, struct str *path)
{
    *path = str_eq(id, STR("F1")) ? STR("Known") : STR("");
    return 0;
}

static int special_use(void *context, struct arena *a, struct str path, struct str attribute,
                       struct str *found)
{
    *found = str_ieq(attribute, STR("\\Junk")) ? STR("Spam") : STR("");
    return 0;
}

static int metadata(void *context, struct arena *a, struct str path, struct str entry, bool *exists,
                    struct str *value)
{
    *exists = str_eq(entry, STR("/private/comment"));
    *value = str_empty(path) ? STR("of the server") : STR("of a mailbox");
    return 0;
}

static int list_has(void *context, struct str list, struct str value, bool *has)
{
    *has = str_eq(list, STR("tag:friends")) && str_ieq(value, STR("ani+shop@example.org"));
    return 0;
}

static int list_members(void *context, struct arena *a, struct str list, struct str **members,
                        size_t *count)
{
    static struct str two[] = {{"a@example.org", 13}, {"b@example.org", 13}};
    *members = two;
    *count = 2;
    return 0;
}

static int was_seen(void *context, struct str handle, struct str id, bool *seen)
{
    *seen = str_eq(id, STR("old"));
    return 0;
}

CASE(the_store_is_asked_through_hooks)
{
    static const struct script_row rows[] = {
        {"require \"mailbox\"; if mailboxexists \"Known\" { discard; }", "discard"},
        {"require \"mailbox\"; if mailboxexists [\"Known\",\"Other\"] { discard; }", "implicit"},
        {"require \"mailboxid\"; if mailboxidexists \"F1\" { discard; }", "discard"},
        {"require \"special-use\"; if specialuse_exists \"\\\\Junk\" { discard; }", "discard"},
        {"require \"special-use\"; if specialuse_exists [\"\\\\Junk\",\"\\\\Sent\"] { discard; }",
         "implicit"},
        {"require \"mboxmetadata\"; if metadata \"INBOX\" \"/private/comment\" \"of a mailbox\" { "
         "discard; }",
         "discard"},
        {"require \"mboxmetadata\"; if metadataexists \"INBOX\" "
         "[\"/private/comment\",\"/private/x\"] { discard; }",
         "implicit"},
        {"require \"servermetadata\"; if servermetadata :contains \"/private/comment\" \"server\" "
         "{ discard; }",
         "discard"},
        {"require \"extlists\"; if address :list \"from\" \"tag:friends\" { discard; }", "discard"},
        {"require \"extlists\"; if address :list \"to\" \"tag:friends\" { discard; }", "implicit"},
        {"require \"extlists\"; redirect :list \"tag:friends\";",
         "redirect a@example.org; redirect b@example.org"},
        {"require \"duplicate\"; if duplicate { discard; }",
         "mark /<1@example.org> 604800; implicit"},
        {"require \"duplicate\"; if duplicate :uniqueid \"old\" { discard; }", "discard"},
        {"require \"duplicate\"; if duplicate :handle \"h\" :header \"x-twice\" :seconds 60 {} if "
         "duplicate :handle \"h\" :uniqueid \"one\" { discard; }",
         "mark h/one 60; implicit"},
        {"require \"duplicate\"; if duplicate :header \"x-none\" { discard; }", "implicit"},
    };

    hooks.mailbox_exists = mailbox_exists;
    hooks.mailbox_by_id = mailbox_by_id;
    hooks.special_use = special_use;
    hooks.metadata = metadata;
    hooks.list_has = list_has;
    hooks.list_members = list_members;
    hooks.was_seen = was_seen;
    CHECK_SCRIPTS(rows);
}

/* ---- several scripts, faults, limits ---------------------------------------------------------- */

CASE(the_next_script_runs_while_the_implicit_keep_stands)
{
    const char *three[] = {"require \"copy\"; redirect :copy \"archive@example.com\";",
                           "require \"imap4flags\"; addflag \"a\";",
                           "require \"fileinto\"; fileinto \"After\";"};
    const char *taken[] = {"require \"fileinto\"; fileinto \"First\";", "discard;"};
    const char *rejected[] = {"require \"copy\"; redirect :copy \"archive@example.com\";",
                              "require \"ereject\"; ereject \"no\";", "keep;"};
    const char *faulty[] = {
        "require [\"copy\",\"imap4flags\"]; redirect :copy \"archive@example.com\"; addflag \"a\";",
        "require [\"fileinto\",\"ihave\"]; fileinto \"Mine\";\nerror \"x\";", "discard;"};

    assert_string_equal(run_all(three, 3), "redirect copy archive@example.com; fileinto After (a)");
    assert_string_equal(run_all(taken, 2), "fileinto First");
    assert_string_equal(run_all(rejected, 3), "redirect copy archive@example.com; ereject text=no");
    assert_string_equal(
        run_all(faulty, 3),
        "redirect copy archive@example.com; implicit (a); fault 2: the script ended itself: x");
    assert_int_equal(out.fault_script, 1);
}

CASE(what_was_true_is_noted_with_its_line_and_value)
{
    run("require \"fileinto\";\nif header :contains \"subject\" \"none\" { keep; }\n"
        "elsif anyof (address \"from\" \"x@y.test\",\n  header :contains \"subject\" \"SHOP\") { "
        "fileinto \"A\"; }");
    assert_int_equal(out.notes_count, 2);
    assert_int_equal(out.notes[0].line, 2);
    assert_false(out.notes[0].is_true);
    assert_int_equal(out.notes[1].line, 3);
    assert_true(out.notes[1].is_true);
    assert_true(str_eq(out.notes[1].test, STR("header")));
    assert_true(str_eq(out.notes[1].key, STR("SHOP")));
    assert_true(str_ends(out.notes[1].value, STR("from the shop")));
    assert_int_equal(out.v[0].line, 4);
}

static const char *repeated(const char *head, const char *text, size_t n)
{
    struct buf b;
    const char *all;

    buf_init(&b, SIZE_MAX);
    buf_adds(&b, head);
    for (size_t i = 0; i < n; i++)
        buf_adds(&b, text);
    all = arena_c(arena, buf_str(&b));
    buf_fini(&b);
    return all;
}

CASE(every_limit_ends_in_a_fault_and_the_implicit_keep)
{
    const char *scripts[] = {
        repeated("require \"variables\";",
                 "set \"a\" \"x\"; redirect \"a${a}@b.test\"; set \"x\" \"${x}y\"; redirect "
                 "\"${x}@b.test\";",
                 10),
        repeated("require [\"fileinto\",\"variables\"];", "set \"x\" \"${x}y\"; fileinto \"${x}\";",
                 65),
        repeated("require \"editheader\";", "addheader \"x\" \"y\";", 501),
        repeated("require [\"foreverypart\",\"variables\"];",
                 "foreverypart { foreverypart { foreverypart { set \"a\" \"b\"; } } }", 1),
        "require \"regex\"; if header :regex \"x-long\" \"^(a+)+$\" { discard; }",
    };

    for (size_t i = 0; i < 5; i++) {
        if (i == 3)
            mail.message = str_c(repeated(
                "Content-Type: multipart/mixed; boundary=x\r\n\r\n",
                "--x\r\n\r\n--x\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n", 1500));
        if (i == 4)
            mail.message = arena_printf(arena, "X-Long: %s!\r\n\r\n", repeated("", "a", 200));
        run(scripts[i]);
        if (i == 3)
            continue; /* may end well: it only must end */
        assert_int_equal(out.end, SIEVE_FAILED);
        assert_true(out.keeps_implicitly);
        assert_int_equal(out.n, 0);
        assert_true(out.fault.line == 1);
        print_message("# %.*s\n", STR_ARG(out.fault.text));
    }
}

CASE(imap_events_set_flags_and_cannot_reject)
{
    static const struct str flags[] = {{"\\Seen", 5}};
    static const struct str changed[] = {{"\\Seen", 5}};
    struct sieve_imap imap = {.user = STR("budi"),
                              .cause = STR("FLAG"),
                              .mailbox = STR("Work"),
                              .changed_flags = changed,
                              .changed_flags_count = 1,
                              .flags = flags,
                              .flags_count = 1};
    static const struct script_row rows[] = {
        {"", "implicit (\\Seen)"},
        {"require [\"imapsieve\",\"environment\",\"imap4flags\"]; if environment \"imap.mailbox\" "
         "\"Work\" { addflag \"done\"; }",
         "setflags (\\Seen done); implicit (\\Seen done)"},
        {"require [\"imapsieve\",\"environment\"]; if environment :contains \"imap.changedflags\" "
         "\"seen\" { discard; }",
         "discard"},
        {"require [\"imapsieve\",\"imap4flags\"]; if hasflag \"\\\\Seen\" { discard; }", "discard"},
        {"require [\"vacation\"]; vacation \"x\";",
         "implicit (\\Seen); fault 1: vacation answers messages that arrive, not events of a "
         "mailbox"},
        {"require [\"reject\"]; reject \"x\";",
         "implicit (\\Seen); fault 1: a message that lies in a mailbox cannot be rejected"},
    };

    mail.imap = &imap;
    CHECK_SCRIPTS(rows);
}

CASE(a_header_beyond_all_limits_is_still_tested)
{
    mail.message = str_c(repeated("Subject: first\r\n", "X-Many: field\r\n", 20000));
    assert_string_equal(test("", "header \"subject\" \"first\""), "true");
    assert_string_equal(run("require \"editheader\"; addheader \"x\" \"y\";"),
                        "implicit; fault 1: the header of the message is too big to be edited");
    mail.message = STR("");
    assert_string_equal(test("", "exists \"subject\""), "false");
    assert_string_equal(test("\"body\"", "body :raw :contains \"x\""), "false");
}

/* ---- scripts of others ------------------------------------------------------------------------ */

static struct str read_script(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = arena_alloc(arena, 65536);
    size_t size = file != NULL ? fread(text, 1, 65536, file) : 0;

    if (file != NULL)
        fclose(file);
    return str_of(text, size);
}

/* Whatever they decide, the message goes somewhere, or is discarded or rejected by an action with a line. */
static void run_folder(const char *folder)
{
    const char *shared = getenv("MERPATI_SHARED_DATA");
    const char *path =
        arena_c(arena, arena_printf(arena, "%s/sieve/%s",
                                    shared != NULL ? shared : "../shared/data", folder));
    DIR *dir = opendir(path);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        struct sieve_script *script;
        struct sieve_fault fault;
        struct str text =
            read_script(arena_c(arena, arena_printf(arena, "%s/%s", path, entry->d_name)));
        if (!str_ends(str_c(entry->d_name), STR(".sieve")) ||
            sieve_compile(text, &script, arena, &fault) < 0)
            continue;
        sieve_run(arena, &script, 1, &mail, &hooks, &out);
        sieve_script_free(&script);
        assert_true(out.keeps_implicitly || out.n > 0);
        assert_true(out.end == SIEVE_DONE || (out.end == SIEVE_FAILED && out.fault.line > 0));
        for (size_t i = 0; i < out.n; i++)
            assert_true(out.v[i].line > 0);
    }
    if (dir != NULL)
        closedir(dir);
}

CASE(scripts_of_others_lose_nothing)
{
    const char *const folders[] = {"james-project", "rfc-examples", "sievelib/valid"};

    for (size_t i = 0; i < 3; i++) {
        mail.message = STR(plain);
        run_folder(folders[i]);
        mail.message = str_of(parts, sizeof parts - 1);
        run_folder(folders[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_tests_see_decoded_trimmed_values),
        cmocka_unit_test(address_tests_see_parts_and_members_of_groups),
        cmocka_unit_test(dates_are_shifted_and_taken_apart),
        cmocka_unit_test(bodies_are_decoded_and_html_is_read),
        cmocka_unit_test(spam_and_virus_values_have_the_scales_of_rfc_5235),
        cmocka_unit_test(environment_items_and_unknown_ones),
        cmocka_unit_test(actions_come_out_in_order_and_cancel_the_implicit_keep),
        cmocka_unit_test(flags_belong_to_what_is_filed),
        cmocka_unit_test(variables_are_put_in_and_modified),
        cmocka_unit_test(values_are_cut_at_the_limit_between_characters),
        cmocka_unit_test(edited_headers_are_seen_and_filed),
        cmocka_unit_test(loops_visit_every_part),
        cmocka_unit_test(replaced_parts_leave_the_others_byte_for_byte),
        cmocka_unit_test(a_replaced_message_keeps_its_fields_and_its_old_subject),
        cmocka_unit_test(an_enclosed_message_is_whole_and_redirect_sends_the_old_one),
        cmocka_unit_test(vacation_answers_people_who_wrote_to_me),
        cmocka_unit_test(notices_are_resolved),
        cmocka_unit_test(scripts_include_each_other_within_bounds),
        cmocka_unit_test(the_deepest_nesting_fits_a_stack),
        cmocka_unit_test(the_store_is_asked_through_hooks),
        cmocka_unit_test(the_next_script_runs_while_the_implicit_keep_stands),
        cmocka_unit_test(what_was_true_is_noted_with_its_line_and_value),
        cmocka_unit_test(every_limit_ends_in_a_fault_and_the_implicit_keep),
        cmocka_unit_test(imap_events_set_flags_and_cannot_reject),
        cmocka_unit_test(a_header_beyond_all_limits_is_still_tested),
        cmocka_unit_test(scripts_of_others_lose_nothing),
    };
    int failures = cmocka_run_group_tests(tests, NULL, NULL);

    config_fini();
    return failures;
}
