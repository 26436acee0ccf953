/* sieve_run_mime.c - foreverypart, and what is done to the part at hand (RFC 5703).
 *
 * Replacing a part makes the tree anew; what stands before the part stays where it was, so each
 * loop knows its part by where the header begins, and what comes next by where the part ends. */
#include "mail/sieve/sieve_run_internal.h"

static struct mime_part *next_in_bytes(const struct mime_part *part)
{
    return (struct mime_part *)mime_part_next(part);
}

/* The first part whose header begins at `at` or behind it. */
static struct mime_part *part_from(struct sieve_run *r, uint64_t at)
{
    struct mime_part *p = sieve_message_root(&r->message);

    while (p != NULL && p->header_at < at)
        p = next_in_bytes(p);
    return p;
}

static struct mime_part *part_at(struct sieve_run *r, uint64_t at)
{
    struct mime_part *p = part_from(r, at);

    return p != NULL && p->header_at == at ? p : NULL;
}

struct mime_part *sieve_current_part(struct sieve_run *r)
{
    return r->loop != NULL ? part_at(r, r->loop->part_at) : NULL;
}

static bool is_inside(const struct mime_part *part, const struct mime_part *scope)
{
    for (part = part->parent; part != NULL; part = part->parent)
        if (part == scope)
            return true;
    return false;
}

/* A break that is meant for this loop ends here. */
static enum sieve_flow leave(struct sieve_run *r, enum sieve_flow flow)
{
    if (flow != SIEVE_FLOW_BREAK)
        return flow;
    return --r->breaks > 0 ? SIEVE_FLOW_BREAK : SIEVE_FLOW_ON;
}

/* One part; false: the loop ends, with *flow. `part` is not to be used behind it: the tree may be another. */
static bool run_part(struct sieve_run *r, const struct sieve_command *c, struct sieve_loop *loop,
                     const struct mime_part *part, enum sieve_flow *flow)
{
    const struct mime_part *next = mime_part_next(part);

    loop->part_at = part->header_at;
    loop->next_at = next != NULL ? next->header_at : UINT64_MAX;
    if (sieve_run_step(r, c->line, 1) < 0) {
        *flow = SIEVE_FLOW_FAILED;
        return false;
    }
    *flow = sieve_run_block(r, c->u.loop.block);
    return *flow == SIEVE_FLOW_ON && loop->next_at != UINT64_MAX;
}

/* Outside of loops every part, the message first; within one the parts inside the current one. */
PARKS enum sieve_flow sieve_run_loop(struct sieve_run *r, const struct sieve_command *c)
{
    struct sieve_loop loop = {.outer = r->loop};
    enum sieve_flow flow = SIEVE_FLOW_ON;
    const struct mime_part *scope = sieve_current_part(r);
    const struct mime_part *part =
        scope != NULL ? mime_part_next(scope) : sieve_message_root(&r->message);

    if (loop.outer != NULL && scope == NULL)
        return SIEVE_FLOW_ON;
    while (part != NULL && (scope == NULL || is_inside(part, scope))) {
        r->loop = &loop;
        if (!run_part(r, c, &loop, part, &flow))
            break;
        r->loop = loop.outer;
        scope = sieve_current_part(r);
        if (loop.outer != NULL && scope == NULL)
            break;
        part = part_from(r, loop.next_at);
    }
    r->loop = loop.outer;
    return leave(r, flow);
}

/* ---- replace, enclose, extracttext ------------------------------------------------------------ */

static struct str given(struct sieve_run *r, const struct sieve_string *s)
{
    return sieve_string_is_given(s) ? sieve_run_string(r, s) : STR_NULL;
}

static struct sieve_new_text new_text(struct sieve_run *r, const struct sieve_command *c)
{
    struct sieve_new_text t = {.is_mime = c->u.body.is_mime};

    t.text = sieve_run_string(r, &c->u.body.text);
    t.subject = given(r, &c->u.body.subject);
    t.from = given(r, &c->u.body.from);
    t.headers = sieve_run_strings(r, &c->u.body.headers);
    t.headers_count = c->u.body.headers.n;
    return t;
}

/* A mailbox-list: what is none is passed over, as RFC 5703, 5 suggests. */
static bool is_mailbox_list(struct sieve_run *r, struct str from)
{
    struct addresses list;

    if (!str_is_ascii(from) || str_index(from, '\n') >= 0 || str_index(from, '\r') >= 0)
        return false;
    address_parse_list(r->scratch, from, &list);
    for (size_t i = 0; i < list.n; i++)
        if (str_empty(list.v[i].local) || str_empty(list.v[i].domain))
            return false;
    return list.n > 0;
}

static enum sieve_flow told(struct sieve_run *r, const struct sieve_command *c, int answer,
                            const struct error *err)
{
    if (answer == 0)
        return SIEVE_FLOW_ON;
    sieve_run_fault(r, c->line, c->column, "%s", err->text);
    return SIEVE_FLOW_FAILED;
}

/* Behind a replaced part the loops go on where it ends now: none goes into what is no more. */
static void pass_replaced(struct sieve_run *r, const struct mime_part *old, size_t old_size)
{
    uint64_t end = old->body_at + old->body_size;
    int64_t growth = (int64_t)r->message.base.n - (int64_t)old_size;

    for (struct sieve_loop *l = r->loop; l != NULL; l = l->outer) {
        if (l->part_at == old->header_at)
            l->next_at = old->parent == NULL ? UINT64_MAX : end + (uint64_t)growth;
        else if (l->next_at != UINT64_MAX && l->next_at >= end)
            l->next_at += (uint64_t)growth;
    }
}

PARKS enum sieve_flow sieve_run_replace(struct sieve_run *r, const struct sieve_command *c)
{
    struct sieve_new_text t = new_text(r, c);
    struct mime_part *part = sieve_current_part(r);
    struct error err = {0};
    size_t size = r->message.base.n;
    int answer;

    if (t.from.p != NULL && !is_mailbox_list(r, t.from))
        t.from = STR_NULL;
    if (part == NULL && r->loop != NULL) /* the part is gone */
        return SIEVE_FLOW_ON;
    if (part == NULL)
        part = sieve_message_root(&r->message);
    answer = sieve_message_replace(&r->message, part, &t, &err);
    if (answer == 0)
        pass_replaced(r, part, size);
    return told(r, c, answer, &err);
}

PARKS enum sieve_flow sieve_run_enclose(struct sieve_run *r, const struct sieve_command *c)
{
    struct sieve_new_text t = new_text(r, c);
    struct error err = {0};
    int answer = sieve_message_enclose(&r->message, &t, r->mail->account_address,
                                       r->mail->now_us / 1000000, &err);

    /* The parts that the loops went through are those of another message now. */
    for (struct sieve_loop *l = r->loop; answer == 0 && l != NULL; l = l->outer)
        l->part_at = l->next_at = UINT64_MAX;
    return told(r, c, answer, &err);
}

PARKS enum sieve_flow sieve_run_extract(struct sieve_run *r, const struct sieve_command *c)
{
    const struct mime_part *part = sieve_current_part(r);
    struct str text = STR("");

    if (part != NULL)
        text = sieve_part_text(r, part, c->u.extract.first);
    sieve_run_set(r, c->u.extract.variable, text, c->u.extract.modifiers);
    return SIEVE_FLOW_ON;
}
