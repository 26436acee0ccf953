/* sending_guard.c - the queries behind sending_guard.h. Nothing here decides. */
#include "mail/store/sending_guard.h"

#include "server/pg/pg.h"
#include "sql_queries.h"

/* ---- counts ------------------------------------------------------------------------------------- */

static struct pg_call call_add(struct arena *a, const struct sending_share *s)
{
    struct pg_arg *args = ARENA_ARRAY(a, 2 + SENDING_COUNTS, struct pg_arg);
    int64_t *columns[2 + SENDING_COUNTS];

    for (size_t k = 0; k < 2 + SENDING_COUNTS; k++) {
        columns[k] = ARENA_ARRAY(a, s->count, int64_t);
        args[k] = pg_i64_array(columns[k], s->count);
    }
    for (size_t i = 0; i < s->count; i++) {
        columns[0][i] = s->counts[i].account_id;
        columns[1][i] = s->counts[i].hour;
        for (size_t k = 0; k < SENDING_COUNTS; k++)
            columns[2 + k][i] = s->counts[i].add[k];
    }
    return (struct pg_call){&sql_sending_add, {args, 2 + SENDING_COUNTS}};
}

static struct pg_call call_add_places(struct arena *a, const struct sending_share *s)
{
    struct pg_arg *args = ARENA_ARRAY(a, 2, struct pg_arg);
    int64_t *accounts = ARENA_ARRAY(a, s->seen_count, int64_t);
    struct str *places = ARENA_ARRAY(a, s->seen_count, struct str);

    for (size_t i = 0; i < s->seen_count; i++) {
        accounts[i] = s->seen[i].account_id;
        places[i] = s->seen[i].place;
    }
    args[0] = pg_i64_array(accounts, s->seen_count);
    args[1] = pg_text_array(places, s->seen_count);
    return (struct pg_call){&sql_sending_add_places, {args, 2}};
}

static struct pg_call call_past(struct arena *a, const struct sending_share *s)
{
    struct pg_arg *args = ARENA_ARRAY(a, 3, struct pg_arg);

    args[0] = pg_i64_array(s->ask_past, s->ask_past_count);
    args[1] = pg_i64(s->hour);
    args[2] = pg_i64(s->hours_kept);
    return (struct pg_call){&sql_sending_past, {args, 3}};
}

static struct pg_call call_places(struct arena *a, const struct sending_share *s)
{
    struct pg_arg *args = ARENA_ARRAY(a, 2, struct pg_arg);

    args[0] = pg_i64_array(s->ask_places, s->ask_places_count);
    args[1] = pg_i32(SENDING_PLACES_MAX);
    return (struct pg_call){&sql_sending_places, {args, 2}};
}

static void read_volumes(const struct pg_rows *rows, size_t row, const char *const names[],
                         int64_t *out)
{
    for (size_t k = 0; k < SENDING_VOLUMES; k++)
        out[k] = pg_get_i64(rows, row, names[k]);
}

static void read_counts(const struct pg_rows *rows, size_t row, int64_t out[SENDING_COUNTS])
{
    static const char *const names[] = {"messages", "recipients", "recipients_away"};

    read_volumes(rows, row, names, out);
    out[SENDING_BOUNCES] = pg_get_i64(rows, row, "bounces");
}

/* Rows come in the order of the table, not in ours. */
static void read_sums(const struct pg_rows *rows, struct sending_share *s)
{
    for (size_t row = 0; row < rows->count; row++) {
        int64_t account_id = pg_get_i64(rows, row, "account_id");
        int64_t hour = pg_get_i64(rows, row, "hour");

        for (size_t i = 0; i < s->count; i++)
            if (s->counts[i].account_id == account_id && s->counts[i].hour == hour)
                read_counts(rows, row, s->counts[i].sum);
    }
}

static void read_past(const struct pg_rows *rows, size_t row, struct sending_past *out)
{
    static const char *const before[] = {"messages_before", "recipients_before",
                                         "recipients_away_before"};
    static const char *const most[] = {"messages_most", "recipients_most", "recipients_away_most"};

    out->account_id = pg_get_i64(rows, row, "account_id");
    read_counts(rows, row, out->current);
    read_volumes(rows, row, before, out->before);
    read_volumes(rows, row, most, out->most);
    out->day_away = pg_get_i64(rows, row, "day_away");
    out->day_bounces = pg_get_i64(rows, row, "day_bounces");
}

static void read_answers(struct arena *a, const struct pg_rows *past, const struct pg_rows *places,
                         struct sending_share *s)
{
    s->past_count = past->count;
    s->past = ARENA_ARRAY(a, past->count, struct sending_past);
    for (size_t i = 0; i < past->count; i++)
        read_past(past, i, &s->past[i]);
    s->place_count = places->count;
    s->places = ARENA_ARRAY(a, places->count, struct sending_place);
    for (size_t i = 0; i < places->count; i++)
        s->places[i] = (struct sending_place){
            .account_id = pg_get_i64(places, i, "account_id"),
            .place = arena_str(a, pg_get_str(places, i, "place")),
            .first_us = pg_get_time_us(places, i, "first_at"),
            .last_us = pg_get_time_us(places, i, "last_at"),
        };
}

int sending_share(struct arena *a, struct sending_share *s, struct error *err)
{
    struct pg_call calls[] = {call_add(a, s), call_add_places(a, s), call_past(a, s),
                              call_places(a, s)};
    struct pg_rows rows[4] = {{0}};

    if (pg_run_batch(pg_pool(), calls, 4, rows, err) < 0)
        return -1;
    read_sums(&rows[0], s);
    read_answers(a, &rows[2], &rows[3], s);
    for (size_t i = 0; i < 4; i++)
        pg_rows_free(&rows[i]);
    return 0;
}

int sending_forget(int64_t before_hour, int64_t hours_kept, struct error *err)
{
    return pg_run(pg_pool(), &sql_sending_forget,
                  PG_ARGS(pg_i64(before_hour), pg_i32((int32_t)hours_kept)), NULL, err);
}

/* ---- whose mail is held --------------------------------------------------------------------------- */

static struct str copy_column(struct arena *a, const struct pg_rows *rows, size_t row,
                              const char *name)
{
    return arena_str(a, pg_get_str(rows, row, name));
}

static void read_levels(struct arena *a, const struct pg_rows *rows, size_t row,
                        int64_t out[SENDING_LEVELS])
{
    int64_t *v;
    size_t n = pg_i64_array_at(a, rows, row, pg_column(rows, "forgiven"), &v);

    for (size_t k = 0; k < SENDING_LEVELS && k < n; k++)
        out[k] = v[k];
}

static void read_record(struct arena *a, const struct pg_rows *rows, size_t row,
                        struct guard_record *out)
{
    *out = (struct guard_record){
        .account_id = pg_get_i64(rows, row, "account_id"),
        .is_off = pg_get_bool(rows, row, "is_off"),
        .held_us = pg_get_time_us(rows, row, "held_at"),
        .is_told = !pg_is_null(rows, row, "told_at"),
        .cause = copy_column(a, rows, row, "cause"),
        .detail = copy_column(a, rows, row, "detail"),
        .language = copy_column(a, rows, row, "language"),
        .seen = pg_get_i64(rows, row, "seen"),
        .usual = pg_get_i64(rows, row, "usual"),
        .forgiven_us = pg_get_time_us(rows, row, "forgiven_at"),
        .version = pg_get_i64(rows, row, "version"),
    };
    read_levels(a, rows, row, out->forgiven);
}

int guard_record_list(struct arena *a, struct guard_record **out, size_t *count, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_guard_states, PG_NO_ARGS, &rows, err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count, struct guard_record);
    for (size_t i = 0; i < rows.count; i++)
        read_record(a, &rows, i, &(*out)[i]);
    pg_rows_free(&rows);
    return 0;
}

/* A statement that answers a row when it changed something. */
static int change(const struct sql_query *query, struct pg_args args, bool *is_changed,
                  struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), query, args, &rows, err) < 0)
        return -1;
    *is_changed = rows.count > 0;
    pg_rows_free(&rows);
    return 0;
}

int guard_record_hold(const struct guard_record *r, const int64_t levels[SENDING_LEVELS],
                      bool *is_new, struct error *err)
{
    return change(&sql_guard_hold,
                  PG_ARGS(pg_i64(r->account_id), pg_text(r->cause), pg_i64(r->seen),
                          pg_i64(r->usual), pg_text(r->detail), pg_text(r->language),
                          pg_i64_array(levels, SENDING_LEVELS)),
                  is_new, err);
}

int guard_record_tell(int64_t account_id, bool *is_mine, struct error *err)
{
    return change(&sql_guard_tell, PG_ARGS(pg_i64(account_id)), is_mine, err);
}

int guard_record_untell(int64_t account_id, struct error *err)
{
    return pg_run(pg_pool(), &sql_guard_untell, PG_ARGS(pg_i64(account_id)), NULL, err);
}

int guard_record_release(int64_t account_id, int64_t hour, int64_t window_ms, bool *was_held,
                         struct error *err)
{
    return change(&sql_guard_release, PG_ARGS(pg_i64(account_id), pg_i64(hour), pg_i64(window_ms)),
                  was_held, err);
}

int guard_record_purge(int64_t account_id, bool *was_held, struct error *err)
{
    return change(&sql_guard_purge, PG_ARGS(pg_i64(account_id)), was_held, err);
}

int guard_record_set_off(int64_t account_id, bool is_off, struct error *err)
{
    bool is_changed;

    return change(&sql_guard_set_off, PG_ARGS(pg_i64(account_id), pg_bool(is_off)), &is_changed,
                  err);
}

int guard_record_list_held(struct arena *a, struct guard_held **out, size_t *count,
                           struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_guard_held, PG_NO_ARGS, &rows, err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count, struct guard_held);
    for (size_t i = 0; i < rows.count; i++)
        (*out)[i] = (struct guard_held){
            .account_id = pg_get_i64(&rows, i, "account_id"),
            .held_us = pg_get_time_us(&rows, i, "held_at"),
            .seen = pg_get_i64(&rows, i, "seen"),
            .usual = pg_get_i64(&rows, i, "usual"),
            .address = copy_column(a, &rows, i, "address"),
            .cause = copy_column(a, &rows, i, "cause"),
            .detail = copy_column(a, &rows, i, "detail"),
            .messages = pg_get_i64(&rows, i, "messages"),
            .recipients = pg_get_i64(&rows, i, "recipients"),
            .size = pg_get_i64(&rows, i, "size"),
        };
    pg_rows_free(&rows);
    return 0;
}
