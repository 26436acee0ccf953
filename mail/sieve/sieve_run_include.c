/* sieve_run_include.c - scripts within scripts (RFC 6609).
 *
 * A script is fetched once a run, however often it is included. A circle is refused where it
 * would close, at run time, because any of its scripts may be changed at any time. */
#include "mail/sieve/sieve_run_internal.h"

static struct sieve_included *find_included(struct sieve_run *r, enum sieve_location location,
                                            struct str name)
{
    for (struct sieve_included *i = r->included; i != NULL; i = i->next)
        if (i->location == location && str_eq(i->name, name))
            return i;
    return NULL;
}

/* NULL: a fault, or the database is away. */
static struct sieve_included *fetch(struct sieve_run *r, const struct sieve_command *c,
                                    struct str name)
{
    struct sieve_included *i = ARENA_NEW(r->kept, struct sieve_included);
    struct sieve_fault fault = {0};
    int answer = 0;

    i->location = c->u.include.location;
    i->name = arena_str(r->kept, name);
    if (r->hooks->include != NULL)
        answer =
            r->hooks->include(r->hooks->context, i->location, i->name, r->out, &i->script, &fault);
    if (answer < 0) {
        sieve_run_try_later(r);
        return NULL;
    }
    if (answer > 0) {
        sieve_run_fault(r, c->line, c->column,
                        "the included script \"%.*s\" has a fault in line %u: %.*s", STR_ARG(name),
                        fault.line, STR_ARG(fault.text));
        return NULL;
    }
    i->next = r->included;
    return r->included = i;
}

static enum sieve_flow refuse(struct sieve_run *r, const struct sieve_command *c, const char *why)
{
    sieve_run_fault(r, c->line, c->column, "%s", why);
    return SIEVE_FLOW_FAILED;
}

static enum sieve_flow run_included(struct sieve_run *r, struct sieve_included *i)
{
    struct sieve_frame *including = r->frame;
    struct sieve_loop *loop = r->loop;
    enum sieve_flow flow;

    r->frame = sieve_frame_new(r, sieve_script_program(i->script), i->name);
    r->frame->parent = including;
    r->loop = NULL; /* a loop of another script is not this one's */
    i->is_open = true;
    flow = sieve_run_block(r, r->frame->program->first);
    i->is_open = false;
    r->loop = loop;
    if (flow == SIEVE_FLOW_FAILED)
        return flow; /* the frames are closed from the innermost on */
    buf_fini(&r->frame->captured);
    r->frame = including;
    return flow == SIEVE_FLOW_STOP ? flow : SIEVE_FLOW_ON;
}

static unsigned depth_of(const struct sieve_frame *f)
{
    unsigned depth = 0;

    for (; f->parent != NULL; f = f->parent)
        depth++;
    return depth;
}

PARKS enum sieve_flow sieve_run_include(struct sieve_run *r, const struct sieve_command *c)
{
    struct str name = sieve_run_string(r, &c->u.include.name);
    struct sieve_included *i = find_included(r, c->u.include.location, name);

    if (++r->includes > SIEVE_INCLUDES_MAX)
        return refuse(r, c, "too many scripts are included");
    if (i == NULL)
        i = fetch(r, c, name);
    if (i == NULL)
        return SIEVE_FLOW_FAILED;
    if (i->script == NULL && c->u.include.optional)
        return SIEVE_FLOW_ON;
    if (i->script == NULL) {
        sieve_run_fault(r, c->line, c->column,
                        "there is no script \"%.*s\" to include: make it, or say :optional",
                        STR_ARG(str_head(name, 200)));
        return SIEVE_FLOW_FAILED;
    }
    if (i->is_open && c->u.include.once)
        return SIEVE_FLOW_ON;
    if (i->is_open)
        return refuse(r, c, "the script includes itself, directly or through others");
    if (i->runs++ > 0 && c->u.include.once)
        return SIEVE_FLOW_ON;
    if (depth_of(r->frame) == SIEVE_INCLUDE_DEPTH_MAX)
        return refuse(r, c, "scripts are included too deep within each other");
    return run_included(r, i);
}

void sieve_run_close_included(struct sieve_run *r)
{
    for (struct sieve_included *i = r->included; i != NULL; i = i->next)
        if (i->script != NULL)
            sieve_script_free(&i->script);
}
