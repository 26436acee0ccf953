/* outbound_admin.c - what administrators see of the outbound queue and do to it.
 *
 * A command concerns all recipients that a filter finds, in one transaction. It may meet a worker that finishes the same
 * ones; when PostgreSQL ends one of the two because they wait for each other, the command is done again. */
#include "mail/store/outbound.h"
#include "mail/store/outbound_internal.h"

#include "server/run/config.h"
#include "sql_queries.h"

#define TRIES_MAX     3
#define FILTER_PARAMS 6

static struct pg_arg text_or_any(struct str s)
{
    return str_empty(s) ? pg_null() : pg_text(s);
}

static struct pg_arg number_or_any(int64_t n)
{
    return n != 0 ? pg_i64(n) : pg_null();
}

static void filter_args(const struct outbound_filter *f, struct pg_arg args[FILTER_PARAMS])
{
    args[0] = number_or_any(f->queue_id);
    args[1] = number_or_any(f->account_id);
    args[2] = text_or_any(f->sender);
    args[3] = text_or_any(f->recipient);
    args[4] = text_or_any(f->destination);
    args[5] = pg_bool(f->is_held);
}

/* ---- seeing ---------------------------------------------------------------------------------- */

static struct str copy_column(struct arena *a, const struct pg_rows *rows, size_t row,
                              const char *name)
{
    return arena_str(a, pg_get_str(rows, row, name));
}

static struct outbound_entry read_entry(struct arena *a, const struct pg_rows *rows, size_t row)
{
    struct outbound_entry e = {
        .queue_id = pg_get_i64(rows, row, "queue_id"),
        .trace_id = pg_get_i64(rows, row, "trace_id"),
        .account_id = pg_get_i64(rows, row, "account_id"),
        .no = pg_get_i32(rows, row, "recipient_no"),
        .attempts = pg_get_i32(rows, row, "attempts"),
        .last_code = pg_get_i32(rows, row, "last_code"),
        .size = (size_t)pg_get_i64(rows, row, "size"),
        .created_us = pg_get_time_us(rows, row, "created_at"),
        .next_us = pg_get_time_us(rows, row, "next_at"),
        .expires_us = pg_get_time_us(rows, row, "expires_at"),
        .last_us = pg_get_time_us(rows, row, "last_at"),
        .is_claimed = !pg_is_null(rows, row, "claimed_by"),
    };

    e.sender = copy_column(a, rows, row, "sender");
    e.address = copy_column(a, rows, row, "address");
    e.destination = copy_column(a, rows, row, "destination");
    e.hop = copy_column(a, rows, row, "hop");
    e.held = copy_column(a, rows, row, "held");
    e.last_enhanced = copy_column(a, rows, row, "last_enhanced");
    e.last_text = copy_column(a, rows, row, "last_text");
    e.last_host = copy_column(a, rows, row, "last_host");
    e.envid = copy_column(a, rows, row, "envid");
    return e;
}

int outbound_list(struct arena *a, const struct outbound_filter *f, int64_t after_id,
                  int32_t after_no, size_t count_max, struct outbound_entry **out, size_t *count,
                  struct error *err)
{
    struct pg_arg args[FILTER_PARAMS + 3];
    struct pg_rows rows = {0};

    filter_args(f, args);
    args[6] = pg_i64(after_id);
    args[7] = pg_i32(after_no);
    args[8] = pg_i32((int32_t)count_max);
    if (pg_run(pg_pool(), &sql_queue_list, (struct pg_args){args, FILTER_PARAMS + 3}, &rows, err) <
        0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count, struct outbound_entry);
    for (size_t i = 0; i < rows.count; i++)
        (*out)[i] = read_entry(a, &rows, i);
    pg_rows_free(&rows);
    return 0;
}

int outbound_count(struct outbound_counts *out, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_queue_count, PG_NO_ARGS, &rows, err) < 0)
        return -1;
    *out = (struct outbound_counts){
        .messages = pg_get_i64(&rows, 0, "messages"),
        .recipients = pg_get_i64(&rows, 0, "recipients"),
        .held = pg_get_i64(&rows, 0, "held"),
        .deferred = pg_get_i64(&rows, 0, "deferred"),
        .hops = pg_get_i64(&rows, 0, "hops"),
        .oldest_us = pg_get_time_us(&rows, 0, "oldest"),
    };
    pg_rows_free(&rows);
    return 0;
}

/* ---- doing ----------------------------------------------------------------------------------- */

/* extra NULL: the statement takes the filter alone. */
static int change(const struct sql_query *query, const struct outbound_filter *f,
                  const struct pg_arg *extra, int64_t *count, struct error *err)
{
    struct pg_arg args[FILTER_PARAMS + 1];
    size_t param_count = FILTER_PARAMS + (extra != NULL);

    filter_args(f, args);
    if (extra != NULL)
        args[FILTER_PARAMS] = *extra;
    for (int tries = 1;; tries++) {
        struct pg_rows rows = {0};
        struct error cause = {0};

        if (pg_run(pg_pool(), query, (struct pg_args){args, param_count}, &rows, &cause) == 0) {
            *count = pg_get_i64(&rows, 0, "changed");
            pg_rows_free(&rows);
            return 0;
        }
        if (cause.kind != ERR_TRY_LATER || tries == TRIES_MAX)
            return fail(err, cause.kind, "%s", cause.text);
    }
}

int outbound_hold(const struct outbound_filter *f, struct str reason, int64_t *count,
                  struct error *err)
{
    struct pg_arg extra = pg_text(reason);

    return change(&sql_queue_hold, f, &extra, count, err);
}

int outbound_release(const struct outbound_filter *f, int64_t *count, struct error *err)
{
    struct pg_arg extra = pg_i64(config.queue_lifetime);

    return change(&sql_queue_release, f, &extra, count, err);
}

int outbound_retry(const struct outbound_filter *f, int64_t *count, struct error *err)
{
    return change(&sql_queue_retry, f, NULL, count, err);
}

int outbound_reroute(const struct outbound_filter *f, struct str route, int64_t *count,
                     struct error *err)
{
    struct pg_arg extra = pg_text(route);

    return change(&sql_queue_reroute, f, &extra, count, err);
}

int outbound_delete(const struct outbound_filter *f, int64_t *count, struct error *err)
{
    return change(&sql_queue_delete, f, NULL, count, err);
}

int outbound_bounce(const struct outbound_filter *f, int64_t *count, struct error *err)
{
    return change(&sql_queue_refuse, f, NULL, count, err);
}
