/* sender_report.c - writes the report and submits it. */
#include "mail/queue/sender_report.h"

#include <assert.h>

#include "mail/mime/xtext.h"
#include "mail/queue/message_language.h"
#include "mail/queue/system_mail.h"
#include "mail/store/trace.h"
#include "server/base/date.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

static_assert((int)DSN_RET_FULL == (int)OUTBOUND_RET_FULL, "RET is one number everywhere");
static_assert((int)DSN_RET_HDRS == (int)OUTBOUND_RET_HDRS, "RET is one number everywhere");

/* ---- what it says ------------------------------------------------------------------------------ */

static const char *language_of(struct arena *a, const struct sender_report *r)
{
    const char *language;

    if (!str_empty(r->language))
        return arena_c(a, r->language);
    language = message_language(r->original);
    return language != NULL ? language : config.report_language;
}

static struct str write_report(struct arena *a, const struct sender_report *r, struct str recipient)
{
    char id[TRACE_ID_TEXT_SIZE];
    struct dsn d = {
        .reporting_host = str_c(config.hostname),
        .recipient = recipient,
        .envid = xtext_shown(a, r->envid),
        .trace_id = r->trace_id != 0 ? str_c(trace_id_text(r->trace_id, id)) : STR(""),
        .arrival_us = r->arrival_us,
        .now_us = time_now_us(),
        .language = language_of(a, r),
        .v = r->v,
        .count = r->count,
        .original = r->original,
        .ret = r->requires_tls ? DSN_RET_HDRS : (enum dsn_ret)r->ret,
        .is_utf8 = r->is_utf8,
    };

    return dsn_build(a, &d);
}

/* ---- on its way -------------------------------------------------------------------------------- */

int sender_report_send(const struct sender_report *r, bool *is_away, struct error *err)
{
    struct arena *a = arena_new();
    struct error cause = {0};
    struct system_mail_target target;
    struct system_mail m = {.to = &target,
                            .language = r->language,
                            .is_utf8 = r->is_utf8,
                            .requires_tls = r->requires_tls,
                            .ends = r->ends};
    int status = system_mail_find(a, r->sender, &target, &cause);

    if (status == 0) {
        m.message = write_report(a, r, target.address);
        status = system_mail_send(&m, &cause);
    }
    if (status == 0)
        metric_inc(METRIC_queue_reports);
    else if (cause.kind == ERR_DENIED)
        metric_inc(METRIC_queue_reports_dropped);
    if (status == 0 && is_away != NULL)
        *is_away = target.routes.v[0].kind == ROUTE_REMOTE;
    arena_free(&a);
    return status < 0 ? fail(err, cause.kind, "%s", cause.text) : 0;
}
