/* spam_store.c - the queries behind spam_store.h. */
#include "mail/store/spam_store.h"

#include "server/base/buf.h"
#include "server/pg/notify.h"
#include "server/pg/pg.h"
#include "sql_queries.h"

#define PIECE_SIZE    ((size_t)256 << 10)
#define PIECES_MAX    64
#define PORTION_COUNT 100 /* examples in one answer: about a megabyte */

PARKS int spam_store_put(int64_t account_id, struct str message_key, bool is_spam, int32_t version,
                         struct str features, struct error *err)
{
    return pg_run(pg_pool(), &sql_spam_example_put,
                  PG_ARGS(pg_i64(account_id), pg_bytea(message_key), pg_bool(is_spam),
                          pg_i32(version), pg_bytea(features), pg_i32(SPAM_EXAMPLES_KEPT - 1)),
                  NULL, err);
}

PARKS int spam_store_remove(int64_t account_id, struct str message_key, struct error *err)
{
    return pg_run(pg_pool(), &sql_spam_example_remove,
                  PG_ARGS(pg_i64(account_id), pg_bytea(message_key)), NULL, err);
}

/* ---- an account's own model ------------------------------------------------------------------ */

PARKS int spam_store_changed(struct arena *a, size_t count_max, struct spam_changed_account **out,
                             size_t *count, struct error *err)
{
    struct pg_rows rows;

    *count = 0;
    if (pg_run(pg_pool(), &sql_spam_account_changed, PG_ARGS(pg_i32((int32_t)count_max)), &rows,
               err) < 0)
        return -1;
    *out = ARENA_ARRAY(a, rows.count + 1, struct spam_changed_account);
    for (; *count < rows.count; (*count)++)
        (*out)[*count] = (struct spam_changed_account){pg_get_i64(&rows, *count, "account_id"),
                                                       pg_get_time_us(&rows, *count, "changed_at")};
    pg_rows_free(&rows);
    return 0;
}

static void take_examples(struct arena *a, const struct pg_rows *rows,
                          struct spam_stored_example *out)
{
    for (size_t i = 0; i < rows->count; i++)
        out[i] = (struct spam_stored_example){pg_get_bool(rows, i, "is_spam"),
                                              arena_str(a, pg_get_str(rows, i, "features"))};
}

PARKS int spam_store_examples(struct arena *a, int64_t account_id, int32_t version,
                              struct spam_stored_example **out, size_t *count, struct error *err)
{
    struct pg_rows rows;

    *count = 0;
    if (pg_run(pg_pool(), &sql_spam_examples_of,
               PG_ARGS(pg_i64(account_id), pg_i32(version), pg_i32(SPAM_EXAMPLES_KEPT)), &rows,
               err) < 0)
        return -1;
    *out = ARENA_ARRAY(a, rows.count + 1, struct spam_stored_example);
    take_examples(a, &rows, *out);
    *count = rows.count;
    pg_rows_free(&rows);
    return 0;
}

PARKS int spam_store_put_own(int64_t account_id, struct str model, int64_t changed_us,
                             struct error *err)
{
    if (pg_run(pg_pool(), &sql_spam_own_put,
               PG_ARGS(pg_i64(account_id), pg_bytea(model), pg_time_us(changed_us)), NULL, err) < 0)
        return -1;
    bus_publish(spam_own_topic(account_id));
    return 0;
}

PARKS int spam_store_get_own(struct arena *a, int64_t account_id, struct str *model,
                             struct error *err)
{
    struct pg_rows rows;

    *model = STR_NULL;
    if (pg_run(pg_pool(), &sql_spam_own_get, PG_ARGS(pg_i64(account_id)), &rows, err) < 0)
        return -1;
    if (rows.count > 0)
        *model = arena_str(a, pg_get_str(&rows, 0, "model"));
    pg_rows_free(&rows);
    return 0;
}

/* ---- the model of all ------------------------------------------------------------------------ */

PARKS int spam_store_claim(int64_t interval_s, int64_t *claimed_us, struct error *err)
{
    struct pg_rows rows;
    int is_mine;

    if (pg_run(pg_pool(), &sql_spam_model_claim, PG_ARGS(pg_i64(interval_s)), &rows, err) < 0)
        return -1;
    is_mine = rows.count > 0;
    if (is_mine)
        *claimed_us = pg_get_time_us(&rows, 0, "claimed_at");
    pg_rows_free(&rows);
    return is_mine;
}

struct sample {
    int64_t *accounts;
    struct str *keys;
    size_t count;
};

static int choose_sample(struct arena *a, int32_t version, struct sample *s, struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_spam_sample,
               PG_ARGS(pg_i32(version), pg_i32(SPAM_SAMPLE_SHARE), pg_i32(SPAM_SAMPLE_MAX)), &rows,
               err) < 0)
        return -1;
    s->count = rows.count;
    s->accounts = ARENA_ARRAY(a, rows.count + 1, int64_t);
    s->keys = ARENA_ARRAY(a, rows.count + 1, struct str);
    for (size_t i = 0; i < rows.count; i++) {
        s->accounts[i] = pg_get_i64(&rows, i, "account_id");
        s->keys[i] = arena_str(a, pg_get_str(&rows, i, "message_key"));
    }
    pg_rows_free(&rows);
    return 0;
}

PARKS int spam_store_sample(struct arena *a, int32_t version, struct spam_stored_example **out,
                            size_t *count, struct error *err)
{
    struct sample s;

    *count = 0;
    if (choose_sample(a, version, &s, err) < 0)
        return -1;
    *out = ARENA_ARRAY(a, s.count + 1, struct spam_stored_example);
    for (size_t at = 0; at < s.count; at += PORTION_COUNT) {
        size_t n = s.count - at < PORTION_COUNT ? s.count - at : PORTION_COUNT;
        struct pg_rows rows;
        if (pg_run(pg_pool(), &sql_spam_sample_read,
                   PG_ARGS(pg_i64_array(s.accounts + at, n), pg_bytea_array(s.keys + at, n)), &rows,
                   err) < 0)
            return -1;
        take_examples(a, &rows, *out + *count);
        *count += rows.count;
        pg_rows_free(&rows);
    }
    return 0;
}

static int put_pieces(struct pg *tx, struct str model, struct error *err)
{
    if (pg_run(tx, &sql_spam_model_clear, PG_NO_ARGS, NULL, err) < 0)
        return -1;
    for (int32_t piece = 0; model.n > 0; piece++) {
        if (pg_run(tx, &sql_spam_model_put_piece,
                   PG_ARGS(pg_i32(piece), pg_bytea(str_head(model, PIECE_SIZE))), NULL, err) < 0)
            return -1;
        model = str_from(model, PIECE_SIZE);
    }
    return 0;
}

PARKS int spam_store_publish(struct str model, int64_t claimed_us, struct error *err)
{
    struct pg *tx = pg_begin(err);

    if (tx == NULL)
        return -1;
    /* First, so that two who publish follow each other. */
    if (pg_run(tx, &sql_spam_model_publish, PG_ARGS(pg_time_us(claimed_us)), NULL, err) < 0 ||
        put_pieces(tx, model, err) < 0) {
        pg_rollback(&tx);
        return -1;
    }
    return pg_commit(&tx, err);
}

PARKS int spam_store_generation(struct spam_generation *out, struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_spam_model_generation, PG_NO_ARGS, &rows, err) < 0)
        return -1;
    *out =
        (struct spam_generation){pg_get_i64(&rows, 0, "generation"), pg_get_i64(&rows, 0, "stamp")};
    pg_rows_free(&rows);
    return 0;
}

static struct str join_pieces(struct arena *a, const struct pg_rows *rows)
{
    struct buf all;
    struct str model;

    buf_init(&all, PIECE_SIZE * PIECES_MAX);
    for (size_t i = 0; i < rows->count; i++)
        buf_add(&all, pg_get_str(rows, i, "bytes"));
    model = arena_str(a, buf_str(&all));
    buf_fini(&all);
    return model;
}

/* A generation published between the two answers shows by its number: then both are read again. */
PARKS int spam_store_read(struct arena *a, struct spam_generation *generation, struct str *model,
                          struct error *err)
{
    struct spam_generation before;

    do {
        struct pg_rows rows;
        if (spam_store_generation(&before, err) < 0 ||
            pg_run(pg_pool(), &sql_spam_model_pieces, PG_NO_ARGS, &rows, err) < 0)
            return -1;
        *model = join_pieces(a, &rows);
        pg_rows_free(&rows);
        if (spam_store_generation(generation, err) < 0)
            return -1;
    } while (generation->stamp != before.stamp);
    return 0;
}
