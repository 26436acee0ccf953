/* submit_outcome.c - what became of each recipient: for who submitted it, and for the trace. */
#include "mail/queue/submit_internal.h"

#include "mail/store/trace.h"
#include "server/base/date.h"

static struct submit_taker *find_taker(const struct submit_plan *p, int64_t account_id)
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
static void settle_takers(struct submit_plan *p)
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

static enum submit_status status_of_taker(const struct submit_taker *t)
{
    if (!str_empty(t->d.refusal))
        return SUBMIT_REFUSED;
    if (t->status == DELIVERED)
        return SUBMIT_TAKEN;
    return t->status == DELIVERY_OVER_QUOTA ? SUBMIT_OVER_QUOTA : SUBMIT_GONE;
}

/* A recipient is served when anyone it led to was: a group's one full member is not its failure. */
static enum submit_status status_of(const struct submit_plan *p, struct submit_recipient *r)
{
    enum submit_status status = r->route_count > 0 ? SUBMIT_GONE : SUBMIT_TAKEN;

    if (!str_empty(r->reason))
        return SUBMIT_REFUSED;
    for (size_t i = 0; i < r->route_count; i++) {
        const struct submit_taker *t;
        enum submit_status of_taker;

        if (submit_waits_unresolved(p, r) || r->routes[i].kind == ROUTE_REMOTE)
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

static void trace_copies(const struct submit_plan *p, struct str recipient,
                         const struct submit_taker *t)
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

static void trace_kept_back(const struct submit_plan *p, const struct submit_recipient *r)
{
    if (!str_empty(p->s->held))
        trace_event(p->s->trace_id, TRACE_HELD, r->address, p->s->held);
    else if (p->s->hold_until_us > time_now_us())
        trace_event(p->s->trace_id, TRACE_HELD, r->address, STR("until the time its sender chose"));
    else
        trace_event(p->s->trace_id, TRACE_QUEUED, r->address, STR("for accounts here"));
}

static void trace_recipient(const struct submit_plan *p, const struct submit_recipient *r)
{
    if (p->is_kept_back || submit_waits_unresolved(p, r)) {
        trace_kept_back(p, r);
        return;
    }
    if (!str_empty(r->reason) && r->route_count == 0)
        trace_event(p->s->trace_id, TRACE_REFUSED, r->address, r->reason);
    else if (r->route_count == 0)
        trace_event(p->s->trace_id, TRACE_DELIVERED, r->address, STR("reports of other servers"));
    for (size_t i = 0; i < r->route_count; i++) {
        if (r->routes[i].kind == ROUTE_ACCOUNT)
            trace_copies(p, r->address, find_taker(p, r->routes[i].account_id));
        else
            trace_event(p->s->trace_id,
                        submit_is_passed_on(&r->routes[i]) ? TRACE_FORWARDED : TRACE_QUEUED,
                        r->address, r->routes[i].address);
    }
}

void submit_tell(struct submit_plan *p)
{
    settle_takers(p);
    for (size_t i = 0; i < p->s->rcpt_count; i++) {
        p->s->rcpts[i].status = status_of(p, &p->s->rcpts[i]);
        trace_recipient(p, &p->s->rcpts[i]);
    }
}
