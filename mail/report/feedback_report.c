/* feedback_report.c - the machine-readable part of a complaint: header fields in a part of their own.
 *
 * What people wrote around it is not read. The message that the report is about is the part behind it. */
#include "mail/report/feedback_report.h"

#include <stddef.h>

#include "mail/mime/body.h"
#include "mail/mime/header.h"
#include "mail/mime/part.h"
#include "mail/report/report_file.h"
#include "server/base/buf.h"
#include "server/base/date.h"

#define FIELDS_SIZE_MAX (1 << 20)

/* ---- fields ---------------------------------------------------------------------------------- */

static void take_text(struct arena *a, struct str value, void *to)
{
    *(struct str *)to = header_unfold(a, value);
}

static void take_word(struct arena *a, struct str value, void *to)
{
    *(struct str *)to = arena_lower(a, header_unfold(a, value));
}

static void take_more(struct arena *a, struct str value, void *to)
{
    struct feedback_values *values = to;

    if (values->v == NULL)
        values->v = ARENA_ARRAY(a, FEEDBACK_VALUES_MAX, struct str);
    if (values->n < FEEDBACK_VALUES_MAX)
        values->v[values->n++] = header_unfold(a, value);
}

/* "dns; mail.example.com" */
static void take_mta(struct arena *a, struct str value, void *to)
{
    struct str type, name, text = header_unfold(a, value);

    *(struct str *)to = str_cut(text, ';', &type, &name) ? str_trim(name) : text;
}

/* "192.0.2.1 (mail.example.com)": some explain it. */
static void take_address(struct arena *a, struct str value, void *to)
{
    struct str text = header_unfold(a, value), rest;

    str_cut(text, ' ', &text, &rest);
    *(struct str *)to = text;
}

static void take_date(struct arena *a, struct str value, void *to)
{
    int64_t unix_s;

    if (date_parse_rfc5322(header_unfold(a, value), &unix_s, NULL))
        *(int64_t *)to = unix_s;
}

static void take_port(struct arena *a, struct str value, void *to)
{
    uint32_t port;

    if (str_to_u32(header_unfold(a, value), &port) && port <= 65535)
        *(uint32_t *)to = port;
}

static void take_count(struct arena *a, struct str value, void *to)
{
    uint64_t count;

    if (str_to_u64(header_unfold(a, value), &count))
        *(uint64_t *)to = count & INT64_MAX;
}

#define FIELD(name, take, member)                                                                  \
    {                                                                                              \
        name, take, offsetof(struct feedback_report, member)                                       \
    }
static const struct {
    const char *name;
    void (*take)(struct arena *a, struct str value, void *to);
    size_t offset;
} fields[] = {
    FIELD("Feedback-Type", take_word, feedback_type),
    FIELD("User-Agent", take_text, user_agent),
    FIELD("Version", take_text, version),
    FIELD("Original-Envelope-Id", take_text, original_envelope_id),
    FIELD("Original-Mail-From", take_text, original_mail_from),
    FIELD("Original-Rcpt-To", take_more, original_rcpt_to),
    FIELD("Arrival-Date", take_date, arrival_s),
    FIELD("Received-Date", take_date, arrival_s), /* its name in the drafts */
    FIELD("Reporting-MTA", take_mta, reporting_mta),
    FIELD("Source-IP", take_address, source_ip),
    FIELD("Source-Port", take_port, source_port),
    FIELD("Incidents", take_count, incidents),
    FIELD("Authentication-Results", take_more, authentication_results),
    FIELD("Reported-Domain", take_more, reported_domain),
    FIELD("Reported-URI", take_more, reported_uri),
    FIELD("Auth-Failure", take_word, auth_failure),
    FIELD("Delivery-Result", take_word, delivery_result),
    FIELD("Identity-Alignment", take_word, identity_alignment),
    FIELD("DKIM-Domain", take_text, dkim_domain),
    FIELD("DKIM-Identity", take_text, dkim_identity),
    FIELD("DKIM-Selector", take_text, dkim_selector),
    FIELD("DKIM-Selector-DNS", take_text, dkim_selector_dns),
    FIELD("DKIM-ADSP-DNS", take_text, dkim_adsp_dns),
    FIELD("SPF-DNS", take_text, spf_dns),
    FIELD("DKIM-Canonicalized-Header", take_text, dkim_canonicalized_header),
    FIELD("DKIM-Canonicalized-Body", take_text, dkim_canonicalized_body),
};

static void read_fields(struct arena *a, struct str text, struct feedback_report *out)
{
    struct header_field field;

    while (header_next(&text, &field))
        for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
            if (str_ieq(field.name, str_c(fields[i].name)))
                fields[i].take(a, field.value, (char *)out + fields[i].offset);
}

/* ---- parts ----------------------------------------------------------------------------------- */

static bool is_type(const struct mime_part *part, const char *type, const char *subtype)
{
    return str_eq(part->type, str_c(type)) && str_eq(part->subtype, str_c(subtype));
}

/* Blank lines in front, which some write, would end the fields before they begin. */
static struct str part_text(struct arena *a, const struct mime_part *part, struct str message)
{
    struct buf decoded;
    struct str text;

    buf_init(&decoded, FIELDS_SIZE_MAX);
    mime_decode(&decoded, part->encoding,
                str_head(mime_part_body(part, message), FIELDS_SIZE_MAX / 2));
    text = arena_str(a, buf_str(&decoded));
    buf_fini(&decoded);
    while (text.n > 0 && (text.p[0] == '\r' || text.p[0] == '\n'))
        text = str_from(text, 1);
    return text;
}

static void take_original(const struct mime_part *after, struct str message,
                          struct feedback_report *out)
{
    for (const struct mime_part *part = after->next; part != NULL; part = part->next) {
        bool is_header =
            is_type(part, "text", "rfc822-headers") || is_type(part, "message", "global-headers");

        if (!is_header && !part->is_message && !is_type(part, "message", "rfc822"))
            continue;
        out->original = mime_part_body(part, message);
        out->is_header_only = is_header;
        return;
    }
}

int feedback_report_parse(struct arena *a, struct str message, struct feedback_report *out,
                          struct error *err)
{
    const struct mime_part *part;
    unsigned looked_at = 0;

    *out = (struct feedback_report){.incidents = 1};
    if (message.n > REPORT_MESSAGE_MAX)
        return fail(err, ERR_TOO_BIG, "the message is larger than %d bytes", REPORT_MESSAGE_MAX);
    part = mime_parse(a, message);
    while (part != NULL && !is_type(part, "message", "feedback-report"))
        part = ++looked_at < REPORT_PARTS_MAX ? mime_part_next(part) : NULL;
    if (part == NULL)
        return fail(err, ERR_NOT_FOUND, "the message has no feedback report");
    read_fields(a, part_text(a, part, message), out);
    if (out->feedback_type.n == 0)
        return fail(err, ERR_SYNTAX, "the feedback report does not say its type");
    take_original(part, message, out);
    return 0;
}
