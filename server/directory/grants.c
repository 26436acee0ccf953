/* grants.c - who may write in whose name; see grants.h. */
#include "server/directory/grants.h"

#include "server/directory/directory_internal.h"
#include "sql_queries.h"

const char *send_right_name(enum send_right right)
{
    static const char *const names[] = {
        [SEND_DENIED] = "none", [SEND_ON_BEHALF] = "on-behalf", [SEND_AS] = "as"};

    return names[right];
}

/* What cannot be an address of anybody is asked for as the empty text, which nobody has. */
static void read_asked(struct arena *a, const struct send_address *v, size_t count,
                       struct str *whole, struct str *base)
{
    struct str detail;

    for (size_t i = 0; i < count; i++) {
        whole[i] = base[i] = STR("");
        if (address_split(a, v[i].address, &whole[i], NULL, NULL) < 0)
            whole[i] = STR("");
        else
            base[i] = address_without_detail(a, whole[i], &detail);
    }
}

static void read_wishes(const struct pg_rows *rows, struct send_wishes *wishes)
{
    *wishes = (struct send_wishes){0};
    if (rows->count == 0)
        return;
    wishes->wants_sent_copy = pg_get_bool(rows, 0, "files_sent");
    wishes->undo_ms = pg_get_i64(rows, 0, "undo_send_ms");
}

static void read_rights(const struct pg_rows *rows, struct send_address *v, size_t count)
{
    for (size_t i = 0; i < count && i < rows->count; i++) {
        v[i].right = (enum send_right)pg_get_i32(rows, i, "send_right");
        v[i].owner_id = pg_get_i64(rows, i, "owner_id");
        v[i].is_in_our_domain = pg_get_bool(rows, i, "is_ours");
        v[i].wants_sent_copy = pg_get_bool(rows, i, "files_sent_as");
    }
}

int directory_may_send_as(int64_t account_id, struct send_address *v, size_t count,
                          struct send_wishes *wishes, struct error *err)
{
    struct arena *a = arena_new();
    struct str *whole = ARENA_ARRAY(a, count, struct str);
    struct str *base = ARENA_ARRAY(a, count, struct str);
    struct pg_rows rows;
    int status;

    for (size_t i = 0; i < count; i++)
        v[i] = (struct send_address){.address = v[i].address};
    read_asked(a, v, count, whole, base);
    status =
        pg_run(pg_pool(), &sql_send_rights,
               PG_ARGS(pg_i64(account_id), pg_text_array(whole, count), pg_text_array(base, count)),
               &rows, err);
    if (status == 0) {
        read_rights(&rows, v, count);
        if (wishes != NULL)
            read_wishes(&rows, wishes);
        pg_rows_free(&rows);
    }
    arena_free(&a);
    return status;
}

/* --- managing -------------------------------------------------------------------------------------- */

struct parties {
    struct account owner, grantee;
};

static int find_parties(struct arena *a, struct str address, struct str grantee,
                        struct parties *out, struct error *err)
{
    struct error cause = {0};

    if (directory_find_account(a, address, &out->owner, &cause) < 0)
        return directory_say(err, &cause, ERR_NOT_FOUND, "there is no account %.*s", address);
    if (directory_find_account(a, grantee, &out->grantee, &cause) < 0)
        return directory_say(err, &cause, ERR_NOT_FOUND, "there is no account %.*s", grantee);
    return 0;
}

static int add(struct arena *a, struct str address, struct str grantee, enum send_right right,
               struct error *err)
{
    struct parties p;

    if (find_parties(a, address, grantee, &p, err) < 0)
        return -1;
    /* A group may be granted to its own members; a person needs no grant from themselves. */
    if (p.owner.account_id == p.grantee.account_id && p.owner.kind != ACCOUNT_GROUP)
        return fail(err, ERR_EXISTS, "%.*s may always send as itself", STR_ARG(p.owner.address));
    return pg_run(pg_pool(), &sql_grant_insert,
                  PG_ARGS(pg_i64(p.owner.account_id), pg_i64(p.grantee.account_id),
                          pg_bool(right == SEND_ON_BEHALF)),
                  NULL, err);
}

static int take_back(struct arena *a, struct str address, struct str grantee, struct error *err)
{
    struct parties p;
    bool is_gone;

    if (find_parties(a, address, grantee, &p, err) < 0 ||
        directory_change_one(&sql_grant_delete,
                             PG_ARGS(pg_i64(p.owner.account_id), pg_i64(p.grantee.account_id)),
                             &is_gone, err) < 0)
        return -1;
    return is_gone ? 0
                   : fail(err, ERR_NOT_FOUND, "%.*s has no grant to send as %.*s",
                          STR_ARG(p.grantee.address), STR_ARG(p.owner.address));
}

int grant_add(struct str address, struct str grantee, enum send_right right, struct error *err)
{
    struct arena *a = arena_new();
    int status = right == SEND_DENIED ? take_back(a, address, grantee, err)
                                      : add(a, address, grantee, right, err);

    arena_free(&a);
    return status;
}

int grant_remove(struct str address, struct str grantee, struct error *err)
{
    return grant_add(address, grantee, SEND_DENIED, err);
}

int grant_list(struct arena *a, struct str address, struct grant **out, size_t *count,
               struct error *err)
{
    struct account owner;
    struct pg_rows rows;

    if (directory_find_account(a, address, &owner, err) < 0 ||
        pg_run(pg_pool(), &sql_grants_of, PG_ARGS(pg_i64(owner.account_id)), &rows, err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count, struct grant);
    for (size_t i = 0; i < rows.count; i++) {
        (*out)[i].grantee = arena_str(a, pg_get_str(&rows, i, "address"));
        (*out)[i].right = pg_get_bool(&rows, i, "is_on_behalf") ? SEND_ON_BEHALF : SEND_AS;
    }
    pg_rows_free(&rows);
    return 0;
}
