/* sieve_fixture.h - a script, a message, and what the run decided as one line of text. */
#pragma once
#include "mail/sieve/sieve.h"
#include "server/base/buf.h"
#include "server/base/date.h"

static const char *const action_names[] = {
    [SIEVE_KEEP] = "keep",         [SIEVE_FILEINTO] = "fileinto", [SIEVE_REDIRECT] = "redirect",
    [SIEVE_REJECT] = "reject",     [SIEVE_EREJECT] = "ereject",   [SIEVE_DISCARD] = "discard",
    [SIEVE_VACATION] = "vacation", [SIEVE_NOTIFY] = "notify",     [SIEVE_DUPLICATE_MARK] = "mark",
    [SIEVE_SET_FLAGS] = "setflags",
};

static inline void describe_target(struct buf *b, const struct sieve_target *t)
{
    if (!str_empty(t->mailbox))
        buf_addf(b, " %.*s", STR_ARG(t->mailbox));
    if (!str_empty(t->mailbox_id))
        buf_addf(b, " id=%.*s", STR_ARG(t->mailbox_id));
    if (!str_empty(t->special_use))
        buf_addf(b, " use=%.*s", STR_ARG(t->special_use));
    if (t->creates)
        buf_adds(b, " create");
    for (size_t i = 0; i < t->flags_count; i++)
        buf_addf(b, "%s%.*s", i == 0 ? " (" : " ", STR_ARG(t->flags[i]));
    if (t->flags_count > 0)
        buf_addc(b, ')');
}

static inline void describe_action(struct buf *b, const struct sieve_action *x)
{
    buf_adds(b, action_names[x->kind]);
    if (x->is_copy)
        buf_adds(b, " copy");
    describe_target(b, &x->target);
    if (!str_empty(x->address))
        buf_addf(b, " %.*s", STR_ARG(x->address));
    if (!str_empty(x->method))
        buf_addf(b, " %.*s", STR_ARG(x->method));
    if (!str_empty(x->subject))
        buf_addf(b, " subject=%.*s", STR_ARG(x->subject));
    if (!str_empty(x->from))
        buf_addf(b, " from=%.*s", STR_ARG(x->from));
    if (!str_empty(x->text))
        buf_addf(b, " text=%.*s", STR_ARG(x->text));
    if (x->kind == SIEVE_VACATION)
        buf_addf(b, " seconds=%llu", (unsigned long long)x->seconds);
    if (x->kind == SIEVE_DUPLICATE_MARK)
        buf_addf(b, " %.*s/%.*s %llu", STR_ARG(x->handle), STR_ARG(x->id), (unsigned long long)x->seconds);
    if (x->has_fcc) {
        buf_adds(b, " fcc");
        describe_target(b, &x->fcc);
    }
}

/* "fileinto Lists (\Seen); keep" and the like; "implicit" when nothing cancelled that; a fault with its line. */
static inline void describe_outcome(struct buf *b, const struct sieve_outcome *o)
{
    for (size_t i = 0; i < o->n; i++) {
        if (b->n > 0)
            buf_adds(b, "; ");
        describe_action(b, &o->v[i]);
    }
    if (o->keeps_implicitly) {
        buf_adds(b, b->n > 0 ? "; implicit" : "implicit");
        describe_target(b, &o->implicit.target);
    }
    if (o->end == SIEVE_FAILED)
        buf_addf(b, "; fault %u: %.*s", o->fault.line, STR_ARG(o->fault.text));
    if (o->end == SIEVE_TRY_LATER)
        buf_adds(b, "; later");
}
