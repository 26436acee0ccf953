/* fuzz_report.c - any bytes as a report: XML, JSON, packed, or a mail with one. What is read as a DMARC or TLS report
 * can be written and read again. The first byte says what the rest is taken for. */
#include <stdio.h>
#include <stdlib.h>
#include "mail/report/dmarc_report.h"
#include "mail/report/feedback_report.h"
#include "mail/report/report_file.h"
#include "mail/report/tls_report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool is_true, const char *claim)
{
    if (is_true)
        return;
    fprintf(stderr, "not so: %s\n", claim);
    abort();
}

static void check_dmarc(struct arena *a, const struct dmarc_report *r)
{
    struct dmarc_report again;

    expect(r->record_count <= DMARC_REPORT_RECORDS_MAX, "records are limited");
    expect(dmarc_report_parse(a, dmarc_report_xml(a, r), &again, NULL) == 0,
           "what is written can be read");
    expect(again.record_count == r->record_count, "with all records");
    for (size_t i = 0; i < r->record_count; i++)
        expect(again.records[i].count == r->records[i].count &&
                   str_eq(again.records[i].disposition, r->records[i].disposition),
               "which are the same");
}

static void check_tls(struct arena *a, const struct tls_report *r)
{
    struct tls_report again;

    expect(r->policy_count <= TLS_REPORT_POLICIES_MAX, "policies are limited");
    expect(tls_report_parse(a, tls_report_json(a, r), &again, NULL) == 0,
           "what is written can be read");
    expect(again.policy_count == r->policy_count, "with all policies");
}

static void check_message(struct arena *a, struct str message)
{
    struct feedback_report feedback;
    struct dmarc_report dmarc;
    struct tls_report tls;

    if (feedback_report_parse(a, message, &feedback, NULL) == 0)
        expect(feedback.feedback_type.n > 0, "a complaint has a type");
    if (dmarc_report_from_message(a, message, &dmarc, NULL) == 0)
        check_dmarc(a, &dmarc);
    if (tls_report_from_message(a, message, &tls, NULL) == 0)
        check_tls(a, &tls);
}

static void check_packed(struct arena *a, struct str packed)
{
    struct str out = STR_NULL;

    if (report_unpack(a, packed, 100000, &out, NULL) == 0 && out.p != packed.p)
        expect(out.n <= 100000, "what is unpacked is limited");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = str_of((const char *)data + 1, size > 0 ? size - 1 : 0);
    struct arena *a = arena_new();
    struct dmarc_report dmarc;
    struct tls_report tls;

    switch (size > 0 ? data[0] : 0) {
    case 'x':
        if (dmarc_report_parse(a, rest, &dmarc, NULL) == 0)
            check_dmarc(a, &dmarc);
        break;
    case 'j':
        if (tls_report_parse(a, rest, &tls, NULL) == 0)
            check_tls(a, &tls);
        break;
    case 'p':
        check_packed(a, rest);
        break;
    default:
        check_message(a, str_of((const char *)data, size));
    }
    arena_free(&a);
    return 0;
}
