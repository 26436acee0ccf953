/* dkim_key_ring.c - the keys of all signatures of one message, from DNS.
 *
 * Each name is asked for once. A few fibers ask at the same time, so that a message with many
 * signatures of which one domain is slow waits for that one alone. */
#include <idn2.h>
#include <stdlib.h>

#include "mail/authentic/dkim_internal.h"
#include "server/run/channel.h"
#include "server/run/config.h"
#include "server/run/loop.h"

#define FETCHERS 8

dkim_key_source *dkim_key_lookup = dns_lookup_txt;

enum fetch_status { FETCH_OK, FETCH_TEMPORARY, FETCH_PERMANENT };

struct fetch { /* one name */
    struct str name;
    enum fetch_status status;
    struct dkim_record record;
    struct str problem;
};

struct ring {
    struct arena *arena;
    struct fetch *v;
    size_t n, next;
    int64_t deadline_ms;              /* no lookup begins behind it */
    struct fiber *fetchers[FETCHERS]; /* NULL: ended, or never begun */
    unsigned busy;
    struct wait_queue ended;
};

/* ---- names ------------------------------------------------------------------------------------------ */

/* U-labels travel as A-labels (RFC 8616, 2). What is none stays as it is, and DNS refuses it. */
static struct str to_ascii(struct arena *a, struct str name)
{
    char *ascii = NULL;

    if (str_is_ascii(name))
        return name;
    if (idn2_to_ascii_8z(arena_c(a, name), &ascii, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT) ==
        IDN2_OK)
        name = arena_str(a, str_c(ascii));
    idn2_free(ascii);
    return name;
}

static struct str key_name(struct arena *a, const struct dkim_signature *told)
{
    struct str selector = to_ascii(a, told->selector), domain = to_ascii(a, told->domain);

    return arena_printf(a, "%.*s._domainkey.%.*s", STR_ARG(selector), STR_ARG(domain));
}

static struct fetch *fetch_for(struct ring *ring, struct str name)
{
    for (size_t i = 0; i < ring->n; i++)
        if (str_eq(ring->v[i].name, name))
            return &ring->v[i];
    ring->v[ring->n] = (struct fetch){.name = name};
    return &ring->v[ring->n++];
}

/* ---- asking ------------------------------------------------------------------------------------------ */

static void end_fetch(struct ring *ring, struct fetch *f, enum fetch_status status,
                      const char *problem)
{
    f->status = status;
    f->problem = arena_str(ring->arena, str_c(problem));
}

/* The first record that can serve; if none can, the first problem is told. */
static void choose_record(struct ring *ring, struct fetch *f, const struct str *texts, size_t count)
{
    struct error first = {0};

    for (size_t i = 0; i < count; i++) {
        struct error err = {0};

        if (dkim_record_parse(ring->arena, texts[i], &f->record, &err) == 0)
            return;
        if (first.kind == ERR_NONE || (first.kind == ERR_SYNTAX && err.kind == ERR_UNSUPPORTED))
            first = err;
    }
    end_fetch(ring, f, FETCH_PERMANENT, first.text);
}

static void fetch_one(struct ring *ring, struct fetch *f)
{
    struct dns_answer answer;
    struct error err = {0};
    struct str *texts;
    size_t count;

    if (dkim_key_lookup(ring->arena, f->name, &texts, &count, &answer, &err) < 0) {
        end_fetch(ring, f, err.kind == ERR_SYNTAX ? FETCH_PERMANENT : FETCH_TEMPORARY, err.text);
        return;
    }
    if (count == 0)
        end_fetch(ring, f, FETCH_PERMANENT, "DNS has no key for this signature");
    else
        choose_record(ring, f, texts, count < DKIM_SIGNATURES_MAX ? count : DKIM_SIGNATURES_MAX);
}

static void fetch_waiting(struct ring *ring)
{
    while (ring->next < ring->n) {
        struct fetch *f = &ring->v[ring->next++];

        if (loop_now_ms() < ring->deadline_ms)
            fetch_one(ring, f);
        else
            end_fetch(ring, f, FETCH_TEMPORARY, "DNS did not answer in time");
    }
}

static void fetcher_run(void *arg)
{
    struct ring *ring = arg;

    fetch_waiting(ring);
    for (size_t i = 0; i < FETCHERS; i++)
        if (ring->fetchers[i] == fiber_self())
            ring->fetchers[i] = NULL;
    ring->busy--;
    wait_queue_wake_all(&ring->ended);
}

static void cancel_fetchers(struct ring *ring)
{
    for (size_t i = 0; i < FETCHERS; i++)
        if (ring->fetchers[i] != NULL)
            fiber_cancel(ring->fetchers[i]);
}

/* The fetchers work on our stack: cancelled or not, we wait for them. */
static void fetch_all(struct ring *ring)
{
    if (ring->n == 1) {
        fetch_waiting(ring);
        return;
    }
    wait_queue_init(&ring->ended);
    for (; ring->busy < FETCHERS && ring->busy < ring->n; ring->busy++)
        ring->fetchers[ring->busy] = fiber_start("dkim_key", fetcher_run, ring);
    while (ring->busy > 0) {
        if (wait_queue_wait(&ring->ended, NO_DEADLINE) != WAKE_CANCELLED)
            continue;
        cancel_fetchers(ring);
        fiber_yield();
    }
}

/* ---- what the answers mean ----------------------------------------------------------------------------- */

static void take_key(struct dkim_claim *c, const struct fetch *f)
{
    struct str signer = str_from(c->told.identity, (size_t)str_rindex(c->told.identity, '@') + 1);

    if (f->status != FETCH_OK) {
        c->told.key_bits = f->record.bits;
        dkim_claim_end(c, f->status == FETCH_TEMPORARY ? DKIM_TEMPERROR : DKIM_PERMERROR,
                       f->problem);
        return;
    }
    c->key = f->record;
    c->told.key_bits = f->record.bits;
    c->told.is_testing = f->record.is_testing;
    if (f->record.is_revoked)
        dkim_claim_end(c, DKIM_PERMERROR, STR("the key was revoked"));
    else if (f->record.algorithm != c->algorithm)
        dkim_claim_end(c, DKIM_PERMERROR, STR("the key is of another type than the signature"));
    else if (f->record.is_strict && c->kind == DKIM_KIND_SIGNATURE &&
             !str_ieq(signer, c->told.domain))
        dkim_claim_end(c, DKIM_PERMERROR,
                       STR("the key allows no subdomain in i= (t=s), and there is one"));
}

void dkim_claims_fetch_keys(struct arena *a, struct dkim_claim **v, size_t count)
{
    struct ring ring = {.arena = a,
                        .v = ARENA_ARRAY(a, count + 1, struct fetch),
                        .deadline_ms = loop_deadline(config.dns_timeout)};
    size_t *at = ARENA_ARRAY(a, count + 1, size_t);

    for (size_t i = 0; i < count; i++)
        if (dkim_claim_is_open(v[i]))
            at[i] = (size_t)(fetch_for(&ring, key_name(a, &v[i]->told)) - ring.v);
    if (ring.n > 0)
        fetch_all(&ring);
    for (size_t i = 0; i < count; i++)
        if (dkim_claim_is_open(v[i]))
            take_key(v[i], &ring.v[at[i]]);
}
