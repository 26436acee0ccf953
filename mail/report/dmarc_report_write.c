/* dmarc_report_write.c - an aggregate report as XML (RFC 9990, appendix A), and the mail around it.
 *
 * Written by hand: the format is a fixed tree of short texts, each of which is escaped. */
#include "mail/report/dmarc_report.h"
#include "mail/report/report_file.h"
#include "server/base/buf.h"
#include "server/base/utf8.h"

#define XML_SIZE_MAX ((size_t)64 << 20)
#define NAMESPACE    "urn:ietf:params:xml:ns:dmarc-2.0"

/* XML 1.0 knows no control characters but tab and line ends, nor U+FFFE and U+FFFF. */
static void add_escaped(struct buf *out, struct str text)
{
    uint32_t c;

    while (utf8_next(&text, &c)) {
        if (c == '&')
            buf_adds(out, "&amp;");
        else if (c == '<')
            buf_adds(out, "&lt;");
        else if (c == '>')
            buf_adds(out, "&gt;");
        else if ((c < ' ' && c != '\t' && c != '\n') || c == 0xfffe || c == 0xffff)
            utf8_add(out, 0xfffd);
        else
            utf8_add(out, c);
    }
}

/* Nothing is written for an empty text. */
static void add(struct buf *out, unsigned indent, const char *name, struct str text)
{
    if (text.n == 0)
        return;
    buf_addf(out, "%*s<%s>", (int)(2 * indent), "", name);
    add_escaped(out, text);
    buf_addf(out, "</%s>\n", name);
}

static void add_metadata(struct buf *out, const struct dmarc_report *r)
{
    buf_adds(out, "  <report_metadata>\n");
    add(out, 2, "org_name", r->org_name);
    add(out, 2, "email", r->email);
    add(out, 2, "extra_contact_info", r->extra_contact_info);
    add(out, 2, "report_id", r->report_id);
    buf_addf(out,
             "    <date_range>\n      <begin>%lld</begin>\n      <end>%lld</end>\n    "
             "</date_range>\n",
             (long long)r->begin_s, (long long)r->end_s);
    for (size_t i = 0; i < r->error_count; i++)
        add(out, 2, "error", r->errors[i]);
    add(out, 2, "generator", r->generator);
    buf_adds(out, "  </report_metadata>\n");
}

static void add_policy(struct buf *out, const struct dmarc_report *r)
{
    buf_adds(out, "  <policy_published>\n");
    add(out, 2, "domain", r->domain);
    add(out, 2, "adkim", r->adkim);
    add(out, 2, "aspf", r->aspf);
    add(out, 2, "p", r->p);
    add(out, 2, "sp", r->sp);
    add(out, 2, "np", r->np);
    add(out, 2, "fo", r->fo);
    add(out, 2, "testing", r->testing);
    add(out, 2, "discovery_method", r->discovery_method);
    buf_adds(out, "  </policy_published>\n");
}

static void add_row(struct buf *out, const struct dmarc_report_record *r)
{
    buf_adds(out, "    <row>\n");
    add(out, 3, "source_ip", r->source_ip);
    buf_addf(out, "      <count>%llu</count>\n      <policy_evaluated>\n",
             (unsigned long long)r->count);
    add(out, 4, "disposition", r->disposition);
    add(out, 4, "dkim", r->dkim);
    add(out, 4, "spf", r->spf);
    for (size_t i = 0; i < r->reason_count; i++) {
        buf_adds(out, "        <reason>\n");
        add(out, 5, "type", r->reasons[i].type);
        add(out, 5, "comment", r->reasons[i].comment);
        buf_adds(out, "        </reason>\n");
    }
    buf_adds(out, "      </policy_evaluated>\n    </row>\n");
}

static void add_identifiers(struct buf *out, const struct dmarc_report_record *r)
{
    buf_adds(out, "    <identifiers>\n");
    add(out, 3, "header_from", r->header_from);
    add(out, 3, "envelope_from", r->envelope_from);
    add(out, 3, "envelope_to", r->envelope_to);
    buf_adds(out, "    </identifiers>\n");
}

static void add_results(struct buf *out, const struct dmarc_report_record *r)
{
    buf_adds(out, "    <auth_results>\n");
    for (size_t i = 0; i < r->dkim_count; i++) {
        buf_adds(out, "      <dkim>\n");
        add(out, 4, "domain", r->dkims[i].domain);
        add(out, 4, "selector", r->dkims[i].selector);
        add(out, 4, "result", r->dkims[i].result);
        add(out, 4, "human_result", r->dkims[i].human_result);
        buf_adds(out, "      </dkim>\n");
    }
    for (size_t i = 0; i < r->spf_count; i++) {
        buf_adds(out, "      <spf>\n");
        add(out, 4, "domain", r->spfs[i].domain);
        add(out, 4, "scope", r->spfs[i].scope);
        add(out, 4, "result", r->spfs[i].result);
        add(out, 4, "human_result", r->spfs[i].human_result);
        buf_adds(out, "      </spf>\n");
    }
    buf_adds(out, "    </auth_results>\n");
}

struct str dmarc_report_xml(struct arena *a, const struct dmarc_report *r)
{
    struct buf out;
    struct str xml;

    buf_init(&out, XML_SIZE_MAX);
    buf_adds(&out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<feedback xmlns=\"" NAMESPACE
                   "\">\n  <version>1.0</version>\n");
    add_metadata(&out, r);
    add_policy(&out, r);
    for (size_t i = 0; i < r->record_count; i++) {
        buf_adds(&out, "  <record>\n");
        add_row(&out, &r->records[i]);
        add_identifiers(&out, &r->records[i]);
        add_results(&out, &r->records[i]);
        buf_adds(&out, "  </record>\n");
    }
    buf_adds(&out, "</feedback>\n");
    xml = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return xml;
}

struct str dmarc_report_filename(struct arena *a, const struct dmarc_report *r,
                                 struct str submitter)
{
    return arena_printf(a, "%.*s!%.*s!%lld!%lld.xml.gz", STR_ARG(submitter), STR_ARG(r->domain),
                        (long long)r->begin_s, (long long)r->end_s);
}

static struct str join_addresses(struct arena *a, const struct str *v, size_t count)
{
    struct str all = STR("");

    for (size_t i = 0; i < count; i++)
        all = arena_printf(a, "%.*s%s<%.*s>", STR_ARG(all), i > 0 ? ",\r\n\t" : "", STR_ARG(v[i]));
    return all;
}

struct str dmarc_report_message(struct arena *a, const struct dmarc_report *r,
                                const struct dmarc_report_mail *m)
{
    struct report_mail mail = {
        .from = m->from,
        .to = join_addresses(a, m->to, m->to_count),
        .subject =
            arena_printf(a, "Report Domain: %.*s\r\n\tSubmitter: %.*s\r\n\tReport-ID: <%.*s>",
                         STR_ARG(r->domain), STR_ARG(m->submitter), STR_ARG(r->report_id)),
        .message_id = m->message_id,
        .date_s = m->date_s,
        .text = arena_printf(a,
                             "This is a DMARC aggregate report by %.*s about mail that said it "
                             "was from\n%.*s. It is attached as a gzip file of XML (RFC 9990).\n",
                             STR_ARG(m->submitter), STR_ARG(r->domain)),
        .content_type = "application/gzip",
        .filename = dmarc_report_filename(a, r, m->submitter),
        .file = report_gzip(a, dmarc_report_xml(a, r)),
    };

    return report_mail_build(a, &mail);
}
