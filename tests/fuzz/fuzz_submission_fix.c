/* Submitted messages: what is accepted has one author afterwards, a date, an id and no blind recipients; the body is the
 * client's. And reports about whatever was sent stay mail that may be sent. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/mime/body_encode.h"
#include "mail/queue/dsn.h"
#include "mail/queue/message_language.h"
#include "mail/queue/submission_fix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_fixed(struct arena *a, struct str message)
{
    struct submission_plan plan = {.now_us = 1795428000000000,
                                   .message_id_left = STR("0D4Z5KQ7R8S9T"),
                                   .message_id_domain = STR("example.test"),
                                   .sender = message.n % 2 ? STR("ani@example.test") : STR("")};
    struct submission s;
    struct header_edit again;
    struct str header;
    struct error err = {0};
    bool is_readable = submission_read(a, message, &s, &err) == 0;

    if (!is_readable && (err.kind != ERR_SYNTAX || s.header.count == 0))
        return;
    if (is_readable && s.resent_from.n > 0)
        plan.resent_sender = STR("budi@example.test");
    header = submission_fix(a, &s, &plan);
    assert(s.header.body.p >= message.p &&
           s.header.body.p + s.header.body.n == message.p + message.n);
    assert(header_edit_open(&again, a, header, NULL) == 0);
    assert(again.body.n == 0 && again.had_empty_line);
    if (!is_readable)
        return;
    assert(submission_read(a, header, &s, NULL) == 0);
    assert(str_empty(plan.resent_sender) ||
           (s.resent_sender.n == 1 && str_eq(s.resent_sender.v[0].local, STR("budi"))));
    assert(header_edit_count(&again, STR("From")) == 1);
    assert(header_edit_count(&again, STR("Date")) == 1);
    assert(header_edit_count(&again, STR("Message-ID")) == 1);
    assert(header_edit_count(&again, STR("Sender")) <= 1);
    assert(header_edit_count(&again, STR("Bcc")) == 0);
}

static void check_report(struct arena *a, struct str input)
{
    struct dsn_recipient v = {.action = DSN_FAILED,
                              .address = input,
                              .orcpt = input,
                              .status = str_head(input, 7),
                              .remote_host = input,
                              .code = 550,
                              .text = input};
    struct dsn d = {.reporting_host = STR("mail.example.test"),
                    .recipient = STR("ani@example.test"),
                    .envid = input,
                    .language = input.n % 3 ? "en" : "id",
                    .v = &v,
                    .count = 1,
                    .original = input,
                    .is_utf8 = input.n % 5 < 2,
                    .is_7bit = input.n % 2};
    struct str report = dsn_build(a, &d);

    assert(mime_is_8bit(report));
    assert(!d.is_7bit || str_is_ascii(report));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_of((const char *)data, size);
    struct arena *a = arena_new();

    check_fixed(a, input);
    check_report(a, input);
    message_language(input);
    arena_free(&a);
    return 0;
}
