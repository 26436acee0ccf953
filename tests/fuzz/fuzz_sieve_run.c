/* fuzz_sieve_run.c - Sieve scripts that compile are run over a message: whatever they say, the outcome is in order and
 * within the limits.
 *
 * The input is a script; behind a NUL, the message, else it is the one below. A script that begins with ";" gets a
 * require of every extension but ihave in front of it. The hooks answer by the length of what they are asked. */
#include <assert.h>

#include "mail/sieve/sieve.h"
#include "mail/sieve/sieve_program.h"
#include "server/run/config.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct str sample =
    STR("Received: from mx.example.org by mail.example.test; Mon, 23 Nov 2026 10:00:00 +0700\r\n"
        "From: \"Boss\" <boss@example.org>\r\n"
        "To: me+detail@example.test, you@example.test\r\n"
        "Cc: all@example.net\r\n"
        "Subject: =?utf-8?q?Make_money?= fast\r\n"
        "Date: Mon, 23 Nov 2026 10:00:00 +0700\r\n"
        "Message-ID: <1@example.org>\r\n"
        "X-Number: 42\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: multipart/mixed; boundary=b\r\n"
        "\r\n"
        "--b\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "\r\n"
        "hello world\r\n"
        "--b\r\n"
        "Content-Type: image/png; name=\"important.png\"\r\n"
        "Content-Disposition: attachment; filename=important.png\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        "\r\n"
        "aGVsbG8=\r\n"
        "--b\r\n"
        "Content-Type: message/rfc822\r\n"
        "\r\n"
        "Subject: inner\r\n"
        "\r\n"
        "inner text\r\n"
        "--b--\r\n");

static const struct str own_address = STR("me@example.test");

/* --- hooks ---------------------------------------------------------------------------------------- */

static int answer(void *context, struct str asked, bool *is_true)
{
    *is_true = asked.n % 2 == 1;
    return 0;
}

static int answer_about_two(void *context, struct str first, struct str second, bool *is_true)
{
    return answer(context, second, is_true);
}

static int find_by_id(void *context, struct arena *a, struct str id, struct str *path)
{
    *path = id.n % 2 == 1 ? id : STR_NULL;
    return 0;
}

static int find_special_use(void *context, struct arena *a, struct str path, struct str attribute,
                            struct str *found)
{
    *found = attribute.n % 2 == 1 ? STR("Junk") : STR_NULL;
    return 0;
}

static int find_metadata(void *context, struct arena *a, struct str path, struct str entry,
                         bool *exists, struct str *value)
{
    *value = STR("on");
    return answer(context, entry, exists);
}

static int find_members(void *context, struct arena *a, struct str list, struct str **out,
                        size_t *count)
{
    static struct str members[] = {STR("p@example.org"), STR("q@example.org")};

    *out = members;
    *count = 2;
    return 0;
}

/* Every other name is a script, which includes another one. */
static int find_script(void *context, enum sieve_location location, struct str name,
                       struct arena *a, struct sieve_script **out, struct sieve_fault *fault)
{
    static const struct str text = STR("require [\"include\", \"variables\"]; global \"a\"; set "
                                       "\"a\" \"${a}x\"; include \"abc\";");

    *out = NULL;
    return name.n % 2 == 0 || sieve_compile(text, out, a, fault) == 0 ? 0 : 1;
}

static const struct sieve_hooks hooks = {
    .include = find_script,
    .mailbox_exists = answer,
    .mailbox_by_id = find_by_id,
    .special_use = find_special_use,
    .metadata = find_metadata,
    .list_exists = answer,
    .list_has = answer_about_two,
    .list_members = find_members,
    .was_seen = answer_about_two,
};

/* --- running -------------------------------------------------------------------------------------- */

static void check_outcome(const struct sieve_outcome *out)
{
    size_t redirects = 0;

    assert(out->end == SIEVE_DONE || out->end == SIEVE_FAILED);
    assert(out->n <= SIEVE_ACTIONS_MAX);
    assert(out->notes_count <= SIEVE_NOTES_MAX);
    for (size_t i = 0; i < out->n; i++)
        redirects += out->v[i].kind == SIEVE_REDIRECT;
    assert(redirects <= SIEVE_REDIRECTS_MAX);
    if (out->end == SIEVE_FAILED) {
        assert(out->keeps_implicitly);
        assert(out->n == 0);
        assert(out->fault.line > 0);
        assert(out->fault.text.n > 0);
    }
}

static void run(struct arena *a, struct sieve_script *script, struct str message)
{
    struct sieve_mail mail = {
        .message = message,
        .sender = STR("a@example.org"),
        .recipient = STR("me+detail@example.test"),
        .account_address = own_address,
        .own_addresses = &own_address,
        .own_addresses_count = 1,
        .now_us = INT64_C(1795000000000000),
        .zone_min = 420,
        .spam_percent = 50,
        .virus_value = 1,
        .dsn_notify = STR("SUCCESS"),
        .has_deliver_by = true,
        .deliver_by_us = INT64_C(1795000100000000),
        .deliver_by_mode = STR("notify"),
    };
    struct sieve_outcome out;

    sieve_run(a, &script, 1, &mail, &hooks, &out);
    check_outcome(&out);
}

static struct str with_require(struct arena *a, struct str text)
{
    struct str all = arena_printf(a, "require [\"%s\"", sieve_extensions[0]);

    for (unsigned i = 1; sieve_extensions[i] != NULL; i++)
        if (i != SIEVE_EXT_IHAVE)
            all = arena_printf(a, "%.*s,\"%s\"", STR_ARG(all), sieve_extensions[i]);
    return arena_printf(a, "%.*s]%.*s", STR_ARG(all), STR_ARG(text));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    config_defaults();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct str text = str_of((const char *)data, size), message = STR_NULL;
    struct sieve_script *script;
    struct sieve_fault fault;

    if (!str_cut(text, '\0', &text, &message))
        message = sample;
    if (str_starts(text, STR(";")))
        text = with_require(a, text);
    if (sieve_compile(text, &script, a, &fault) == 0)
        run(a, script, message);
    sieve_script_free(&script);
    arena_free(&a);
    return 0;
}
