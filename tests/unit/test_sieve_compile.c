/* test_sieve_compile.c - Sieve scripts become programs, or are refused at the right place with a sentence that helps.
 *
 * The scripts of ../shared/data/sieve are compiled, too, where they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "mail/sieve/sieve_program.h"
#include "server/base/buf.h"

static struct arena *arena;
static struct sieve_script *script;
static struct sieve_fault fault;

static int setup(void **state)
{
    arena = arena_new();
    script = NULL;
    return 0;
}

static int teardown(void **state)
{
    sieve_script_free(&script);
    arena_free(&arena);
    return 0;
}

static const struct sieve_program *compile(struct str text)
{
    sieve_script_free(&script);
    if (sieve_compile(text, &script, arena, &fault) == 0)
        return sieve_script_program(script);
    assert_null(script);
    return NULL;
}

static const struct sieve_program *compile_all(const char *text)
{
    static const char all[] = "require [";
    struct str required = str_c(all);

    for (unsigned i = 0; sieve_extensions[i] != NULL; i++)
        if (i != SIEVE_EXT_IHAVE)
            required = arena_printf(arena, "%.*s%s\"%s\"", STR_ARG(required), i ? "," : "",
                                    sieve_extensions[i]);
    return compile(arena_printf(arena, "%.*s];\n%s", STR_ARG(required), text));
}

/* The first command, with every extension required. */
static const struct sieve_command *command_of(const char *text)
{
    const struct sieve_program *program = compile_all(text);

    if (program == NULL)
        print_message("%s: %u:%u %.*s\n", text, fault.line, fault.column, STR_ARG(fault.text));
    assert_non_null(program);
    assert_non_null(program->first);
    return program->first;
}

static const struct sieve_test *test_of(const char *text)
{
    const struct sieve_command *command =
        command_of(arena_c(arena, arena_printf(arena, "if %s { keep; }", text)));

    assert_int_equal(command->kind, SIEVE_COMMAND_IF);
    return command->u.branches->test;
}

static void assert_text(struct str text, const char *wanted)
{
    assert_string_equal(arena_c(arena, text), wanted);
}

/* --- acceptance ----------------------------------------------------------------------------------- */

static void every_command_and_test_compiles(void **state)
{
    static const char *const rows[] = {
        "",
        "keep;",
        "stop;",
        "discard;",
        "KEEP;",
        "if true {} elsif false {} else {}",
        "keep :flags [\"\\\\Seen\", \"$Work\"];",
        "fileinto \"a\"; fileinto :copy :create :flags \"x\" \"a/b\"; fileinto :specialuse "
        "\"\\\\Junk\" :create \"Spam\"; fileinto :mailboxid \"F6352ae03\" \"a\";",
        "redirect \"a@example.org\"; redirect :copy \"A. B <a@example.org>\"; redirect \"\\\"a "
        "b\\\"@example.org\"; redirect \"\xc3\xa9@example.org\";",
        "redirect :list \"tag:example.com,2010:lists/sales\"; redirect :notify \"SUCCESS,DELAY\" "
        ":ret \"HDRS\" \"a@b\"; redirect :notify \"never\" \"a@b\";",
        "redirect :bytimerelative 600 :bymode \"return\" :bytrace \"a@b\"; redirect "
        ":bytimeabsolute \"2026-11-23T08:00:00+07:00\" \"a@b\"; redirect :bytimeabsolute \"${x}\" "
        "\"a@b\";",
        "reject \"no\"; ereject text:\nno\n.\n;",
        "vacation \"away\"; vacation :days 3 :subject \"s\" :from \"a@b\" :addresses [\"c@d\"] "
        ":handle \"h\" \"away\"; vacation :seconds 0 :mime \"x: y\";",
        "vacation :fcc \"Sent\" :create :flags \"\\\\Seen\" \"away\"; vacation :fcc \"Sent\" "
        ":specialuse \"\\\\Sent\" \"away\";",
        "notify \"mailto:a@b\"; notify :from \"x@y\" :importance \"1\" :options [\"a=b\"] :message "
        "\"m\" :fcc \"Sent\" \"mailto:a@b,c@d?subject=x\"; notify \"xmpp:a@b\"; notify "
        "\"mailto:?to=a@b\";",
        "set \"a\" \"b\"; set :lower :upperfirst :quotewildcard :encodeurl :length \"a_1\" "
        "\"${A_1}${0}${31}\"; set :quoteregex \"global.x\" \"\";",
        "setflag \"a\"; addflag \"v\" [\"a\", \"b\"]; removeflag \"${v}\";",
        "addheader \"X-A\" \"b\"; addheader :last \"X-A\" \"${b}\"; deleteheader \"X-A\"; "
        "deleteheader :index 2 :last :matches \"X-A\" [\"a*\"];",
        "include \"a\"; include :global :once :optional \"b\"; return; global \"a\"; global "
        "[\"b\", \"c\"]; set \"b\" \"x\";",
        "foreverypart { break; } foreverypart :name \"o\" { foreverypart { break :name \"o\"; } }",
        "foreverypart { replace \"x\"; replace :mime \"a: b\"; replace :subject \"s\" :from "
        "\"a@b\" \"x\"; extracttext :first 10 :lower \"v\"; }",
        "enclose :subject \"s\" :headers [\"X: y\"] \"text\";",
        "processcalendar; processcalendar :allowpublic :addresses \"a@b\" :calendarid \"c\" "
        ":deletecancelled :organizers \"l\" :outcome \"o\" :reason \"r\"; processcalendar "
        ":updatesonly;",
        "if address \"From\" \"a@b\" {} if address :domain :contains [\"to\", \"cc\"] [\"x\", "
        "\"y\"] {} if address :detail \"to\" \"x\" {} if address :user :mime :anychild \"to\" "
        "\"x\" {}",
        "if header :index 1 :last \"x\" \"y\" {} if header :mime :anychild :param [\"Name\"] "
        ":matches \"Content-Type\" \"*\" {} if header \"From:\" \"x\" {}",
        "if exists [\"a\", \"b\"] {} if exists :mime :anychild \"a\" {} if size :over 1M {} if "
        "size :under 0 {}",
        "if envelope \"from\" \"\" {} if envelope :localpart [\"TO\", \"from\"] \"x\" {} if "
        "envelope \"envid\" \"x\" {} if envelope :count \"eq\" \"notify\" \"1\" {} if envelope "
        "\"bytrace\" \"x\" {}",
        "if body \"x\" {} if body :raw :contains \"x\" {} if body :content [\"text\", "
        "\"image/png\"] :is \"x\" {} if body :text :regex \"a+\" {}",
        "if date \"date\" \"hour\" \"9\" {} if date :zone \"+0700\" :value \"ge\" \"received\" "
        "\"weekday\" \"1\" {} if date :originalzone :index 1 \"date\" \"std11\" \"x\" {}",
        "if currentdate :zone \"-0330\" \"year\" \"2026\" {} if currentdate \"iso8601\" \"x\" {} "
        "if currentdate :zone \"${z}\" \"${p}\" \"x\" {}",
        "if string \"${a}\" \"b\" {} if hasflag \"x\" {} if hasflag :contains [\"a\", \"b\"] \"x\" "
        "{} if environment \"domain\" \"x\" {}",
        "if duplicate {} if duplicate :handle \"h\" :header \"Message-Id\" :seconds 60 :last {} if "
        "duplicate :uniqueid \"${x}\" {}",
        "if spamtest :value \"ge\" :comparator \"i;ascii-numeric\" \"5\" {} if spamtest :percent "
        ":value \"ge\" \"80\" {} if virustest :count \"ge\" \"1\" {}",
        "if mailboxexists \"a\" {} if mailboxidexists [\"a\"] {} if specialuse_exists \"\\\\Junk\" "
        "{} if specialuse_exists \"a\" [\"\\\\Junk\"] {}",
        "if metadata \"INBOX\" \"/private/comment\" \"x\" {} if metadataexists \"\" "
        "[\"/shared/a\"] {} if servermetadata \"/shared/admin\" \"x\" {} if servermetadataexists "
        "\"/private/a\" {}",
        "if valid_notify_method [\"mailto:a@b\", \"xmpp:x\"] {} if notify_method_capability "
        "\"mailto:a@b\" \"Online\" \"maybe\" {} if valid_ext_list \"x\" {}",
        "if header :list \"from\" \":addrbook:default\" {}",
        "if not not allof (true, anyof (false, not true)) {}",
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (compile_all(rows[i]) == NULL)
            print_message("%s: %u:%u %.*s\n", rows[i], fault.line, fault.column,
                          STR_ARG(fault.text));
        assert_non_null(script);
    }
}

/* --- refusals ------------------------------------------------------------------------------------- */

struct refusal {
    const char *text;
    unsigned line, column;
    const char *says;
};

static void check_refusal(const struct refusal *row, const struct sieve_program *program,
                          unsigned line)
{
    bool is_right = program == NULL && fault.line == line && fault.column == row->column &&
                    str_find(fault.text, str_c(row->says)) >= 0;

    if (!is_right && program == NULL)
        print_message("%s: %u:%u %.*s\n", row->text, fault.line, fault.column, STR_ARG(fault.text));
    if (!is_right && program != NULL)
        print_message("%s: accepted\n", row->text);
    assert_true(is_right);
}

static void what_an_extension_brings_needs_its_require(void **state)
{
    static const struct refusal rows[] = {
        {"fileinto \"a\";", 1, 1,
         "\"fileinto\" needs require [\"fileinto\"]: add it to the first line"},
        {"require \"fileinto\";\nfileinto :copy \"a\";", 2, 10,
         "\":copy\" needs require [\"copy\"]"},
        {"require \"fileinto\"; fileinto :flags \"a\" \"b\";", 1, 30, "imap4flags"},
        {"require \"fileinto\"; fileinto :create \"b\";", 1, 30, "mailbox"},
        {"keep :flags \"a\";", 1, 6, "imap4flags"},
        {"if header :regex \"a\" \"b\" {}", 1, 11, "regex"},
        {"if header :value \"gt\" \"a\" \"b\" {}", 1, 11, "relational"},
        {"if header :comparator \"i;ascii-numeric\" \"a\" \"1\" {}", 1, 23,
         "comparator-i;ascii-numeric"},
        {"if header :list \"a\" \"b\" {}", 1, 11, "extlists"},
        {"if header :index 1 \"a\" \"b\" {}", 1, 11, "index"},
        {"if header :mime \"a\" \"b\" {}", 1, 11, "mime"},
        {"if address :detail \"a\" \"b\" {}", 1, 12, "subaddress"},
        {"require \"envelope\"; if envelope \"ret\" \"b\" {}", 1, 33, "envelope-dsn"},
        {"require \"envelope\"; if envelope \"bymode\" \"b\" {}", 1, 33, "envelope-deliverby"},
        {"require \"vacation\"; vacation :seconds 1 \"b\";", 1, 30, "vacation-seconds"},
        {"require \"vacation\"; vacation :fcc \"a\" \"b\";", 1, 30, "fcc"},
        {"require \"spamtest\"; if spamtest :percent \"b\" {}", 1, 33, "spamtestplus"},
        {"require \"include\"; global \"a\";", 1, 20, "variables"},
        {"require \"variables\"; global \"a\";", 1, 22, "include"},
        {"require \"variables\"; set \"a\" \"${global.a}\";", 1, 30, "include"},
        {"require \"variables\"; set :encodeurl \"a\" \"b\";", 1, 26, "enotify"},
        {"require \"extracttext\"; extracttext \"a\";", 1, 24, "variables"},
        {"require \"imap4flags\"; addflag \"a\" \"b\";", 1, 31, "variables"},
        {"redirect :notify \"NEVER\" \"a@b\";", 1, 10, "redirect-dsn"},
        {"redirect :bytrace \"a@b\";", 1, 10, "redirect-deliverby"},
        {"if ihave \"fileinto\" {}", 1, 4, "ihave"},
        {"error \"x\";", 1, 1, "ihave"},
        {"require \"fileinto2\";", 1, 9, "no extension \"fileinto2\""},
        {"require [\"fileinto\",\n \"vnd.x\"];", 2, 2, "no extension \"vnd.x\""},
        {"keep; require \"fileinto\";", 1, 7, "before every other command"},
        {"if true { require \"fileinto\"; }", 1, 11, "before every other command"},
        {"require;", 1, 1, "1 more argument"},
        {"require 5;", 1, 9, "a string or a list"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_refusal(&rows[i], compile(str_c(rows[i].text)), rows[i].line);
}

/* All extensions are required in a line before. */
static void check_refusals(const struct refusal *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        check_refusal(&rows[i], compile_all(rows[i].text), rows[i].line + 1);
}

static void wrong_structure_and_tests_are_refused_where_they_stand(void **state)
{
    static const struct refusal rows[] = {
        {"foo;", 1, 1, "no command \"foo\""},
        {"header \"a\" \"b\";", 1, 1, "is a test"},
        {"if keep {}", 1, 4, "is a command"},
        {"if foo {}", 1, 4, "no test \"foo\""},
        {"if {}", 1, 1, "needs a test"},
        {"if true;", 1, 1, "needs a block"},
        {"if (true) {}", 1, 1, "without parentheses"},
        {"if \"a\" {}", 1, 4, "argument"},
        {"else {}", 1, 1, "belongs right behind"},
        {"if true {} keep; else {}", 1, 18, "belongs right behind"},
        {"if true {} else {} elsif true {}", 1, 20, "belongs right behind"},
        {"if true {} else true {}", 1, 12, "elsif"},
        {"if not {}", 1, 4, "needs one test"},
        {"if not (true) {}", 1, 4, "needs one test"},
        {"if allof true {}", 1, 4, "parentheses"},
        {"stop keep;", 1, 6, "\"stop\" takes no test: end it with \";\" before \"keep\""},
        {"keep {}", 1, 1, "takes no block"},
        {"foreverypart;", 1, 1, "needs a block"},
        {"stop \"a\";", 1, 6, "takes no more arguments"},
        {"redirect;", 1, 1, "needs 1 more argument"},
        {"redirect [\"a@b\", \"c@d\"];", 1, 10, "needs a string here"},
        {"redirect 5;", 1, 10, "needs a string here"},
        {"if size \"a\" {}", 1, 9, "needs a number here"},
        {"if size 5 {}", 1, 4, ":over"},
        {"if size :over :under 5 {}", 1, 15, "exclude each other"},
        {"if header :is :contains \"a\" \"b\" {}", 1, 15, "exclude each other"},
        {"if header :is :is \"a\" \"b\" {}", 1, 15, "twice"},
        {"if header \"a\" :is \"b\" {}", 1, 15, "tags stand before"},
        {"if header :foo \"a\" \"b\" {}", 1, 11, "knows no \":foo\""},
        {"if header :over \"a\" \"b\" {}", 1, 11, "knows no \":over\""},
        {"if header :value \"a\" \"b\" {}", 1, 4, "needs 1 more"},
        {"if header :value \"xx\" \"a\" \"b\" {}", 1, 18, "no relation"},
        {"if header :value 5 \"a\" \"b\" {}", 1, 11, "needs a string behind it"},
        {"if header :comparator \"i;foo\" \"a\" \"b\" {}", 1, 23, "no comparator"},
        {"if header :contains :comparator \"i;ascii-numeric\" \"a\" \"b\" {}", 1, 33,
         "whole numbers"},
        {"if header :last \"a\" \"b\" {}", 1, 11, ":index"},
        {"if header :index 0 \"a\" \"b\" {}", 1, 18, "from 1"},
        {"if header :anychild \"a\" \"b\" {}", 1, 11, ":mime"},
        {"if header :type \"a\" \"b\" {}", 1, 11, ":mime"},
        {"if header :regex \"a\" \"(\" {}", 1, 22,
         "regular expression is wrong at its character 2"},
        {"if header :regex \"a\" [\"ok\",\n\"[\"] {}", 2, 1, "regular expression"},
        {"if header :regex \"a\" \"((a{1,999}){1,999}){1,999}\" {}", 1, 22, "regular expression"},
        {"if envelope \"auth\" \"b\" {}", 1, 13, "no part \"auth\""},
        {"if envelope :domain \"envid\" \"b\" {}", 1, 21, "no address"},
        {"if date \"date\" \"era\" \"b\" {}", 1, 16, "no part \"era\""},
        {"if date :zone \"WIB\" \"date\" \"year\" \"b\" {}", 1, 15, "no time zone"},
        {"if date :zone \"+0760\" \"date\" \"year\" \"b\" {}", 1, 15, "no time zone"},
        {"if metadata \"INBOX\" \"comment\" \"b\" {}", 1, 21, "annotation"},
        {"if duplicate :header \"a\" :uniqueid \"b\" {}", 1, 26, "exclude each other"},
    };

    check_refusals(rows, sizeof rows / sizeof *rows);
}

static void wrong_actions_are_refused_where_they_stand(void **state)
{
    static const struct refusal rows[] = {
        {"redirect \"a\";", 1, 10, "no address"},
        {"redirect \"a b@c\";", 1, 10, "no address"},
        {"redirect \"a@b, c@d\";", 1, 10, "no address"},
        {"redirect :ret \"ALL\" \"a@b\";", 1, 15, "FULL"},
        {"redirect :notify \"OFTEN\" \"a@b\";", 1, 18, "NEVER"},
        {"redirect :bymode \"notify\" \"a@b\";", 1, 10, ":bytimerelative"},
        {"redirect :bytimeabsolute \"noon\" \"a@b\";", 1, 26, "no date and time"},
        {"redirect :bytimerelative 5 :bytimeabsolute \"${x}\" \"a@b\";", 1, 28,
         "exclude each other"},
        {"fileinto \"\";", 1, 10, "name of a mailbox"},
        {"fileinto :specialuse \"Junk\" \"a\";", 1, 22, "special use"},
        {"fileinto :specialuse \"\\\\Junk\" :mailboxid \"x\" \"a\";", 1, 31, "exclude each other"},
        {"vacation :days 1 :seconds 5 \"a\";", 1, 18, "exclude each other"},
        {"vacation :from \"me\" \"a\";", 1, 16, "no address"},
        {"vacation :create \"a\";", 1, 10, ":fcc"},
        {"notify \"someone\";", 1, 8, "URI"},
        {"notify \"mailto:someone\";", 1, 8, "names no address"},
        {"notify :importance \"4\" \"mailto:a@b\";", 1, 20, "importance"},
        {"set \"1\" \"a\";", 1, 5, "no name of a variable"},
        {"set \"a-b\" \"a\";", 1, 5, "no name of a variable"},
        {"set \"${a}\" \"a\";", 1, 5, "must not have variables"},
        {"set \"env.x\" \"a\";", 1, 5, "no name of a variable"},
        {"set \"global.1\" \"a\";", 1, 5, "no name of a variable"},
        {"set :lower :upper \"a\" \"b\";", 1, 12, "exclude each other"},
        {"set \"a\" \"${32}\";", 1, 9, "beyond the last part"},
        {"set \"a\" \"${env.x}\";", 1, 9, "no namespace"},
        {"set \"a\" \"${unicode:D800}\";", 1, 9, "names no character"},
        {"set \"a\" \"${hex:ff}\";", 1, 9, "UTF-8"},
        {"set \"a\" \"${hex:00}\";", 1, 9, "UTF-8"},
        {"set \"a\" \"b\"; global \"a\";", 1, 21, "set before"},
        {"global \"global.a\";", 1, 8, "no name of a variable"},
        {"addheader \"X A\" \"b\";", 1, 11, "header field"},
        {"addheader \"X:\" \"b\";", 1, 11, "header field"},
        {"deleteheader :last \"a\";", 1, 14, ":index"},
        {"include \"a/b\";", 1, 9, "name of a script"},
        {"include \"${a}\";", 1, 9, "must not have variables"},
        {"include :global :personal \"a\";", 1, 17, "exclude each other"},
        {"break;", 1, 1, "outside"},
        {"foreverypart :name \"a\" { break :name \"b\"; }", 1, 38, "no \"foreverypart\""},
        {"foreverypart { } break;", 1, 18, "outside"},
        {"replace :mime :subject \"s\" \"a\";", 1, 15, "beside \":mime\""},
        {"processcalendar :updatesonly :calendarid \"a\";", 1, 30, "exclude each other"},
        {"keep :flags;", 1, 6, "needs a string or a list of strings behind it"},
    };

    check_refusals(rows, sizeof rows / sizeof *rows);
}

static void what_a_fault_shows_is_short_and_clean(void **state)
{
    struct buf text;

    buf_init(&text, SIEVE_SIZE_MAX);
    buf_adds(&text, "require \"\n\x01");
    for (int i = 0; i < 100000; i++)
        buf_adds(&text, "\xc3\xa9");
    buf_adds(&text, "\";");
    assert_null(compile(buf_str(&text)));
    assert_true(fault.text.n < 200);
    assert_true(str_index(fault.text, '\n') < 0 && str_find(fault.text, STR("...")) > 0);
    buf_fini(&text);
}

/* --- what the program is like --------------------------------------------------------------------- */

static void strings_know_their_variables(void **state)
{
    const struct sieve_command *command =
        command_of("fileinto \"a/${Name}/${1}-${}${a b}${name}\";");
    const struct sieve_string *s = &command->u.file.place.mailbox;

    assert_int_equal(s->pieces_count, 6);
    assert_text(s->pieces[0].text, "a/");
    assert_int_equal(s->pieces[1].kind, SIEVE_PIECE_VARIABLE);
    assert_int_equal(s->pieces[3].kind, SIEVE_PIECE_MATCH);
    assert_int_equal(s->pieces[3].index, 1);
    assert_text(s->pieces[4].text, "-${}${a b}");
    assert_int_equal(s->pieces[5].index, s->pieces[1].index);
    assert_int_equal(sieve_script_program(script)->variables_count, 1);
    assert_text(sieve_script_program(script)->variables[0].name, "name");
}

static void without_the_extension_variables_are_text(void **state)
{
    const struct sieve_program *program =
        compile(STR("require \"fileinto\"; fileinto \"${a}${hex:40}\";"));

    assert_non_null(program);
    assert_true(sieve_string_is_constant(&program->first->u.file.place.mailbox));
    assert_text(program->first->u.file.place.mailbox.text, "${a}${hex:40}");
}

/* RFC 5228, 2.4.2.4, and RFC 5229, 3.1: first the characters, then the variables. */
static void encoded_characters_are_as_the_rfc_shows(void **state)
{
    static const struct {
        const char *text, *decoded;
    } rows[] = {
        {"$${hex:40}", "$@"},
        {"${hex: 40 }", "@"},
        {"${HEX: 40}", "@"},
        {"${hex:40", "${hex:40"},
        {"${hex:400}", "${hex:400}"},
        {"${hex:4${hex:30}}", "${hex:40}"},
        {"${unicode:40}", "@"},
        {"${ unicode:40}", "${ unicode:40}"},
        {"${UNICODE:40}", "@"},
        {"${UnICoDE:0000040}", "@"},
        {"${Unicode:Cool}", "${Unicode:Cool}"},
        {"${hex:24 24}", "$$"},
        {"${hex:}", "${hex:}"},
        {"${unicode:df01 g}", "${unicode:df01 g}"},
        {"${hex:c3 a9}${unicode: 20ac}", "\xc3\xa9\xe2\x82\xac"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct sieve_program *program = compile(arena_printf(
            arena, "require [\"reject\", \"encoded-character\"]; reject \"%s\";", rows[i].text));

        assert_non_null(program);
        assert_text(program->first->u.text.text, rows[i].decoded);
    }
    assert_int_equal(command_of("reject \"dear${hex:20 24 7b 4e}ame}\";")->u.text.pieces_count, 2);
}

static void keys_are_prepared_for_their_comparator(void **state)
{
    const struct sieve_test *test = test_of("header :contains \"Subject\" [\"MiXed\", \"${v}\"]");

    assert_text(test->match.keys[0].key.folded, "mixed");
    assert_text(test->match.keys[0].key.text, "MiXed");
    assert_false(sieve_string_is_constant(&test->match.keys[1].string));
    test = test_of("header :comparator \"i;octet\" \"Subject\" \"MiXed\"");
    assert_text(test->match.keys[0].key.folded, "MiXed");
    test = test_of("header :value \"ge\" :comparator \"i;ascii-numeric\" \"X\" [\"12a\", \"x\", "
                   "\"99999999999999999999999\"]");
    assert_int_equal(test->match.how.relation, SIEVE_GE);
    assert_true(test->match.keys[0].key.is_number && test->match.keys[0].key.number == 12);
    assert_false(test->match.keys[1].key.is_number);
    assert_true(test->match.keys[2].key.number == UINT64_MAX);
    test = test_of("header :regex \"X\" \"^a(b|c)$\"");
    assert_non_null(test->match.keys[0].key.regex);
}

static void wildcards_are_taken_apart(void **state)
{
    const struct sieve_key *key =
        &test_of("header :matches \"X\" \"Ab*c?\\\\*d\\\\\\\\**\"")->match.keys[0].key;

    assert_int_equal(key->globs_count, 8);
    assert_text(key->globs[0].text, "ab");
    assert_int_equal(key->globs[1].kind, SIEVE_GLOB_ANY);
    assert_text(key->globs[2].text, "c");
    assert_int_equal(key->globs[3].kind, SIEVE_GLOB_ONE);
    assert_text(key->globs[4].text, "*d");
    assert_text(key->globs[5].text, "\\");
    assert_int_equal(key->globs[6].kind, SIEVE_GLOB_ANY);
    assert_int_equal(key->globs[7].kind, SIEVE_GLOB_ANY);
    assert_int_equal(test_of("header :matches \"X\" \"\"")->match.keys[0].key.globs_count, 0);
}

static void header_names_have_one_number_each(void **state)
{
    const struct sieve_test *test =
        test_of("header [\"Subject\", \"FROM\", \"subject\", \"${v}\"] \"x\"");

    assert_int_equal(test->u.header.names.v[0].id, 0);
    assert_int_equal(test->u.header.names.v[1].id, 1);
    assert_int_equal(test->u.header.names.v[2].id, 0);
    assert_int_equal(test->u.header.names.v[3].id, -1);
    assert_int_equal(sieve_script_program(script)->names_count, 2);
    assert_text(sieve_script_program(script)->names[1], "from");
}

static void defaults_and_limits_are_filled_in(void **state)
{
    assert_true(command_of("vacation \"x\";")->u.vacation.seconds == 7 * 86400);
    assert_true(command_of("vacation :days 0 \"x\";")->u.vacation.seconds == 86400);
    assert_true(command_of("vacation :days 9999 \"x\";")->u.vacation.seconds == 90 * 86400);
    assert_true(command_of("vacation :seconds 0 \"x\";")->u.vacation.seconds == 0);
    assert_true(test_of("duplicate")->u.duplicate.seconds == 7 * 86400);
    assert_int_equal(test_of("header \"a\" \"b\"")->match.how.type, SIEVE_IS);
    assert_int_equal(test_of("header \"a\" \"b\"")->match.how.comparator, SIEVE_ASCII_CASEMAP);
    assert_int_equal(test_of("body \"a\"")->u.body.transform, SIEVE_BODY_TEXT);
    assert_text(command_of("redirect \"A B <a@example.org>\";")->u.redirect.address.text,
                "a@example.org");
    assert_true(command_of("redirect :bytimeabsolute \"1970-01-01T07:00:01+07:00\" \"a@b\";")
                    ->u.redirect.by_seconds == 1);
    assert_true(command_of("foreverypart { extracttext \"v\"; }")->u.loop.block->u.extract.first ==
                UINT64_MAX);
    assert_int_equal(command_of("foreverypart :name \"o\" { foreverypart { break :name \"o\"; } }")
                         ->u.loop.block->u.loop.block->u.brk.levels,
                     2);
    assert_int_equal(test_of("date :zone \"-0330\" \"date\" \"year\" \"x\"")->u.date.zone_min,
                     -210);
}

static void vacation_handles_differ_where_the_answer_does(void **state)
{
    const struct sieve_command *first =
        command_of("vacation \"a\"; vacation \"a\"; vacation :subject \"a\" \"\"; vacation "
                   ":subject \"\" \"a\"; vacation :mime \"a\"; vacation :days 3 \"a\";");
    struct str handles[6];

    for (size_t i = 0; i < 6; i++, first = first->next)
        handles[i] = first->u.vacation.default_handle;
    assert_true(str_eq(handles[0], handles[1]) && str_eq(handles[0], handles[5]));
    assert_false(str_eq(handles[0], handles[2]) || str_eq(handles[0], handles[3]) ||
                 str_eq(handles[0], handles[4]) || str_eq(handles[2], handles[3]));
}

static void global_names_share_one_variable(void **state)
{
    const struct sieve_program *program =
        compile_all("global \"a\"; set \"a\" \"${global.A}${b}${global.b}\";");
    const struct sieve_command *set;

    assert_non_null(program);
    set = program->first->next;
    assert_int_equal(set->u.set.variable, set->u.set.value.pieces[0].index);
    assert_true(program->variables[set->u.set.variable].is_global);
    assert_false(program->variables[set->u.set.value.pieces[1].index].is_global);
    assert_true(program->variables[set->u.set.value.pieces[2].index].is_global);
}

/* --- ihave ---------------------------------------------------------------------------------------- */

static void under_ihave_unknown_words_wait_for_the_run(void **state)
{
    const struct sieve_program *program =
        compile(STR("require \"ihave\";\nif ihave [\"vnd.x\"] { foo :bar { nested; } keep; }\n"
                    "elsif foo \"x\" { if header :bar \"a\" \"b\" {} }"));
    const struct sieve_branch *branch;

    assert_non_null(program);
    branch = program->first->u.branches;
    assert_int_equal(branch->test->kind, SIEVE_TEST_IHAVE);
    assert_false(branch->test->u.ihave.is_true);
    assert_int_equal(branch->block->kind, SIEVE_COMMAND_FAULT);
    assert_true(str_find(branch->block->u.fault, STR("\"foo\"")) >= 0);
    assert_int_equal(branch->block->next->kind, SIEVE_COMMAND_KEEP);
    assert_int_equal(branch->next->test->kind, SIEVE_TEST_FAULT);
    assert_int_equal(branch->next->block->u.branches->test->kind, SIEVE_TEST_FAULT);
    assert_int_equal(fault.line, 0);
}

static void an_extension_of_ihave_is_marked_where_it_is_used(void **state)
{
    const struct sieve_program *program =
        compile(STR("require \"ihave\"; if ihave \"fileinto\" { fileinto \"a\"; }"));

    assert_non_null(program);
    assert_true(program->first->u.branches->test->u.ihave.is_true);
    assert_true(program->first->u.branches->test->u.ihave.extensions == SIEVE_EXT(FILEINTO));
    assert_true(program->first->u.branches->block->needs == SIEVE_EXT(FILEINTO));
    program = compile(
        STR("require [\"ihave\", \"fileinto\"]; if ihave \"fileinto\" { fileinto \"a\"; }"));
    assert_true(program->first->u.branches->block->needs == 0);
    assert_null(compile(STR("require \"ihave\"; fileinto \"a\"; if ihave \"fileinto\" {}")));
    program = compile(STR("require \"ihave\"; if ihave \"variables\" { error \"${a}\"; }"));
    assert_false(program->first->u.branches->test->u.ihave.is_true);
    assert_true(sieve_string_is_constant(&program->first->u.branches->block->u.text));
    assert_null(compile(STR("require \"ihave\"; if ihave \"x\" { redirect \"nobody\"; }")));
}

/* --- size ----------------------------------------------------------------------------------------- */

static struct str repeated(const char *head, const char *what, size_t size)
{
    struct buf b;
    struct str s;

    buf_init(&b, SIEVE_SIZE_MAX);
    buf_adds(&b, head);
    while (b.n + strlen(what) + 2 < size)
        buf_adds(&b, what);
    s = arena_str(arena, buf_str(&b));
    buf_fini(&b);
    return s;
}

static void big_scripts_stay_a_multiple_of_their_text(void **state)
{
    static const struct {
        const char *head, *what, *tail;
    } rows[] = {
        {"require \"fileinto\"; ",
         "if header :contains \"subject\" \"some words of a rule\" { fileinto \"A/mailbox\"; }\n",
         ""},
        {"require \"reject\"; reject \"", "word ", "\";"},
        {"require [\"variables\",\"reject\"]; reject \"", "${a}", "\";"},
        {"require [\"encoded-character\",\"reject\"]; reject \"", "${hex:40", "\";"},
        {"if header :matches \"a\" [\"x\"", ",\"*?a*? and some more text\"", "] {}"},
        {"", "# comment\n", ""},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct str text = repeated(rows[i].head, rows[i].what, SIEVE_SIZE_MAX - 100);

        text = arena_printf(arena, "%.*s%s", STR_ARG(text), rows[i].tail);
        assert_non_null(compile(text));
        assert_true(sieve_script_size(script) < 40 * text.n);
    }
}

static void what_is_too_big_is_refused(void **state)
{
    struct buf b;

    buf_init(&b, SIEVE_SIZE_MAX + 10);
    while (b.n <= SIEVE_SIZE_MAX)
        buf_addc(&b, '\n');
    assert_null(compile(buf_str(&b)));
    assert_true(str_find(fault.text, STR("1048576 bytes")) >= 0);
    buf_clear(&b);
    buf_adds(&b, "require \"variables\";");
    for (int i = 0; i <= SIEVE_VARIABLES_MAX; i++)
        buf_addf(&b, "set \"v%d\" \"\";", i);
    assert_null(compile(buf_str(&b)));
    assert_true(str_find(fault.text, STR("256 variables")) >= 0);
    buf_clear(&b);
    buf_adds(&b, "require \"regex\"; if header :regex \"a\" [\"x\"");
    for (int i = 0; i < SIEVE_REGEXES_MAX; i++)
        buf_adds(&b, ",\"x\"");
    buf_adds(&b, "] {}");
    assert_null(compile(buf_str(&b)));
    assert_true(str_find(fault.text, STR("500 regular")) >= 0);
    assert_null(compile(
        arena_printf(arena, "%s\" {}", repeated("if header :matches \"a\" \"", "*?", 500).p)));
    assert_true(str_find(fault.text, STR("200 wildcards")) >= 0);
    buf_fini(&b);
}

static void a_script_lives_as_long_as_somebody_holds_it(void **state)
{
    struct sieve_script *other;

    assert_non_null(compile(STR("keep;")));
    other = sieve_script_ref(script);
    sieve_script_free(&script);
    assert_null(script);
    assert_int_equal(sieve_script_program(other)->first->kind, SIEVE_COMMAND_KEEP);
    sieve_script_free(&other);
    sieve_script_free(&other);
}

/* --- scripts of others ---------------------------------------------------------------------------- */

/* Marked valid, and rightly refused. */
static const struct {
    const char *file, *says, *why;
} exceptions[] = {
    {"james-project/reject.sieve", "needs require", "has no require at all"},
    {"james-project/vacationReasonAndFileInto.sieve", "needs require", "requires vacation only"},
    {"rfc-examples/rfc5229-s3.1-01.sieve", "end it with \";\"", "the RFC forgot the semicolon"},
    {"rfc-examples/rfc5229-s3.2-02.sieve", "\"fileinfo\"", "the RFC wrote fileinfo for fileinto"},
    {"rfc-examples/rfc5230-s4.2-01.sieve", "before \",\"", "prose of the RFC behind the script"},
    {"rfc-examples/rfc5230-s4.2-03.sieve", "colon", "prose of the RFC behind the script"},
    {"rfc-examples/rfc5230-s4.4-04.sieve", "\";\"", "cut before its last semicolon"},
    {"rfc-examples/rfc5230-s7-08.sieve", "colon", "prose of the RFC behind the script"},
    {"rfc-examples/rfc5232-s9-01.sieve", "parentheses", "the RFC wrote anyof without parentheses"},
    {"rfc-examples/rfc5235-s3.2-01.sieve", "no extension",
     "a page break of the RFC inside a string"},
    {"rfc-examples/rfc5235-s3.3-03.sieve", "no extension",
     "a page break of the RFC inside a string"},
    {"rfc-examples/rfc5260-s6.1-07.sieve", "before \",\"", "the RFC has a comma before the block"},
    {"rfc-examples/rfc5429-s2.5-04.sieve", "relational", "the RFC forgot to require relational"},
    {"rfc-examples/rfc5490-s3.3-02.sieve", "\";\"", "the RFC forgot the semicolon"},
    {"rfc-examples/rfc5703-s4.1-03.sieve", "number", "the RFC wrote a number in quotation marks"},
    {"rfc-examples/rfc5703-s9.3-08.sieve", "foreverypart",
     "the RFC forgot to require foreverypart"},
    {"rfc-examples/rfc6131-s3-01.sieve", "no meaning", "prose of the RFC behind the script"},
    {"rfc-examples/rfc6558-s3.1-01.sieve", "\"convert\"", "convert is not offered"},
    {"rfc-examples/rfc6558-s3.2-02.sieve", "\"convert\"", "convert is not offered"},
    {"rfc-examples/rfc6558-s3.4-04.sieve", "\"redirect\"",
     "redirect is no extension (and convert is not offered)"},
    {"rfc-examples/rfc7352-s5.3-07.sieve", "no meaning", "prose of the RFC behind the script"},
    {"sievelib/valid/ValidSyntaxes-complex_allof_with_not-1.sieve", "1 more argument",
     "reject takes a reason (RFC 5429, 2.2)"},
    {"sievelib/valid/ValidSyntaxes-reject_extension-1.sieve", "1 more argument",
     "reject takes a reason (RFC 5429, 2.2)"},
    {"sievelib/valid/ValidSyntaxes-imap4flags_hasflag-1.sieve", "variables",
     "names of variables need variables (RFC 5232, 2)"},
};

static const char *shared(const char *folder)
{
    const char *dir = getenv("MERPATI_SHARED_DATA");

    return arena_c(
        arena, arena_printf(arena, "%s/sieve/%s", dir != NULL ? dir : "../shared/data", folder));
}

static struct str read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = arena_alloc(arena, SIEVE_SIZE_MAX);
    size_t size;

    assert_non_null(file);
    size = fread(text, 1, SIEVE_SIZE_MAX, file);
    fclose(file);
    return str_of(text, size);
}

static const char *exception_of(const char *name)
{
    for (size_t i = 0; i < sizeof exceptions / sizeof *exceptions; i++)
        if (str_eq(str_c(name), str_c(exceptions[i].file)))
            return exceptions[i].says;
    return NULL;
}

static void check_file(const char *name, bool is_valid)
{
    const char *says = exception_of(name);
    bool compiles = compile(read_file(shared(name))) != NULL;

    if (compiles != (is_valid && says == NULL))
        print_message("%s: %u:%u %.*s\n", name, fault.line, fault.column, STR_ARG(fault.text));
    assert_int_equal(compiles, is_valid && says == NULL);
    if (says != NULL)
        assert_true(str_find(fault.text, str_c(says)) >= 0);
    assert_true(compiles || (fault.line > 0 && fault.column > 0));
}

static unsigned check_folder(const char *folder, bool is_valid)
{
    DIR *dir = opendir(shared(folder));
    struct dirent *entry;
    unsigned count = 0;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (!str_ends(str_c(entry->d_name), STR(".sieve")))
            continue;
        check_file(arena_c(arena, arena_printf(arena, "%s/%s", folder, entry->d_name)), is_valid);
        count++;
    }
    if (dir != NULL)
        closedir(dir);
    return count;
}

static void scripts_of_others_are_taken_or_refused_as_marked(void **state)
{
    unsigned count = check_folder("james-project", true) + check_folder("rfc-examples", true) +
                     check_folder("sievelib/valid", true) + check_folder("sievelib/invalid", false);

    if (count == 0)
        skip();
    assert_true(count > 180);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_command_and_test_compiles, setup, teardown),
        cmocka_unit_test_setup_teardown(what_an_extension_brings_needs_its_require, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(wrong_structure_and_tests_are_refused_where_they_stand,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_actions_are_refused_where_they_stand, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_a_fault_shows_is_short_and_clean, setup, teardown),
        cmocka_unit_test_setup_teardown(strings_know_their_variables, setup, teardown),
        cmocka_unit_test_setup_teardown(without_the_extension_variables_are_text, setup, teardown),
        cmocka_unit_test_setup_teardown(encoded_characters_are_as_the_rfc_shows, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_are_prepared_for_their_comparator, setup, teardown),
        cmocka_unit_test_setup_teardown(wildcards_are_taken_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(header_names_have_one_number_each, setup, teardown),
        cmocka_unit_test_setup_teardown(defaults_and_limits_are_filled_in, setup, teardown),
        cmocka_unit_test_setup_teardown(vacation_handles_differ_where_the_answer_does, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(global_names_share_one_variable, setup, teardown),
        cmocka_unit_test_setup_teardown(under_ihave_unknown_words_wait_for_the_run, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_extension_of_ihave_is_marked_where_it_is_used, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(big_scripts_stay_a_multiple_of_their_text, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_too_big_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_script_lives_as_long_as_somebody_holds_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(scripts_of_others_are_taken_or_refused_as_marked, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
