/* sts_store.c - one row for each domain that has a policy; nothing else is remembered here. */
#include "mail/store/sts_store.h"

#include "server/pg/pg.h"
#include "sql_queries.h"

PARKS int sts_store_get(struct arena *a, struct str domain, struct sts_stored *out,
                        struct error *err)
{
    struct pg_rows rows;

    *out = (struct sts_stored){0};
    if (pg_run(pg_pool(), &sql_sts_policy_get, PG_ARGS(pg_text(domain)), &rows, err) < 0)
        return -1;
    if (rows.count > 0) {
        out->id = arena_str(a, pg_get_str(&rows, 0, "policy_id"));
        out->text = arena_str(a, pg_get_str(&rows, 0, "policy"));
        out->fetched_us = pg_get_time_us(&rows, 0, "fetched_at");
        out->expires_us = pg_get_time_us(&rows, 0, "expires_at");
    }
    pg_rows_free(&rows);
    return 0;
}

PARKS int sts_store_put(struct str domain, struct str id, struct str text, int64_t max_age_s,
                        struct error *err)
{
    return pg_run(pg_pool(), &sql_sts_policy_put,
                  PG_ARGS(pg_text(domain), pg_text(id), pg_text(text), pg_i64(max_age_s)), NULL,
                  err);
}
