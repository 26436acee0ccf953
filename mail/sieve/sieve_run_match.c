/* sieve_run_match.c - the values of a test against its keys.
 *
 * What is small is compared at once; a large value, or a regular expression that needs many steps,
 * goes to a helper thread while the fiber waits. */
#include "mail/sieve/sieve_run_internal.h"

#include "server/run/offload.h"

struct job {
    struct sieve_match_how how;
    struct sieve_value *value;
    const struct sieve_key *key;
    struct sieve_match_room room;
    struct sieve_captures *captures;
    int answer;
};

static void run_job(void *arg)
{
    struct job *j = arg;

    j->room.may_take_long = true;
    j->answer = sieve_match_value(j->how, j->value, j->key, &j->room, j->captures);
}

static void run_job_aside(struct job *j)
{
    if (fiber_self() != NULL)
        offload(run_job, j);
    else
        run_job(j);
}

static int compare(struct sieve_run *r, const struct sieve_match *m, unsigned line,
                   struct sieve_value *value, const struct sieve_key *key,
                   struct sieve_captures *captures)
{
    struct job j = {m->how, value, key, {r->kept, r->scratch, false}, captures, 0};

    if (sieve_run_step(r, line, 1 + value->text.n / 256) < 0)
        return -1;
    if (value->text.n > SIEVE_HELPER_SIZE_MIN) {
        run_job_aside(&j);
    } else {
        j.answer = sieve_match_value(j.how, value, key, &j.room, captures);
        if (j.answer == SIEVE_MATCH_LATER)
            run_job_aside(&j);
    }
    if (j.answer < 0)
        return sieve_run_fault(r, line, 1, "matching takes too long: make the pattern simpler");
    return j.answer;
}

/* extlists (RFC 6134): the key names a list. */
static int ask_list(struct sieve_run *r, const struct sieve_value *value, struct str list)
{
    bool has = false;

    if (sieve_run_step(r, 1, 10) < 0)
        return -1;
    if (r->hooks->list_has != NULL &&
        r->hooks->list_has(r->hooks->context, list, value->text, &has) < 0)
        return sieve_run_try_later(r);
    return has;
}

/* Keys with variables are prepared now; NULL: one is no valid key. */
static const struct sieve_key *prepare_key(struct sieve_run *r, const struct sieve_match *m,
                                           unsigned line, const struct sieve_key_slot *slot)
{
    struct sieve_key *key;
    struct str why = STR_NULL;

    if (sieve_string_is_constant(&slot->string))
        return &slot->key;
    key = ARENA_NEW(r->scratch, struct sieve_key);
    if (sieve_key_prepare(r->scratch, m->how, sieve_run_string(r, &slot->string), key, &why) < 0) {
        sieve_run_fault(r, line, 1, "%.*s", STR_ARG(why));
        return NULL;
    }
    return key;
}

static const struct sieve_key **prepare_keys(struct sieve_run *r, const struct sieve_match *m,
                                             unsigned line)
{
    const struct sieve_key **keys =
        ARENA_ARRAY(r->scratch, m->keys_count + 1, const struct sieve_key *);

    for (unsigned i = 0; i < m->keys_count; i++) {
        keys[i] = prepare_key(r, m, line, &m->keys[i]);
        if (keys[i] == NULL)
            return NULL;
    }
    return keys;
}

static void remember(struct sieve_run *r, struct str value, struct str key)
{
    r->note_value = arena_str(r->kept, str_head(value, 200));
    r->note_key = arena_str(r->kept, str_head(key, 200));
}

PARKS int sieve_run_match(struct sieve_run *r, const struct sieve_match *m, unsigned line,
                          struct sieve_values *values, bool sets_captures)
{
    struct sieve_captures captures = {.n = 0};
    const struct sieve_key **keys;

    if (m->how.type == SIEVE_COUNT_OF)
        return sieve_run_match_count(r, m, line, values->n);
    keys = prepare_keys(r, m, line);
    if (keys == NULL)
        return -1;
    for (size_t i = 0; i < values->n; i++)
        for (unsigned k = 0; k < m->keys_count; k++) {
            int answer = m->how.type == SIEVE_LIST
                             ? ask_list(r, values->v[i], keys[k]->text)
                             : compare(r, m, line, values->v[i], keys[k], &captures);
            if (answer < 0)
                return -1;
            if (answer == 0)
                continue;
            if (sets_captures && captures.n > 0)
                sieve_run_keep_captures(r, &captures);
            remember(r, values->v[i]->text, keys[k]->text);
            return 1;
        }
    return 0;
}

/* :count (RFC 5231, 4.2): the number, as text. */
PARKS int sieve_run_match_count(struct sieve_run *r, const struct sieve_match *m, unsigned line,
                                size_t count)
{
    struct str number = arena_printf(r->scratch, "%zu", count);
    const struct sieve_key **keys = prepare_keys(r, m, line);

    if (keys == NULL || sieve_run_step(r, line, 1) < 0)
        return -1;
    for (unsigned k = 0; k < m->keys_count; k++)
        if (sieve_match_relation(m->how.relation,
                                 sieve_match_order(m->how.comparator, number, keys[k]))) {
            remember(r, number, keys[k]->text);
            return 1;
        }
    return 0;
}

void sieve_values_add(struct sieve_run *r, struct sieve_values *values, struct sieve_value *v)
{
    if (values->n == values->room) {
        struct sieve_value **old = values->v;
        values->room = values->room == 0 ? 8 : 2 * values->room;
        values->v = ARENA_ARRAY(r->scratch, values->room, struct sieve_value *);
        if (values->n > 0)
            memcpy(values->v, old, values->n * sizeof *old);
    }
    values->v[values->n++] = v;
}

void sieve_values_add_text(struct sieve_run *r, struct sieve_values *values, struct str text)
{
    struct sieve_value *v = ARENA_NEW(r->scratch, struct sieve_value);

    v->text = text.p != NULL ? text : STR("");
    sieve_values_add(r, values, v);
}
