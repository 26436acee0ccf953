/* directory.c - finds accounts and says where mail for an address goes.
 *
 * Nothing is remembered between calls: each is one query, and PostgreSQL's answer is the truth for every
 * worker at once. What admins change is in directory_admin.c. */
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

/* --- where mail goes ------------------------------------------------------------------------------- */

struct wanted {
    struct str whole; /* canonical, with the detail */
    struct str base;  /* the same without; equal to whole when there is none */
    struct str domain;
    struct str detail;
    bool is_for_postmaster;
};

static bool leads_to_postmaster(struct str local)
{
    return str_eq(local, STR("postmaster")) || str_eq(local, STR("abuse"));
}

/* w->whole is set: cuts it into the rest. */
static void split_detail(struct arena *a, struct wanted *w)
{
    struct str base_local, delimiter = str_c(config.recipient_delimiter);
    ptrdiff_t at;

    w->base = w->whole;
    w->detail = STR_NULL;
    str_rcut(w->whole, '@', &base_local, &w->domain);
    at = delimiter.n == 0 ? -1 : str_find(base_local, delimiter);
    if (at > 0) {
        w->detail = str_from(base_local, (size_t)at + delimiter.n);
        base_local = str_head(base_local, (size_t)at);
        w->base = arena_printf(a, "%.*s@%.*s", STR_ARG(base_local), STR_ARG(w->domain));
    }
    w->is_for_postmaster = leads_to_postmaster(base_local);
}

/* --- sending as ------------------------------------------------------------------------------------ */

int directory_may_send_as(int64_t account_id, struct str address, bool *out, struct error *err)
{
    struct arena *a = arena_new();
    struct pg_rows rows;
    struct wanted w;
    int status = 0;

    *out = false;
    if (address_split(a, address, &w.whole, NULL, NULL) == 0) {
        split_detail(a, &w);
        status = pg_run(pg_pool(), &sql_address_belongs,
                        PG_ARGS(pg_i64(account_id), pg_text(w.whole), pg_text(w.base)), &rows, err);
        if (status == 0) {
            *out = pg_get_bool(&rows, 0, "is_own");
            pg_rows_free(&rows);
        }
    }
    arena_free(&a);
    return status;
}

/* --- resolving ------------------------------------------------------------------------------------- */

static void read_recipients(struct arena *a, const struct pg_rows *rows, const struct wanted *w,
                            struct recipients *out)
{
    int id_column = pg_column(rows, "account_id"), room_column = pg_column(rows, "room");
    struct str address = arena_str(a, pg_get_str(rows, 0, "address"));
    struct str detail = str_eq(address, w->whole) ? STR_NULL : w->detail;

    out->v = ARENA_ARRAY(a, rows->count, struct recipient);
    out->n = rows->count;
    for (size_t i = 0; i < rows->count; i++)
        out->v[i] = (struct recipient){
            .account_id = pg_i64_at(rows, i, id_column),
            .address = address,
            .detail = detail,
            .bytes_free =
                pg_null_at(rows, i, room_column) ? INT64_MAX : pg_i64_at(rows, i, room_column),
        };
}

static int judge_recipients(struct arena *a, const struct pg_rows *rows, const struct wanted *w,
                            struct recipients *out, struct error *err)
{
    if (rows->count == 0)
        return fail(err, ERR_DENIED, "relaying is not allowed: %.*s is not a domain of this server",
                    STR_ARG(w->domain));
    if (pg_is_null(rows, 0, "account_id"))
        return fail(err, ERR_NOT_FOUND, "there is no such recipient here");
    if (rows->count > RECIPIENTS_MAX)
        return fail(err, ERR_LIMIT, "the address leads to more than %d recipients", RECIPIENTS_MAX);
    read_recipients(a, rows, w, out);
    return 0;
}

/* Groups, and postmaster where nobody has that address, need the whole search. */
static bool is_plain(const struct pg_rows *rows, const struct wanted *w)
{
    if (rows->count > 0 && pg_is_null(rows, 0, "account_id"))
        return !w->is_for_postmaster;
    return rows->count == 0 || !pg_get_bool(rows, 0, "is_group");
}

static int resolve_wholly(struct arena *a, const struct wanted *w, struct recipients *out,
                          struct error *err)
{
    struct pg_rows rows;
    int status;

    if (pg_run(pg_pool(), &sql_directory_resolve,
               PG_ARGS(pg_text(w->whole), pg_text(w->base), pg_text(w->domain),
                       pg_bool(w->is_for_postmaster), pg_i64(RECIPIENTS_MAX + 1),
                       pg_i64(config.quota_bytes), pg_i64(config.quota_messages)),
               &rows, err) < 0)
        return -1;
    status = judge_recipients(a, &rows, w, out, err);
    pg_rows_free(&rows);
    return status;
}

int directory_resolve(struct arena *a, struct str local, struct str domain, struct recipients *out,
                      struct error *err)
{
    struct pg_rows rows;
    struct wanted w;
    int status = 0;
    bool is_done;

    *out = (struct recipients){0};
    if (address_canonical(a, local, domain, &w.whole, err) < 0)
        return -1;
    split_detail(a, &w);
    if (pg_run(pg_pool(), &sql_directory_resolve_plain,
               PG_ARGS(pg_text(w.whole), pg_text(w.base), pg_text(w.domain),
                       pg_i64(config.quota_bytes), pg_i64(config.quota_messages)),
               &rows, err) < 0)
        return -1;
    is_done = is_plain(&rows, &w);
    if (is_done)
        status = judge_recipients(a, &rows, &w, out, err);
    pg_rows_free(&rows);
    return is_done ? status : resolve_wholly(a, &w, out, err);
}
