/* routing.c - where mail for an address goes.
 *
 * One query answers nearly always. What leads on is followed by routing_walk.c; what nobody has goes to the domain's
 * catch-all, postmaster's mail to somebody in any case. Nothing is remembered between calls. */
#include "server/directory/directory_internal.h"
#include "server/directory/routing_internal.h"
#include "server/run/config.h"
#include "sql_queries.h"

struct wanted {
    struct str address; /* canonical, with the detail */
    struct str local;   /* "ani+shop@" */
    struct str base;    /* "ani@" */
    struct str domain, detail;
    bool is_for_postmaster;
    const struct routing_sender *from;
};

static bool leads_to_postmaster(struct str base)
{
    return str_eq(base, STR("postmaster@")) || str_eq(base, STR("abuse@"));
}

/* The local part with its @. */
static struct str local_of(struct str address, struct str domain)
{
    return str_head(address, address.n - domain.n);
}

static int read_wanted(struct arena *a, struct str local, struct str domain, struct wanted *w,
                       struct error *err)
{
    struct str rest;

    if (address_canonical(a, local, domain, &w->address, err) < 0)
        return -1;
    str_rcut(w->address, '@', &rest, &w->domain);
    w->local = local_of(w->address, w->domain);
    w->base = local_of(address_without_detail(a, w->address, &w->detail), w->domain);
    w->is_for_postmaster = leads_to_postmaster(w->base);
    return 0;
}

/* --- one account ----------------------------------------------------------------------------------- */

static void route_to_account(struct arena *a, const struct pg_rows *rows, const struct wanted *w,
                             struct routes *out)
{
    struct str address = arena_str(a, pg_get_str(rows, 0, "address"));
    bool is_whole = str_starts(address, w->local);

    out->v = ARENA_NEW(a, struct route);
    out->n = 1;
    *out->v = (struct route){
        .kind = ROUTE_ACCOUNT,
        .account_id = pg_get_i64(rows, 0, "account_id"),
        .address = address,
        .detail = is_whole ? STR_NULL : w->detail,
        .bytes_free = pg_is_null(rows, 0, "room") ? INT64_MAX : pg_get_i64(rows, 0, "room"),
    };
}

/* --- further ---------------------------------------------------------------------------------------- */

static void name_accounts(const struct wanted *w, struct str found, struct routes *out)
{
    struct str detail = str_starts(found, w->local) ? STR_NULL : w->detail;

    for (size_t i = 0; i < out->n; i++) {
        if (out->v[i].kind != ROUTE_ACCOUNT)
            continue;
        out->v[i].address = found;
        out->v[i].detail = detail;
    }
}

/* Catch-alls and postmasters, one choice after the other until somebody is reached. */
static int route_to_fallback(struct arena *a, const struct wanted *w, struct routes *out,
                             struct error *err)
{
    struct pg_rows rows;
    int status = 0;

    if (pg_run(pg_pool(), &sql_route_fallback,
               PG_ARGS(pg_text(w->domain), pg_bool(w->is_for_postmaster)), &rows, err) < 0)
        return -1;
    for (size_t i = 0; i < rows.count && out->n == 0 && status == 0; i++) {
        struct routing_start start = {.account_id = pg_get_i64(&rows, i, "account_id"),
                                      .address = arena_str(a, pg_get_str(&rows, i, "address")),
                                      .is_for_postmaster = w->is_for_postmaster};
        status = routing_walk(a, &start, w->from, out, err);
    }
    pg_rows_free(&rows);
    name_accounts(w, w->address, out);
    return status;
}

/* What the row of route_plain says about a way that does not end there. */
struct plain {
    struct routing_start start;
    struct str found; /* the address; empty: nobody has it */
    bool may_fall_back, is_group;
};

static void read_plain(struct arena *a, const struct pg_rows *rows, const struct wanted *w,
                       struct plain *out)
{
    *out = (struct plain){
        .start = {.account_id = pg_get_i64(rows, 0, "account_id"),
                  .address = arena_str(a, pg_get_str(rows, 0, "target")),
                  .is_for_postmaster = w->is_for_postmaster},
        .found = arena_str(a, pg_get_str(rows, 0, "address")),
    };
    out->is_group = out->start.account_id != 0 && pg_get_bool(rows, 0, "is_group");
    out->start.may_lead_on =
        w->is_for_postmaster || !out->is_group || !pg_get_bool(rows, 0, "is_restricted");
    out->may_fall_back =
        w->is_for_postmaster || (out->found.n == 0 && pg_get_bool(rows, 0, "has_catch_all"));
}

static int route_further(struct arena *a, const struct plain *plain, const struct wanted *w,
                         struct routes *out, struct error *err)
{
    if (plain->found.n > 0) {
        if (routing_walk(a, &plain->start, w->from, out, err) < 0)
            return -1;
        name_accounts(w, plain->found, out);
    }
    if (out->n == 0 && plain->may_fall_back && route_to_fallback(a, w, out, err) < 0)
        return -1;
    out->is_group = plain->is_group || out->n > 1;
    return out->n > 0 ? 0 : fail(err, ERR_NOT_FOUND, "there is no such recipient here");
}

/* --- the whole -------------------------------------------------------------------------------------- */

/* The address of one account that keeps what comes. */
static bool is_plain(const struct pg_rows *rows)
{
    return !pg_is_null(rows, 0, "account_id") && !pg_get_bool(rows, 0, "is_group") &&
           !pg_get_bool(rows, 0, "leads_on");
}

static int find_plain(const struct wanted *w, struct pg_rows *rows, struct error *err)
{
    if (pg_run(pg_pool(), &sql_route_plain,
               PG_ARGS(pg_text(w->local), pg_text(w->base), pg_text(w->domain),
                       pg_i64(config.quota_bytes), pg_i64(config.quota_messages)),
               rows, err) < 0)
        return -1;
    if (rows->count > 0)
        return 0;
    pg_rows_free(rows);
    return fail(err, ERR_UNSUPPORTED, "%.*s is not a domain of this server", STR_ARG(w->domain));
}

int directory_route(struct arena *a, struct str local, struct str domain,
                    const struct routing_sender *from, struct routes *out, struct error *err)
{
    struct wanted w = {.from = from};
    struct plain plain;
    struct pg_rows rows;
    bool is_done;

    *out = (struct routes){0};
    if (read_wanted(a, local, domain, &w, err) < 0 || find_plain(&w, &rows, err) < 0)
        return -1;
    out->size_max = pg_get_i64(&rows, 0, "size_max");
    is_done = is_plain(&rows);
    if (is_done)
        route_to_account(a, &rows, &w, out);
    else
        read_plain(a, &rows, &w, &plain);
    pg_rows_free(&rows);
    return is_done ? 0 : route_further(a, &plain, &w, out, err);
}
