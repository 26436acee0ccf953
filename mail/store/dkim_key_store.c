/* dkim_key_store.c - the table dkim_key. */
#include "mail/store/dkim_key_store.h"

#include "server/pg/pg.h"
#include "sql_queries.h"

static const char *const state_names[] = {"new", "active", "retired"};

const char *dkim_key_state_name(enum dkim_key_state state)
{
    return state_names[state];
}

static enum dkim_key_state state_of(struct str name)
{
    for (int i = DKIM_KEY_NEW; i < DKIM_KEY_RETIRED; i++)
        if (str_eq(name, str_c(state_names[i])))
            return (enum dkim_key_state)i;
    return DKIM_KEY_RETIRED;
}

static void read_row(struct arena *a, const struct pg_rows *rows, size_t i,
                     struct dkim_key_row *out)
{
    *out = (struct dkim_key_row){
        .domain = arena_str(a, pg_get_str(rows, i, "name")),
        .selector = arena_str(a, pg_get_str(rows, i, "selector")),
        .algorithm = arena_str(a, pg_get_str(rows, i, "algorithm")),
        .state = state_of(pg_get_str(rows, i, "state")),
        .pem = arena_str(a, pg_get_str(rows, i, "private_key")),
    };
    if (!pg_is_null(rows, i, "created_at")) {
        out->created_us = pg_get_time_us(rows, i, "created_at");
        out->changed_us = pg_get_time_us(rows, i, "changed_at");
    }
    if (!pg_is_null(rows, i, "seen_at"))
        out->seen_us = pg_get_time_us(rows, i, "seen_at");
}

static void read_rows(struct arena *a, struct pg_rows *rows, struct dkim_key_row **out,
                      size_t *count)
{
    *count = rows->count;
    *out = ARENA_ARRAY(a, rows->count, struct dkim_key_row);
    for (size_t i = 0; i < rows->count; i++)
        read_row(a, rows, i, &(*out)[i]);
    pg_rows_free(rows);
}

int dkim_key_store_of(struct arena *a, struct str domain, struct dkim_key_row **out, size_t *count,
                      struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_dkim_keys_of_domain, PG_ARGS(pg_text(domain)), &rows, err) < 0)
        return -1;
    if (rows.count == 0) {
        pg_rows_free(&rows);
        return fail(err, ERR_NOT_FOUND, "there is no domain %.*s here", STR_ARG(domain));
    }
    read_rows(a, &rows, out, count);
    if (*count == 1 && str_empty((*out)[0].selector))
        *count = 0;
    return 0;
}

int dkim_key_store_list(struct arena *a, struct str after, size_t count_max,
                        struct dkim_key_row **out, size_t *count, struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_dkim_keys_all, PG_ARGS(pg_text(after), pg_i64((int64_t)count_max)),
               &rows, err) < 0)
        return -1;
    read_rows(a, &rows, out, count);
    return 0;
}

/* One statement that must find its row. */
static int change(const struct sql_query *query, struct pg_args args, enum error_kind otherwise,
                  const char *text, struct error *err)
{
    struct pg_rows rows;
    size_t count;

    if (pg_run(pg_pool(), query, args, &rows, err) < 0)
        return -1;
    count = rows.count;
    pg_rows_free(&rows);
    return count > 0 ? 0 : fail(err, otherwise, "%s", text);
}

int dkim_key_store_add(const struct dkim_key_row *row, struct error *err)
{
    return change(&sql_dkim_key_insert,
                  PG_ARGS(pg_text(row->domain), pg_text(row->selector), pg_text(row->algorithm),
                          pg_text(str_c(dkim_key_state_name(row->state))), pg_text(row->pem)),
                  ERR_EXISTS, "there is such a key already", err);
}

int dkim_key_store_add_first(const struct dkim_key_row rows[2], struct error *err)
{
    struct str active = str_c(dkim_key_state_name(DKIM_KEY_ACTIVE));

    return pg_run_batch(
        pg_pool(),
        (struct pg_call[]){
            {&sql_dkim_key_insert,
             PG_ARGS(pg_text(rows[0].domain), pg_text(rows[0].selector), pg_text(rows[0].algorithm),
                     pg_text(active), pg_text(rows[0].pem))},
            {&sql_dkim_key_insert,
             PG_ARGS(pg_text(rows[1].domain), pg_text(rows[1].selector), pg_text(rows[1].algorithm),
                     pg_text(active), pg_text(rows[1].pem))},
        },
        2, NULL, err);
}

int dkim_key_store_set_seen(struct str domain, struct str selector, bool is_seen, struct error *err)
{
    return pg_run(pg_pool(), &sql_dkim_key_seen,
                  PG_ARGS(pg_text(domain), pg_text(selector), pg_bool(is_seen)), NULL, err);
}

int dkim_key_store_activate(struct str domain, struct str selector, struct error *err)
{
    struct pg_rows rows[2] = {0};
    size_t count;

    if (pg_run_batch(pg_pool(),
                     (struct pg_call[]){
                         {&sql_dkim_key_retire_others, PG_ARGS(pg_text(domain), pg_text(selector))},
                         {&sql_dkim_key_activate, PG_ARGS(pg_text(domain), pg_text(selector))},
                     },
                     2, rows, err) < 0)
        return -1;
    count = rows[1].count;
    pg_rows_free(&rows[0]);
    pg_rows_free(&rows[1]);
    return count > 0 ? 0 : fail(err, ERR_NOT_FOUND, "this domain has no such key");
}

int dkim_key_store_retire(struct str domain, struct str selector, struct error *err)
{
    return change(&sql_dkim_key_retire, PG_ARGS(pg_text(domain), pg_text(selector)), ERR_NOT_FOUND,
                  "this domain has no such key", err);
}

int dkim_key_store_remove(struct str domain, struct str selector, struct error *err)
{
    return change(&sql_dkim_key_delete, PG_ARGS(pg_text(domain), pg_text(selector)), ERR_CONFLICT,
                  "this domain has no such key, or it is the one that signs: retire it first", err);
}
