/* secret.c - two hosts that need a new secret at once both offer one; the table's primary key decides. */
#include <string.h>

#include "server/base/encode.h"
#include "server/directory/secret.h"
#include "server/pg/pg.h"
#include "sql_queries.h"

static const char *const names[SECRET_COUNT] = {
    [SECRET_LIMITER] = "limiter",
    [SECRET_SCRAM] = "scram",
    [SECRET_SRS] = "srs",
};

static struct {
    bool is_known;
    uint8_t value[DIGEST_SIZE];
} known[SECRET_COUNT];

static int fetch(enum secret which, struct error *err)
{
    struct pg_arg name = pg_text(str_c(names[which]));
    uint8_t offer[DIGEST_SIZE];
    struct pg_rows rows[2];
    struct str value;

    random_bytes(offer, sizeof offer);
    struct pg_call calls[] = {
        {&sql_server_secret_insert, PG_ARGS(name, pg_bytea(digest_str(offer)))},
        {&sql_server_secret, PG_ARGS(name)},
    };
    if (pg_run_batch(pg_pool(), calls, 2, rows, err) < 0)
        return -1;
    value = pg_get_str(&rows[1], 0, "secret");
    known[which].is_known = value.n == DIGEST_SIZE;
    if (known[which].is_known)
        memcpy(known[which].value, value.p, DIGEST_SIZE);
    pg_rows_free(&rows[0]);
    pg_rows_free(&rows[1]);
    return known[which].is_known ? 0 : fail(err, ERR_INTERNAL, "a key of this server is damaged");
}

int secret_get(enum secret which, uint8_t out[DIGEST_SIZE], struct error *err)
{
    if (!known[which].is_known && fetch(which, err) < 0)
        return -1;
    memcpy(out, known[which].value, DIGEST_SIZE);
    return 0;
}
