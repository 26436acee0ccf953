/* tls_report.c - TLS reports to and from JSON by jansson. Numbers that some reporters write as texts are read, too. */
#include "mail/report/tls_report.h"

#include <jansson.h>

#include "mail/report/report_file.h"
#include "server/base/buf.h"
#include "server/base/date.h"
#include "server/base/json_depth.h"
#include "server/base/utf8.h"

#define NESTING_MAX  16
#define URI_SIZE_MAX 1000
#define STRINGS_MAX  1000 /* of one policy; the rest is not kept */

/* ---- reading --------------------------------------------------------------------------------- */

static struct str text_of(struct arena *a, const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    if (!json_is_string(value))
        return STR_NULL;
    return arena_str(a, str_of(json_string_value(value), json_string_length(value)));
}

static uint64_t count_of(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    uint64_t number = 0;

    if (json_is_string(value))
        return str_to_u64(str_c(json_string_value(value)), &number) ? number & INT64_MAX : 0;
    return json_is_integer(value) && json_integer_value(value) > 0
               ? (uint64_t)json_integer_value(value)
               : 0;
}

static int64_t time_of(struct arena *a, const json_t *object, const char *name)
{
    int64_t unix_us = 0;

    return date_parse_rfc3339(text_of(a, object, name), &unix_us) ? unix_us : 0;
}

/* An array of texts; a bare text is taken for an array of one. */
static struct str *texts_of(struct arena *a, const json_t *object, const char *name, size_t *count)
{
    const json_t *value = json_object_get(object, name);
    size_t size = json_is_array(value) ? json_array_size(value) : json_is_string(value);
    struct str *v = ARENA_ARRAY(a, size > STRINGS_MAX ? STRINGS_MAX : size + 1, struct str);

    *count = 0;
    for (size_t i = 0; i < size && *count < STRINGS_MAX; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;

        if (json_is_string(item))
            v[(*count)++] = arena_str(a, str_of(json_string_value(item), json_string_length(item)));
    }
    return v;
}

static void read_failure(struct arena *a, const json_t *object, struct tls_report_failure *f)
{
    f->result_type = text_of(a, object, "result-type");
    f->sending_mta_ip = text_of(a, object, "sending-mta-ip");
    f->receiving_mx_hostname = text_of(a, object, "receiving-mx-hostname");
    f->receiving_mx_helo = text_of(a, object, "receiving-mx-helo");
    f->receiving_ip = text_of(a, object, "receiving-ip");
    f->failed_session_count = count_of(object, "failed-session-count");
    f->additional_information = text_of(a, object, "additional-information");
    f->failure_reason_code = text_of(a, object, "failure-reason-code");
    if (f->failure_reason_code.n == 0) /* the RFC's schema and its example differ */
        f->failure_reason_code = text_of(a, object, "failure-error-code");
}

static int read_failures(struct arena *a, const json_t *array, struct tls_report_policy *p,
                         size_t *left, struct error *err)
{
    size_t size = json_array_size(array);

    if (size > *left)
        return fail(err, ERR_TOO_BIG, "the report tells of more than %d kinds of failures",
                    TLS_REPORT_FAILURES_MAX);
    *left -= size;
    p->failures = ARENA_ARRAY(a, size + 1, struct tls_report_failure);
    for (size_t i = 0; i < size; i++)
        read_failure(a, json_array_get(array, i), &p->failures[i]);
    p->failure_count = size;
    return 0;
}

static int read_policy(struct arena *a, const json_t *object, struct tls_report_policy *p,
                       size_t *failures_left, struct error *err)
{
    static const char *const types[] = {"tlsa", "sts", "no-policy-found"};
    const json_t *policy = json_object_get(object, "policy");
    const json_t *summary = json_object_get(object, "summary");
    struct str type = text_of(a, policy, "policy-type");

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (str_ieq(type, str_c(types[i])))
            p->type = str_c(types[i]);
    p->domain = text_of(a, policy, "policy-domain");
    p->strings = texts_of(a, policy, "policy-string", &p->string_count);
    p->mx_hosts = texts_of(a, policy, "mx-host", &p->mx_host_count);
    p->successful_session_count = count_of(summary, "total-successful-session-count");
    p->failed_session_count = count_of(summary, "total-failure-session-count");
    return read_failures(a, json_object_get(object, "failure-details"), p, failures_left, err);
}

static int read_policies(struct arena *a, const json_t *array, struct tls_report *out,
                         struct error *err)
{
    size_t failures_left = TLS_REPORT_FAILURES_MAX, size = json_array_size(array);

    if (!json_is_array(array))
        return fail(err, ERR_SYNTAX, "the JSON is no TLS report: it has no policies");
    if (size > TLS_REPORT_POLICIES_MAX)
        return fail(err, ERR_TOO_BIG, "the report tells of more than %d policies",
                    TLS_REPORT_POLICIES_MAX);
    out->policies = ARENA_ARRAY(a, size + 1, struct tls_report_policy);
    for (size_t i = 0; i < size; i++)
        if (read_policy(a, json_array_get(array, i), &out->policies[i], &failures_left, err) < 0)
            return -1;
    out->policy_count = size;
    return 0;
}

static int read_report(struct arena *a, const json_t *root, struct tls_report *out,
                       struct error *err)
{
    const json_t *range = json_object_get(root, "date-range");

    out->organization_name = text_of(a, root, "organization-name");
    out->contact_info = text_of(a, root, "contact-info");
    out->report_id = text_of(a, root, "report-id");
    out->start_us = time_of(a, range, "start-datetime");
    out->end_us = time_of(a, range, "end-datetime");
    return read_policies(a, json_object_get(root, "policies"), out, err);
}

int tls_report_parse(struct arena *a, struct str json, struct tls_report *out, struct error *err)
{
    json_error_t problem;
    json_t *root;
    int rc;

    *out = (struct tls_report){0};
    str_skip_prefix(&json, STR("\xef\xbb\xbf"));
    if (json.n > TLS_REPORT_SIZE_MAX)
        return fail(err, ERR_TOO_BIG, "the report is larger than %d bytes", TLS_REPORT_SIZE_MAX);
    if (json_is_deeper_than(json, NESTING_MAX))
        return fail(err, ERR_SYNTAX, "the report's values are nested too deeply");
    root = json_loadb(json.p != NULL ? json.p : "", json.n, 0, &problem);
    if (root == NULL)
        return fail(err, ERR_SYNTAX, "the report is not JSON: line %d, %s", problem.line,
                    problem.text);
    rc = read_report(a, root, out, err);
    json_decref(root);
    return rc;
}

static int parse_file(struct arena *a, struct str file, void *out, struct error *err)
{
    return tls_report_parse(a, file, out, err);
}

int tls_report_from_message(struct arena *a, struct str message, struct tls_report *out,
                            struct error *err)
{
    struct report_parser parser = {parse_file, out};

    return report_find(a, message, &parser, err);
}

/* ---- records --------------------------------------------------------------------------------- */

/* Printable ASCII without brackets, so that it can stand in a header and in a command line of SMTP or HTTP. */
static bool is_usable_uri(struct str uri)
{
    struct str rest = uri;

    if (uri.n > URI_SIZE_MAX ||
        (!str_skip_prefix(&rest, STR("mailto:")) && !str_skip_prefix(&rest, STR("https://"))))
        return false;
    for (size_t i = 0; i < rest.n; i++)
        if (rest.p[i] <= ' ' || rest.p[i] >= 127 || rest.p[i] == '<' || rest.p[i] == '>')
            return false;
    return rest.n > 0;
}

static void read_uris(struct str value, struct tls_report_uris *out)
{
    struct str uri;

    while (value.n > 0 && out->n < TLS_REPORT_URIS_MAX) {
        str_cut(value, ',', &uri, &value);
        uri = str_trim(uri);
        if (is_usable_uri(uri))
            out->v[out->n++] = uri;
    }
}

bool tls_report_record_parse(struct str text, struct tls_report_uris *out)
{
    struct str field, name, value;

    *out = (struct tls_report_uris){.n = 0};
    str_cut(text, ';', &field, &text);
    if (!str_eq(str_trim(field), STR("v=TLSRPTv1")))
        return false;
    while (text.n > 0) {
        str_cut(text, ';', &field, &text);
        if (str_cut(field, '=', &name, &value) && str_eq(str_trim(name), STR("rua")))
            read_uris(value, out);
    }
    return out->n > 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* jansson takes valid UTF-8 only; what remote servers say may be anything. */
static json_t *json_text(struct str s)
{
    struct buf text;
    json_t *value;

    buf_init(&text, 4 * s.n + 1);
    utf8_add_repaired(&text, s);
    value = json_stringn(buf_c(&text), text.n);
    buf_fini(&text);
    return value;
}

static void set_text(json_t *object, const char *name, struct str s)
{
    if (s.n > 0)
        json_object_set_new(object, name, json_text(s));
}

static void set_texts(json_t *object, const char *name, const struct str *v, size_t count)
{
    json_t *array = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_text(v[i]));
    if (count > 0)
        json_object_set(object, name, array);
    json_decref(array);
}

static void set_time(json_t *object, const char *name, int64_t unix_us)
{
    struct buf text;

    buf_init(&text, 64);
    date_add_rfc3339(&text, unix_us);
    set_text(object, name, buf_str(&text));
    buf_fini(&text);
}

static json_t *failure_json(const struct tls_report_failure *f)
{
    json_t *object = json_object();

    set_text(object, "result-type", f->result_type);
    set_text(object, "sending-mta-ip", f->sending_mta_ip);
    set_text(object, "receiving-mx-hostname", f->receiving_mx_hostname);
    set_text(object, "receiving-mx-helo", f->receiving_mx_helo);
    set_text(object, "receiving-ip", f->receiving_ip);
    json_object_set_new(object, "failed-session-count",
                        json_integer((json_int_t)f->failed_session_count));
    set_text(object, "additional-information", f->additional_information);
    set_text(object, "failure-reason-code", f->failure_reason_code);
    return object;
}

static json_t *policy_json(const struct tls_report_policy *p)
{
    json_t *object = json_object(), *policy = json_object(), *summary = json_object();
    json_t *failures = json_array();

    set_text(policy, "policy-type", p->type);
    set_texts(policy, "policy-string", p->strings, p->string_count);
    set_text(policy, "policy-domain", p->domain);
    set_texts(policy, "mx-host", p->mx_hosts, p->mx_host_count);
    json_object_set_new(object, "policy", policy);
    json_object_set_new(summary, "total-successful-session-count",
                        json_integer((json_int_t)p->successful_session_count));
    json_object_set_new(summary, "total-failure-session-count",
                        json_integer((json_int_t)p->failed_session_count));
    json_object_set_new(object, "summary", summary);
    for (size_t i = 0; i < p->failure_count; i++)
        json_array_append_new(failures, failure_json(&p->failures[i]));
    if (p->failure_count > 0)
        json_object_set(object, "failure-details", failures);
    json_decref(failures);
    return object;
}

static json_t *report_json(const struct tls_report *r)
{
    json_t *root = json_object(), *range = json_object(), *policies = json_array();

    set_text(root, "organization-name", r->organization_name);
    set_time(range, "start-datetime", r->start_us);
    set_time(range, "end-datetime", r->end_us);
    json_object_set_new(root, "date-range", range);
    set_text(root, "contact-info", r->contact_info);
    set_text(root, "report-id", r->report_id);
    for (size_t i = 0; i < r->policy_count; i++)
        json_array_append_new(policies, policy_json(&r->policies[i]));
    json_object_set_new(root, "policies", policies);
    return root;
}

struct str tls_report_json(struct arena *a, const struct tls_report *r)
{
    json_t *root = report_json(r);
    size_t size = json_dumpb(root, NULL, 0, JSON_COMPACT);
    char *text = arena_alloc(a, size + 1);

    json_dumpb(root, text, size, JSON_COMPACT);
    json_decref(root);
    return str_of(text, size);
}

struct str tls_report_gzip(struct arena *a, const struct tls_report *r)
{
    return report_gzip(a, tls_report_json(a, r));
}

struct str tls_report_message(struct arena *a, const struct tls_report *r,
                              const struct tls_report_mail *m)
{
    struct report_mail mail = {
        .from = m->from,
        .to = m->to,
        .subject =
            arena_printf(a, "Report Domain: %.*s\r\n\tSubmitter: %.*s\r\n\tReport-ID: <%.*s>",
                         STR_ARG(m->domain), STR_ARG(m->submitter), STR_ARG(r->report_id)),
        .message_id = m->message_id,
        .date_s = m->date_s,
        /* It must arrive where TLS is what is broken (RFC 8460, 5.3; RFC 8689, 5). */
        .extra_fields = arena_printf(a,
                                     "TLS-Report-Domain: %.*s\r\nTLS-Report-Submitter: %.*s\r\n"
                                     "TLS-Required: No\r\n",
                                     STR_ARG(m->domain), STR_ARG(m->submitter)),
        .report_type = "tlsrpt",
        .text = arena_printf(a,
                             "This is an SMTP TLS report by %.*s about sending mail to\n%.*s. It "
                             "is attached as a gzip file of JSON (RFC 8460).\n",
                             STR_ARG(m->submitter), STR_ARG(m->domain)),
        .content_type = "application/tlsrpt+gzip",
        .filename = arena_printf(a, "%.*s!%.*s!%lld!%lld.json.gz", STR_ARG(m->submitter),
                                 STR_ARG(m->domain), (long long)(r->start_us / 1000000),
                                 (long long)(r->end_us / 1000000)),
        .file = tls_report_gzip(a, r),
    };

    return report_mail_build(a, &mail);
}
