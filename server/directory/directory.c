/* directory.c - finds accounts and domains.
 *
 * Nothing is remembered between calls: each is one query, and PostgreSQL's answer is the truth for every
 * worker at once. What admins change is in directory_admin.c, where mail goes in routing.c. */
#include "server/directory/directory_internal.h"
#include "server/run/config.h"
#include "sql_queries.h"

static const char *const kind_names[] = {
    [ACCOUNT_PERSON] = "person", [ACCOUNT_SHARED] = "shared",       [ACCOUNT_GROUP] = "group",
    [ACCOUNT_ROOM] = "room",     [ACCOUNT_EQUIPMENT] = "equipment",
};
#define KIND_COUNT (sizeof kind_names / sizeof *kind_names)

const char *account_kind_name(enum account_kind kind)
{
    return kind_names[kind];
}

bool account_kind_parse(struct str name, enum account_kind *out)
{
    for (size_t i = 0; i < KIND_COUNT; i++) {
        if (str_ieq(name, str_c(kind_names[i]))) {
            *out = (enum account_kind)i;
            return true;
        }
    }
    return false;
}

/* NULL in the database means the server's setting. */
static int64_t quota_read(const struct pg_rows *rows, size_t row, const char *column,
                          int64_t setting)
{
    return pg_is_null(rows, row, column) ? setting : pg_get_i64(rows, row, column);
}

struct pg_arg quota_arg(int64_t quota)
{
    if (quota == QUOTA_DEFAULT)
        return pg_null();
    return pg_i64(quota == QUOTA_UNLIMITED ? 0 : quota);
}

void account_read(struct arena *a, const struct pg_rows *rows, size_t row, struct account *out)
{
    *out = (struct account){
        .account_id = pg_get_i64(rows, row, "account_id"),
        .is_active = pg_get_bool(rows, row, "is_active"),
        .is_administrator = pg_get_bool(rows, row, "is_administrator"),
        .address = arena_str(a, pg_get_str(rows, row, "address")),
        .name = arena_str(a, pg_get_str(rows, row, "name")),
        .quota_bytes = quota_read(rows, row, "quota_bytes", config.quota_bytes),
        .quota_messages = quota_read(rows, row, "quota_messages", config.quota_messages),
    };
    /* The table's CHECK allows no other names. */
    account_kind_parse(pg_get_str(rows, row, "kind"), &out->kind);
}

static int read_one_account(struct arena *a, struct pg_rows *rows, struct account *out,
                            struct error *err)
{
    bool is_found = rows->count > 0;

    if (is_found)
        account_read(a, rows, 0, out);
    pg_rows_free(rows);
    return is_found ? 0 : fail(err, ERR_NOT_FOUND, "there is no such account");
}

int directory_find_account(struct arena *a, struct str address, struct account *out,
                           struct error *err)
{
    struct pg_rows rows;
    struct str canonical;

    if (address_split(a, address, &canonical, NULL, err) < 0)
        return -1;
    if (pg_run(pg_pool(), &sql_account_by_address, PG_ARGS(pg_text(canonical)), &rows, err) < 0)
        return -1;
    return read_one_account(a, &rows, out, err);
}

int directory_find_login(struct arena *a, struct str typed, struct account *out, struct error *err)
{
    struct pg_rows rows;
    bool is_bare;
    struct str name = login_name(a, typed, &is_bare);

    if (pg_run(pg_pool(), &sql_account_by_login, PG_ARGS(pg_text(name), pg_bool(is_bare)), &rows,
               err) < 0)
        return -1;
    return read_one_account(a, &rows, out, err);
}

int directory_list_administrators(struct arena *a, int64_t **account_ids, size_t *count,
                                  struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_account_administrators, PG_NO_ARGS, &rows, err) < 0)
        return -1;
    *count = rows.count;
    *account_ids = ARENA_ARRAY(a, rows.count, int64_t);
    for (size_t i = 0; i < rows.count; i++)
        (*account_ids)[i] = pg_get_i64(&rows, i, "account_id");
    pg_rows_free(&rows);
    return 0;
}

int directory_get_account(struct arena *a, int64_t account_id, struct account *out,
                          struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_account_by_id, PG_ARGS(pg_i64(account_id)), &rows, err) < 0)
        return -1;
    return read_one_account(a, &rows, out, err);
}

int directory_has_domain(struct str domain, bool *out, struct error *err)
{
    struct arena *a = arena_new();
    struct pg_rows rows;
    struct str canonical;
    int status = -1;

    *out = false;
    if (domain_canonical(a, domain, &canonical, NULL) < 0) {
        status = 0; /* what is no domain is none of ours */
    } else if (pg_run(pg_pool(), &sql_domain_exists, PG_ARGS(pg_text(canonical)), &rows, err) ==
               0) {
        *out = pg_get_bool(&rows, 0, "is_ours");
        pg_rows_free(&rows);
        status = 0;
    }
    arena_free(&a);
    return status;
}
