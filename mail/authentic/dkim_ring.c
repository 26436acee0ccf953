/* dkim_ring.c - signing keys in the worker's memory, and the round that renews them.
 *
 * A ring holds one domain's active keys, parsed. It is replaced after RING_AGE_MS and lives on until the last
 * signature made with it is done. Every step of the rotation is one statement that only one host can
 * win, so any number of hosts may go round at once. */
#include "mail/authentic/dkim_ring.h"

#include <stdlib.h>

#include "mail/authentic/dkim_key.h"
#include "server/base/date.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/base/memory.h"
#include "server/run/channel.h"
#include "server/run/config.h"
#include "server/run/dns.h"
#include "server/run/loop.h"

#define RING_AGE_MS       (60 * 1000)
#define RINGS_MAX         4096
#define KEYS_PER_RING_MAX 4
#define ROUND_INTERVAL_MS (3600 * 1000)
#define ROUND_ROWS        500
#define RETIRED_KEEP_US                                                                            \
    (INT64_C(16) * 86400 * 1000000) /* beyond the time that our queue holds mail */
#define SELECTOR_TRIES_MAX 100
#define SELECTOR_SIZE_MAX  100
#define LABEL_SIZE_MAX     63

struct dkim_ring {
    unsigned uses; /* the map's is one of them */
    int64_t loaded_ms;
    struct str domain;
    struct {
        struct dkim_key *key;
        struct str selector;
    } v[KEYS_PER_RING_MAX];
    size_t n;
    char text[]; /* domain and selectors */
};

static struct map *rings; /* by domain */
static struct {
    struct fiber *fiber;
    struct wait_queue ended;
} keeper;

/* ---- rings ---------------------------------------------------------------------------------------- */

static void ring_unref(struct dkim_ring *r)
{
    if (--r->uses > 0)
        return;
    for (size_t i = 0; i < r->n; i++)
        dkim_key_free(&r->v[i].key);
    free(r);
}

static void rings_clear(void)
{
    void *ring;
    struct str key;

    for (size_t at = 0; map_each(rings, &at, &key, &ring);) {
        map_remove(rings, key);
        ring_unref(ring);
    }
}

static struct str ring_keep(struct dkim_ring *r, size_t *used, struct str s)
{
    char *at = r->text + *used;

    memcpy(at, s.p, s.n);
    *used += s.n;
    return str_of(at, s.n);
}

static void ring_add(struct dkim_ring *r, size_t *used, const struct dkim_key_row *row)
{
    struct error err = {0};
    struct dkim_key *key = dkim_key_new(row->pem, &err);

    if (key == NULL) {
        log_warn(NULL, "dkim_key_unusable", KV("domain", row->domain),
                 KV("selector", row->selector), KV_ERR(&err));
        return;
    }
    r->v[r->n].selector = ring_keep(r, used, row->selector);
    r->v[r->n++].key = key;
}

static struct dkim_ring *ring_new(struct str domain, const struct dkim_key_row *rows, size_t count)
{
    size_t size = domain.n, used = 0;
    struct dkim_ring *r;

    for (size_t i = 0; i < count; i++)
        size += rows[i].selector.n;
    r = memory_alloc(sizeof *r + size);
    r->uses = 1;
    r->domain = ring_keep(r, &used, domain);
    for (size_t i = 0; i < count && r->n < KEYS_PER_RING_MAX; i++)
        if (rows[i].state == DKIM_KEY_ACTIVE)
            ring_add(r, &used, &rows[i]);
    r->loaded_ms = loop_now_ms();
    return r;
}

/* A domain that is not ours has an empty ring, so that it is not asked for each time. */
static int read_rows(struct arena *a, struct str domain, struct dkim_key_row **rows, size_t *count,
                     struct error *err)
{
    struct error cause = {0};

    if (dkim_key_store_of(a, domain, rows, count, &cause) == 0) {
        if (*count > 0 || !config.dkim_make_keys)
            return 0;
        return dkim_ring_make_first(domain, err) < 0
                   ? -1
                   : dkim_key_store_of(a, domain, rows, count, err);
    }
    *count = 0;
    return cause.kind == ERR_NOT_FOUND ? 0 : fail(err, cause.kind, "%s", cause.text);
}

static struct dkim_ring *ring_load(struct str domain, struct error *err)
{
    struct arena *a = arena_new();
    struct dkim_key_row *rows = NULL;
    struct dkim_ring *r = NULL, *old;
    size_t count;

    if (read_rows(a, domain, &rows, &count, err) == 0) {
        r = ring_new(domain, rows, count);
        if (map_count(rings) >= RINGS_MAX)
            rings_clear();
        old = map_put(rings, domain, r);
        if (old != NULL)
            ring_unref(old);
    }
    arena_free(&a);
    return r;
}

int dkim_ring_hold(struct arena *a, struct str domain, struct dkim_signers *out, struct error *err)
{
    struct dkim_ring *r;

    *out = (struct dkim_signers){0};
    if (str_empty(domain))
        return 0;
    if (rings == NULL)
        rings = map_new();
    r = map_get(rings, domain);
    if (r == NULL || loop_now_ms() - r->loaded_ms > RING_AGE_MS)
        r = ring_load(domain, err);
    if (r == NULL)
        return -1;
    r->uses++;
    out->ring = r;
    out->v = ARENA_ARRAY(a, r->n, struct dkim_signer);
    out->n = r->n;
    for (size_t i = 0; i < r->n; i++)
        out->v[i] = (struct dkim_signer){r->v[i].key, r->domain, r->v[i].selector};
    return 0;
}

void dkim_ring_release(struct dkim_signers *signers)
{
    if (signers->ring != NULL)
        ring_unref(signers->ring);
    *signers = (struct dkim_signers){0};
}

/* ---- records in DNS --------------------------------------------------------------------------------- */

int dkim_ring_look(struct arena *a, const struct dkim_key_row *row, bool *is_published,
                   struct error *err)
{
    struct str name =
        arena_printf(a, "%.*s._domainkey.%.*s", STR_ARG(row->selector), STR_ARG(row->domain));
    struct dkim_key *key = dkim_key_new(row->pem, err);
    struct dns_answer answer;
    struct str *texts;
    size_t count = 0;
    int rc;

    *is_published = false;
    if (key == NULL)
        return -1;
    rc = dns_lookup_txt(a, name, &texts, &count, &answer, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        *is_published = *is_published || dkim_key_matches_record(key, texts[i]);
    dkim_key_free(&key);
    return rc < 0 ? -1 : dkim_key_store_set_seen(row->domain, row->selector, *is_published, err);
}

/* True when it signs now. */
static bool look_and_activate(struct arena *a, const struct dkim_key_row *row)
{
    struct error err = {0};
    bool is_published;

    if (dkim_ring_look(a, row, &is_published, &err) < 0 || !is_published)
        return false;
    if (dkim_key_store_activate(row->domain, row->selector, &err) < 0) {
        log_warn(NULL, "dkim_key_not_activated", KV("domain", row->domain), KV_ERR(&err));
        return false;
    }
    log_info(NULL, "dkim_key_active", KV("domain", row->domain), KV("selector", row->selector));
    return true;
}

/* ---- new keys --------------------------------------------------------------------------------------- */

/* "r20261123", and "r20261123-2", ... when that day had one already. */
static struct str selector_name(struct arena *a, enum dkim_algorithm algorithm, int attempt)
{
    int year, month, day;

    civil_from_days(time_now_us() / 1000000 / 86400, &year, &month, &day);
    return attempt == 0
               ? arena_printf(a, "%c%04d%02d%02d", algorithm == DKIM_RSA_SHA256 ? 'r' : 'e', year,
                              month, day)
               : arena_printf(a, "%c%04d%02d%02d-%d", algorithm == DKIM_RSA_SHA256 ? 'r' : 'e',
                              year, month, day, attempt + 1);
}

static bool has_selector(const struct dkim_key_row *rows, size_t count, struct str selector)
{
    for (size_t i = 0; i < count; i++)
        if (str_eq(rows[i].selector, selector))
            return true;
    return false;
}

static int draw_key(struct arena *a, enum dkim_algorithm algorithm, struct dkim_key_row *row,
                    struct error *err)
{
    struct dkim_key *key = dkim_key_make(algorithm, err);

    if (key == NULL)
        return -1;
    row->algorithm = str_c(dkim_algorithm_name(algorithm));
    row->pem = dkim_key_pem(a, key);
    dkim_key_free(&key);
    return 0;
}

static void log_made(const struct dkim_key_row *row)
{
    log_info(NULL, "dkim_key_made", KV("domain", row->domain), KV("selector", row->selector),
             KV("state", dkim_key_state_name(row->state)));
}

/* Another host may have made keys meanwhile: then they are there, which is all that was wanted. */
static int make_both(struct arena *a, struct str domain, struct error *err)
{
    struct dkim_key_row rows[2];

    for (int i = 0; i < 2; i++) {
        enum dkim_algorithm algorithm = i == 0 ? DKIM_RSA_SHA256 : DKIM_ED25519_SHA256;

        rows[i] = (struct dkim_key_row){
            .domain = domain, .selector = selector_name(a, algorithm, 0), .state = DKIM_KEY_ACTIVE};
        if (draw_key(a, algorithm, &rows[i], err) < 0)
            return -1;
    }
    if (dkim_key_store_add_first(rows, err) < 0)
        return -1;
    log_made(&rows[0]);
    log_made(&rows[1]);
    return 0;
}

/* A domain with keys of any state is left alone: who imported one, or retired one, has a reason. */
int dkim_ring_make_first(struct str domain, struct error *err)
{
    struct arena *a = arena_new();
    struct dkim_key_row *rows;
    size_t count;
    int rc = dkim_key_store_of(a, domain, &rows, &count, err);

    if (rc == 0 && count == 0)
        rc = make_both(a, domain, err);
    arena_free(&a);
    return rc;
}

static int refuse_second_new(const struct dkim_key_row *rows, size_t count, struct str algorithm,
                             struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i].state == DKIM_KEY_NEW && str_eq(rows[i].algorithm, algorithm))
            return fail(err, ERR_EXISTS,
                        "%.*s has a new %.*s key, %.*s, already: publish it, or remove it first",
                        STR_ARG(rows[i].domain), STR_ARG(algorithm), STR_ARG(rows[i].selector));
    return 0;
}

int dkim_ring_make_next(struct arena *a, struct str domain, enum dkim_algorithm algorithm,
                        struct str *selector, struct error *err)
{
    struct dkim_key_row row = {.domain = domain, .state = DKIM_KEY_NEW}, *rows;
    size_t count;

    if (dkim_key_store_of(a, domain, &rows, &count, err) < 0 ||
        refuse_second_new(rows, count, str_c(dkim_algorithm_name(algorithm)), err) < 0)
        return -1;
    row.selector = selector_name(a, algorithm, 0);
    for (int i = 1; i < SELECTOR_TRIES_MAX && has_selector(rows, count, row.selector); i++)
        row.selector = selector_name(a, algorithm, i);
    if (draw_key(a, algorithm, &row, err) < 0 || dkim_key_store_add(&row, err) < 0)
        return -1;
    log_made(&row);
    if (selector != NULL)
        *selector = row.selector;
    return 0;
}

static bool is_selector_label(struct str label)
{
    for (size_t i = 0; i < label.n; i++) {
        char c = ascii_lower(label.p[i]);

        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_')
            return false;
    }
    return label.n > 0 && label.n <= LABEL_SIZE_MAX;
}

static int check_selector(struct str selector, struct error *err)
{
    struct str rest = selector, label;
    bool more = true;

    if (selector.n > SELECTOR_SIZE_MAX)
        return fail(err, ERR_SYNTAX, "the selector is longer than %d characters",
                    SELECTOR_SIZE_MAX);
    while (more) {
        more = str_cut(rest, '.', &label, &rest);
        if (!is_selector_label(label))
            return fail(
                err, ERR_SYNTAX,
                "\"%.*s\" is no selector: write letters, digits and hyphens, as \"mail2026\"",
                STR_ARG(str_head(selector, 80)));
    }
    return 0;
}

static int refuse_taken(const struct dkim_key_row *rows, size_t count,
                        const struct dkim_key_row *row, struct error *err)
{
    if (has_selector(rows, count, row->selector))
        return fail(err, ERR_EXISTS, "%.*s has a key %.*s already", STR_ARG(row->domain),
                    STR_ARG(row->selector));
    return refuse_second_new(rows, count, row->algorithm, err);
}

int dkim_ring_import(struct arena *a, struct str domain, struct str selector, struct str pem,
                     bool *is_active, struct error *err)
{
    struct dkim_key_row row = {.domain = domain,
                               .selector = arena_lower(a, selector),
                               .state = DKIM_KEY_NEW},
                        *rows;
    struct dkim_key *key;
    size_t count;

    *is_active = false;
    if (check_selector(selector, err) < 0 || dkim_key_store_of(a, domain, &rows, &count, err) < 0)
        return -1;
    key = dkim_key_new(pem, err);
    if (key == NULL)
        return -1;
    row.algorithm = str_c(dkim_algorithm_name(dkim_key_algorithm(key)));
    row.pem = dkim_key_pem(a, key);
    dkim_key_free(&key);
    if (refuse_taken(rows, count, &row, err) < 0 || dkim_key_store_add(&row, err) < 0)
        return -1;
    log_made(&row);
    *is_active = look_and_activate(a, &row);
    return 0;
}

/* ---- the round --------------------------------------------------------------------------------------- */

static bool is_due(const struct dkim_key_row *row, const struct dkim_key_row *rows, size_t count)
{
    if (config.dkim_rotate_interval == 0 ||
        time_now_us() - row->changed_us < config.dkim_rotate_interval * 1000)
        return false;
    for (size_t i = 0; i < count; i++)
        if (rows[i].state == DKIM_KEY_NEW && str_eq(rows[i].algorithm, row->algorithm) &&
            str_eq(rows[i].domain, row->domain))
            return false;
    return true;
}

static void renew(struct arena *a, const struct dkim_key_row *row)
{
    enum dkim_algorithm algorithm;
    struct str selector;
    struct error err = {0};

    if (!dkim_algorithm_parse(row->algorithm, &algorithm))
        return;
    if (dkim_ring_make_next(a, row->domain, algorithm, &selector, &err) == 0)
        log_warn(NULL, "dkim_key_to_publish", KV("domain", row->domain), KV("selector", selector),
                 KV("how", "merpati dkim show"));
    else if (err.kind != ERR_EXISTS)
        log_warn(NULL, "dkim_key_not_made", KV("domain", row->domain), KV_ERR(&err));
}

static void tend(struct arena *a, const struct dkim_key_row *row, const struct dkim_key_row *rows,
                 size_t count)
{
    struct error err = {0};

    if (str_empty(row->selector)) {
        if (config.dkim_make_keys && dkim_ring_make_first(row->domain, &err) < 0)
            log_warn(NULL, "dkim_key_not_made", KV("domain", row->domain), KV_ERR(&err));
        return;
    }
    switch (row->state) {
    case DKIM_KEY_NEW:
        look_and_activate(a, row);
        break;
    case DKIM_KEY_ACTIVE:
        if (is_due(row, rows, count))
            renew(a, row);
        break;
    case DKIM_KEY_RETIRED:
        if (time_now_us() - row->changed_us > RETIRED_KEEP_US + config.queue_lifetime * 1000)
            dkim_key_store_remove(row->domain, row->selector, &err);
        break;
    }
}

/* The rows of a domain that a full page cut in two are seen again with the next page, whole. */
static size_t whole_domains(const struct dkim_key_row *rows, size_t count)
{
    size_t n = count;

    if (count < ROUND_ROWS)
        return count;
    while (n > 0 && str_eq(rows[n - 1].domain, rows[count - 1].domain))
        n--;
    return n > 0 ? n : count;
}

int dkim_ring_rotate(struct error *err)
{
    struct arena *a = arena_new();
    char after[256] = "";
    size_t count = ROUND_ROWS;
    int rc = 0;

    while (rc == 0 && count == ROUND_ROWS && !fiber_cancelled()) {
        struct dkim_key_row *rows;
        size_t whole;

        rc = dkim_key_store_list(a, str_c(after), ROUND_ROWS, &rows, &count, err);
        if (rc < 0 || count == 0)
            break;
        whole = whole_domains(rows, count);
        for (size_t i = 0; i < whole && !fiber_cancelled(); i++)
            tend(a, &rows[i], rows, count);
        snprintf(after, sizeof after, "%.*s", STR_ARG(rows[whole - 1].domain));
        arena_reset(a);
    }
    arena_free(&a);
    return rc;
}

static void keep(void *unused)
{
    do {
        struct error err = {0};

        if (dkim_ring_rotate(&err) < 0)
            log_warn(NULL, "dkim_round_failed", KV_ERR(&err));
    } while (fiber_sleep(ROUND_INTERVAL_MS) != WAKE_CANCELLED);
    keeper.fiber = NULL;
    wait_queue_wake_all(&keeper.ended);
}

void dkim_ring_keeper_start(void)
{
    wait_queue_init(&keeper.ended);
    keeper.fiber = fiber_start("dkim_keeper", keep, NULL);
}

void dkim_ring_keeper_stop(void)
{
    if (keeper.fiber == NULL)
        return;
    fiber_cancel(keeper.fiber);
    while (keeper.fiber != NULL && wait_queue_wait(&keeper.ended, NO_DEADLINE) == WAKE_READY)
        ;
}

void dkim_ring_fini(void)
{
    if (rings == NULL)
        return;
    rings_clear();
    map_free(&rings);
}
