/* directory_admin.c - what admins change: domains, accounts, aliases, groups.
 *
 * Each change is one statement or one batch, so that it happens wholly or not at all. The sentences name the
 * mend where there is one, for they reach a person at a terminal. */
#include <assert.h>

#include "server/base/utf8.h"
#include "server/directory/credential.h"
#include "server/directory/credential_internal.h"
#include "server/directory/directory_internal.h"
#include "sql_queries.h"

int directory_no_account(struct str address, struct error *err)
{
    return fail(err, ERR_NOT_FOUND, "there is no account %.*s", STR_ARG(address));
}

static int read_home(struct arena *a, struct str domain, struct str *home, bool *is_ours,
                     struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_domain_home, PG_ARGS(pg_text(domain)), &rows, err) < 0)
        return -1;
    *is_ours = rows.count > 0;
    *home = *is_ours ? arena_str(a, pg_get_str(&rows, 0, "home")) : STR_NULL;
    pg_rows_free(&rows);
    return 0;
}

int directory_no_home(struct str domain, struct error *err)
{
    struct arena *a = arena_new();
    struct str home;
    bool is_ours;
    int status = read_home(a, domain, &home, &is_ours, err);

    if (status == 0 && home.n > 0)
        status = fail(err, ERR_DENIED, "%.*s is an alias of %.*s: use addresses of that",
                      STR_ARG(domain), STR_ARG(home));
    else if (status == 0)
        status =
            fail(err, ERR_NOT_FOUND,
                 "%.*s is not a domain of this server: add it with \"merpati domain add %.*s\"",
                 STR_ARG(domain), STR_ARG(domain));
    arena_free(&a);
    return status;
}

/* Runs a statement that answers with a row when it found what it should change. */
int directory_change_one(const struct sql_query *query, struct pg_args args, bool *is_changed,
                         struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), query, args, &rows, err) < 0)
        return -1;
    *is_changed = rows.count > 0;
    pg_rows_free(&rows);
    return 0;
}

/* Says a kind of failure in words of its own and leaves the others as they are. */
int directory_say(struct error *err, struct error *cause, enum error_kind kind,
                  const char *sentence, struct str subject)
{
    if (cause->kind == kind)
        return fail(err, kind, sentence, STR_ARG(subject));
    return fail(err, cause->kind, "%s", cause->text);
}

/* --- domains --------------------------------------------------------------------------------------- */

int domain_add(struct str name, struct error *err)
{
    struct arena *a = arena_new();
    struct error cause = {0};
    struct str canonical;
    int status = domain_canonical(a, name, &canonical, err);

    if (status == 0 &&
        pg_run(pg_pool(), &sql_domain_insert, PG_ARGS(pg_text(canonical)), NULL, &cause) < 0)
        status =
            directory_say(err, &cause, ERR_EXISTS, "the domain %.*s is there already", canonical);
    arena_free(&a);
    return status;
}

static int judge_domain_removal(const struct pg_rows *rows, struct str domain, struct error *err)
{
    if (pg_get_bool(rows, 0, "is_gone"))
        return 0;
    if (pg_get_i64(rows, 0, "addresses") > 0)
        return fail(err, ERR_CONFLICT,
                    "%lld addresses are in %.*s: remove its accounts and aliases first",
                    (long long)pg_get_i64(rows, 0, "addresses"), STR_ARG(domain));
    if (!pg_is_null(rows, 0, "alias"))
        return fail(err, ERR_CONFLICT, "%.*s is an alias of %.*s: remove that domain first",
                    STR_ARG(pg_get_str(rows, 0, "alias")), STR_ARG(domain));
    return fail(err, ERR_NOT_FOUND, "%.*s is not a domain of this server", STR_ARG(domain));
}

int domain_remove(struct str name, struct error *err)
{
    struct arena *a = arena_new();
    struct pg_rows rows;
    struct str canonical;
    int status = domain_canonical(a, name, &canonical, err);

    if (status == 0)
        status = pg_run(pg_pool(), &sql_domain_delete, PG_ARGS(pg_text(canonical)), &rows, err);
    if (status == 0) {
        status = judge_domain_removal(&rows, canonical, err);
        pg_rows_free(&rows);
    }
    arena_free(&a);
    return status;
}

struct str *directory_read_texts(struct arena *a, struct pg_rows *rows, const char *name,
                                 size_t *count)
{
    struct str *texts = ARENA_ARRAY(a, rows->count, struct str);
    int column = pg_column(rows, name);

    *count = rows->count;
    for (size_t i = 0; i < rows->count; i++)
        texts[i] = arena_str(a, pg_str_at(rows, i, column));
    pg_rows_free(rows);
    return texts;
}

int domain_list(struct arena *a, struct str **names, size_t *count, struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_domain_names, PG_NO_ARGS, &rows, err) < 0)
        return -1;
    *names = directory_read_texts(a, &rows, "name", count);
    return 0;
}

/* --- making accounts ------------------------------------------------------------------------------- */

#define NAME_SIZE_MAX 500

static int check_name(struct str name, struct error *err)
{
    if (!utf8_valid(name) || str_index(name, '\0') >= 0)
        return fail(err, ERR_SYNTAX, "the name is not valid UTF-8");
    if (name.n > NAME_SIZE_MAX)
        return fail(err, ERR_TOO_BIG, "the name is longer than %d bytes", NAME_SIZE_MAX);
    return 0;
}

/* An account that is ready to be written. */
struct draft {
    const struct account_new *given;
    struct str address, domain;
    struct str crypt, scram; /* empty: no password */
};

#define CALLS_PER_ACCOUNT        4
#define ACCOUNTS_PER_TRANSACTION 100

static int draft_check(struct arena *a, const struct account_new *given, struct draft *out,
                       struct error *err)
{
    *out = (struct draft){.given = given};
    if (address_split(a, given->address, &out->address, &out->domain, err) < 0)
        return -1;
    if (check_name(given->name, err) < 0)
        return -1;
    if (given->password.n > 0 && given->password_hash.n > 0)
        return fail(err, ERR_SYNTAX, "give %.*s a password or a hash, not both",
                    STR_ARG(out->address));
    if (given->kind == ACCOUNT_GROUP && given->password.n + given->password_hash.n > 0)
        return fail(err, ERR_SYNTAX,
                    "the group %.*s cannot have a password: nobody logs in as a group",
                    STR_ARG(out->address));
    if (given->kind != ACCOUNT_PERSON && given->is_administrator)
        return fail(err, ERR_SYNTAX, "%.*s cannot be an administrator: only a person can",
                    STR_ARG(out->address));
    if (given->password_hash.n > 0)
        return password_hash_import(a, given->password_hash, &out->crypt, err);
    return 0;
}

/* Appends the statements that write one account; their arguments live in the arena. */
static size_t draft_calls(struct arena *a, const struct draft *d, struct pg_call *calls)
{
    struct pg_arg *v = ARENA_ARRAY(a, 12, struct pg_arg);
    struct pg_arg address = pg_text(d->address);
    size_t n = 0;

    v[0] = address;
    v[1] = pg_text(d->domain);
    v[2] = pg_text(str_c(account_kind_name(d->given->kind)));
    v[3] = pg_text(d->given->name);
    v[4] = pg_bool(d->given->is_administrator);
    calls[n++] = (struct pg_call){&sql_account_insert, {v, 5}};
    v[5] = address;
    v[6] = quota_arg(d->given->quota_bytes);
    v[7] = quota_arg(d->given->quota_messages);
    calls[n++] = (struct pg_call){&sql_account_state_insert, {v + 5, 3}};
    if (d->crypt.n > 0) {
        v[8] = address;
        v[9] = pg_text(d->crypt);
        v[10] = d->scram.n > 0 ? pg_text(d->scram) : pg_null();
        calls[n++] = (struct pg_call){&sql_credential_insert_new, {v + 8, 3}};
    }
    if (d->given->kind != ACCOUNT_GROUP) {
        v[11] = address;
        calls[n++] = (struct pg_call){&sql_account_prepare, {v + 11, 1}};
    }
    return n;
}

static int write_drafts(struct arena *a, const struct draft *drafts, size_t count,
                        int64_t *account_id, struct error *err)
{
    struct pg_call *calls = ARENA_ARRAY(a, count * CALLS_PER_ACCOUNT, struct pg_call);
    struct pg_rows *rows = ARENA_ARRAY(a, count * CALLS_PER_ACCOUNT, struct pg_rows);
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        n += draft_calls(a, &drafts[i], calls + n);
    if (pg_run_batch(pg_pool(), calls, n, rows, err) < 0)
        return -1;
    if (account_id != NULL)
        *account_id = pg_get_i64(&rows[0], 0, "account_id");
    for (size_t i = 0; i < n; i++)
        pg_rows_free(&rows[i]);
    return 0;
}

static int write_draft(struct arena *a, const struct draft *d, int64_t *account_id,
                       struct error *err)
{
    struct error cause = {0};

    if (write_drafts(a, d, 1, account_id, &cause) == 0)
        return 0;
    if (cause.kind == ERR_NOT_FOUND)
        return directory_no_home(d->domain, err);
    return directory_say(err, &cause, ERR_EXISTS, "the address %.*s is taken already", d->address);
}

/* Hashes the passwords of the drafts on all helper threads at once; distinct salts also for equal passwords. */
static int hash_drafts(struct arena *a, struct draft *drafts, size_t count, size_t *done,
                       struct error *err)
{
    struct password_forms *forms = ARENA_ARRAY(a, count, struct password_forms);
    int status;

    for (size_t i = 0; i < count; i++)
        forms[i].password = drafts[i].given->password;
    status = password_forms_make(a, forms, count, done, err);
    for (size_t i = 0; i < *done; i++) {
        if (drafts[i].given->password.n == 0)
            continue;
        drafts[i].crypt = forms[i].crypt;
        drafts[i].scram = forms[i].scram;
    }
    return status;
}

/* Writes the first `count`. When one is refused, those before it are written one by one, so that *done is exact. */
static int write_or_find_refused(struct arena *a, const struct draft *drafts, size_t count,
                                 size_t *done, struct error *err)
{
    struct error cause = {0};

    *done = count;
    if (count == 0 || write_drafts(a, drafts, count, NULL, &cause) == 0)
        return 0;
    for (*done = 0; *done < count; ++*done)
        if (write_draft(a, &drafts[*done], NULL, err) < 0)
            return -1;
    return 0;
}

/* One transaction's worth. A refusal anywhere leaves everything before it done. */
static int add_some(struct arena *a, const struct account_new *v, size_t count, size_t *done,
                    struct error *err)
{
    struct draft *drafts = ARENA_ARRAY(a, count, struct draft);
    struct error refusal = {0};
    size_t good = 0, hashed;

    while (good < count && draft_check(a, &v[good], &drafts[good], &refusal) == 0)
        good++;
    hash_drafts(a, drafts, good, &hashed, &refusal);
    if (hashed < good)
        good = hashed;
    if (write_or_find_refused(a, drafts, good, done, err) < 0)
        return -1;
    return good == count ? 0 : fail(err, refusal.kind, "%s", refusal.text);
}

int account_add_many(const struct account_new *v, size_t count, size_t *done, struct error *err)
{
    struct arena *a = arena_new();
    int status = 0;

    *done = 0;
    while (status == 0 && *done < count) {
        size_t n = count - *done, added = 0;
        if (n > ACCOUNTS_PER_TRANSACTION)
            n = ACCOUNTS_PER_TRANSACTION;
        status = add_some(a, v + *done, n, &added, err);
        *done += added;
        arena_reset(a);
    }
    arena_free(&a);
    return status;
}

int account_add(const struct account_new *n, int64_t *account_id, struct error *err)
{
    struct arena *a = arena_new();
    struct draft draft;
    size_t done;
    int status = draft_check(a, n, &draft, err);

    if (status == 0)
        status = hash_drafts(a, &draft, 1, &done, err);
    if (status == 0)
        status = write_draft(a, &draft, account_id, err);
    arena_free(&a);
    return status;
}

/* --- changing accounts ----------------------------------------------------------------------------- */

static int change_account(const struct sql_query *query, struct str address, struct pg_arg second,
                          struct pg_arg third, struct error *err)
{
    struct arena *a = arena_new();
    struct str canonical;
    bool is_changed = false;
    int status = address_split(a, address, &canonical, NULL, err);

    assert(query->param_count <= 3);
    if (status == 0) {
        struct pg_args args = PG_ARGS(pg_text(canonical), second, third);
        args.n = query->param_count;
        status = directory_change_one(query, args, &is_changed, err);
    }
    if (status == 0 && !is_changed)
        status = directory_no_account(canonical, err);
    arena_free(&a);
    return status;
}

int account_remove(struct str address, struct error *err)
{
    return change_account(&sql_account_remove, address, pg_null(), pg_null(), err);
}

int account_set_active(struct str address, bool active, struct error *err)
{
    return change_account(&sql_account_set_active, address, pg_bool(active), pg_null(), err);
}

int account_set_administrator(struct str address, bool administrator, struct error *err)
{
    return change_account(&sql_account_set_administrator, address, pg_bool(administrator),
                          pg_null(), err);
}

int account_set_name(struct str address, struct str name, struct error *err)
{
    if (check_name(name, err) < 0)
        return -1;
    return change_account(&sql_account_set_name, address, pg_text(name), pg_null(), err);
}

int account_set_quota(struct str address, int64_t bytes, int64_t messages, struct error *err)
{
    return change_account(&sql_account_set_quota, address, quota_arg(bytes), quota_arg(messages),
                          err);
}

/* Where a removed account shall be found again: the address asked for, or the one it had. */
static int restore_address(struct arena *a, int64_t account_id, struct str asked, struct str *out,
                           struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_account_removed, PG_ARGS(pg_i64(account_id)), &rows, err) < 0)
        return -1;
    if (rows.count == 0) {
        pg_rows_free(&rows);
        return fail(err, ERR_NOT_FOUND, "no removed account has the number %lld",
                    (long long)account_id);
    }
    *out = asked.n > 0 ? asked : arena_str(a, pg_get_str(&rows, 0, "removed_address"));
    pg_rows_free(&rows);
    return 0;
}

static int restore_at(struct arena *a, int64_t account_id, struct str address, struct error *err)
{
    struct error cause = {0};
    struct str canonical, domain;
    bool is_back;

    if (address_split(a, address, &canonical, &domain, err) < 0)
        return -1;
    if (directory_change_one(&sql_account_restore,
                             PG_ARGS(pg_i64(account_id), pg_text(canonical), pg_text(domain)),
                             &is_back, &cause) < 0)
        return directory_say(err, &cause, ERR_EXISTS,
                             "the address %.*s is taken by now: restore to another with --as",
                             canonical);
    return is_back ? 0 : directory_no_home(domain, err);
}

int account_restore(int64_t account_id, struct str address, struct error *err)
{
    struct arena *a = arena_new();
    struct str where;
    int status = restore_address(a, account_id, address, &where, err);

    if (status == 0)
        status = restore_at(a, account_id, where, err);
    arena_free(&a);
    return status;
}

int account_list(struct arena *a, struct str domain, struct str after, size_t count_max,
                 struct account **out, struct account_usage **usage, size_t *count,
                 struct error *err)
{
    struct str canonical = STR_NULL;
    struct pg_rows rows;

    if (domain.n > 0 && domain_canonical(a, domain, &canonical, err) < 0)
        return -1;
    if (pg_run(pg_pool(), &sql_account_page,
               PG_ARGS(pg_text(canonical), pg_text(after), pg_i64((int64_t)count_max)), &rows,
               err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count, struct account);
    *usage = ARENA_ARRAY(a, rows.count, struct account_usage);
    for (size_t i = 0; i < rows.count; i++) {
        account_read(a, &rows, i, &(*out)[i]);
        (*usage)[i].bytes = pg_get_i64(&rows, i, "bytes_used");
        (*usage)[i].messages = pg_get_i64(&rows, i, "message_count");
    }
    pg_rows_free(&rows);
    return 0;
}

int account_get_usage(int64_t account_id, struct account_usage *out, struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_account_usage, PG_ARGS(pg_i64(account_id)), &rows, err) < 0)
        return -1;
    out->bytes = pg_get_i64(&rows, 0, "bytes_used");
    out->messages = pg_get_i64(&rows, 0, "message_count");
    pg_rows_free(&rows);
    return 0;
}

int account_list_addresses(struct arena *a, int64_t account_id, struct str **out, size_t *count,
                           struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_account_addresses, PG_ARGS(pg_i64(account_id)), &rows, err) < 0)
        return -1;
    *out = directory_read_texts(a, &rows, "address", count);
    return 0;
}

int account_list_removed(struct arena *a, struct account_removed **out, size_t *count,
                         struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_removed_accounts, PG_NO_ARGS, &rows, err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count, struct account_removed);
    for (size_t i = 0; i < rows.count; i++) {
        struct account_removed *r = &(*out)[i];
        r->account_id = pg_get_i64(&rows, i, "account_id");
        r->address = arena_str(a, pg_get_str(&rows, i, "removed_address"));
        r->name = arena_str(a, pg_get_str(&rows, i, "name"));
        r->removed_us = pg_get_time_us(&rows, i, "removed_at");
        account_kind_parse(pg_get_str(&rows, i, "kind"), &r->kind);
    }
    pg_rows_free(&rows);
    return 0;
}

/* --- aliases --------------------------------------------------------------------------------------- */

static int alias_write(struct arena *a, struct str alias, struct str target, struct error *err)
{
    struct directory_target to;
    struct str from, domain;
    struct error cause = {0};
    bool is_made;

    if (address_split(a, alias, &from, &domain, err) < 0 ||
        directory_find_target(a, target, &to, err) < 0)
        return -1;
    if (directory_change_one(&sql_alias_insert,
                             PG_ARGS(pg_text(from), pg_text(domain),
                                     to.account_id != 0 ? pg_i64(to.account_id) : pg_null(),
                                     pg_text(to.address)),
                             &is_made, &cause) < 0)
        return directory_say(err, &cause, ERR_EXISTS, "the address %.*s is taken already", from);
    return is_made ? 0 : directory_no_home(domain, err);
}

int alias_add(struct str alias, struct str target, struct error *err)
{
    struct arena *a = arena_new();
    int status = alias_write(a, alias, target, err);

    arena_free(&a);
    return status;
}

int alias_remove(struct str alias, struct error *err)
{
    struct arena *a = arena_new();
    struct str canonical;
    bool is_gone = false;
    int status = address_split(a, alias, &canonical, NULL, err);

    if (status == 0)
        status =
            directory_change_one(&sql_alias_delete, PG_ARGS(pg_text(canonical)), &is_gone, err);
    if (status == 0 && !is_gone)
        status = fail(err, ERR_NOT_FOUND, "there is no alias %.*s", STR_ARG(canonical));
    arena_free(&a);
    return status;
}

int alias_list(struct arena *a, struct str domain, struct alias **out, size_t *count,
               struct error *err)
{
    struct str canonical = STR_NULL;
    struct pg_rows rows;

    if (domain.n > 0 && domain_canonical(a, domain, &canonical, err) < 0)
        return -1;
    if (pg_run(pg_pool(), &sql_aliases, PG_ARGS(pg_text(canonical)), &rows, err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count, struct alias);
    for (size_t i = 0; i < rows.count; i++) {
        (*out)[i].alias = arena_str(a, pg_get_str(&rows, i, "alias"));
        (*out)[i].target = arena_str(a, pg_get_str(&rows, i, "target"));
    }
    pg_rows_free(&rows);
    return 0;
}

/* --- groups ---------------------------------------------------------------------------------------- */

static int join(const struct account *group, const struct directory_target *member, bool *is_joined,
                struct error *err)
{
    if (member->account_id == 0)
        return directory_change_one(&sql_group_target_insert,
                                    PG_ARGS(pg_i64(group->account_id), pg_text(member->address)),
                                    is_joined, err);
    return directory_change_one(&sql_group_member_insert,
                                PG_ARGS(pg_i64(group->account_id), pg_i64(member->account_id)),
                                is_joined, err);
}

static int group_join(struct arena *a, struct str group, struct str member, struct error *err)
{
    struct directory_target guest;
    struct account house;
    bool is_joined;

    if (directory_find_group(a, group, &house, err) < 0 ||
        directory_find_target(a, member, &guest, err) < 0)
        return -1;
    if (guest.account_id == house.account_id)
        return fail(err, ERR_DENIED, "a group cannot be its own member");
    if (join(&house, &guest, &is_joined, err) < 0)
        return -1;
    return is_joined ? 0
                     : fail(err, ERR_EXISTS, "%.*s is a member of %.*s already", STR_ARG(member),
                            STR_ARG(house.address));
}

int group_add_member(struct str group, struct str member, struct error *err)
{
    struct arena *a = arena_new();
    int status = group_join(a, group, member, err);

    arena_free(&a);
    return status;
}

/* An address elsewhere is found as it was given, also when its domain is ours by now. */
static int group_leave(struct arena *a, struct str group, struct str member, struct error *err)
{
    struct str house, guest;
    bool is_gone;

    if (address_split(a, group, &house, NULL, err) < 0 ||
        address_split(a, member, &guest, NULL, err) < 0 ||
        directory_change_one(&sql_group_member_delete, PG_ARGS(pg_text(house), pg_text(guest)),
                             &is_gone, err) < 0)
        return -1;
    if (!is_gone &&
        directory_change_one(&sql_group_target_delete, PG_ARGS(pg_text(house), pg_text(guest)),
                             &is_gone, err) < 0)
        return -1;
    return is_gone ? 0
                   : fail(err, ERR_NOT_FOUND, "%.*s is not a member of %.*s", STR_ARG(guest),
                          STR_ARG(house));
}

int group_remove_member(struct str group, struct str member, struct error *err)
{
    struct arena *a = arena_new();
    int status = group_leave(a, group, member, err);

    arena_free(&a);
    return status;
}

int group_list_members(struct arena *a, struct str group, struct str **out, size_t *count,
                       struct error *err)
{
    struct account house;
    struct pg_rows rows;

    if (directory_find_group(a, group, &house, err) < 0 ||
        pg_run(pg_pool(), &sql_group_members, PG_ARGS(pg_i64(house.account_id)), &rows, err) < 0)
        return -1;
    *out = directory_read_texts(a, &rows, "address", count);
    return 0;
}
