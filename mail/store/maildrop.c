/* maildrop.c - claims and their keeper, and the sizes of an inbox.
 *
 * The keeper asks for all claims of the worker in one statement. A claim that has no row any more
 * (the table is not logged, so a crash of PostgreSQL empties it) is made anew, unless another
 * session was quicker: then it is lost, and its session ends. */
#include "mail/store/maildrop.h"

#include "server/base/arena.h"
#include "server/base/encode.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/pg/pg.h"
#include "server/run/channel.h"
#include "sql_queries.h"

#define RENEW_INTERVAL_MS (MAILDROP_CLAIM_S * 1000 / 3)
#define SLOTS             65536
#define SIZES_SLICE       5000

static struct {
    int64_t run;    /* of the server: drawn by the supervisor, shared by its workers */
    int64_t slot;   /* run and number of the worker */
    int64_t worker; /* this process */
    int64_t sessions;
    bool has_inherited; /* the predecessor's claims are gone */
    struct list held;
    struct fiber *keeper;
    struct wait_queue ended;
} drops = {.held = {&drops.held, &drops.held}};

/* ---- claims ---------------------------------------------------------------------------------- */

static int inherit(struct error *err)
{
    if (drops.has_inherited)
        return 0;
    if (pg_run(pg_pool(), &sql_maildrop_inherit, PG_ARGS(pg_i64(drops.slot), pg_i64(drops.worker)),
               NULL, err) < 0)
        return -1;
    drops.has_inherited = true;
    return 0;
}

static int claim_row(const struct maildrop_claim *c, bool *is_ours, struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_maildrop_claim,
               PG_ARGS(pg_i64(c->account_id), pg_i64(drops.slot), pg_i64(drops.worker),
                       pg_i64(c->session), pg_i64(MAILDROP_CLAIM_S)),
               &rows, err) < 0)
        return -1;
    *is_ours = rows.count > 0;
    pg_rows_free(&rows);
    return 0;
}

static void release_row(const struct maildrop_claim *c)
{
    pg_run(pg_pool(), &sql_maildrop_release,
           PG_ARGS(pg_i64(c->account_id), pg_i64(drops.worker), pg_i64(c->session)), NULL, NULL);
}

int maildrop_claim(struct maildrop_claim *c, int64_t account_id, struct error *err)
{
    bool is_ours = false;

    *c = (struct maildrop_claim){.account_id = account_id, .session = ++drops.sessions};
    if (inherit(err) < 0 || claim_row(c, &is_ours, err) < 0)
        return -1;
    if (!is_ours)
        return fail(err, ERR_CONFLICT, "another session has this maildrop");
    list_append(&drops.held, &c->link);
    return 0;
}

int maildrop_confirm(struct maildrop_claim *c, struct error *err)
{
    bool is_ours = false;

    if (!c->is_lost && claim_row(c, &is_ours, err) < 0)
        return -1;
    c->is_lost = !is_ours;
    return is_ours ? 0 : fail(err, ERR_CONFLICT, "another session has this maildrop now");
}

void maildrop_release(struct maildrop_claim *c)
{
    if (!list_is_linked(&c->link))
        return;
    list_remove(&c->link);
    release_row(c);
}

/* ---- the keeper ------------------------------------------------------------------------------ */

static struct maildrop_claim *find_held(int64_t session)
{
    LIST_EACH (at, &drops.held) {
        struct maildrop_claim *c = CONTAINER_OF(at, struct maildrop_claim, link);
        if (c->session == session)
            return c;
    }
    return NULL;
}

/* The session may end while we ask; then nobody would release the row but we. */
static void claim_again(struct maildrop_claim asked)
{
    struct maildrop_claim *c;
    bool is_ours = false;

    if (claim_row(&asked, &is_ours, NULL) < 0)
        return;
    c = find_held(asked.session);
    if (c == NULL && is_ours)
        release_row(&asked);
    else if (c != NULL && !is_ours)
        c->is_lost = true;
}

struct renewal {
    struct maildrop_claim *asked; /* copies: sessions come and go meanwhile */
    int64_t *accounts;
    size_t count;
};

static struct renewal list_held(struct arena *a)
{
    struct renewal r = {0};
    size_t count = 0;

    LIST_EACH (at, &drops.held)
        count++;
    r.asked = ARENA_ARRAY(a, count, struct maildrop_claim);
    r.accounts = ARENA_ARRAY(a, count, int64_t);
    LIST_EACH (at, &drops.held) {
        r.asked[r.count] = *CONTAINER_OF(at, struct maildrop_claim, link);
        r.accounts[r.count] = r.asked[r.count].account_id;
        r.count++;
    }
    return r;
}

/* One account has one claim, so its number finds it. */
static bool is_renewed(const struct map *renewed, const struct maildrop_claim *c)
{
    uint64_t key = (uint64_t)c->session;

    return map_get(renewed, map_key_u64(&key)) != NULL;
}

static void look_after_missing(const struct renewal *r, const struct pg_rows *rows)
{
    struct map *renewed = map_new();

    for (size_t i = 0; i < rows->count; i++) {
        uint64_t key = (uint64_t)pg_get_i64(rows, i, "session");
        map_put(renewed, map_key_u64(&key), &drops);
    }
    for (size_t i = 0; i < r->count; i++)
        if (!is_renewed(renewed, &r->asked[i]) && find_held(r->asked[i].session) != NULL)
            claim_again(r->asked[i]);
    map_free(&renewed);
}

static int renew(struct arena *a, struct error *err)
{
    struct renewal r = list_held(a);
    struct pg_rows rows;

    if (r.count == 0)
        return 0;
    if (pg_run(pg_pool(), &sql_maildrop_renew,
               PG_ARGS(pg_i64(drops.worker), pg_i64_array(r.accounts, r.count),
                       pg_i64(MAILDROP_CLAIM_S)),
               &rows, err) < 0)
        return -1;
    if (rows.count < r.count)
        look_after_missing(&r, &rows);
    pg_rows_free(&rows);
    return 0;
}

int maildrop_renew_all(struct error *err)
{
    struct arena *a = arena_new();
    int status = inherit(err) < 0 ? -1 : renew(a, err);

    arena_free(&a);
    return status;
}

static void keeper_run(void *arg)
{
    do {
        struct error err = {0};

        if (maildrop_renew_all(&err) < 0 && err.kind != ERR_CANCELLED)
            log_warn(NULL, "maildrops_not_renewed", KV_ERR(&err));
    } while (fiber_sleep(RENEW_INTERVAL_MS) != WAKE_CANCELLED);
    drops.keeper = NULL;
    wait_queue_wake_all(&drops.ended);
}

void maildrop_prepare(void)
{
    drops.run = (int64_t)(random_u64() / SLOTS / 2) * SLOTS;
}

void maildrop_keeper_start(unsigned worker)
{
    drops.slot = drops.run + worker % SLOTS;
    drops.worker = (int64_t)(random_u64() >> 1);
    drops.has_inherited = false;
    wait_queue_init(&drops.ended);
    drops.keeper = fiber_start("maildrops", keeper_run, NULL);
}

void maildrop_keeper_stop(void)
{
    if (drops.keeper == NULL)
        return;
    fiber_cancel(drops.keeper);
    while (drops.keeper != NULL && !fiber_cancelled())
        wait_queue_wait(&drops.ended, NO_DEADLINE);
}

/* ---- sizes ----------------------------------------------------------------------------------- */

static int read_slice(struct mailbox_key mailbox, uint32_t uid_from, uint32_t uid_max,
                      struct pg_rows *rows, struct error *err)
{
    return pg_run(pg_pool(), &sql_maildrop_sizes,
                  PG_ARGS(pg_i64(mailbox.account_id), pg_i64(mailbox.mailbox_id), pg_i64(uid_from),
                          pg_i64(uid_max), pg_i64(SIZES_SLICE)),
                  rows, err);
}

int maildrop_read_sizes(struct mailbox_key mailbox, uint32_t uid_max,
                        void (*each)(void *arg, uint32_t uid, uint64_t size), void *arg,
                        struct error *err)
{
    size_t count = SIZES_SLICE;
    uint32_t uid = 0;

    while (count == SIZES_SLICE) {
        struct pg_rows rows;

        if (read_slice(mailbox, uid, uid_max, &rows, err) < 0)
            return -1;
        count = rows.count;
        for (size_t i = 0; i < count; i++) {
            uid = pg_get_u32(&rows, i, "uid");
            each(arg, uid, (uint64_t)pg_get_i64(&rows, i, "size"));
        }
        pg_rows_free(&rows);
        fiber_pause();
    }
    return 0;
}
