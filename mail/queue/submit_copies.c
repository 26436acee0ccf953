/* submit_copies.c - copies for accounts here: each account's filter says what becomes of its own. */
#include "mail/queue/submit_internal.h"

#include "server/base/date.h"

static const struct submit_filter *filter;

void submit_set_filter(const struct submit_filter *f)
{
    filter = f;
}

/* ---- what their filters make of it ---------------------------------------------------------------- */

/* With the fields that are added on the way, but for those of who passes it on. */
static struct str message_as_filed(struct submit_plan *p)
{
    const struct submit *s = p->s;
    char *text = arena_alloc(p->arena, s->head.n + s->message.n + 1);

    submit_put(submit_put(text, s->head), s->message);
    return str_of(text, s->head.n + s->message.n);
}

static int decide_one(struct submit_plan *p, struct submit_taker *t, struct str *message,
                      struct error *err)
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

int submit_decide(struct submit_plan *p, struct error *err)
{
    struct str message = STR_NULL;

    for (size_t i = 0; filter != NULL && i < p->taker_count; i++)
        if (decide_one(p, &p->takers[i], &message, err) < 0)
            return -1;
    return 0;
}

int submit_run_before(struct submit_plan *p, struct error *err)
{
    for (size_t i = 0; i < p->taker_count; i++) {
        struct submit_taker *t = &p->takers[i];

        if (t->d.is_made && filter->before(p->arena, p->s, &t->f, &t->d, err) < 0)
            return -1;
    }
    return 0;
}

void submit_run_after(struct submit_plan *p)
{
    for (size_t i = 0; i < p->taker_count; i++)
        if (p->takers[i].d.is_made)
            filter->after(p->s, &p->takers[i].f, &p->takers[i].d);
}

/* ---- copies --------------------------------------------------------------------------------------- */

static size_t count_filings(const struct submit_plan *p)
{
    size_t n = 0;

    for (size_t i = 0; i < p->taker_count; i++)
        n += p->takers[i].d.is_made ? p->takers[i].d.filing_count : 1;
    return n;
}

static void add_copy(struct submit_plan *p, struct submit_place copy, struct delivery place)
{
    place.received_us = time_now_us();
    p->copies[p->copy_count] = copy;
    p->places[p->copy_count++] = place;
}

static void add_filing(struct submit_plan *p, struct submit_taker *t, const struct submit_filing *f)
{
    add_copy(p, (struct submit_place){.taker = t, .mailbox = f->mailbox, .message = f->message},
             (struct delivery){.account_id = t->f.account_id,
                               .mailbox_id = f->mailbox_id,
                               .flags = f->flags,
                               .keywords = f->keywords,
                               .may_exceed_quota = p->s->may_exceed_quota});
}

static void add_filings(struct submit_plan *p, struct submit_taker *t, bool edited)
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

static void add_extra_copies(struct submit_plan *p)
{
    for (size_t i = 0; i < p->s->copy_count; i++)
        add_copy(p, (struct submit_place){.taker = NULL, .message = STR_NULL},
                 (struct delivery){.account_id = p->s->copies[i].account_id,
                                   .mailbox_id = p->s->copies[i].mailbox,
                                   .flags = p->s->copies[i].flags,
                                   .may_exceed_quota = true});
}

void submit_plan_copies(struct submit_plan *p)
{
    size_t room = count_filings(p) + p->s->copy_count;

    p->copies = ARENA_ARRAY(p->arena, room, struct submit_place);
    p->places = ARENA_ARRAY(p->arena, room, struct delivery);
    for (size_t i = 0; i < p->taker_count; i++)
        add_filings(p, &p->takers[i], false);
    add_extra_copies(p);
    p->edited_count = p->copy_count;
    for (size_t i = 0; i < p->taker_count; i++)
        add_filings(p, &p->takers[i], true);
    p->edited_count = p->copy_count - p->edited_count;
}
