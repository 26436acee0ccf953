/* sender_report.c - finds out where the sender is, writes the report, submits it. */
#include "mail/queue/sender_report.h"

#include <assert.h>

#include "mail/authentic/srs.h"
#include "mail/mime/address_path.h"
#include "mail/mime/xtext.h"
#include "mail/queue/message_language.h"
#include "mail/queue/submit.h"
#include "mail/store/trace.h"
#include "server/base/date.h"
#include "server/directory/routing.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

static_assert((int)DSN_RET_FULL == (int)OUTBOUND_RET_FULL, "RET is one number everywhere");
static_assert((int)DSN_RET_HDRS == (int)OUTBOUND_RET_HDRS, "RET is one number everywhere");

/* ---- whom -------------------------------------------------------------------------------------- */

struct target {
    struct str address; /* for an envelope */
    struct routes routes;
};

static void lead_away(struct arena *a, struct str local, struct str domain, struct target *out)
{
    struct str address = arena_printf(a, "%.*s@%.*s", STR_ARG(local), STR_ARG(domain));

    out->address = address_path(a, address);
    out->routes = (struct routes){.v = submit_route_away(a, address), .n = 1};
}

/* Is it so for ever? */
static bool is_nobody(enum error_kind kind)
{
    return kind == ERR_NOT_FOUND || kind == ERR_DENIED || kind == ERR_SYNTAX || kind == ERR_LIMIT ||
           kind == ERR_TOO_BIG;
}

static int find_sender(struct arena *a, struct str sender, struct target *out, struct error *err)
{
    struct routing_sender from = {.address = STR(""), .is_trusted = true};
    struct error cause = {0};
    struct str local, domain;

    out->address = sender;
    address_path_split(a, sender, &local, &domain);
    if (str_empty(domain))
        return fail(err, ERR_DENIED, "the sender's address has no domain");
    if (str_starts(domain, STR("["))) {
        lead_away(a, local, domain, out);
        return 0;
    }
    if (directory_route(a, local, domain, &from, &out->routes, &cause) == 0)
        return 0;
    if (cause.kind == ERR_NOT_FOUND && srs_is_rewritten(local)) {
        error_clear(&cause);
        if (srs_restore(a, local, time_now_us() / 1000000, &local, &domain, &cause) == 0)
            fail(&cause, ERR_UNSUPPORTED, "they are elsewhere");
    }
    if (cause.kind != ERR_UNSUPPORTED)
        return fail(err, is_nobody(cause.kind) ? ERR_DENIED : cause.kind, "%s", cause.text);
    lead_away(a, local, domain, out);
    return 0;
}

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
        .ret = (enum dsn_ret)r->ret,
        .is_utf8 = r->is_utf8,
    };

    return dsn_build(a, &d);
}

/* ---- on its way -------------------------------------------------------------------------------- */

/* A report has a timeline of its own. */
static void trace_report(const struct submit *s)
{
    struct trace_facts facts = {.direction = TRACE_SYSTEM,
                                .recipients = &s->rcpts[0].address,
                                .recipient_count = 1,
                                .size = s->message.n};

    trace_header_facts(s->message, &facts);
    trace_received(s->trace_id, &facts);
}

static int send_to(const struct sender_report *r, const struct target *t, struct str text,
                   struct error *err)
{
    struct submit_recipient rcpt = {
        .address = t->address,
        .routes = t->routes.v,
        .route_count = t->routes.n,
        .is_group = t->routes.is_group,
    };
    struct submit s = {
        .trace_id = trace_id_new(),
        .language = r->language,
        .body = OUTBOUND_BODY_8BITMIME,
        .is_utf8 = r->is_utf8,
        .may_exceed_quota = true,
        .is_ours = true,
        .return_path = STR("Return-Path: <>\r\n"),
        .message = text,
        .rcpts = &rcpt,
        .rcpt_count = 1,
        .ends = r->ends,
    };

    if (submit_message(&s, err) < 0)
        return -1;
    trace_report(&s);
    return 0;
}

int sender_report_send(const struct sender_report *r, bool *is_away, struct error *err)
{
    struct arena *a = arena_new();
    struct error cause = {0};
    struct target target;
    int status = find_sender(a, r->sender, &target, &cause);

    if (status == 0)
        status = send_to(r, &target, write_report(a, r, target.address), &cause);
    if (status == 0)
        metric_inc(METRIC_queue_reports);
    else if (cause.kind == ERR_DENIED)
        metric_inc(METRIC_queue_reports_dropped);
    if (status == 0 && is_away != NULL)
        *is_away = target.routes.v[0].kind == ROUTE_REMOTE;
    arena_free(&a);
    return status < 0 ? fail(err, cause.kind, "%s", cause.text) : 0;
}
