/* smtp_policy_store.c - the queries behind smtp_policy_store.h. Nothing here decides. */
#include "mail/store/smtp_policy_store.h"

#include <assert.h>

#include "server/pg/pg.h"
#include "sql_queries.h"

struct columns {
    struct str *key;
    int64_t *window;
    int64_t *add[SMTP_COUNTS];
};

static void fill_columns(struct arena *a, const struct smtp_counts *v, size_t count,
                         struct columns *c)
{
    c->key = ARENA_ARRAY(a, count, struct str);
    c->window = ARENA_ARRAY(a, count, int64_t);
    for (size_t k = 0; k < SMTP_COUNTS; k++)
        c->add[k] = ARENA_ARRAY(a, count, int64_t);
    for (size_t i = 0; i < count; i++) {
        c->key[i] = v[i].key;
        c->window[i] = v[i].window;
        for (size_t k = 0; k < SMTP_COUNTS; k++)
            c->add[k][i] = v[i].add[k];
    }
}

static void read_sums(const struct pg_rows *rows, struct smtp_counts *v, size_t count)
{
    static const char *const now[SMTP_COUNTS] = {"connections", "messages", "recipients"};
    static const char *const before[SMTP_COUNTS] = {"connections_before", "messages_before",
                                                    "recipients_before"};

    for (size_t i = 0; i < rows->count; i++) {
        int64_t place = pg_get_i64(rows, i, "place");

        assert(place >= 1 && place <= (int64_t)count);
        for (size_t k = 0; k < SMTP_COUNTS; k++) {
            v[place - 1].current[k] = pg_get_i64(rows, i, now[k]);
            v[place - 1].previous[k] = pg_get_i64(rows, i, before[k]);
        }
    }
}

int smtp_counts_add(struct smtp_counts *v, size_t count, struct error *err)
{
    struct arena *a = arena_new();
    struct columns c;
    struct pg_rows rows;
    int status;

    assert(count <= SMTP_COUNTS_BATCH_MAX);
    fill_columns(a, v, count, &c);
    status = pg_run(pg_pool(), &sql_smtp_counts_add,
                    PG_ARGS(pg_text_array(c.key, count), pg_i64_array(c.window, count),
                            pg_i64_array(c.add[0], count), pg_i64_array(c.add[1], count),
                            pg_i64_array(c.add[2], count)),
                    &rows, err);
    if (status == 0)
        read_sums(&rows, v, count);
    pg_rows_free(&rows);
    arena_free(&a);
    return status;
}

int smtp_counts_forget(int64_t before_window, struct error *err)
{
    return pg_run(pg_pool(), &sql_smtp_counts_forget, PG_ARGS(pg_i64(before_window)), NULL, err);
}

int greylist_try(struct str network, struct str sender, struct str recipient,
                 const struct greylist_terms *terms, int64_t *wait_s, bool *is_known,
                 struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_greylist_try,
               PG_ARGS(pg_text(network), pg_text(sender), pg_text(recipient),
                       pg_i64(terms->delay_s), pg_i64(terms->retry_max_s), pg_i64(terms->keep_s)),
               &rows, err) < 0)
        return -1;
    *wait_s = pg_get_i64(&rows, 0, "wait_s");
    *is_known = pg_get_bool(&rows, 0, "is_known");
    pg_rows_free(&rows);
    return 0;
}

int greylist_pass(struct str network, struct error *err)
{
    return pg_run(pg_pool(), &sql_greylist_pass, PG_ARGS(pg_text(network)), NULL, err);
}

int greylist_forget(const struct greylist_terms *terms, struct error *err)
{
    return pg_run(pg_pool(), &sql_greylist_forget,
                  PG_ARGS(pg_i64(terms->retry_max_s), pg_i64(terms->keep_s)), NULL, err);
}
