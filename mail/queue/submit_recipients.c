/* submit_recipients.c - from routes to accounts that take a copy and entries of the queue, each once. */
#include "mail/queue/submit_internal.h"

#include <stdlib.h>

#include "mail/mime/address_path.h"
#include "server/base/date.h"

struct route *submit_route_away(struct arena *a, struct str address)
{
    struct route *r = ARENA_NEW(a, struct route);

    *r = (struct route){.kind = ROUTE_REMOTE, .address = address, .bytes_free = INT64_MAX};
    return r;
}

/* A forward, a group or an alias of ours leads there: the sender wrote to somebody else. */
bool submit_is_passed_on(const struct route *route)
{
    return route->through_account_id != 0 || route->needs_srs;
}

static bool is_any_here(const struct submit_recipient *r)
{
    for (size_t i = 0; i < r->route_count; i++)
        if (r->routes[i].kind == ROUTE_ACCOUNT || submit_is_passed_on(&r->routes[i]))
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
bool submit_waits_unresolved(const struct submit_plan *p, const struct submit_recipient *r)
{
    return (p->is_kept_back && is_any_here(r)) || (p->s->waits_for_queue && has_account(r));
}

static void count_routes(struct submit_plan *p, const struct submit_recipient *r)
{
    if (submit_waits_unresolved(p, r)) {
        p->entry_room[SUBMIT_DIRECT]++;
        return;
    }
    for (size_t i = 0; i < r->route_count; i++) {
        if (r->routes[i].kind == ROUTE_ACCOUNT)
            p->taker_room++;
        else
            p->entry_room[submit_is_passed_on(&r->routes[i]) ? SUBMIT_PASSED_ON : SUBMIT_DIRECT]++;
    }
}

static void make_room(struct submit_plan *p)
{
    for (size_t i = 0; i < p->s->rcpt_count; i++)
        count_routes(p, &p->s->rcpts[i]);
    p->takers = ARENA_ARRAY(p->arena, p->taker_room, struct submit_taker);
    for (int i = 0; i < SUBMIT_ENTRIES; i++)
        p->entries[i].rcpts = ARENA_ARRAY(p->arena, p->entry_room[i], struct outbound_recipient);
}

static void add_taker(struct submit_plan *p, const struct submit_recipient *r,
                      const struct route *route)
{
    p->takers[p->taker_count++] =
        (struct submit_taker){.f = {.account_id = route->account_id, .rcpt = r}};
}

/* What the sender asked for holds for the one whom he wrote to, not for everyone a group or forward leads on to: those are told of by
 * the report that it was passed on (RFC 3461, 5.2.7). */
static void add_away(struct submit_plan *p, const struct submit_recipient *r,
                     const struct route *route)
{
    struct outbound *o = &p->entries[submit_is_passed_on(route) ? SUBMIT_PASSED_ON : SUBMIT_DIRECT];
    bool speaks_for_sender = !r->is_group;

    if (submit_is_passed_on(route) && str_empty(p->passed_through))
        p->passed_through = r->address;
    o->rcpts[o->rcpt_count++] = (struct outbound_recipient){
        .address = address_path(p->arena, route->address),
        .orcpt = speaks_for_sender ? r->orcpt : STR(""),
        .notify = speaks_for_sender ? r->notify : OUTBOUND_NOTIFY_FAILURE};
}

static void add_kept_back(struct submit_plan *p, const struct submit_recipient *r)
{
    struct outbound *o = &p->entries[SUBMIT_DIRECT];

    o->rcpts[o->rcpt_count++] = (struct outbound_recipient){.address = r->address,
                                                            .orcpt = r->orcpt,
                                                            .notify = r->notify,
                                                            .route = STR(OUTBOUND_ROUTE_HERE)};
}

static void add_recipient(struct submit_plan *p, const struct submit_recipient *r)
{
    if (submit_waits_unresolved(p, r)) {
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
    const struct submit_taker *x = a, *y = b;

    if (x->f.account_id != y->f.account_id)
        return x->f.account_id < y->f.account_id ? -1 : 1;
    return (x->f.rcpt > y->f.rcpt) - (x->f.rcpt < y->f.rcpt);
}

/* Several recipients may lead to one account, which gets one copy, as the first of them. */
static void merge_takers(struct submit_plan *p)
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

void submit_plan_recipients(struct submit_plan *p)
{
    p->is_kept_back = p->s->hold_until_us > time_now_us() || !str_empty(p->s->held);
    p->passed_through = p->s->passed_on_for;
    make_room(p);
    for (size_t i = 0; i < p->s->rcpt_count; i++)
        add_recipient(p, &p->s->rcpts[i]);
    merge_takers(p);
    for (int i = 0; i < SUBMIT_ENTRIES; i++)
        merge_away(&p->entries[i]);
}
