/* sieve_store.c - the queries behind sieve_store.h. Limits and the account's lock are the SQL functions'. */
#include "mail/store/sieve_store.h"

#include "mail/sieve/sieve.h"
#include "server/base/utf8.h"
#include "server/directory/digest.h"
#include "server/pg/pg.h"
#include "sql_queries.h"

#define FORGET_COUNT 1000

/* ---- names ----------------------------------------------------------------------------------- */

/* Control characters, and the line and paragraph separators (RFC 5804, 1.6). */
static bool is_unnameable(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x2028 || c == 0x2029;
}

int sieve_name_check(struct str name, struct error *err)
{
    struct str rest = name;
    uint32_t c;

    if (str_empty(name))
        return fail(err, ERR_SYNTAX, "the name of a script is empty; give it one");
    if (name.n > SIEVE_NAME_SIZE_MAX)
        return fail(err, ERR_SYNTAX, "the name of a script has at most %d bytes",
                    SIEVE_NAME_SIZE_MAX);
    if (!utf8_valid(name))
        return fail(err, ERR_SYNTAX, "the name of a script must be UTF-8");
    while (utf8_next(&rest, &c))
        if (is_unnameable(c))
            return fail(err, ERR_SYNTAX, "the name of a script must not hold control characters");
    return 0;
}

static const char *const place_names[] = {[SIEVE_PLACE_BEFORE] = "before",
                                          [SIEVE_PLACE_AFTER] = "after",
                                          [SIEVE_PLACE_INCLUDE] = "include"};

const char *sieve_place_name(enum sieve_place place)
{
    return place_names[place];
}

bool sieve_place_parse(struct str name, enum sieve_place *out)
{
    for (int i = SIEVE_PLACE_BEFORE; i <= SIEVE_PLACE_INCLUDE; i++)
        if (str_ieq(name, str_c(place_names[i]))) {
            *out = (enum sieve_place)i;
            return true;
        }
    return false;
}

/* ---- helpers --------------------------------------------------------------------------------- */

static int check_size(uint64_t size, struct error *err)
{
    return size <= SIEVE_SIZE_MAX
               ? 0
               : fail(err, ERR_TOO_BIG, "a script has at most %d bytes", SIEVE_SIZE_MAX);
}

/* A change of which nothing is read. */
static int run(const struct sql_query *query, struct pg_args args, struct error *err)
{
    struct pg_rows rows = {0};
    int rc = pg_run(pg_pool(), query, args, &rows, err);

    pg_rows_free(&rows);
    return rc;
}

/* The one text that a query answers. */
static int read_content(struct arena *a, const struct sql_query *query, struct pg_args args,
                        struct str *content, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), query, args, &rows, err) < 0)
        return -1;
    if (rows.count == 0) {
        pg_rows_free(&rows);
        return fail(err, ERR_NOT_FOUND, "there is no script of that name");
    }
    *content = arena_str(a, pg_get_str(&rows, 0, "content"));
    pg_rows_free(&rows);
    return 0;
}

/* ---- scripts of an account ------------------------------------------------------------------- */

int sieve_store_list(struct arena *a, int64_t account_id, struct sieve_listed **out, size_t *count,
                     struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_sieve_list, PG_ARGS(pg_i64(account_id)), &rows, err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count + 1, struct sieve_listed);
    for (size_t i = 0; i < rows.count; i++)
        (*out)[i] = (struct sieve_listed){.name = arena_str(a, pg_get_str(&rows, i, "name")),
                                          .is_active = pg_get_bool(&rows, i, "is_active"),
                                          .size = pg_get_i32(&rows, i, "size"),
                                          .changed_us = pg_get_time_us(&rows, i, "changed_at")};
    pg_rows_free(&rows);
    return 0;
}

int sieve_store_get(struct arena *a, int64_t account_id, struct str name, struct str *content,
                    struct error *err)
{
    return read_content(a, &sql_sieve_get, PG_ARGS(pg_i64(account_id), pg_text(name)), content,
                        err);
}

int sieve_store_check_room(int64_t account_id, struct str name, uint64_t size, struct error *err)
{
    if (check_size(size, err) < 0)
        return -1;
    return run(&sql_sieve_check_room,
               PG_ARGS(pg_i64(account_id), pg_text(name), pg_i32((int32_t)size),
                       pg_i32(SIEVE_SCRIPTS_MAX), pg_i64(SIEVE_BYTES_MAX)),
               err);
}

int sieve_store_put(int64_t account_id, struct str name, struct str content, struct error *err)
{
    if (sieve_name_check(name, err) < 0 || check_size(content.n, err) < 0)
        return -1;
    return run(&sql_sieve_put,
               PG_ARGS(pg_i64(account_id), pg_text(name), pg_text(content),
                       pg_i32(SIEVE_SCRIPTS_MAX), pg_i64(SIEVE_BYTES_MAX)),
               err);
}

int sieve_store_activate(int64_t account_id, struct str name, struct error *err)
{
    return run(&sql_sieve_activate, PG_ARGS(pg_i64(account_id), pg_text(name)), err);
}

int sieve_store_remove(int64_t account_id, struct str name, struct error *err)
{
    return run(&sql_sieve_remove, PG_ARGS(pg_i64(account_id), pg_text(name)), err);
}

int sieve_store_rename(int64_t account_id, struct str name, struct str new_name, struct error *err)
{
    if (sieve_name_check(new_name, err) < 0)
        return -1;
    return run(&sql_sieve_rename, PG_ARGS(pg_i64(account_id), pg_text(name), pg_text(new_name)),
               err);
}

/* ---- scripts of a domain --------------------------------------------------------------------- */

static enum sieve_place read_place(const struct pg_rows *rows, size_t row)
{
    enum sieve_place place = SIEVE_PLACE_INCLUDE;

    sieve_place_parse(pg_get_str(rows, row, "place"), &place);
    return place;
}

int sieve_store_domain_list(struct arena *a, struct str domain, struct sieve_domain_listed **out,
                            size_t *count, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_sieve_domain_list, PG_ARGS(pg_text(domain)), &rows, err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count + 1, struct sieve_domain_listed);
    for (size_t i = 0; i < rows.count; i++)
        (*out)[i] =
            (struct sieve_domain_listed){.name = arena_str(a, pg_get_str(&rows, i, "name")),
                                         .place = read_place(&rows, i),
                                         .size = pg_get_i32(&rows, i, "size"),
                                         .changed_us = pg_get_time_us(&rows, i, "changed_at")};
    pg_rows_free(&rows);
    return 0;
}

int sieve_store_domain_get(struct arena *a, struct str domain, struct str name, struct str *content,
                           struct error *err)
{
    return read_content(a, &sql_sieve_domain_get, PG_ARGS(pg_text(domain), pg_text(name)), content,
                        err);
}

/* A change that answers a row when it found what to change. */
static int run_found(const struct sql_query *query, struct pg_args args, const char *missing,
                     struct error *err)
{
    struct pg_rows rows = {0};
    bool is_found;

    if (pg_run(pg_pool(), query, args, &rows, err) < 0)
        return -1;
    is_found = rows.count > 0;
    pg_rows_free(&rows);
    return is_found ? 0 : fail(err, ERR_NOT_FOUND, "%s", missing);
}

int sieve_store_domain_put(struct str domain, struct str name, enum sieve_place place,
                           struct str content, struct error *err)
{
    if (sieve_name_check(name, err) < 0 || check_size(content.n, err) < 0)
        return -1;
    return run_found(&sql_sieve_domain_put,
                     PG_ARGS(pg_text(domain), pg_text(name),
                             pg_text(str_c(sieve_place_name(place))), pg_text(content)),
                     "the domain is not one of ours", err);
}

int sieve_store_domain_remove(struct str domain, struct str name, struct error *err)
{
    return run_found(&sql_sieve_domain_remove, PG_ARGS(pg_text(domain), pg_text(name)),
                     "the domain has no script of that name", err);
}

/* ---- for runs -------------------------------------------------------------------------------- */

int sieve_store_running(struct arena *a, int64_t account_id, struct sieve_running **out,
                        size_t *count, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_sieve_running, PG_ARGS(pg_i64(account_id)), &rows, err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count + 1, struct sieve_running);
    for (size_t i = 0; i < rows.count; i++)
        (*out)[i] =
            (struct sieve_running){.turn = (enum sieve_turn)pg_get_i32(&rows, i, "turn"),
                                   .name = arena_str(a, pg_get_str(&rows, i, "name")),
                                   .content = arena_str(a, pg_get_str(&rows, i, "content"))};
    pg_rows_free(&rows);
    return 0;
}

int sieve_store_get_global(struct arena *a, int64_t account_id, struct str name,
                           struct str *content, struct error *err)
{
    return read_content(a, &sql_sieve_get_global, PG_ARGS(pg_i64(account_id), pg_text(name)),
                        content, err);
}

/* ---- what is remembered ---------------------------------------------------------------------- */

static struct pg_arg digest_arg(const struct str *parts, size_t count, uint8_t digest[DIGEST_SIZE])
{
    hmac_sha256_list(STR("sieve"), parts, count, digest);
    return pg_bytea(digest_str(digest));
}

int sieve_store_remembers(int64_t account_id, const struct str *parts, size_t count, bool *out,
                          struct error *err)
{
    uint8_t digest[DIGEST_SIZE];
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_sieve_remembers,
               PG_ARGS(pg_i64(account_id), digest_arg(parts, count, digest)), &rows, err) < 0)
        return -1;
    *out = rows.count > 0;
    pg_rows_free(&rows);
    return 0;
}

int sieve_store_remember(int64_t account_id, const struct str *parts, size_t count,
                         int64_t expires_us, bool *is_new, struct error *err)
{
    uint8_t digest[DIGEST_SIZE];
    struct pg_rows rows = {0};

    if (pg_run(
            pg_pool(), &sql_sieve_remember,
            PG_ARGS(pg_i64(account_id), digest_arg(parts, count, digest), pg_time_us(expires_us)),
            &rows, err) < 0)
        return -1;
    *is_new = rows.count > 0;
    pg_rows_free(&rows);
    return 0;
}

int sieve_store_remember_anew(int64_t account_id, const struct str *parts, size_t count,
                              int64_t expires_us, struct error *err)
{
    uint8_t digest[DIGEST_SIZE];

    return run(
        &sql_sieve_remember_anew,
        PG_ARGS(pg_i64(account_id), digest_arg(parts, count, digest), pg_time_us(expires_us)), err);
}

int sieve_store_forget(int64_t account_id, const struct str *parts, size_t count, struct error *err)
{
    uint8_t digest[DIGEST_SIZE];

    return run(&sql_sieve_forget, PG_ARGS(pg_i64(account_id), digest_arg(parts, count, digest)),
               err);
}

int sieve_store_forget_expired(int64_t *count, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_sieve_forget_expired, PG_ARGS(pg_i32(FORGET_COUNT)), &rows, err) < 0)
        return -1;
    *count = pg_get_i64(&rows, 0, "forgotten");
    pg_rows_free(&rows);
    return 0;
}
