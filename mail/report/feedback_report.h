/* feedback_report.h - feedback reports (RFC 5965 with 6591, 6692 and 7489): somebody complains of a message that
 * came from us, or tells why one of ours was not authentic. Read only.
 *
 * Texts are in the arena, or borrowed from the message. Missing ones are empty. Pure. */
#pragma once
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define FEEDBACK_VALUES_MAX 100       /* of a field that may be repeated; the rest is not kept */

struct feedback_values { struct str *v; size_t n; };

struct feedback_report {
    struct str feedback_type;         /* lower case: "abuse", "fraud", "auth-failure", "not-spam", ... */
    struct str user_agent, version;
    struct str original_envelope_id, original_mail_from;      /* as written, maybe with angle brackets */
    struct feedback_values original_rcpt_to;
    int64_t arrival_s;                /* 0: not told */
    struct str reporting_mta;         /* without "dns;" */
    struct str source_ip;
    uint32_t source_port;
    uint64_t incidents;               /* 1 when not told */
    struct feedback_values authentication_results, reported_domain, reported_uri;
    /* RFC 6591: of "auth-failure" */
    struct str auth_failure, delivery_result, identity_alignment;         /* lower case */
    struct str dkim_domain, dkim_identity, dkim_selector, dkim_selector_dns, dkim_adsp_dns, spf_dns;
    struct str dkim_canonicalized_header, dkim_canonicalized_body;        /* base64, as written but unfolded */
    struct str original;              /* the message that it is about, or its header only; may be empty */
    bool is_header_only;
};

/* A mail as received. ERR_NOT_FOUND: it has no message/feedback-report; ERR_SYNTAX: and that says no type. */
int feedback_report_parse(struct arena *a, struct str message, struct feedback_report *out, struct error *err);
