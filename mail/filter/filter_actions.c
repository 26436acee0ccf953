/* filter_actions.c - from what a script decided to what is done.
 *
 * What goes to accounts here goes through the queue: their filters run there, never within this one, however long a chain
 * of redirects is. */
#include "mail/filter/filter_actions.h"

#include "mail/mime/address_path.h"
#include "mail/mime/header.h"
#include "mail/queue/system_mail.h"
#include "mail/store/delivery.h"
#include "mail/store/sieve_store.h"
#include "mail/store/trace.h"
#include "server/base/date.h"
#include "server/base/log.h"
#include "server/directory/directory.h"

#define REASON_SIZE_MAX 300 /* it goes into one line of SMTP */
#define TOLD_SIZE_MAX   400

struct filter_redirect {
    const struct sieve_action *action;
    struct str address; /* for an envelope */
    struct routes routes;
};

/* ---- telling --------------------------------------------------------------------------------- */

/* "main line 3: fileinto Lists; main line 7: redirect x@example.net" */
static void tell(struct filter_run *r, const struct sieve_action *action, const char *what,
                 struct str object)
{
    struct str told = r->decision->told, where;

    if (told.n > TOLD_SIZE_MAX)
        return;
    if (action->line == 0)
        where = STR("");
    else if (str_empty(action->included))
        where = arena_printf(r->arena, "%.*s line %u: ", STR_ARG(r->scripts->names[action->script]),
                             action->line);
    else
        where = arena_printf(r->arena, "%.*s line %u: ", STR_ARG(action->included), action->line);
    r->decision->told =
        arena_printf(r->arena, "%.*s%s%.*s%s%s%.*s", STR_ARG(told), str_empty(told) ? "" : "; ",
                     STR_ARG(where), what, str_empty(object) ? "" : " ", STR_ARG(object));
}

/* ---- filings --------------------------------------------------------------------------------- */

/* A mailbox named twice gets one copy with the flags of both. */
static void add_filing(struct filter_run *r, const struct sieve_action *action, int64_t mailbox_id,
                       struct str mailbox)
{
    struct submit_decision *d = r->decision;
    struct str message = action->is_edited ? action->message : STR_NULL;
    struct submit_filing *f = NULL;

    for (size_t i = 0; i < d->filing_count && f == NULL; i++)
        if (d->filings[i].mailbox_id == mailbox_id && d->filings[i].message.p == message.p)
            f = &d->filings[i];
    if (f == NULL) {
        f = &d->filings[d->filing_count++];
        *f = (struct submit_filing){
            .mailbox_id = mailbox_id, .mailbox = mailbox, .message = message};
    }
    filter_add_flags(r->arena, &action->target, &f->flags, &f->keywords);
}

/* Into the INBOX, or into Junk where it was put aside: by no rule, or by a rule whose mailbox is gone. */
static void keep(struct filter_run *r, const struct sieve_action *action)
{
    bool is_junk = r->s->is_junk && action->kind != SIEVE_FILEINTO;

    add_filing(r, action, is_junk ? MAILBOX_JUNK : INBOX_ID, is_junk ? STR("Junk") : STR("INBOX"));
}

static int file_into(struct filter_run *r, struct filter_place *p,
                     const struct sieve_action *action, struct error *err)
{
    const struct mailbox *mailbox;

    if (filter_find_target(p, &action->target, true, &mailbox, err) < 0)
        return -1;
    if (mailbox == NULL) {
        tell(r, action, "kept, for there is no mailbox", action->target.mailbox);
        keep(r, action);
        return 0;
    }
    tell(r, action, "fileinto", mailbox->path);
    add_filing(r, action, mailbox->mailbox_id, mailbox->path);
    return 0;
}

/* ---- redirects ------------------------------------------------------------------------------- */

/* Has this account passed it on before? */
static bool came_from_here(const struct filter_run *r)
{
    struct str rest = r->f->message;
    struct header_field field;

    while (header_next(&rest, &field))
        if (str_ieq(field.name, STR("Delivered-To")) &&
            str_ieq(str_trim(field.value), r->author.address))
            return true;
    return false;
}

/* A sender whose domain is not ours needs an address of ours there (SRS). */
static int lead_away(struct filter_run *r, struct filter_redirect *to, struct error *err)
{
    struct str local, domain;
    bool is_ours = true;

    to->routes = (struct routes){.v = submit_route_away(r->arena, to->action->address), .n = 1};
    if (str_rcut(r->s->sender, '@', &local, &domain) &&
        directory_has_domain(domain, &is_ours, err) < 0)
        return -1;
    to->routes.v[0].needs_srs = !is_ours;
    to->routes.v[0].through_account_id = r->f->account_id;
    return 0;
}

/* 1: it leads nowhere. */
static int find_redirect(struct filter_run *r, struct filter_redirect *to, struct error *err)
{
    struct routing_sender from = {.address = r->s->sender, .account_id = r->f->account_id};
    struct error cause = {0};
    struct str local, domain;

    address_path_split(r->arena, to->action->address, &local, &domain);
    to->address = address_path_of(r->arena, local, domain);
    if (directory_route(r->arena, local, domain, &from, &to->routes, &cause) == 0)
        return 0;
    if (cause.kind == ERR_UNSUPPORTED)
        return lead_away(r, to, err);
    if (cause.kind == ERR_TRY_LATER)
        return fail(err, cause.kind, "%s", cause.text);
    tell(r, to->action, "kept, for redirect leads nowhere:", str_c(cause.text));
    return 1;
}

static int add_redirect(struct filter_run *r, const struct sieve_action *action, struct error *err)
{
    struct filter_redirect *to = &r->redirects[r->redirect_count];
    int rc = 1;

    *to = (struct filter_redirect){.action = action};
    if (came_from_here(r))
        tell(r, action, "kept, for it was redirected from here before, to", action->address);
    else if ((rc = find_redirect(r, to, err)) < 0)
        return -1;
    if (rc == 0) {
        tell(r, action, "redirect", action->address);
        r->redirect_count++;
    } else
        keep(r, action);
    return 0;
}

/* ---- planning -------------------------------------------------------------------------------- */

/* One line of ASCII: it is said in SMTP. */
static struct str reason_of(struct arena *a, struct str text)
{
    struct str out = arena_str(a, str_head(str_trim(text), REASON_SIZE_MAX));
    char *p = (char *)out.p;

    for (size_t i = 0; i < out.n; i++)
        if (p[i] < ' ' || p[i] > '~')
            p[i] = p[i] == '\r' || p[i] == '\n' || p[i] == '\t' ? ' ' : '?';
    return str_empty(out) ? STR("the recipient does not want it") : out;
}

static int plan_action(struct filter_run *r, struct filter_place *p,
                       const struct sieve_action *action, struct error *err)
{
    switch (action->kind) {
    case SIEVE_KEEP:
        tell(r, action, "keep", STR(""));
        keep(r, action);
        return 0;
    case SIEVE_FILEINTO:
        return file_into(r, p, action, err);
    case SIEVE_REDIRECT:
        return add_redirect(r, action, err);
    case SIEVE_REJECT:
    case SIEVE_EREJECT:
        tell(r, action, "reject", STR(""));
        r->decision->refusal = reason_of(r->arena, action->text);
        return 0;
    case SIEVE_DISCARD:
        tell(r, action, "discard", STR(""));
        return 0;
    default: /* answers are told of when they are sent */
        return 0;
    }
}

int filter_actions_plan(struct filter_run *r, struct filter_place *p, struct error *err)
{
    const struct sieve_outcome *o = &r->outcome;

    r->decision->filings = ARENA_ARRAY(r->arena, o->n + 1, struct submit_filing);
    r->redirects = ARENA_ARRAY(r->arena, o->n, struct filter_redirect);
    if (o->end == SIEVE_FAILED)
        r->decision->told = arena_printf(r->arena, "%.*s line %u failed: %.*s",
                                         STR_ARG(r->scripts->names[o->fault_script]), o->fault.line,
                                         STR_ARG(str_head(o->fault.text, TOLD_SIZE_MAX)));
    for (size_t i = 0; i < o->n; i++)
        if (plan_action(r, p, &o->v[i], err) < 0)
            return -1;
    if (o->keeps_implicitly)
        keep(r, &o->implicit);
    return 0;
}

/* ---- sending --------------------------------------------------------------------------------- */

/* What cannot be sent for ever is noted; the message itself is safe. */
static int settle(struct filter_run *r, const struct error *cause, const char *what,
                  struct error *err)
{
    if (cause->kind == ERR_TRY_LATER || cause->kind == ERR_CANCELLED)
        return fail(err, cause->kind, "%s", cause->text);
    log_info(NULL, "filter_answer_failed", KV("account", r->f->account_id), KV("what", what),
             KV_ERR(cause));
    return 0;
}

static int send_redirect(struct filter_run *r, const struct filter_redirect *to, struct error *err)
{
    const struct submit *s = r->s;
    struct submit_recipient rcpt = {.address = to->address,
                                    .notify = OUTBOUND_NOTIFY_FAILURE,
                                    .routes = to->routes.v,
                                    .route_count = to->routes.n,
                                    .is_group = to->routes.is_group};
    struct submit m = {
        .trace_id = s->trace_id,
        .sender = s->sender,
        .envid = s->envid,
        .language = s->language,
        .ret = s->ret,
        .body = s->body,
        .is_utf8 = s->is_utf8,
        .requires_tls = s->requires_tls,
        .priority = s->priority,
        .may_exceed_quota = true,
        .waits_for_queue = true,
        .arc = s->arc,
        .results = s->results,
        .is_ours = s->is_ours,
        .passed_on_for = r->author.address,
        .return_path = s->return_path,
        .message = to->action->is_edited ? to->action->message : r->f->message,
        .rcpts = &rcpt,
        .rcpt_count = 1,
    };
    struct error cause = {0};

    return submit_message(&m, &cause) == 0 ? 0 : settle(r, &cause, "redirect", err);
}

static int send_mail(struct filter_run *r, struct str address, struct str message, const char *what,
                     struct error *err)
{
    struct system_mail_target to;
    struct system_mail m = {
        .to = &to, .message = message, .is_utf8 = !str_is_ascii(address), .waits_for_queue = true};
    struct error cause = {0};

    if (system_mail_find(r->arena, address, &to, &cause) < 0 || system_mail_send(&m, &cause) < 0)
        return settle(r, &cause, what, err);
    trace_event(r->s->trace_id, TRACE_FILTERED, r->f->rcpt->address,
                arena_printf(r->arena, "%s to %.*s", what, STR_ARG(address)));
    return 0;
}

/* Whom the answer told hears it again when the time is over (RFC 5230, 4.2). Told is noted first: two messages that come at once
 * are answered once; a crash right behind it leaves one unanswered. */
static int send_vacation(struct filter_run *r, const struct sieve_action *action, struct error *err)
{
    struct str parts[] = {STR("vacation"), action->handle, arena_lower(r->arena, action->address)};
    int64_t until_us = time_now_us() + (int64_t)action->seconds * 1000000;
    bool is_new = true;

    if (action->seconds > 0 &&
        sieve_store_remember(r->f->account_id, parts, 3, until_us, &is_new, err) < 0)
        return -1;
    if (!is_new)
        return 0;
    return send_mail(r, action->address,
                     filter_vacation_message(r->arena, &r->author, action, r->f->message),
                     "vacation answer", err);
}

static int send_notice(struct filter_run *r, const struct sieve_action *action, struct error *err)
{
    struct filter_notice notice;

    if (filter_is_notice(r->f->message) ||
        !filter_notice_message(r->arena, &r->author, action, r->f->message, &notice))
        return 0;
    return send_mail(r, notice.to, notice.message, "notice", err);
}

int filter_actions_send(struct filter_run *r, struct error *err)
{
    for (size_t i = 0; i < r->redirect_count; i++)
        if (send_redirect(r, &r->redirects[i], err) < 0)
            return -1;
    for (size_t i = 0; i < r->outcome.n; i++) {
        const struct sieve_action *action = &r->outcome.v[i];

        if (action->kind == SIEVE_VACATION && send_vacation(r, action, err) < 0)
            return -1;
        if (action->kind == SIEVE_NOTIFY && send_notice(r, action, err) < 0)
            return -1;
    }
    return 0;
}

void filter_actions_remember(struct filter_run *r)
{
    for (size_t i = 0; i < r->outcome.n; i++) {
        const struct sieve_action *action = &r->outcome.v[i];
        struct str parts[] = {STR("duplicate"), action->handle, action->id};
        int64_t until_us = time_now_us() + (int64_t)action->seconds * 1000000;
        struct error err = {0};
        bool is_new;
        int rc = 0;

        if (action->kind == SIEVE_DUPLICATE_MARK)
            rc = action->marks_anew
                     ? sieve_store_remember_anew(r->f->account_id, parts, 3, until_us, &err)
                     : sieve_store_remember(r->f->account_id, parts, 3, until_us, &is_new, &err);
        if (rc < 0)
            log_warn(NULL, "duplicate_not_noted", KV("account", r->f->account_id), KV_ERR(&err));
    }
}
