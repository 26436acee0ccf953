/* submit.c - one message, one transaction: who gets a copy here, who is queued, under whose name.
 *
 * The bytes are put together once: Return-Path for copies that stay here, then the fields for everybody, seal and
 * signature, then what came. Queue entries point behind the Return-Path. There are at most two of them: for those
 * whom the sender wrote to, and for those whom a forward or group of ours leads to, where the sender is an address of ours
 * (SRS) because its own domain vouches for its own servers only. */
#include "mail/queue/submit.h"

#include <stdlib.h>

#include "mail/authentic/dkim.h"
#include "mail/authentic/srs.h"
#include "mail/mime/address.h"
#include "mail/mime/address_path.h"
#include "mail/mime/header.h"
#include "mail/queue/queue.h"
#include "mail/queue/remote.h"
#include "mail/queue/submit_report.h"
#include "mail/store/delivery.h"
#include "mail/authentic/dkim_ring.h"
#include "mail/store/trace.h"
#include "server/base/date.h"
#include "server/base/log.h"
#include "server/directory/directory.h"
#include "server/run/config.h"

enum { DIRECT, PASSED_ON, ENTRY_COUNT };

struct plan {
    struct arena *arena;
    struct submit *s;
    struct delivery *copies; /* by account, each once */
    size_t copy_count, copy_room;
    struct outbound entries[ENTRY_COUNT];
    size_t entry_room[ENTRY_COUNT];
    bool is_kept_back; /* copies wait in the queue, too */
    struct str
        passed_through; /* the recipient, an address of ours, that others are reached through; empty: none */
    struct str raw; /* everything, with the Return-Path */
};

/* ---- who gets it --------------------------------------------------------------------------------- */

struct route *submit_route_away(struct arena *a, struct str address)
{
    struct route *r = ARENA_NEW(a, struct route);

    *r = (struct route){.kind = ROUTE_REMOTE, .address = address, .bytes_free = INT64_MAX};
    return r;
}

/* A forward, a group or an alias of ours leads there: the sender wrote to somebody else. */
static bool is_passed_on(const struct route *route)
{
    return route->through_account_id != 0 || route->needs_srs;
}

static bool is_any_here(const struct submit_recipient *r)
{
    for (size_t i = 0; i < r->route_count; i++)
        if (r->routes[i].kind == ROUTE_ACCOUNT || is_passed_on(&r->routes[i]))
            return true;
    return false;
}

/* It is resolved anew when its time comes. */
static bool waits_unresolved(const struct plan *p, const struct submit_recipient *r)
{
    return p->is_kept_back && is_any_here(r);
}

static void count_routes(struct plan *p, const struct submit_recipient *r)
{
    if (waits_unresolved(p, r)) {
        p->entry_room[DIRECT]++;
        return;
    }
    for (size_t i = 0; i < r->route_count; i++) {
        if (r->routes[i].kind == ROUTE_ACCOUNT)
            p->copy_room++;
        else
            p->entry_room[is_passed_on(&r->routes[i]) ? PASSED_ON : DIRECT]++;
    }
}

static void make_room(struct plan *p)
{
    for (size_t i = 0; i < p->s->rcpt_count; i++)
        count_routes(p, &p->s->rcpts[i]);
    p->copies = ARENA_ARRAY(p->arena, p->copy_room + p->s->copy_count, struct delivery);
    for (int i = 0; i < ENTRY_COUNT; i++)
        p->entries[i].rcpts = ARENA_ARRAY(p->arena, p->entry_room[i], struct outbound_recipient);
}

static void add_copy(struct plan *p, const struct route *route)
{
    p->copies[p->copy_count++] = (struct delivery){.account_id = route->account_id,
                                                   .mailbox_id = p->s->is_junk ? MAILBOX_JUNK : 0,
                                                   .received_us = time_now_us(),
                                                   .may_exceed_quota = p->s->may_exceed_quota};
}

/* What the sender asked for holds for the one whom he wrote to, not for everyone a group or forward leads on to: those are told of by
 * the report that it was passed on (RFC 3461, 5.2.7). */
static void add_away(struct plan *p, const struct submit_recipient *r, const struct route *route)
{
    struct outbound *o = &p->entries[is_passed_on(route) ? PASSED_ON : DIRECT];
    bool speaks_for_sender = !r->is_group;

    if (is_passed_on(route) && str_empty(p->passed_through))
        p->passed_through = r->address;
    o->rcpts[o->rcpt_count++] = (struct outbound_recipient){
        .address = address_path(p->arena, route->address),
        .orcpt = speaks_for_sender ? r->orcpt : STR(""),
        .notify = speaks_for_sender ? r->notify : OUTBOUND_NOTIFY_FAILURE};
}

static void add_kept_back(struct plan *p, const struct submit_recipient *r)
{
    struct outbound *o = &p->entries[DIRECT];

    o->rcpts[o->rcpt_count++] = (struct outbound_recipient){.address = r->address,
                                                            .orcpt = r->orcpt,
                                                            .notify = r->notify,
                                                            .route = STR(OUTBOUND_ROUTE_HERE)};
}

static void add_recipient(struct plan *p, const struct submit_recipient *r)
{
    if (waits_unresolved(p, r)) {
        add_kept_back(p, r);
        return;
    }
    for (size_t i = 0; i < r->route_count; i++) {
        if (r->routes[i].kind == ROUTE_ACCOUNT)
            add_copy(p, &r->routes[i]);
        else
            add_away(p, r, &r->routes[i]);
    }
}

/* Behind those of the recipients, which are looked up by account. */
static void add_extra_copies(struct plan *p)
{
    for (size_t i = 0; i < p->s->copy_count; i++)
        p->copies[p->copy_count + i] = (struct delivery){.account_id = p->s->copies[i].account_id,
                                                         .mailbox_id = p->s->copies[i].mailbox,
                                                         .flags = p->s->copies[i].flags,
                                                         .received_us = time_now_us(),
                                                         .may_exceed_quota = true};
}

static int compare_copies(const void *a, const void *b)
{
    int64_t x = ((const struct delivery *)a)->account_id,
            y = ((const struct delivery *)b)->account_id;

    return x < y ? -1 : x > y;
}

/* Several recipients may lead to one account, which gets one copy. */
static void merge_copies(struct plan *p)
{
    size_t n = 0;

    if (p->copy_count < 2)
        return;
    qsort(p->copies, p->copy_count, sizeof *p->copies, compare_copies);
    for (size_t i = 0; i < p->copy_count; i++)
        if (n == 0 || p->copies[n - 1].account_id != p->copies[i].account_id)
            p->copies[n++] = p->copies[i];
    p->copy_count = n;
}

static int compare_addresses(const void *a, const void *b)
{
    const struct outbound_recipient *x = a, *y = b;
    int order = str_cmp(x->address, y->address);

    return order != 0 ? order : str_cmp(x->route, y->route);
}

/* Likewise with addresses elsewhere. What one of the writings asked to be told of is told. */
static void merge_away(struct outbound *o)
{
    size_t n = 0;

    if (o->rcpt_count < 2)
        return;
    qsort(o->rcpts, o->rcpt_count, sizeof *o->rcpts, compare_addresses);
    for (size_t i = 0; i < o->rcpt_count; i++) {
        if (n > 0 && compare_addresses(&o->rcpts[n - 1], &o->rcpts[i]) == 0)
            o->rcpts[n - 1].notify |= o->rcpts[i].notify;
        else
            o->rcpts[n++] = o->rcpts[i];
    }
    o->rcpt_count = n;
}

static void plan_recipients(struct plan *p)
{
    p->is_kept_back = p->s->hold_until_us > time_now_us() || !str_empty(p->s->held);
    make_room(p);
    for (size_t i = 0; i < p->s->rcpt_count; i++)
        add_recipient(p, &p->s->rcpts[i]);
    merge_copies(p);
    for (int i = 0; i < ENTRY_COUNT; i++)
        merge_away(&p->entries[i]);
}

/* ---- under whose name ------------------------------------------------------------------------------ */

/* One of ours; empty when nothing is passed on. */
static struct str passing_domain(struct plan *p)
{
    struct str local, domain;

    address_path_split(p->arena, p->passed_through, &local, &domain);
    domain_canonical(p->arena, domain, &domain, NULL);
    return domain;
}

static bool needs_srs(const struct submit *s)
{
    for (size_t i = 0; i < s->rcpt_count; i++)
        for (size_t j = 0; j < s->rcpts[i].route_count; j++)
            if (s->rcpts[i].routes[j].needs_srs)
                return true;
    return false;
}

/* The name is rewritten without its quotes: whatever a stranger put between them stays inside of one path. */
static int passing_sender(struct plan *p, struct str *sender, struct error *err)
{
    struct str local, home, rewritten;

    *sender = p->s->sender;
    address_path_split(p->arena, p->s->sender, &local, &home);
    if (str_empty(home) || !needs_srs(p->s))
        return 0;
    if (srs_rewrite(p->arena, local, home, time_now_us() / 1000000, &rewritten, err) < 0)
        return -1;
    *sender = address_path_of(p->arena, rewritten, passing_domain(p));
    return 0;
}

static void fill_entry(struct plan *p, struct outbound *o, struct str sender)
{
    const struct submit *s = p->s;

    o->trace_id = s->trace_id;
    o->account_id = s->account_id;
    o->sender = sender;
    o->envid = s->envid;
    o->language = s->language;
    o->ret = s->ret;
    o->body = s->body;
    o->is_utf8 = s->is_utf8;
    o->requires_tls = s->requires_tls;
    o->priority = s->priority;
    o->deliver_by_us = s->deliver_by_us;
    o->deliver_by_notify = s->deliver_by_notify;
    o->hold_until_us = s->hold_until_us;
    o->held = s->held;
    o->blob_offset = s->return_path.n;
    o->arena = p->arena;
}

/* ---- the bytes ------------------------------------------------------------------------------------- */

/* The domain of the first author, canonical; empty when there is none. */
static struct str author_domain(struct arena *a, struct str message)
{
    struct header_field from;
    struct addresses authors;
    struct str domain = STR("");

    if (!header_find(message, STR("From"), &from))
        return domain;
    address_parse_list(a, from.value, &authors);
    for (size_t i = 0; i < authors.n && str_empty(domain); i++)
        if (authors.v[i].domain.n > 0)
            domain_canonical(a, authors.v[i].domain, &domain, NULL);
    return domain;
}

static int signature(struct plan *p, struct str *fields, struct error *err)
{
    struct dkim_signers signers;
    int rc = 0;

    *fields = STR("");
    if (dkim_ring_hold(p->arena, author_domain(p->arena, p->s->message), &signers, err) < 0)
        return -1;
    if (signers.n > 0)
        rc = dkim_sign(p->arena, p->s->message, signers.v, signers.n, time_now_us() / 1000000,
                       fields, err);
    dkim_ring_release(&signers);
    return rc;
}

/* Who passes a message on says what it was when it came (RFC 8617). A seal that cannot be made keeps no mail back. */
static struct str seal(struct plan *p)
{
    struct dkim_signers signers;
    struct error err = {0};
    struct str fields = STR("");

    if (dkim_ring_hold(p->arena, passing_domain(p), &signers, &err) < 0 || signers.n == 0)
        return fields;
    if (arc_seal(p->arena, p->s->message, &signers.v[0], p->s->arc, str_c(config.hostname),
                 p->s->results, time_now_us() / 1000000, &fields, &err) < 0)
        log_warn(NULL, "seal_failed", KV_ERR(&err));
    dkim_ring_release(&signers);
    return fields;
}

static int added_fields(struct plan *p, struct str *fields, struct error *err)
{
    bool leaves = p->entries[DIRECT].rcpt_count > 0 || p->entries[PASSED_ON].rcpt_count > 0;

    *fields = STR("");
    if (leaves && p->s->is_ours)
        return signature(p, fields, err);
    if (p->entries[PASSED_ON].rcpt_count > 0 && p->s->arc != NULL)
        *fields = seal(p);
    return 0;
}

/* What is empty may have no place at all, which memcpy() must not be given. */
static char *put(char *at, struct str s)
{
    if (s.n > 0)
        memcpy(at, s.p, s.n);
    return at + s.n;
}

/* Through whom it was passed on: when it comes back to them, it goes in circles (smtp_message_check.c). Of several recipients
 * none is shown to the others; in the second round of a circle there is one. */
static struct str circle_mark(struct plan *p)
{
    if (str_empty(p->passed_through) || p->s->rcpt_count > 1)
        return STR("");
    return arena_printf(p->arena, "Delivered-To: %.*s\r\n", STR_ARG(p->passed_through));
}

static void put_together(struct plan *p, struct str fields)
{
    const struct submit *s = p->s;
    struct str mark = circle_mark(p);
    size_t head_size = s->return_path.n + mark.n + s->head.n + fields.n;
    char *at;

    if (head_size <= s->room_size)
        at = (char *)s->message.p - head_size;
    else {
        at = arena_alloc(p->arena, head_size + s->message.n);
        memcpy(at + head_size, s->message.p, s->message.n);
    }
    p->raw = str_of(at, head_size + s->message.n);
    put(put(put(put(at, s->return_path), mark), s->head), fields);
}

/* ---- what became of it ----------------------------------------------------------------------------- */

static const struct delivery *find_copy(const struct plan *p, int64_t account_id)
{
    struct delivery key = {.account_id = account_id};

    return bsearch(&key, p->copies, p->copy_count, sizeof key, compare_copies);
}

/* A recipient is served when anyone it led to was: a group's one full member is not its failure. */
static enum submit_status status_of(const struct plan *p, const struct submit_recipient *r)
{
    enum submit_status status = r->route_count > 0 ? SUBMIT_GONE : SUBMIT_TAKEN;

    for (size_t i = 0; i < r->route_count; i++) {
        const struct delivery *d;

        if (p->is_kept_back || r->routes[i].kind == ROUTE_REMOTE)
            return SUBMIT_TAKEN;
        d = find_copy(p, r->routes[i].account_id);
        if (d->status == DELIVERED)
            return SUBMIT_TAKEN;
        if (d->status == DELIVERY_OVER_QUOTA)
            status = SUBMIT_OVER_QUOTA;
    }
    return status;
}

static void trace_copy(const struct plan *p, struct str recipient, const struct route *route)
{
    const struct delivery *d = find_copy(p, route->account_id);

    if (d->status == DELIVERED)
        trace_delivered(p->s->trace_id, recipient, route->account_id,
                        p->s->is_junk ? STR("Junk") : STR("INBOX"));
    else
        trace_event(p->s->trace_id, TRACE_FAILED, recipient,
                    d->status == DELIVERY_OVER_QUOTA ? STR("the mailbox is full")
                                                     : STR("the account is gone"));
}

static void trace_recipient(const struct plan *p, const struct submit_recipient *r)
{
    if (p->is_kept_back) {
        trace_event(p->s->trace_id, TRACE_HELD, r->address,
                    str_empty(p->s->held) ? STR("until the time its sender chose") : p->s->held);
        return;
    }
    if (r->route_count == 0)
        trace_event(p->s->trace_id, TRACE_DELIVERED, r->address, STR("reports of other servers"));
    for (size_t i = 0; i < r->route_count; i++) {
        if (r->routes[i].kind == ROUTE_ACCOUNT)
            trace_copy(p, r->address, &r->routes[i]);
        else
            trace_event(p->s->trace_id,
                        is_passed_on(&r->routes[i]) ? TRACE_FORWARDED : TRACE_QUEUED, r->address,
                        r->routes[i].address);
    }
}

static void tell(struct plan *p)
{
    for (size_t i = 0; i < p->s->rcpt_count; i++) {
        p->s->rcpts[i].status = status_of(p, &p->s->rcpts[i]);
        trace_recipient(p, &p->s->rcpts[i]);
    }
}

/* ---- the whole ------------------------------------------------------------------------------------- */

static int plan_entries(struct plan *p, struct error *err)
{
    struct str sender;

    fill_entry(p, &p->entries[DIRECT], p->s->sender);
    if (p->entries[PASSED_ON].rcpt_count == 0)
        return 0;
    if (passing_sender(p, &sender, err) < 0)
        return -1;
    fill_entry(p, &p->entries[PASSED_ON], sender);
    return 0;
}

/* Entries in one chain, as they go into one transaction; what ends with it hangs on the first. */
static struct outbound *chain(struct plan *p)
{
    struct outbound *direct = &p->entries[DIRECT], *passed_on = &p->entries[PASSED_ON];

    direct->ends = p->s->ends;
    direct->next = passed_on->rcpt_count > 0 ? passed_on : NULL;
    return direct;
}

static int commit(struct plan *p, struct error *err)
{
    struct message_prepared prepared = {.raw = p->raw};

    if (p->copy_count + p->s->copy_count > 0)
        message_prepare(p->arena, p->raw, &prepared);
    add_extra_copies(p);
    return queue_deliver(&prepared, p->copies, p->copy_count + p->s->copy_count, chain(p), err);
}

int submit_message(struct submit *s, struct error *err)
{
    struct plan p = {.arena = arena_new(), .s = s};
    struct str fields;
    int rc = -1;

    plan_recipients(&p);
    if (plan_entries(&p, err) == 0 && added_fields(&p, &fields, err) == 0) {
        put_together(&p, fields);
        rc = commit(&p, err);
    }
    if (rc == 0) {
        tell(&p);
        submit_report_taken(s);
    }
    arena_free(&p.arena);
    return rc;
}

/* ---- what was held ---------------------------------------------------------------------------------- */

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
    struct routing_sender from = {.address = c->o.sender, .account_id = c->o.account_id};
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
