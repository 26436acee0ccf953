/* outbound.c - the outbound queue's rows: in, claimed, finished. What administrators do is in outbound_admin.c.
 *
 * The scheduling itself is in SQL (sql/migrations/0012_outbound.sql), since several workers of several hosts must agree on
 * it. Here are its arguments and answers. */
#include "mail/store/outbound.h"
#include "mail/store/outbound_internal.h"
#include "mail/store/report_store.h"

#include "server/base/log.h"
#include "server/base/utf8.h"
#include "server/directory/directory.h"
#include "server/run/config.h"
#include "sql_queries.h"

#define IDS_PER_BLOCK   1000 /* the sequence's increment */
#define TEXT_SIZE_MAX   500  /* of what a remote server said, as it is kept */
#define CLAIM_RCPTS_MAX 100  /* RFC 5321, 4.5.3.1.8: what every server takes at once */
#define LATE_AGAIN_MS   300000

static int64_t next_id;
static int64_t ids_left;

/* ---- in -------------------------------------------------------------------------------------- */

static int take_id(int64_t *queue_id, struct error *err)
{
    struct pg_rows rows = {0};

    if (ids_left == 0) {
        if (pg_run(pg_pool(), &sql_queue_id_block, PG_NO_ARGS, &rows, err) < 0)
            return -1;
        next_id = pg_get_i64(&rows, 0, "first_id");
        ids_left = IDS_PER_BLOCK;
        pg_rows_free(&rows);
    }
    *queue_id = next_id++;
    ids_left--;
    return 0;
}

static struct str destination_of(struct arena *a, struct str address)
{
    struct str local, domain, canonical;

    if (!str_rcut(address, '@', &local, &domain))
        domain = address;
    if (!str_starts(domain, STR("[")) && domain_canonical(a, domain, &canonical, NULL) == 0)
        return canonical;
    return arena_lower(a, domain);
}

void outbound_settle(struct outbound *o)
{
    for (size_t i = 0; i < o->rcpt_count; i++) {
        struct outbound_recipient *r = &o->rcpts[i];

        r->no = (int32_t)i + 1;
        if (str_empty(r->destination))
            r->destination = destination_of(o->arena, r->address);
        fiber_pause();
    }
}

int outbound_prepare(struct outbound *o, struct error *err)
{
    if (o->rcpt_count > OUTBOUND_RCPTS_MAX)
        return fail(err, ERR_LIMIT, "a message may have %d recipients elsewhere",
                    OUTBOUND_RCPTS_MAX);
    outbound_settle(o);
    return take_id(&o->queue_id, err);
}

struct columns {
    struct str *addresses, *orcpts, *destinations, *routes, *hops;
    int32_t *notify, *nos;
};

static struct columns columns_of(struct arena *a, const struct outbound *o)
{
    size_t n = o->rcpt_count;
    struct columns c = {
        ARENA_ARRAY(a, n, struct str), ARENA_ARRAY(a, n, struct str), ARENA_ARRAY(a, n, struct str),
        ARENA_ARRAY(a, n, struct str), ARENA_ARRAY(a, n, struct str), ARENA_ARRAY(a, n, int32_t),
        ARENA_ARRAY(a, n, int32_t),
    };

    for (size_t i = 0; i < n; i++) {
        c.addresses[i] = o->rcpts[i].address;
        c.orcpts[i] = o->rcpts[i].orcpt;
        c.destinations[i] = o->rcpts[i].destination;
        c.routes[i] = o->rcpts[i].route;
        c.hops[i] = outbound_hop(&o->rcpts[i]);
        c.notify[i] = (int32_t)o->rcpts[i].notify;
        c.nos[i] = o->rcpts[i].no;
    }
    return c;
}

static void envelope_args(const struct outbound *o, struct pg_arg *args)
{
    args[0] = pg_i16((int16_t)o->ret);
    args[1] = pg_i16((int16_t)o->body);
    args[2] = pg_i16((int16_t)o->priority);
    args[3] = pg_bool(o->is_utf8);
    args[4] = pg_bool(o->requires_tls);
    args[5] = pg_bool(o->deliver_by_notify);
    args[6] = pg_text(o->sender);
    args[7] = pg_text(o->envid);
    args[8] = pg_text(o->language);
}

void outbound_insert_args(struct arena *a, const struct outbound *o, int64_t blob_id,
                          size_t blob_size, struct pg_arg args[OUTBOUND_INSERT_PARAMS])
{
    struct columns c = columns_of(a, o);
    size_t n = o->rcpt_count;

    args[0] = pg_i64(o->queue_id);
    args[1] = pg_i64(o->trace_id);
    args[2] = o->account_id != 0 ? pg_i64(o->account_id) : pg_null();
    args[3] = pg_i64(blob_id);
    args[4] = pg_i64((int64_t)(blob_size - o->blob_offset));
    args[5] = o->hold_until_us != 0 ? pg_time_us(o->hold_until_us) : pg_null();
    args[6] = o->deliver_by_us != 0 ? pg_time_us(o->deliver_by_us) : pg_null();
    args[7] = pg_i32((int32_t)o->blob_offset);
    envelope_args(o, args + 8);
    args[17] = pg_i64(config.queue_delay_warning);
    args[18] = pg_i64(config.queue_lifetime);
    args[19] = o->claimed_by != 0 ? pg_i64(o->claimed_by) : pg_null();
    args[20] = pg_text_array(c.addresses, n);
    args[21] = pg_text_array(c.orcpts, n);
    args[22] = pg_i32_array(c.notify, n);
    args[23] = pg_text_array(c.destinations, n);
    args[24] = pg_text_array(c.routes, n);
    args[25] = pg_i32_array(c.nos, n);
    args[26] = str_empty(o->held) ? pg_null() : pg_text(o->held);
    args[27] = pg_text_array(c.hops, n);
}

size_t outbound_ends_args(struct arena *a, const struct outbound_ends *ends,
                          const struct sql_query **query, struct pg_arg args[OUTBOUND_ENDS_PARAMS])
{
    int64_t *ids;

    if (ends->report != NULL)
        return report_end_args(ends->report, query, args);
    if (ends->is_warning) {
        *query = &sql_queue_warned;
        args[0] = pg_i64(ends->queue_id);
        return 1;
    }
    ids = ARENA_ARRAY(a, ends->count, int64_t);
    for (size_t i = 0; i < ends->count; i++)
        ids[i] = ends->queue_id;
    *query = &sql_queue_remove;
    args[0] = pg_i64(ends->worker_id);
    args[1] = pg_i64_array(ids, ends->count);
    args[2] = pg_i32_array(ends->nos, ends->count);
    args[3] = pg_bool(true);
    return 4;
}

/* ---- workers --------------------------------------------------------------------------------- */

int outbound_worker_begin(int64_t host, int slot, int64_t *worker_id, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_queue_worker_begin,
               PG_ARGS(pg_i64(host), pg_i32(slot), pg_i64(OUTBOUND_LEASE_MS)), &rows, err) < 0)
        return -1;
    *worker_id = pg_get_i64(&rows, 0, "worker_id");
    pg_rows_free(&rows);
    return 0;
}

int outbound_worker_renew(int64_t worker_id, bool *is_alive, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_queue_worker_renew,
               PG_ARGS(pg_i64(worker_id), pg_i64(OUTBOUND_LEASE_MS)), &rows, err) < 0)
        return -1;
    *is_alive = rows.count > 0;
    pg_rows_free(&rows);
    return 0;
}

int outbound_worker_end(int64_t worker_id, struct error *err)
{
    struct pg_call calls[] = {
        {&sql_queue_worker_release, PG_ARGS(pg_i64(worker_id))},
        {&sql_queue_worker_end, PG_ARGS(pg_i64(worker_id))},
    };
    struct pg_rows rows[2] = {{0}};
    int rc = pg_run_batch(pg_pool(), calls, 2, rows, err);

    pg_rows_free(&rows[0]);
    pg_rows_free(&rows[1]);
    return rc;
}

int outbound_sweep(struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_queue_sweep, PG_NO_ARGS, &rows, err) < 0)
        return -1;
    if (pg_get_i32(&rows, 0, "claims") > 0 || pg_get_i32(&rows, 0, "hops") > 0)
        log_info(NULL, "queue_swept", KV("claims", pg_get_i32(&rows, 0, "claims")),
                 KV("hops", pg_get_i32(&rows, 0, "hops")));
    pg_rows_free(&rows);
    return 0;
}

/* ---- claims ---------------------------------------------------------------------------------- */

static struct str copy_column(struct arena *a, const struct pg_rows *rows, size_t row,
                              const char *name)
{
    return arena_str(a, pg_get_str(rows, row, name));
}

static void read_message_columns(struct arena *a, const struct pg_rows *rows, size_t row,
                                 struct outbound_claim *c)
{
    c->blob_id = pg_get_i64(rows, row, "blob_id");
    c->size = (size_t)pg_get_i64(rows, row, "size");
    c->created_us = pg_get_time_us(rows, row, "created_at");
    c->expires_us = pg_get_time_us(rows, row, "expires_at");
    c->failures = pg_get_i32(rows, row, "failures");
    c->is_over = pg_get_bool(rows, row, "is_over");
    c->o = (struct outbound){
        .queue_id = pg_get_i64(rows, row, "queue_id"),
        .trace_id = pg_get_i64(rows, row, "trace_id"),
        .account_id = pg_get_i64(rows, row, "account_id"),
        .sender = copy_column(a, rows, row, "sender"),
        .envid = copy_column(a, rows, row, "envid"),
        .language = copy_column(a, rows, row, "language"),
        .ret = (unsigned)pg_get_i32(rows, row, "ret"),
        .body = (unsigned)pg_get_i32(rows, row, "body"),
        .priority = pg_get_i32(rows, row, "priority"),
        .is_utf8 = pg_get_bool(rows, row, "is_utf8"),
        .requires_tls = pg_get_bool(rows, row, "requires_tls"),
        .deliver_by_us = pg_get_time_us(rows, row, "deliver_by"),
        .deliver_by_notify = pg_get_bool(rows, row, "deliver_by_notify"),
        .blob_offset = (size_t)pg_get_i32(rows, row, "blob_offset"),
    };
}

static struct outbound_recipient read_recipient(struct arena *a, const struct pg_rows *rows,
                                                size_t row)
{
    return (struct outbound_recipient){
        .address = copy_column(a, rows, row, "address"),
        .orcpt = copy_column(a, rows, row, "orcpt"),
        .notify = (unsigned)pg_get_i32(rows, row, "notify"),
        .destination = copy_column(a, rows, row, "destination"),
        .route = copy_column(a, rows, row, "route"),
        .hop = copy_column(a, rows, row, "hop"),
        .no = pg_get_i32(rows, row, "recipient_no"),
        .attempts = pg_get_i32(rows, row, "attempts"),
        .last_code = pg_get_i32(rows, row, "last_code"),
        .last_enhanced = copy_column(a, rows, row, "last_enhanced"),
        .last_text = copy_column(a, rows, row, "last_text"),
        .last_host = copy_column(a, rows, row, "last_host"),
        .is_refused = pg_get_bool(rows, row, "is_refused"),
    };
}

/* Rows of one message stand together; those of one claim have one hop, unless all that counts is the message. */
static bool belongs(const struct pg_rows *rows, size_t first, size_t row, bool is_by_hop)
{
    return pg_get_i64(rows, row, "queue_id") == pg_get_i64(rows, first, "queue_id") &&
           pg_get_bool(rows, row, "is_over") == pg_get_bool(rows, first, "is_over") &&
           (!is_by_hop || (row - first < CLAIM_RCPTS_MAX &&
                           str_eq(pg_get_str(rows, row, "hop"), pg_get_str(rows, first, "hop"))));
}

static void read_claims(struct arena *a, const struct pg_rows *rows, bool is_by_hop,
                        struct outbound_claims *out)
{
    *out = (struct outbound_claims){ARENA_ARRAY(a, rows->count, struct outbound_claim), 0,
                                    rows->count};
    for (size_t row = 0, n; row < rows->count; row += n) {
        struct outbound_claim *c = &out->v[out->count++];

        for (n = 1; row + n < rows->count && belongs(rows, row, row + n, is_by_hop);)
            n++;
        read_message_columns(a, rows, row, c);
        c->o.rcpts = ARENA_ARRAY(a, n, struct outbound_recipient);
        c->o.rcpt_count = n;
        for (size_t i = 0; i < n; i++)
            c->o.rcpts[i] = read_recipient(a, rows, row + i);
        fiber_pause();
    }
}

int outbound_claim(struct arena *a, int64_t worker_id, const struct outbound_claim_limits *limits,
                   struct outbound_claims *out, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_queue_claim,
               PG_ARGS(pg_i64(worker_id), pg_i32(limits->hops), pg_i32(limits->rcpts),
                       pg_i32(limits->rcpts_per_hop), pg_i32(limits->rcpts_per_new_hop),
                       pg_i64(limits->probe_ms), pg_text_array(limits->skip, limits->skip_count),
                       pg_text_array(limits->proven, limits->proven_count)),
               &rows, err) < 0)
        return -1;
    read_claims(a, &rows, true, out);
    pg_rows_free(&rows);
    return 0;
}

int outbound_claim_late(struct arena *a, int64_t worker_id, int count_max,
                        struct outbound_claims *out, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_queue_claim_late,
               PG_ARGS(pg_i64(worker_id), pg_i32(count_max), pg_i64(LATE_AGAIN_MS)), &rows,
               err) < 0)
        return -1;
    read_claims(a, &rows, false, out);
    pg_rows_free(&rows);
    return 0;
}

/* Those of the claim that are among the rows; both are ascending. */
static void keep_claimed(struct outbound_claim *c, const struct pg_rows *rows)
{
    size_t kept = 0;

    for (size_t i = 0, row = 0; i < c->o.rcpt_count; i++) {
        while (row < rows->count && pg_get_i32(rows, row, "recipient_no") < c->o.rcpts[i].no)
            row++;
        if (row < rows->count && pg_get_i32(rows, row, "recipient_no") == c->o.rcpts[i].no)
            c->o.rcpts[kept++] = c->o.rcpts[i];
    }
    c->o.rcpt_count = kept;
}

static int32_t *numbers_of(struct arena *a, const struct outbound_claim *c)
{
    int32_t *nos = ARENA_ARRAY(a, c->o.rcpt_count, int32_t);

    for (size_t i = 0; i < c->o.rcpt_count; i++)
        nos[i] = c->o.rcpts[i].no;
    return nos;
}

int outbound_read(struct arena *a, int64_t worker_id, struct outbound_claim *c, struct buf *message,
                  struct error *err)
{
    int32_t *nos = numbers_of(a, c);
    struct pg_call calls[] = {
        {&sql_queue_still_claimed,
         PG_ARGS(pg_i64(c->o.queue_id), pg_i64(worker_id), pg_i32_array(nos, c->o.rcpt_count))},
        {&sql_queue_read_message, PG_ARGS(pg_i64(c->o.queue_id))},
    };
    struct pg_rows rows[2] = {{0}};
    int rc = pg_run_batch(pg_pool(), calls, 2, rows, err);

    if (rc == 0) {
        if (worker_id != 0)
            keep_claimed(c, &rows[0]);
        if (rows[1].count == 0 || c->o.rcpt_count == 0)
            rc = fail(err, ERR_NOT_FOUND, "the message is not there any more");
        else
            buf_add(message, pg_get_str(&rows[1], 0, "data"));
    }
    pg_rows_free(&rows[0]);
    pg_rows_free(&rows[1]);
    if (rc == 0 && !buf_ok(message))
        return fail(err, ERR_TOO_BIG, "the message is too large to be sent");
    return rc;
}

int outbound_set_warned(int64_t queue_id, struct error *err)
{
    struct pg_rows rows = {0};
    int rc = pg_run(pg_pool(), &sql_queue_warned, PG_ARGS(pg_i64(queue_id)), &rows, err);

    pg_rows_free(&rows);
    return rc;
}

/* ---- what became of them ----------------------------------------------------------------------- */

/* What a server says may be anything. */
struct str outbound_clean_text(struct arena *a, struct str s)
{
    char *out;
    size_t n = s.n < TEXT_SIZE_MAX ? s.n : TEXT_SIZE_MAX;

    while (n > 0 && n < s.n && ((unsigned char)s.p[n] & 0xC0) == 0x80)
        n--;
    s.n = n;
    out = arena_copy(a, s.p, n);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)out[i] < ' ' || out[i] == 0x7f)
            out[i] = ' ';
    if (utf8_valid(str_of(out, n)))
        return str_of(out, n);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)out[i] > 0x7e)
            out[i] = '?';
    return str_of(out, n);
}

/* Each batch of calls is made in the arena, since arguments must live until they are sent. */
struct finish {
    struct arena *arena;
    int64_t worker_id;
    struct pg_call calls[4];
    struct pg_rows rows[4];
    size_t count;
    size_t block_at; /* SIZE_MAX: there is none */
};

static struct pg_arg *finish_add(struct finish *f, const struct sql_query *query,
                                 size_t param_count)
{
    struct pg_arg *args = ARENA_ARRAY(f->arena, param_count, struct pg_arg);

    f->calls[f->count++] = (struct pg_call){query, {args, param_count}};
    return args;
}

/* Whoever has claimed it by now: what was delivered must not be delivered again. */
static void add_removals(struct finish *f, const struct outbound_result *v, size_t count)
{
    int64_t *ids = ARENA_ARRAY(f->arena, count, int64_t);
    int32_t *nos = ARENA_ARRAY(f->arena, count, int32_t);
    size_t n = 0;
    struct pg_arg *args;

    for (size_t i = 0; i < count; i++)
        if (v[i].is_done) {
            ids[n] = v[i].queue_id;
            nos[n++] = v[i].no;
        }
    if (n == 0)
        return;
    args = finish_add(f, &sql_queue_remove, 4);
    args[0] = pg_null();
    args[1] = pg_i64_array(ids, n);
    args[2] = pg_i32_array(nos, n);
    args[3] = pg_bool(false);
}

struct deferrals {
    int64_t *ids, *delays;
    int32_t *nos, *codes;
    struct str *enhanced, *texts, *hosts;
    size_t n;
};

static struct deferrals deferrals_of(struct arena *a, const struct outbound_result *v, size_t count)
{
    struct deferrals d = {
        ARENA_ARRAY(a, count, int64_t),    ARENA_ARRAY(a, count, int64_t),
        ARENA_ARRAY(a, count, int32_t),    ARENA_ARRAY(a, count, int32_t),
        ARENA_ARRAY(a, count, struct str), ARENA_ARRAY(a, count, struct str),
        ARENA_ARRAY(a, count, struct str), 0,
    };

    for (size_t i = 0; i < count; i++) {
        if (v[i].is_done)
            continue;
        d.ids[d.n] = v[i].queue_id;
        d.nos[d.n] = v[i].no;
        d.delays[d.n] = v[i].delay_ms;
        d.codes[d.n] = v[i].code;
        d.enhanced[d.n] = outbound_clean_text(a, v[i].enhanced);
        d.texts[d.n] = outbound_clean_text(a, v[i].text);
        d.hosts[d.n++] = outbound_clean_text(a, v[i].host);
    }
    return d;
}

static void add_deferrals(struct finish *f, const struct outbound_result *v, size_t count)
{
    struct deferrals d = deferrals_of(f->arena, v, count);
    struct pg_arg *args;

    if (d.n == 0)
        return;
    args = finish_add(f, &sql_queue_defer, 8);
    args[0] = pg_i64(f->worker_id);
    args[1] = pg_i64_array(d.ids, d.n);
    args[2] = pg_i32_array(d.nos, d.n);
    args[3] = pg_i64_array(d.delays, d.n);
    args[4] = pg_i32_array(d.codes, d.n);
    args[5] = pg_text_array(d.enhanced, d.n);
    args[6] = pg_text_array(d.texts, d.n);
    args[7] = pg_text_array(d.hosts, d.n);
}

static size_t hops_of(struct arena *a, const struct outbound_hop_news *news, size_t count,
                      bool is_blocked, struct str **hops, struct str **errors)
{
    size_t n = 0;

    *hops = ARENA_ARRAY(a, count, struct str);
    *errors = ARENA_ARRAY(a, count, struct str);
    for (size_t i = 0; i < count; i++)
        if (news[i].is_blocked == is_blocked) {
            (*hops)[n] = news[i].hop;
            (*errors)[n++] = outbound_clean_text(a, news[i].error);
        }
    return n;
}

static void add_news(struct finish *f, const struct outbound_hop_news *news, size_t count,
                     const int64_t *delays_ms, size_t delay_count)
{
    struct str *hops, *errors;
    struct pg_arg *args;
    size_t n;

    n = hops_of(f->arena, news, count, false, &hops, &errors);
    if (n > 0) {
        args = finish_add(f, &sql_queue_unblock, 1);
        args[0] = pg_text_array(hops, n);
    }
    n = hops_of(f->arena, news, count, true, &hops, &errors);
    if (n == 0)
        return;
    f->block_at = f->count;
    args = finish_add(f, &sql_queue_block, 3);
    args[0] = pg_text_array(hops, n);
    args[1] = pg_text_array(errors, n);
    args[2] = pg_i64_array(delays_ms, delay_count);
}

static void read_blocks(const struct pg_rows *rows, struct outbound_hop_news *news, size_t count)
{
    for (size_t row = 0; row < rows->count; row++)
        for (size_t i = 0; i < count; i++)
            if (news[i].is_blocked && str_eq(news[i].hop, pg_get_str(rows, row, "hop"))) {
                news[i].failures = pg_get_i32(rows, row, "failures");
                news[i].blocked_ms = pg_get_i64(rows, row, "blocked_ms");
            }
}

int outbound_finish(int64_t worker_id, const struct outbound_result *v, size_t count,
                    struct outbound_hop_news *news, size_t news_count, const int64_t *delays_ms,
                    size_t delay_count, struct error *err)
{
    struct finish f = {.arena = arena_new(), .worker_id = worker_id, .block_at = SIZE_MAX};
    int rc = 0;

    add_removals(&f, v, count);
    add_deferrals(&f, v, count);
    add_news(&f, news, news_count, delays_ms, delay_count);
    if (f.count > 0)
        rc = pg_run_batch(pg_pool(), f.calls, f.count, f.rows, err);
    if (rc == 0 && f.block_at != SIZE_MAX)
        read_blocks(&f.rows[f.block_at], news, news_count);
    for (size_t i = 0; i < f.count; i++)
        pg_rows_free(&f.rows[i]);
    arena_free(&f.arena);
    return rc;
}

int outbound_note_due(const struct str *hops, size_t count, struct error *err)
{
    struct pg_rows rows = {0};
    int rc =
        pg_run(pg_pool(), &sql_queue_note_due, PG_ARGS(pg_text_array(hops, count)), &rows, err);

    pg_rows_free(&rows);
    return rc;
}
