/* Paths and parameters of MAIL and RCPT: what is accepted must survive being written and read again, and hold nothing
 * that could end a line. What a message is checked for must not depend on how it ends. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/mime/xtext.h"
#include "mail/smtp/smtp_internal.h"
#include "mail/mime/address_path.h"
#include "mail/smtp/smtp_message_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(struct arena *a, const struct smtp_path *path)
{
    struct str text = address_path_of(a, path->local, path->domain);
    struct smtp_params params;
    struct smtp_path again;
    struct error err = {0};

    if (path->is_null || str_empty(path->local))
        return;
    assert(smtp_parse_path(a, arena_printf(a, "X:<%.*s>", STR_ARG(text)), STR("X:"), &again,
                           &params, &err) == 0);
    assert(str_eq(again.local, path->local));
    assert(str_eq(again.domain, path->domain));
}

static void check_printable(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        assert((unsigned char)s.p[i] > 32 && s.p[i] != 127);
}

static void check_params(struct arena *a, const struct smtp_params *params, uint8_t session)
{
    struct smtp_offer offer = {
        .now_us = INT64_C(1800000000000000),
        .size_max = 1 << 20,
        .hold_max_s = session & 1 ? 86400 : 0,
        .is_tls = session & 2,
        .is_trusted = session & 4,
    };
    struct smtp_mail_params mail;
    struct smtp_rcpt_params rcpt;
    struct str decoded;

    if (smtp_read_mail_params(a, params, &offer, &mail, NULL) == 0) {
        check_printable(mail.envid);
        assert(mail.envid.n <= SMTP_ENVID_SIZE_MAX);
        assert(mail.size_declared >= 0 && mail.size_declared <= offer.size_max);
        assert(mail.priority >= -SMTP_PRIORITY_MAX && mail.priority <= SMTP_PRIORITY_MAX);
        assert(mail.hold_until_us <= offer.now_us + offer.hold_max_s * 1000000);
        assert(memchr(arena_c(a, mail.submitter), '\n', mail.submitter.n + 1) == NULL);
        assert(xtext_decode(a, mail.envid, &decoded));
        assert(xtext_decode(a, xtext_encode(a, decoded), &decoded));
    }
    if (smtp_read_rcpt_params(a, params, session & 8, &rcpt, NULL) == 0) {
        check_printable(rcpt.orcpt);
        assert(rcpt.orcpt.n <= SMTP_ORCPT_SIZE_MAX && str_is_ascii(rcpt.orcpt));
        assert(!(rcpt.notify & SMTP_NOTIFY_NEVER) || rcpt.notify == SMTP_NOTIFY_NEVER);
    }
}

static void check_message(struct str input)
{
    struct smtp_message_limits limits = {
        .header_size_max = 4096,
        .line_size_max = 998,
        .received_max = 20,
        .hostname = STR("mx.test"),
    };
    struct smtp_recipient rcpt = {.path = STR("ani@example.org")};

    smtp_message_check(input, &limits, &rcpt, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_of((const char *)data, size);
    struct arena *a = arena_new();
    struct smtp_params params;
    struct smtp_path path;
    uint64_t chunk;
    bool is_last;

    if (smtp_parse_path(a, input, STR("FROM:"), &path, &params, NULL) == 0) {
        assert(params.n <= SMTP_PARAMS_MAX);
        assert(path.local.n <= SMTP_SRS_LOCAL_SIZE_MAX);
        check_round_trip(a, &path);
        check_params(a, &params, data[size - 1]);
    }
    check_message(input);
    smtp_parse_bdat(input, &chunk, &is_last, NULL);
    smtp_helo_is_valid(input);
    arena_free(&a);
    return 0;
}
