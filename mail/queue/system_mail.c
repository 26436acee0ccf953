/* system_mail.c - finds out where somebody is, submits the message, begins its timeline. */
#include "mail/queue/system_mail.h"

#include "mail/authentic/srs.h"
#include "mail/mime/address_path.h"
#include "mail/store/trace.h"
#include "server/base/date.h"
#include "server/directory/routing.h"

/* ---- whom -------------------------------------------------------------------------------------- */

static void lead_away(struct arena *a, struct str local, struct str domain,
                      struct system_mail_target *out)
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

int system_mail_find(struct arena *a, struct str address, struct system_mail_target *out,
                     struct error *err)
{
    struct routing_sender from = {.address = STR(""), .is_trusted = true};
    struct error cause = {0};
    struct str local, domain;

    out->address = address;
    address_path_split(a, address, &local, &domain);
    if (str_empty(domain))
        return fail(err, ERR_DENIED, "the address has no domain");
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

/* ---- on its way -------------------------------------------------------------------------------- */

/* It has a timeline of its own. */
static void trace(const struct submit *s)
{
    struct trace_facts facts = {.direction = TRACE_SYSTEM,
                                .recipients = &s->rcpts[0].address,
                                .recipient_count = 1,
                                .size = s->message.n};

    trace_header_facts(s->message, &facts);
    trace_received(s->trace_id, &facts);
}

int system_mail_send(const struct system_mail *m, struct error *err)
{
    struct submit_recipient rcpt = {
        .address = m->to->address,
        .routes = m->to->routes.v,
        .route_count = m->to->routes.n,
        .is_group = m->to->routes.is_group,
    };
    struct submit s = {
        .trace_id = trace_id_new(),
        .language = m->language,
        .body = OUTBOUND_BODY_8BITMIME,
        .is_utf8 = m->is_utf8,
        .requires_tls = m->requires_tls,
        .may_exceed_quota = true,
        .waits_for_queue = m->waits_for_queue,
        .is_ours = true,
        .return_path = STR("Return-Path: <>\r\n"),
        .message = m->message,
        .rcpts = &rcpt,
        .rcpt_count = 1,
        .copies = m->copies,
        .copy_count = m->copy_count,
        .ends = m->ends,
    };

    if (submit_message(&s, err) < 0)
        return -1;
    trace(&s);
    return 0;
}
