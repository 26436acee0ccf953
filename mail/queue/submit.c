/* submit.c - one message, one transaction: who gets a copy here, who is queued, under whose name.
 *
 * The bytes are put together once: Return-Path for copies that stay here, then the fields for everybody, seal and
 * signature, then what came. Queue entries point behind the Return-Path. There are at most two of them: for those
 * whom the sender wrote to, and for those whom a forward or group of ours leads to, where the sender is an address of ours
 * (SRS) because its own domain vouches for its own servers only. */
#include "mail/queue/submit_internal.h"

#include "mail/queue/queue.h"
#include "mail/queue/submit_report.h"

/* Entries in one chain, as they go into one transaction; what ends with it hangs on the first. */
static struct outbound *chain(struct submit_plan *p)
{
    struct outbound *direct = &p->entries[SUBMIT_DIRECT],
                    *passed_on = &p->entries[SUBMIT_PASSED_ON];

    direct->ends = p->s->ends;
    direct->next = passed_on->rcpt_count > 0 ? passed_on : NULL;
    return direct;
}

static struct message_prepared *prepared_message(struct submit_plan *p, struct str raw,
                                                 bool is_filed)
{
    struct message_prepared *m = ARENA_NEW(p->arena, struct message_prepared);

    *m = (struct message_prepared){.raw = raw};
    if (is_filed)
        message_prepare(p->arena, raw, m);
    return m;
}

static struct str with_return_path(struct submit_plan *p, struct str message)
{
    char *text = arena_alloc(p->arena, p->s->return_path.n + message.n + 1);

    submit_put(submit_put(text, p->s->return_path), message);
    return str_of(text, p->s->return_path.n + message.n);
}

static void plan_items(struct submit_plan *p)
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
static int rescue_copies(struct submit_plan *p, struct error *err)
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

static int commit(struct submit_plan *p, struct error *err)
{
    plan_items(p);
    if (queue_deliver_all(p->items, 1 + p->edited_count, err) < 0)
        return -1;
    return rescue_copies(p, err);
}

static int plan_all(struct submit_plan *p, struct error *err)
{
    struct str fields;

    submit_plan_recipients(p);
    if (submit_decide(p, err) < 0)
        return -1;
    submit_plan_copies(p);
    if (submit_plan_entries(p, err) < 0 || submit_added_fields(p, &fields, err) < 0)
        return -1;
    submit_put_together(p, fields);
    return 0;
}

int submit_message(struct submit *s, struct error *err)
{
    struct submit_plan p = {.arena = arena_new(), .s = s};
    int rc = -1;

    if (plan_all(&p, err) == 0 && submit_run_before(&p, err) == 0)
        rc = commit(&p, err);
    if (rc == 0) {
        submit_run_after(&p);
        submit_tell(&p);
        submit_report_taken(s);
    }
    arena_free(&p.arena);
    return rc;
}
