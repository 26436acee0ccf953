/* submit_release.c - held mail for accounts here, and what waited for the queue, when its time has come. */
#include "mail/queue/submit_internal.h"

#include "mail/mime/address_path.h"
#include "mail/queue/remote.h"
#include "server/directory/directory.h"
#include "server/run/config.h"

static const struct {
    enum error_kind kind;
    int code;
    const char *enhanced;
} refusals[] = {
    {ERR_NOT_FOUND, 550, "5.1.1"}, {ERR_UNSUPPORTED, 550, "5.1.2"}, {ERR_DENIED, 550, "5.7.1"},
    {ERR_LIMIT, 550, "5.2.4"},     {ERR_SYNTAX, 550, "5.1.3"},
};

static void answer(struct arena *a, struct remote_recipient *r, enum remote_status status, int code,
                   const char *enhanced, struct str text)
{
    r->status = status;
    r->code = code;
    r->enhanced = str_c(enhanced);
    r->text = arena_str(a, text);
    r->was_dsn_relayed = true; /* whoever is to be told of the delivery was told with it */
}

static void answer_error(struct arena *a, struct remote_recipient *r, const struct error *err)
{
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        if (refusals[i].kind == err->kind) {
            answer(a, r, REMOTE_FAILED, refusals[i].code, refusals[i].enhanced, str_c(err->text));
            r->was_dsn_relayed = false;
            return;
        }
    answer(a, r, REMOTE_DEFERRED, 451, "4.3.0", str_c(err->text));
}

static int release_one(struct arena *a, const struct outbound_claim *c, int64_t worker_id,
                       const struct outbound_recipient *rcpt, struct str message, struct error *err)
{
    /* Whether they may post to a group was asked when it was taken, perhaps of the filter that added the recipient. */
    struct routing_sender from = {
        .address = c->o.sender, .account_id = c->o.account_id, .is_trusted = true};
    struct outbound_ends ends = {
        .worker_id = worker_id, .queue_id = c->o.queue_id, .nos = &rcpt->no, .count = 1};
    struct submit_recipient r = {
        .address = rcpt->address, .orcpt = rcpt->orcpt, .notify = rcpt->notify};
    struct submit s = {
        .trace_id = c->o.trace_id,
        .account_id = c->o.account_id,
        .sender = c->o.sender,
        .envid = c->o.envid,
        .language = c->o.language,
        .ret = c->o.ret,
        .body = c->o.body,
        .is_utf8 = c->o.is_utf8,
        .requires_tls = c->o.requires_tls,
        .priority = c->o.priority,
        .may_exceed_quota = true,
        .return_path = arena_printf(a, "Return-Path: <%.*s>\r\n", STR_ARG(c->o.sender)),
        .message = message,
        .rcpts = &r,
        .rcpt_count = 1,
        .ends = &ends,
    };
    struct str local, domain;
    struct routes routes;

    address_path_split(a, rcpt->address, &local, &domain);
    if (directory_route(a, local, domain, &from, &routes, err) < 0)
        return -1;
    r.routes = routes.v;
    r.route_count = routes.n;
    r.is_group = routes.is_group;
    return submit_message(&s, err);
}

void submit_released(struct arena *a, const struct outbound_claim *c, int64_t worker_id,
                     struct remote_job *job)
{
    job->host = str_c(config.hostname);
    for (size_t i = 0; i < c->o.rcpt_count; i++) {
        struct error err = {0};

        if (release_one(a, c, worker_id, &c->o.rcpts[i], job->message, &err) == 0)
            answer(a, &job->rcpts[i], REMOTE_DELIVERED, 250, "2.1.5", STR("delivered here"));
        else
            answer_error(a, &job->rcpts[i], &err);
    }
}
