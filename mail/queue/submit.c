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

/* An account that gets the message. */
struct taker {
    struct submit_filtered f;
    struct submit_decision d;
    enum delivery_status status; /* of its copies together: the best of them */
};

/* A copy on its way into a mailbox. */
struct copy {
    struct taker *taker; /* NULL: one beside those of the recipients */
    struct str mailbox;
    struct str message; /* p NULL: as it came */
};

struct plan {
    struct arena *arena;
    struct submit *s;
    struct taker *takers; /* by account, each once */
    size_t taker_count, taker_room;
    struct copy *copies;     /* those of the message as it came first */
    struct delivery *places; /* where each goes */
    size_t copy_count, edited_count;
    struct mail_item *items; /* the message as it came, then those that filters edited */
    struct outbound entries[ENTRY_COUNT];
    size_t entry_room[ENTRY_COUNT];
    bool is_kept_back; /* copies wait in the queue, too */
    struct str
        passed_through; /* the recipient, an address of ours, that others are reached through; empty: none */
    struct str raw; /* everything, with the Return-Path */
};

static const struct submit_filter *filter;

void submit_set_filter(const struct submit_filter *f)
{
    filter = f;
}

/* What is empty may have no place at all, which memcpy() must not be given. */
static char *put(char *at, struct str s)
{
    if (s.n > 0)
        memcpy(at, s.p, s.n);
    return at + s.n;
}

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

static bool has_account(const struct submit_recipient *r)
{
    for (size_t i = 0; i < r->route_count; i++)
        if (r->routes[i].kind == ROUTE_ACCOUNT)
            return true;
    return false;
}

/* It is resolved anew when its time comes. */
static bool waits_unresolved(const struct plan *p, const struct submit_recipient *r)
{
    return (p->is_kept_back && is_any_here(r)) || (p->s->waits_for_queue && has_account(r));
}

static void count_routes(struct plan *p, const struct submit_recipient *r)
{
    if (waits_unresolved(p, r)) {
        p->entry_room[DIRECT]++;
        return;
    }
    for (size_t i = 0; i < r->route_count; i++) {
        if (r->routes[i].kind == ROUTE_ACCOUNT)
            p->taker_room++;
        else
            p->entry_room[is_passed_on(&r->routes[i]) ? PASSED_ON : DIRECT]++;
    }
}

static void make_room(struct plan *p)
{
    for (size_t i = 0; i < p->s->rcpt_count; i++)
        count_routes(p, &p->s->rcpts[i]);
    p->takers = ARENA_ARRAY(p->arena, p->taker_room, struct taker);
    for (int i = 0; i < ENTRY_COUNT; i++)
        p->entries[i].rcpts = ARENA_ARRAY(p->arena, p->entry_room[i], struct outbound_recipient);
}

static void add_taker(struct plan *p, const struct submit_recipient *r, const struct route *route)
{
    p->takers[p->taker_count++] = (struct taker){.f = {.account_id = route->account_id, .rcpt = r}};
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
            add_taker(p, r, &r->routes[i]);
        else
            add_away(p, r, &r->routes[i]);
    }
}

static int compare_takers(const void *a, const void *b)
{
    const struct taker *x = a, *y = b;

    if (x->f.account_id != y->f.account_id)
        return x->f.account_id < y->f.account_id ? -1 : 1;
    return (x->f.rcpt > y->f.rcpt) - (x->f.rcpt < y->f.rcpt);
}

/* Several recipients may lead to one account, which gets one copy, as the first of them. */
static void merge_takers(struct plan *p)
{
    size_t n = 0;

    if (p->taker_count < 2)
        return;
    qsort(p->takers, p->taker_count, sizeof *p->takers, compare_takers);
    for (size_t i = 0; i < p->taker_count; i++)
        if (n == 0 || p->takers[n - 1].f.account_id != p->takers[i].f.account_id)
            p->takers[n++] = p->takers[i];
    p->taker_count = n;
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
    p->passed_through = p->s->passed_on_for;
    make_room(p);
    for (size_t i = 0; i < p->s->rcpt_count; i++)
        add_recipient(p, &p->s->rcpts[i]);
    merge_takers(p);
    for (int i = 0; i < ENTRY_COUNT; i++)
        merge_away(&p->entries[i]);
}

/* ---- what their filters make of it ---------------------------------------------------------------- */

/* With the fields that are added on the way, but for those of who passes it on. */
static struct str message_as_filed(struct plan *p)
{
    const struct submit *s = p->s;
    char *text = arena_alloc(p->arena, s->head.n + s->message.n + 1);

    put(put(text, s->head), s->message);
    return str_of(text, s->head.n + s->message.n);
}

static int decide_one(struct plan *p, struct taker *t, struct str *message, struct error *err)
{
    bool is_wanted;

    if (filter->is_wanted(t->f.account_id, &is_wanted, err) < 0)
        return -1;
    if (!is_wanted)
        return 0;
    if (message->p == NULL)
        *message = message_as_filed(p);
    t->f.message = *message;
    return filter->decide(p->arena, p->s, &t->f, &t->d, err);
}

static int decide(struct plan *p, struct error *err)
{
    struct str message = STR_NULL;

    for (size_t i = 0; filter != NULL && i < p->taker_count; i++)
        if (decide_one(p, &p->takers[i], &message, err) < 0)
            return -1;
    return 0;
}

static int run_before(struct plan *p, struct error *err)
{
    for (size_t i = 0; i < p->taker_count; i++) {
        struct taker *t = &p->takers[i];

        if (t->d.is_made && filter->before(p->arena, p->s, &t->f, &t->d, err) < 0)
            return -1;
    }
    return 0;
}

static void run_after(struct plan *p)
{
    for (size_t i = 0; i < p->taker_count; i++)
        if (p->takers[i].d.is_made)
            filter->after(p->s, &p->takers[i].f, &p->takers[i].d);
}

/* ---- copies --------------------------------------------------------------------------------------- */

static size_t count_filings(const struct plan *p)
{
    size_t n = 0;

    for (size_t i = 0; i < p->taker_count; i++)
        n += p->takers[i].d.is_made ? p->takers[i].d.filing_count : 1;
    return n;
}

static void add_copy(struct plan *p, struct copy copy, struct delivery place)
{
    place.received_us = time_now_us();
    p->copies[p->copy_count] = copy;
    p->places[p->copy_count++] = place;
}

static void add_filing(struct plan *p, struct taker *t, const struct submit_filing *f)
{
    add_copy(p, (struct copy){.taker = t, .mailbox = f->mailbox, .message = f->message},
             (struct delivery){.account_id = t->f.account_id,
                               .mailbox_id = f->mailbox_id,
                               .flags = f->flags,
                               .keywords = f->keywords,
                               .may_exceed_quota = p->s->may_exceed_quota});
}

static void add_filings(struct plan *p, struct taker *t, bool edited)
{
    struct submit_filing as_it_came = {
        .mailbox_id = p->s->is_junk ? MAILBOX_JUNK : 0,
        .mailbox = p->s->is_junk ? STR("Junk") : STR("INBOX"),
        .message = STR_NULL,
    };

    if (!t->d.is_made && !edited)
        add_filing(p, t, &as_it_came);
    for (size_t i = 0; i < t->d.filing_count; i++)
        if ((t->d.filings[i].message.p != NULL) == edited)
            add_filing(p, t, &t->d.filings[i]);
}

static void add_extra_copies(struct plan *p)
{
    for (size_t i = 0; i < p->s->copy_count; i++)
        add_copy(p, (struct copy){.taker = NULL, .message = STR_NULL},
                 (struct delivery){.account_id = p->s->copies[i].account_id,
                                   .mailbox_id = p->s->copies[i].mailbox,
                                   .flags = p->s->copies[i].flags,
                                   .may_exceed_quota = true});
}

static void plan_copies(struct plan *p)
{
    size_t room = count_filings(p) + p->s->copy_count;

    p->copies = ARENA_ARRAY(p->arena, room, struct copy);
    p->places = ARENA_ARRAY(p->arena, room, struct delivery);
    for (size_t i = 0; i < p->taker_count; i++)
        add_filings(p, &p->takers[i], false);
    add_extra_copies(p);
    p->edited_count = p->copy_count;
    for (size_t i = 0; i < p->taker_count; i++)
        add_filings(p, &p->takers[i], true);
    p->edited_count = p->copy_count - p->edited_count;
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

static struct taker *find_taker(const struct plan *p, int64_t account_id)
{
    size_t low = 0, high = p->taker_count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (p->takers[middle].f.account_id < account_id)
            low = middle + 1;
        else
            high = middle;
    }
    return &p->takers[low];
}

/* Who filed nothing has taken it all the same; of several copies the best counts. */
static void settle_takers(struct plan *p)
{
    for (size_t i = 0; i < p->taker_count; i++)
        p->takers[i].status = DELIVERED;
    for (size_t i = p->copy_count; i-- > 0;)
        if (p->copies[i].taker != NULL)
            p->copies[i].taker->status = p->places[i].status;
    for (size_t i = 0; i < p->copy_count; i++)
        if (p->copies[i].taker != NULL && p->places[i].status == DELIVERED)
            p->copies[i].taker->status = DELIVERED;
}

static enum submit_status status_of_taker(const struct taker *t)
{
    if (!str_empty(t->d.refusal))
        return SUBMIT_REFUSED;
    if (t->status == DELIVERED)
        return SUBMIT_TAKEN;
    return t->status == DELIVERY_OVER_QUOTA ? SUBMIT_OVER_QUOTA : SUBMIT_GONE;
}

/* A recipient is served when anyone it led to was: a group's one full member is not its failure. */
static enum submit_status status_of(const struct plan *p, struct submit_recipient *r)
{
    enum submit_status status = r->route_count > 0 ? SUBMIT_GONE : SUBMIT_TAKEN;

    for (size_t i = 0; i < r->route_count; i++) {
        const struct taker *t;
        enum submit_status of_taker;

        if (waits_unresolved(p, r) || r->routes[i].kind == ROUTE_REMOTE)
            return SUBMIT_TAKEN;
        t = find_taker(p, r->routes[i].account_id);
        of_taker = status_of_taker(t);
        if (of_taker == SUBMIT_TAKEN)
            return SUBMIT_TAKEN;
        if (of_taker == SUBMIT_REFUSED)
            r->reason = t->d.refusal;
        if (of_taker != SUBMIT_GONE)
            status = of_taker;
    }
    return status;
}

static void trace_copies(const struct plan *p, struct str recipient, const struct taker *t)
{
    if (!str_empty(t->d.told))
        trace_event(p->s->trace_id, TRACE_FILTERED, recipient, t->d.told);
    for (size_t i = 0; i < p->copy_count; i++) {
        if (p->copies[i].taker != t)
            continue;
        if (p->places[i].status == DELIVERED)
            trace_delivered(p->s->trace_id, recipient, t->f.account_id, p->copies[i].mailbox);
        else
            trace_event(p->s->trace_id, TRACE_FAILED, recipient,
                        p->places[i].status == DELIVERY_OVER_QUOTA ? STR("the mailbox is full")
                                                                   : STR("the account is gone"));
    }
}

static void trace_kept_back(const struct plan *p, const struct submit_recipient *r)
{
    if (!str_empty(p->s->held))
        trace_event(p->s->trace_id, TRACE_HELD, r->address, p->s->held);
    else if (p->s->hold_until_us > time_now_us())
        trace_event(p->s->trace_id, TRACE_HELD, r->address, STR("until the time its sender chose"));
    else
        trace_event(p->s->trace_id, TRACE_QUEUED, r->address, STR("for accounts here"));
}

static void trace_recipient(const struct plan *p, const struct submit_recipient *r)
{
    if (p->is_kept_back || waits_unresolved(p, r)) {
        trace_kept_back(p, r);
        return;
    }
    if (r->route_count == 0)
        trace_event(p->s->trace_id, TRACE_DELIVERED, r->address, STR("reports of other servers"));
    for (size_t i = 0; i < r->route_count; i++) {
        if (r->routes[i].kind == ROUTE_ACCOUNT)
            trace_copies(p, r->address, find_taker(p, r->routes[i].account_id));
        else
            trace_event(p->s->trace_id,
                        is_passed_on(&r->routes[i]) ? TRACE_FORWARDED : TRACE_QUEUED, r->address,
                        r->routes[i].address);
    }
}

static void tell(struct plan *p)
{
    settle_takers(p);
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

static struct message_prepared *prepared_message(struct plan *p, struct str raw, bool is_filed)
{
    struct message_prepared *m = ARENA_NEW(p->arena, struct message_prepared);

    *m = (struct message_prepared){.raw = raw};
    if (is_filed)
        message_prepare(p->arena, raw, m);
    return m;
}

static struct str with_return_path(struct plan *p, struct str message)
{
    char *text = arena_alloc(p->arena, p->s->return_path.n + message.n + 1);

    put(put(text, p->s->return_path), message);
    return str_of(text, p->s->return_path.n + message.n);
}

static void plan_items(struct plan *p)
{
    size_t first_edited = p->copy_count - p->edited_count;

    p->items = ARENA_ARRAY(p->arena, 1 + p->edited_count, struct mail_item);
    p->items[0] = (struct mail_item){.m = prepared_message(p, p->raw, first_edited > 0),
                                     .v = p->places,
                                     .count = first_edited,
                                     .outbound = chain(p)};
    for (size_t i = 0; i < p->edited_count; i++) {
        struct str raw = with_return_path(p, p->copies[first_edited + i].message);

        p->items[1 + i] = (struct mail_item){
            .m = prepared_message(p, raw, true), .v = &p->places[first_edited + i], .count = 1};
    }
}

/* A mailbox that went while its filter ran: nothing is lost. */
static int rescue_copies(struct plan *p, struct error *err)
{
    size_t first_edited = p->copy_count - p->edited_count;

    for (size_t i = 0; i < p->copy_count; i++) {
        const struct mail_item *item = &p->items[i < first_edited ? 0 : 1 + (i - first_edited)];

        if (p->places[i].status != DELIVERY_NO_MAILBOX)
            continue;
        p->places[i].mailbox_id = INBOX_ID;
        p->copies[i].mailbox = STR("INBOX");
        if (mail_deliver(item->m, &p->places[i], 1, NULL, err) < 0)
            return -1;
    }
    return 0;
}

static int commit(struct plan *p, struct error *err)
{
    plan_items(p);
    if (queue_deliver_all(p->items, 1 + p->edited_count, err) < 0)
        return -1;
    return rescue_copies(p, err);
}

static int plan_all(struct plan *p, struct error *err)
{
    struct str fields;

    plan_recipients(p);
    if (decide(p, err) < 0)
        return -1;
    plan_copies(p);
    if (plan_entries(p, err) < 0 || added_fields(p, &fields, err) < 0)
        return -1;
    put_together(p, fields);
    return 0;
}

int submit_message(struct submit *s, struct error *err)
{
    struct plan p = {.arena = arena_new(), .s = s};
    int rc = -1;

    if (plan_all(&p, err) == 0 && run_before(&p, err) == 0)
        rc = commit(&p, err);
    if (rc == 0) {
        run_after(&p);
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
