/* report_store.h - reports about mail: collected for others through the day, handed out once to be sent, and those of
 * others kept for the administrator.
 *
 * What is to be reported waits in memory for a few seconds and is written in batches, so that receiving and sending
 * never wait for it; a worker that dies loses those seconds of statistics. Memory is bounded: what is too much is
 * left out and counted (report_rows_lost). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/report/dmarc_report.h"
#include "mail/report/feedback_report.h"
#include "mail/report/tls_report.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/pg/pg.h"
#include "server/run/fiber.h"

void report_store_start(void);        /* a fiber that writes what was collected, and forgets what is old */
PARKS void report_store_stop(void);   /* writes the rest */
PARKS int report_store_flush(struct error *err);
PARKS int report_store_forget(struct error *err);      /* the fiber does it once an hour */

/* --- collecting: never parks, copies what it needs ------------------------------------------- */

/* One message that DMARC was applied to. policy: domain and the published policy's words; record: with count 1. */
void report_store_add_dmarc(const struct dmarc_report *policy, const struct str *rua, size_t rua_count,
                            const struct dmarc_report_record *record);

struct report_tls_session {           /* one attempt to send to `domain` */
    struct str domain;
    struct str policy_type;           /* "tlsa", "sts", "no-policy-found" */
    struct str policy_domain;
    struct str policy_strings;        /* its lines, with LF between them */
    struct str mx_hosts;              /* of the policy, with LF between them */
    struct str result_type;           /* of RFC 8460, 4.3; empty: the session was secured */
    struct str sending_ip, mx_hostname, receiving_ip, reason;
};
void report_store_add_tls(const struct report_tls_session *s);

/* --- sending ---------------------------------------------------------------------------------- */

struct report_claim {
    enum report_kind { REPORT_DMARC, REPORT_TLS, REPORT_FEEDBACK } kind;
    int32_t day;                      /* UTC, days since 1970-01-01 */
    struct str domain;
    struct str policy;                /* as it was collected; report_store_fill_dmarc reads it */
    struct str *rua; size_t rua_count;          /* of DMARC; TLS reports go where _smtp._tls says */
    int64_t claim;
    struct str note;                  /* what became of it, for the administrator: yours to set */
};

/* The next report of a day that is over, when its time has come (report_spread). 1: claimed, 0: none is due, -1: error. A claim lasts an hour: who did not
 * finish until then has lost it. After some attempts, or days, a report is given up. */
PARKS int report_store_claim(struct arena *a, struct report_claim *out, struct error *err);
/* What was collected, ready to be written as XML or JSON but for who reports. */
PARKS int report_store_fill_dmarc(struct arena *a, const struct report_claim *c, struct dmarc_report *out, struct error *err);
PARKS int report_store_fill_tls(struct arena *a, const struct report_claim *c, struct tls_report *out, struct error *err);
/* From here on nobody sends it (again). A report that goes by mail ends with the mail's own transaction instead:
 * outbound_ends.report. ERR_CONFLICT: the claim was lost, do not send. */
PARKS int report_store_end(const struct report_claim *c, struct error *err);
#define REPORT_END_PARAMS 5
size_t report_end_args(const struct report_claim *c, const struct sql_query **query, struct pg_arg args[REPORT_END_PARAMS]);
/* Nobody has it yet: it is claimed again when the claim is over, with the note for who asks. It stays ended when it is: a commit
 * whose answer was lost counts. */
PARKS int report_store_put_back(const struct report_claim *c, struct error *err);

/* An administrator wants those of days that are over to be sent at once; an empty domain is any. Senders subscribe to the
 * topic (server/pg/notify.h). */
#define REPORT_TOPIC UINT64_C(0x7265706f7274)
PARKS int report_store_ask(struct str domain, int64_t *count, struct error *err);

struct report_due {
    struct str kind, domain, note;
    struct str *rua; size_t rua_count;
    int64_t day_us, due_us, sent_us;  /* its day begins; it is sent from; 0: it was not sent */
    int32_t attempts;
};
/* What is to be sent, and then what was sent lately; the newest first. kind and domain: empty is any. */
PARKS int report_store_list_due(struct arena *a, struct str kind, struct str domain, struct report_due **out, size_t *count,
                                struct error *err);

/* --- received --------------------------------------------------------------------------------- */

/* 1: kept, 0: it was here before, -1: error; ERR_LIMIT: too many came within a day (report_rows_source, report_rows_max). */
PARKS int report_store_keep_dmarc(const struct dmarc_report *r, struct error *err);
PARKS int report_store_keep_tls(const struct tls_report *r, struct error *err);
PARKS int report_store_keep_feedback(const struct feedback_report *r, struct str message_id, struct error *err);
/* Looks into a message that came to an address for reports and keeps the report, whatever kind it is. Reading runs
 * on a helper thread. As above; ERR_NOT_FOUND: there is no report in it. */
PARKS int report_store_keep_message(struct str message, struct error *err);

struct report_received {
    int64_t report_id;
    struct str kind;                  /* "dmarc", "tls", "feedback" */
    struct str organization, external_id, domain, policy;
    int64_t received_us, begin_us, end_us;
    int64_t passed, failed;           /* messages or sessions */
};
struct report_received_row {
    struct str source, subject, outcome, detail;
    bool is_pass;
    int64_t count;
};
#define REPORT_LIST_MAX 10000

/* What all reports together say of one source of mail, or of one of our servers (TLS). */
struct report_source {
    struct str kind, domain, source, subject, outcome, detail;          /* the last three: of its largest failing line */
    int64_t passed, failed, reporters, last_us;
};
/* The one with most failures first, of reports received since then. kind and domain: empty is any. */
PARKS int report_store_sources(struct arena *a, struct str kind, struct str domain, int64_t since_us,
                               struct report_source **out, size_t *count, struct error *err);

/* The newest first. kind and domain: empty is any. */
PARKS int report_store_list(struct arena *a, struct str kind, struct str domain, struct report_received **out, size_t *count,
                            struct error *err);
/* Failing lines first, the largest before the others. */
PARKS int report_store_show(struct arena *a, int64_t report_id, struct report_received *out,
                            struct report_received_row **rows, size_t *row_count, struct error *err);
