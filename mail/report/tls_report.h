/* tls_report.h - SMTP TLS reports (RFC 8460): which sessions to a domain could be secured, as JSON.
 *
 * Words of the format are those of RFC 8460, 4.2 and 4.3; an unknown policy type is empty. Texts are in the arena.
 * Pure: safe on a helper thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define TLS_REPORT_SIZE_MAX     (4 << 20)     /* of the JSON */
#define TLS_REPORT_POLICIES_MAX 1000
#define TLS_REPORT_FAILURES_MAX 10000         /* of all policies together; a report with more is refused */

struct tls_report_failure {
    struct str result_type;           /* "certificate-expired" */
    struct str sending_mta_ip, receiving_mx_hostname, receiving_mx_helo, receiving_ip;
    uint64_t failed_session_count;
    struct str additional_information, failure_reason_code;
};

struct tls_report_policy {
    struct str type;                  /* "tlsa", "sts" or "no-policy-found" */
    struct str domain;
    struct str *strings; size_t string_count;     /* the policy itself */
    struct str *mx_hosts; size_t mx_host_count;
    uint64_t successful_session_count, failed_session_count;
    struct tls_report_failure *failures; size_t failure_count;
};

struct tls_report {
    struct str organization_name, contact_info, report_id;
    int64_t start_us, end_us;
    struct tls_report_policy *policies; size_t policy_count;
};

/* The JSON itself. ERR_SYNTAX on what is no report, ERR_TOO_BIG past the limits. */
int tls_report_parse(struct arena *a, struct str json, struct tls_report *out, struct error *err);
/* From the mail as received: gzip or bare, in any part. */
int tls_report_from_message(struct arena *a, struct str message, struct tls_report *out, struct error *err);

/* A text at _smtp._tls.DOMAIN (RFC 8460, 3): where its owner wants reports, mailto: and https: URIs as written. False when
 * the text is no such record, or names no address that can be used. Several records at one name count as none. */
#define TLS_REPORT_URIS_MAX 10
struct tls_report_uris { struct str v[TLS_REPORT_URIS_MAX]; size_t n; };
bool tls_report_record_parse(struct str text, struct tls_report_uris *out);

struct str tls_report_json(struct arena *a, const struct tls_report *r);

/* The mail with the packed report (RFC 8460, 5.3); it has to be signed by DKIM. domain: whom it is about;
 * submitter: who reports, our domain; to: addresses with commas between. */
struct tls_report_mail {
    struct str from, to, domain, submitter;
    struct str message_id;            /* without brackets */
    int64_t date_s;
};
struct str tls_report_message(struct arena *a, const struct tls_report *r, const struct tls_report_mail *m);
/* What is sent to an https: address (RFC 8460, 5.4): the JSON as gzip. */
struct str tls_report_gzip(struct arena *a, const struct tls_report *r);
