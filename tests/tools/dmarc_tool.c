/* dmarc_tool.c - DMARC, Authentication-Results and reports, for tests: one question a line, one JSON answer a line.
 *
 *   usage: dmarc_tool [name=value ...] < questions      settings as in merpati.conf
 *   check<TAB>from<TAB>spf result<TAB>spf domain<TAB>dkim results as "pass example.org, fail example.net"
 *   organization<TAB>domain
 *   addresses<TAB>policy domain<TAB>address,address
 *   authentic<TAB>client<TAB>helo<TAB>sender<TAB>file   the whole field, and the record of an aggregate report
 *   dmarc<TAB>file    tls<TAB>file    feedback<TAB>file what a message, or the bare file, holds
 *   rebuild<TAB>file  a DMARC or TLS report, written as a mail and read again */
#include <arpa/inet.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "mail/authentic/authentic.h"
#include "mail/report/dmarc_report.h"
#include "mail/report/feedback_report.h"
#include "mail/report/tls_report.h"
#include "server/base/buf.h"
#include "server/run/config.h"
#include "server/run/dns.h"
#include "server/run/loop.h"
#include "server/run/offload.h"

#define FIELDS_MAX     5
#define SIGNATURES_MAX 50

/* ---- helpers --------------------------------------------------------------------------------- */

static void set(json_t *object, const char *name, struct str value)
{
    json_t *text = json_stringn(value.n > 0 ? value.p : "", value.n);

    json_object_set_new(object, name, text != NULL ? text : json_string("(no UTF-8)"));
}

static void set_number(json_t *object, const char *name, int64_t value)
{
    json_object_set_new(object, name, json_integer(value));
}

static struct str read_file(struct arena *a, struct str path)
{
    FILE *f = fopen(arena_c(a, path), "rb");
    struct buf content;
    struct str text;
    size_t n;

    buf_init(&content, 256 << 20);
    while (f != NULL && (n = fread(buf_reserve(&content, 65536), 1, 65536, f)) > 0)
        buf_commit(&content, n);
    if (f != NULL)
        fclose(f);
    text = arena_str(a, buf_str(&content));
    buf_fini(&content);
    return text;
}

static bool read_client(struct str text, struct sockaddr_storage *out)
{
    char c[INET6_ADDRSTRLEN] = "";

    memset(out, 0, sizeof *out);
    memcpy(c, text.p, text.n < sizeof c ? text.n : 0);
    if (inet_pton(AF_INET, c, &((struct sockaddr_in *)out)->sin_addr) == 1)
        out->ss_family = AF_INET;
    else if (inet_pton(AF_INET6, c, &((struct sockaddr_in6 *)out)->sin6_addr) == 1)
        out->ss_family = AF_INET6;
    return out->ss_family != 0;
}

/* ---- DMARC ----------------------------------------------------------------------------------- */

static void verdict_json(json_t *o, const struct dmarc_verdict *v)
{
    set(o, "result", str_c(dmarc_result_name(v->result)));
    set(o, "policy", str_c(dmarc_policy_name(v->policy)));
    set(o, "disposition", str_c(dmarc_policy_name(v->disposition)));
    set(o, "from", v->from_domain);
    set(o, "at_stake", str_c(dmarc_policy_name(v->at_stake)));
    set(o, "organization", v->organizational_domain);
    set(o, "record", v->record_domain);
    set(o, "problem", v->problem);
    json_object_set_new(o, "spf", json_boolean(v->is_spf_aligned));
    json_object_set_new(o, "dkim", json_boolean(v->is_dkim_aligned));
    json_object_set_new(o, "nonexistent", json_boolean(v->is_nonexistent));
}

static enum spf_result spf_of(struct str name)
{
    for (int r = SPF_NONE; r <= SPF_PERMERROR; r++)
        if (str_eq(name, str_c(spf_result_name((enum spf_result)r))))
            return (enum spf_result)r;
    return SPF_NONE;
}

static enum dkim_result dkim_of(struct str name)
{
    for (int r = DKIM_NONE; r <= DKIM_PERMERROR; r++)
        if (str_eq(name, str_c(dkim_result_name((enum dkim_result)r))))
            return (enum dkim_result)r;
    return DKIM_NONE;
}

static void answer_check(struct arena *a, const struct str *field, json_t *o)
{
    struct dkim_signature signatures[SIGNATURES_MAX] = {{0}};
    struct dkim_verdict dkim = {signatures, 0};
    struct spf_answer spf = {.result = spf_of(field[2]), .domain = field[3]};
    struct str rest = field[4], one, result;
    struct dmarc_verdict v;

    while (dkim.n < SIGNATURES_MAX && str_next_token(&rest, ',', &one)) {
        str_cut(str_trim(one), ' ', &result, &signatures[dkim.n].domain);
        signatures[dkim.n++].result = dkim_of(result);
    }
    dmarc_check(a, field[1], &spf, &dkim, &v);
    verdict_json(o, &v);
}

static void answer_organization(struct arena *a, const struct str *field, json_t *o)
{
    struct error err = {0};
    struct str domain = STR_NULL;

    if (dmarc_organizational_domain(a, field[1], &domain, &err) < 0)
        set(o, "error", str_c(error_kind_name(err.kind)));
    set(o, "organization", domain);
}

static void answer_addresses(struct arena *a, const struct str *field, json_t *o)
{
    struct str rua[SIGNATURES_MAX], rest = field[2], *out;
    json_t *list = json_array();
    struct error err = {0};
    size_t n = 0, count = 0;

    while (n < SIGNATURES_MAX && str_next_token(&rest, ',', &rua[n]))
        n++;
    if (dmarc_report_addresses(a, field[1], rua, n, &out, &count, &err) < 0)
        set(o, "error", str_c(error_kind_name(err.kind)));
    for (size_t i = 0; i < count && err.kind == ERR_NONE; i++)
        json_array_append_new(list, json_stringn(out[i].p, out[i].n));
    json_object_set_new(o, "addresses", list);
}

/* ---- reports --------------------------------------------------------------------------------- */

static json_t *results_json(const struct dmarc_report_record *r)
{
    json_t *o = json_object(), *dkim = json_array(), *spf = json_array();

    for (size_t i = 0; i < r->dkim_count; i++) {
        json_t *one = json_object();

        set(one, "domain", r->dkims[i].domain);
        set(one, "selector", r->dkims[i].selector);
        set(one, "result", r->dkims[i].result);
        set(one, "human_result", r->dkims[i].human_result);
        json_array_append_new(dkim, one);
    }
    for (size_t i = 0; i < r->spf_count; i++) {
        json_t *one = json_object();

        set(one, "domain", r->spfs[i].domain);
        set(one, "scope", r->spfs[i].scope);
        set(one, "result", r->spfs[i].result);
        set(one, "human_result", r->spfs[i].human_result);
        json_array_append_new(spf, one);
    }
    json_object_set_new(o, "dkim", dkim);
    json_object_set_new(o, "spf", spf);
    return o;
}

static json_t *extensions_json(const struct dmarc_report_extension *v, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++) {
        json_t *one = json_object();

        set(one, "name", v[i].name);
        set(one, "definition", v[i].definition);
        json_array_append_new(list, one);
    }
    return list;
}

static json_t *record_json(const struct dmarc_report_record *r)
{
    json_t *o = json_object(), *reasons = json_array();

    set(o, "source_ip", r->source_ip);
    set_number(o, "count", (int64_t)r->count);
    set(o, "disposition", r->disposition);
    set(o, "dkim", r->dkim);
    set(o, "spf", r->spf);
    for (size_t i = 0; i < r->reason_count; i++) {
        json_t *one = json_object();

        set(one, "type", r->reasons[i].type);
        set(one, "comment", r->reasons[i].comment);
        json_array_append_new(reasons, one);
    }
    json_object_set_new(o, "reason", reasons);
    set(o, "envelope_to", r->envelope_to);
    set(o, "envelope_from", r->envelope_from);
    set(o, "header_from", r->header_from);
    json_object_set_new(o, "auth_results", results_json(r));
    json_object_set_new(o, "extensions", extensions_json(r->extensions, r->extension_count));
    return o;
}

static void dmarc_json(json_t *o, const struct dmarc_report *r)
{
    const struct {
        const char *name;
        struct str value;
    } texts[] = {
        {"version", r->version},
        {"org_name", r->org_name},
        {"email", r->email},
        {"report_id", r->report_id},
        {"generator", r->generator},
        {"domain", r->domain},
        {"adkim", r->adkim},
        {"aspf", r->aspf},
        {"p", r->p},
        {"sp", r->sp},
        {"np", r->np},
        {"fo", r->fo},
        {"testing", r->testing},
        {"extra_contact_info", r->extra_contact_info},
        {"version_published", r->version_published},
        {"discovery_method", r->discovery_method},
    };
    json_t *records = json_array();

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        set(o, texts[i].name, texts[i].value);
    set_number(o, "begin", r->begin_s);
    set_number(o, "end", r->end_s);
    set_number(o, "errors", (int64_t)r->error_count);
    for (size_t i = 0; i < r->record_count; i++)
        json_array_append_new(records, record_json(&r->records[i]));
    json_object_set_new(o, "record", records);
    json_object_set_new(o, "extensions", extensions_json(r->extensions, r->extension_count));
}

static void answer_dmarc(struct arena *a, struct str file, json_t *o)
{
    struct dmarc_report r;
    struct error err = {0};
    int rc = str_starts(file, STR("<")) ? dmarc_report_parse(a, file, &r, &err)
                                        : dmarc_report_from_message(a, file, &r, &err);

    if (rc < 0)
        set(o, "error", str_c(err.text));
    else
        dmarc_json(o, &r);
}

static void tls_json(struct arena *a, json_t *o, const struct tls_report *r)
{
    struct str text = tls_report_json(a, r);

    json_object_set_new(o, "report", json_loadb(text.p, text.n, 0, NULL));
}

static void answer_tls(struct arena *a, struct str file, json_t *o)
{
    struct tls_report r;
    struct error err = {0};
    int rc = str_starts(file, STR("{")) ? tls_report_parse(a, file, &r, &err)
                                        : tls_report_from_message(a, file, &r, &err);

    if (rc < 0)
        set(o, "error", str_c(err.text));
    else
        tls_json(a, o, &r);
}

static void set_values(json_t *o, const char *name, const struct feedback_values *values)
{
    json_t *list = json_array();

    for (size_t i = 0; i < values->n; i++)
        json_array_append_new(list, json_stringn(values->v[i].p, values->v[i].n));
    json_object_set_new(o, name, list);
}

static void answer_feedback(struct arena *a, struct str file, json_t *o)
{
    struct feedback_report r;
    struct error err = {0};

    if (feedback_report_parse(a, file, &r, &err) < 0) {
        set(o, "error", str_c(err.text));
        return;
    }
    set(o, "feedback_type", r.feedback_type);
    set(o, "user_agent", r.user_agent);
    set(o, "version", r.version);
    set(o, "original_envelope_id", r.original_envelope_id);
    set(o, "original_mail_from", r.original_mail_from);
    set_values(o, "original_rcpt_to", &r.original_rcpt_to);
    set_number(o, "arrival_date", r.arrival_s);
    set(o, "reporting_mta", r.reporting_mta);
    set(o, "source_ip", r.source_ip);
    set_number(o, "source_port", r.source_port);
    set_number(o, "incidents", (int64_t)r.incidents);
    set_values(o, "authentication_results", &r.authentication_results);
    set_values(o, "reported_domain", &r.reported_domain);
    set_values(o, "reported_uri", &r.reported_uri);
    set(o, "auth_failure", r.auth_failure);
    set(o, "dkim_domain", r.dkim_domain);
    set(o, "dkim_identity", r.dkim_identity);
    set(o, "dkim_selector", r.dkim_selector);
    set(o, "dkim_canonicalized_body", r.dkim_canonicalized_body);
    set(o, "original", r.original);
    json_object_set_new(o, "header_only", json_boolean(r.is_header_only));
}

static void rebuild_tls(struct arena *a, const struct tls_report *r, json_t *o)
{
    struct tls_report_mail m = {.from = STR("reports@us.test"),
                                .to = STR("<them@there.test>"),
                                .domain = STR("there.test"),
                                .submitter = STR("us.test"),
                                .message_id = STR("1@us.test")};
    struct str mail = tls_report_message(a, r, &m);

    set(o, "mail", mail);
    answer_tls(a, mail, o);
}

static void answer_rebuild(struct arena *a, struct str file, json_t *o)
{
    struct str to[] = {STR("them@there.test"), STR("others@there.test")}, mail;
    struct dmarc_report_mail m = {.from = STR("reports@us.test"),
                                  .submitter = STR("us.test"),
                                  .to = to,
                                  .to_count = 2,
                                  .message_id = STR("1@us.test")};
    struct dmarc_report dmarc;
    struct tls_report tls;

    if (tls_report_from_message(a, file, &tls, NULL) == 0) {
        rebuild_tls(a, &tls, o);
        return;
    }
    if (dmarc_report_from_message(a, file, &dmarc, NULL) < 0 &&
        dmarc_report_parse(a, file, &dmarc, NULL) < 0)
        return;
    mail = dmarc_report_message(a, &dmarc, &m);
    set(o, "mail", mail);
    answer_dmarc(a, mail, o);
}

/* ---- everything ------------------------------------------------------------------------------ */

static void answer_authentic(struct arena *a, const struct str *field, json_t *o)
{
    struct sockaddr_storage client;
    struct authentic_query q = {&client, field[2], field[3], STR("mx.us.test"),
                                read_file(a, field[4])};
    struct dmarc_report policy;
    struct dmarc_report_record record;
    struct authentic v;
    json_t *dmarc = json_object();

    read_client(field[1], &client);
    authentic_check(a, &q, &v);
    set(o, "field", authentic_field(a, STR("mx.us.test"), &v, STR("")));
    verdict_json(dmarc, &v.dmarc);
    json_object_set_new(o, "dmarc", dmarc);
    if (authentic_report(a, &v, v.dmarc.disposition, &policy, &record)) {
        json_t *report = json_object();

        policy.records = &record;
        policy.record_count = 1;
        dmarc_json(report, &policy);
        json_object_set_new(o, "report", report);
    }
}

static void answer(struct arena *a, struct str text, json_t *o)
{
    struct str field[FIELDS_MAX] = {{0}};

    for (size_t i = 0; i < FIELDS_MAX; i++)
        str_cut(text, '\t', &field[i], &text);
    if (str_eq(field[0], STR("check")))
        answer_check(a, field, o);
    else if (str_eq(field[0], STR("organization")))
        answer_organization(a, field, o);
    else if (str_eq(field[0], STR("addresses")))
        answer_addresses(a, field, o);
    else if (str_eq(field[0], STR("authentic")))
        answer_authentic(a, field, o);
    else if (str_eq(field[0], STR("dmarc")))
        answer_dmarc(a, read_file(a, field[1]), o);
    else if (str_eq(field[0], STR("tls")))
        answer_tls(a, read_file(a, field[1]), o);
    else if (str_eq(field[0], STR("feedback")))
        answer_feedback(a, read_file(a, field[1]), o);
    else if (str_eq(field[0], STR("rebuild")))
        answer_rebuild(a, read_file(a, field[1]), o);
    else
        set(o, "error", STR("unknown question"));
}

static void run_all(void *unused)
{
    char *text = NULL;
    size_t cap = 0;
    ssize_t n;

    while ((n = getline(&text, &cap, stdin)) > 0) {
        struct arena *a = arena_new();
        json_t *o = json_object();
        char *line;

        answer(a, str_trim(str_of(text, (size_t)n)), o);
        line = json_dumps(o, JSON_COMPACT);
        puts(line);
        free(line);
        json_decref(o);
        arena_free(&a);
    }
    free(text);
}

int main(int argc, char **argv)
{
    struct error err = {0};

    config_defaults();
    for (int i = 1; i < argc; i++) {
        struct str name, value;

        str_cut(str_c(argv[i]), '=', &name, &value);
        if (config_set(name, value, &err) < 0) {
            fprintf(stderr, "%s\n", err.text);
            return 2;
        }
    }
    loop_init();
    loop_run_fiber("dmarc_tool", run_all, NULL);
    dns_fini();
    offload_fini();
    loop_fini();
    fiber_pool_fini();
    config_fini();
    return 0;
}
