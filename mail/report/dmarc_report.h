/* dmarc_report.h - DMARC aggregate reports (RFC 9990; RFC 7489, 7.2 and appendix C): read and written.
 *
 * Words of the format stay words, in lower case and of the known vocabulary; what is unknown or missing is empty.
 * Texts are in the arena. Pure: safe on a helper thread. XML is read without network, entities or a DTD. */
#pragma once
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define DMARC_REPORT_RECORDS_MAX 50000        /* a report with more is refused */
#define DMARC_REPORT_RESULTS_MAX 100          /* of dkim, of spf, of reasons in one record; the rest is not kept */

struct dmarc_report_reason { struct str type, comment; };     /* "forwarded", "local_policy", ... */
struct dmarc_report_dkim { struct str domain, selector, result, human_result; };
struct dmarc_report_spf { struct str domain, scope, result, human_result; };      /* scope: "helo" or "mfrom" */
struct dmarc_report_extension { struct str name, definition; };

struct dmarc_report_record {
    struct str source_ip;
    uint64_t count;                   /* messages */
    struct str disposition, dkim, spf;            /* policy_evaluated: "quarantine"; "pass" or "fail" as DMARC saw it */
    struct str envelope_to, envelope_from, header_from;
    struct dmarc_report_reason *reasons; size_t reason_count;
    struct dmarc_report_dkim *dkims; size_t dkim_count;
    struct dmarc_report_spf *spfs; size_t spf_count;
    struct dmarc_report_extension *extensions; size_t extension_count;
};

struct dmarc_report {
    struct str version;
    struct str org_name, email, extra_contact_info, report_id, generator;
    int64_t begin_s, end_s;           /* Unix time, both included */
    struct str *errors; size_t error_count;
    struct str domain;                /* policy_published: where the record is */
    struct str version_published;
    struct str adkim, aspf;           /* "r" or "s" */
    struct str p, sp, np;
    struct str fo, testing, discovery_method;     /* testing: "y" or "n"; discovery_method: "treewalk" or "psl" */
    struct dmarc_report_record *records; size_t record_count;
    struct dmarc_report_extension *extensions; size_t extension_count;
};

/* The XML itself. ERR_SYNTAX on what is no report, ERR_TOO_BIG past the limits. */
int dmarc_report_parse(struct arena *a, struct str xml, struct dmarc_report *out, struct error *err);
/* From the mail as received: gzip, zip or bare, in any part. */
int dmarc_report_from_message(struct arena *a, struct str message, struct dmarc_report *out, struct error *err);

struct str dmarc_report_xml(struct arena *a, const struct dmarc_report *r);

/* The mail with the packed report (RFC 7489, 7.2.1). `submitter` is the name of who reports: our domain.
 * `to`: addresses, as dmarc_report_addresses gave them. */
struct dmarc_report_mail {
    struct str from, submitter;
    const struct str *to;
    size_t to_count;
    struct str message_id;            /* without brackets */
    int64_t date_s;
};
struct str dmarc_report_message(struct arena *a, const struct dmarc_report *r, const struct dmarc_report_mail *m);
/* "mx.example.org!example.com!1013662812!1013749130.xml.gz" */
struct str dmarc_report_filename(struct arena *a, const struct dmarc_report *r, struct str submitter);
