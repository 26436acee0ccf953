/* sieve_run_flags.c - sets of flags (RFC 5232): words between blanks, each once whatever its case. */
#include "mail/sieve/sieve_run_internal.h"

static unsigned find_flag(const struct sieve_flags *set, struct str flag)
{
    unsigned i = 0;

    while (i < set->n && !str_ieq(set->v[i], flag))
        i++;
    return i;
}

/* Words that are no flags are passed over (RFC 5232, 2). */
void sieve_flags_add(struct sieve_flags *set, struct str words)
{
    struct str flag;

    while (str_next_token(&words, ' ', &flag))
        if (sieve_flag_valid(flag) && find_flag(set, flag) == set->n && set->n < SIEVE_FLAGS_MAX)
            set->v[set->n++] = flag;
}

void sieve_flags_remove(struct sieve_flags *set, struct str words)
{
    struct str flag;

    while (str_next_token(&words, ' ', &flag)) {
        unsigned i = find_flag(set, flag);
        if (i < set->n) {
            memmove(set->v + i, set->v + i + 1, (set->n - 1 - i) * sizeof set->v[0]);
            set->n--;
        }
    }
}

void sieve_flags_of_variable(const struct sieve_run *r, unsigned index, struct sieve_flags *out)
{
    out->n = 0;
    if (index == SIEVE_NO_VARIABLE)
        *out = r->flags;
    else
        sieve_flags_add(out, sieve_run_variable(r, index));
}

static struct str join_flags(struct arena *a, const struct sieve_flags *set)
{
    struct buf b;
    struct str out;

    buf_init(&b, SIZE_MAX);
    for (unsigned i = 0; i < set->n; i++) {
        if (i > 0)
            buf_addc(&b, ' ');
        buf_add(&b, set->v[i]);
    }
    out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

/* The internal set keeps its flags beyond this command; what stays is not copied again. */
static void keep_flags(struct sieve_run *r, const struct sieve_flags *set)
{
    struct sieve_flags *old = &r->flags;
    struct sieve_flags *next = ARENA_NEW(r->scratch, struct sieve_flags);

    for (unsigned i = 0; i < set->n; i++) {
        unsigned at = find_flag(old, set->v[i]);
        next->v[next->n++] = at < old->n ? old->v[at] : arena_str(r->kept, set->v[i]);
    }
    *old = *next;
}

void sieve_run_change_flags(struct sieve_run *r, const struct sieve_command *c)
{
    struct sieve_flags *set = ARENA_NEW(r->scratch, struct sieve_flags);
    struct str *words = sieve_run_strings(r, &c->u.flag.flags);

    if (c->kind != SIEVE_COMMAND_SETFLAG)
        sieve_flags_of_variable(r, c->u.flag.variable, set);
    for (unsigned i = 0; i < c->u.flag.flags.n; i++) {
        if (c->kind == SIEVE_COMMAND_REMOVEFLAG)
            sieve_flags_remove(set, words[i]);
        else
            sieve_flags_add(set, words[i]);
    }
    if (c->u.flag.variable == SIEVE_NO_VARIABLE)
        keep_flags(r, set);
    else
        sieve_run_set(r, c->u.flag.variable, join_flags(r->scratch, set), 0);
}
