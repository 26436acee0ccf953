/* submit_name.c - under whose name a message leaves, and the bytes of it.
 *
 * What was written here is signed (DKIM); what is passed on is sealed (ARC), under a sender of ours (SRS) where that of its
 * author would fail. */
#include "mail/queue/submit_internal.h"

#include "mail/authentic/dkim.h"
#include "mail/authentic/dkim_ring.h"
#include "mail/authentic/srs.h"
#include "mail/mime/address.h"
#include "mail/mime/address_path.h"
#include "mail/mime/header.h"
#include "server/base/date.h"
#include "server/base/log.h"
#include "server/directory/directory.h"
#include "server/run/config.h"

/* ---- under whose name ------------------------------------------------------------------------------ */

/* One of ours; empty when nothing is passed on. */
static struct str passing_domain(struct submit_plan *p)
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
static int passing_sender(struct submit_plan *p, struct str *sender, struct error *err)
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

static void fill_entry(struct submit_plan *p, struct outbound *o, struct str sender)
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

int submit_plan_entries(struct submit_plan *p, struct error *err)
{
    struct str sender;

    fill_entry(p, &p->entries[SUBMIT_DIRECT], p->s->sender);
    if (p->entries[SUBMIT_PASSED_ON].rcpt_count == 0)
        return 0;
    if (passing_sender(p, &sender, err) < 0)
        return -1;
    fill_entry(p, &p->entries[SUBMIT_PASSED_ON], sender);
    return 0;
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

static int signature(struct submit_plan *p, struct str *fields, struct error *err)
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
static struct str seal(struct submit_plan *p)
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

int submit_added_fields(struct submit_plan *p, struct str *fields, struct error *err)
{
    bool leaves =
        p->entries[SUBMIT_DIRECT].rcpt_count > 0 || p->entries[SUBMIT_PASSED_ON].rcpt_count > 0;

    *fields = STR("");
    if (leaves && p->s->is_ours)
        return signature(p, fields, err);
    if (p->entries[SUBMIT_PASSED_ON].rcpt_count > 0 && p->s->arc != NULL)
        *fields = seal(p);
    return 0;
}

/* Through whom it was passed on: when it comes back to them, it goes in circles (smtp_message_check.c). Of several recipients
 * none is shown to the others; in the second round of a circle there is one. */
static struct str circle_mark(struct submit_plan *p)
{
    if (str_empty(p->passed_through) || p->s->rcpt_count > 1)
        return STR("");
    return arena_printf(p->arena, "Delivered-To: %.*s\r\n", STR_ARG(p->passed_through));
}

void submit_put_together(struct submit_plan *p, struct str fields)
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
    submit_put(submit_put(submit_put(submit_put(at, s->return_path), mark), s->head), fields);
}
