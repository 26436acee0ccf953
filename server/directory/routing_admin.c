/* routing_admin.c - what admins decide about the ways of mail; see routing_admin.h.
 *
 * Written like directory_admin.c: a change is one statement or one batch, and a refusal names the mend. */
#include "server/directory/routing_admin.h"

#include "server/directory/directory_internal.h"
#include "sql_queries.h"

/* --- targets --------------------------------------------------------------------------------------- */

/* In a domain of ours somebody must have it; an alias that leads elsewhere stands for where it leads. */
static int read_target(struct arena *a, const struct pg_rows *rows, struct str address,
                       struct directory_target *out, struct error *err)
{
    *out = (struct directory_target){pg_get_i64(rows, 0, "account_id"), address};
    if (!pg_is_null(rows, 0, "target"))
        out->address = arena_str(a, pg_get_str(rows, 0, "target"));
    else if (out->account_id == 0 && pg_get_bool(rows, 0, "is_ours"))
        return directory_no_account(address, err);
    return 0;
}

int directory_find_target(struct arena *a, struct str address, struct directory_target *out,
                          struct error *err)
{
    struct str canonical, base, detail;
    struct pg_rows rows;
    int status;

    if (address_split(a, address, &canonical, NULL, err) < 0)
        return -1;
    base = address_without_detail(a, canonical, &detail);
    if (pg_run(pg_pool(), &sql_target_find, PG_ARGS(pg_text(canonical), pg_text(base)), &rows,
               err) < 0)
        return -1;
    status = read_target(a, &rows, canonical, out, err);
    pg_rows_free(&rows);
    return status;
}

int directory_check_target(struct str address, struct error *err)
{
    struct arena *a = arena_new();
    struct directory_target target;
    int status = directory_find_target(a, address, &target, err);

    arena_free(&a);
    return status;
}

static struct pg_arg target_account(const struct directory_target *target)
{
    return target->account_id != 0 ? pg_i64(target->account_id) : pg_null();
}

/* The text of a target elsewhere. */
static struct pg_arg target_address(const struct directory_target *target)
{
    return target->account_id == 0 && target->address.n > 0 ? pg_text(target->address) : pg_null();
}

/* --- domains --------------------------------------------------------------------------------------- */

static int64_t limit_read(const struct pg_rows *rows, const char *column)
{
    if (pg_is_null(rows, 0, column))
        return QUOTA_DEFAULT;
    return pg_get_i64(rows, 0, column) == 0 ? QUOTA_UNLIMITED : pg_get_i64(rows, 0, column);
}

/* Settings, and what keeps a domain from becoming an alias. */
struct domain_facts {
    struct domain_settings settings;
    bool has_addresses, has_aliases;
};

static int domain_read(struct arena *a, struct str canonical, struct domain_facts *out,
                       struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_domain_settings, PG_ARGS(pg_text(canonical)), &rows, err) < 0)
        return -1;
    if (rows.count == 0) {
        pg_rows_free(&rows);
        return directory_no_home(canonical, err);
    }
    *out = (struct domain_facts){
        .settings = {.alias_of = arena_str(a, pg_get_str(&rows, 0, "alias_of")),
                     .catch_all = arena_str(a, pg_get_str(&rows, 0, "catch_all")),
                     .postmaster = arena_str(a, pg_get_str(&rows, 0, "postmaster")),
                     .has_details = pg_get_bool(&rows, 0, "has_details"),
                     .quota_bytes = limit_read(&rows, "quota_bytes"),
                     .quota_messages = limit_read(&rows, "quota_messages"),
                     .size_max = pg_get_i64(&rows, 0, "size_max"),
                     .administrators_send_as = pg_get_bool(&rows, 0, "administrators_send_as")},
        .has_addresses = pg_get_bool(&rows, 0, "has_addresses"),
        .has_aliases = pg_get_bool(&rows, 0, "has_aliases"),
    };
    pg_rows_free(&rows);
    return 0;
}

int domain_get(struct arena *a, struct str name, struct domain_settings *out, struct error *err)
{
    struct domain_facts facts;
    struct str canonical;

    if (domain_canonical(a, name, &canonical, err) < 0 ||
        domain_read(a, canonical, &facts, err) < 0)
        return -1;
    *out = facts.settings;
    return 0;
}

/* A domain that is to be `home`'s alias has nothing of its own, and `home` is no alias itself. */
static int check_alias(struct arena *a, struct str name, const struct domain_facts *facts,
                       struct str home, struct error *err)
{
    struct domain_facts target;

    if (str_eq(name, home))
        return fail(err, ERR_DENIED, "%.*s cannot be its own alias", STR_ARG(name));
    if (domain_read(a, home, &target, err) < 0)
        return -1;
    if (target.settings.alias_of.n > 0)
        return fail(err, ERR_CONFLICT, "%.*s is an alias of %.*s itself: name that", STR_ARG(home),
                    STR_ARG(target.settings.alias_of));
    if (facts->has_aliases)
        return fail(err, ERR_CONFLICT, "%.*s has alias domains of its own: change those first",
                    STR_ARG(name));
    if (facts->has_addresses)
        return fail(err, ERR_CONFLICT,
                    "%.*s has addresses of its own: remove its accounts and aliases first",
                    STR_ARG(name));
    return 0;
}

static int check_domain_change(struct arena *a, struct str name, struct str home, unsigned fields,
                               struct error *err)
{
    struct domain_facts facts;

    if (domain_read(a, name, &facts, err) < 0)
        return -1;
    if ((fields & DOMAIN_ALIAS_OF) && home.n > 0 && check_alias(a, name, &facts, home, err) < 0)
        return -1;
    if (!(fields & DOMAIN_ALIAS_OF))
        home = facts.settings.alias_of;
    if (home.n > 0 && (fields & ~DOMAIN_ALIAS_OF))
        return fail(err, ERR_DENIED, "%.*s is an alias of %.*s: what holds there holds here",
                    STR_ARG(name), STR_ARG(home));
    return 0;
}

/* An optional target. */
static int find_choice(struct arena *a, struct str address, bool is_set,
                       struct directory_target *out, struct error *err)
{
    *out = (struct directory_target){0};
    return is_set && address.n > 0 ? directory_find_target(a, address, out, err) : 0;
}

static int domain_write(struct arena *a, struct str name, struct str home,
                        const struct domain_settings *s, unsigned fields, struct error *err)
{
    struct directory_target catch_all, postmaster;
    bool is_changed;

    if (find_choice(a, s->catch_all, fields & DOMAIN_CATCH_ALL, &catch_all, err) < 0 ||
        find_choice(a, s->postmaster, fields & DOMAIN_POSTMASTER, &postmaster, err) < 0 ||
        directory_change_one(&sql_domain_update,
                             PG_ARGS(pg_text(name), pg_i32((int32_t)fields), pg_text(home),
                                     target_account(&catch_all), target_address(&catch_all),
                                     target_account(&postmaster), target_address(&postmaster),
                                     pg_bool(s->has_details), quota_arg(s->quota_bytes),
                                     quota_arg(s->quota_messages),
                                     s->size_max > 0 ? pg_i64(s->size_max) : pg_null(),
                                     pg_bool(s->administrators_send_as)),
                             &is_changed, err) < 0)
        return -1;
    return is_changed ? 0 : directory_no_home(name, err);
}

static int set_domain(struct arena *a, struct str name, const struct domain_settings *s,
                      unsigned fields, struct error *err)
{
    struct str canonical, home = STR("");

    if (domain_canonical(a, name, &canonical, err) < 0)
        return -1;
    if ((fields & DOMAIN_ALIAS_OF) && s->alias_of.n > 0 &&
        domain_canonical(a, s->alias_of, &home, err) < 0)
        return -1;
    if (check_domain_change(a, canonical, home, fields, err) < 0)
        return -1;
    return domain_write(a, canonical, home, s, fields, err);
}

int domain_set(struct str name, const struct domain_settings *settings, unsigned fields,
               struct error *err)
{
    struct arena *a = arena_new();
    int status = set_domain(a, name, settings, fields, err);

    arena_free(&a);
    return status;
}

/* --- forwards -------------------------------------------------------------------------------------- */

struct forward {
    int64_t *accounts; /* 0: elsewhere */
    struct str *addresses;
    size_t count;
    bool keeps_copy;
};

static int read_forward(struct arena *a, const struct account *account, const struct str *targets,
                        size_t count, struct forward *out, struct error *err)
{
    struct directory_target target;

    out->accounts = ARENA_ARRAY(a, count, int64_t);
    out->addresses = ARENA_ARRAY(a, count, struct str);
    for (size_t i = 0; i < count; i++) {
        if (directory_find_target(a, targets[i], &target, err) < 0)
            return -1;
        if (target.account_id == account->account_id) {
            out->keeps_copy = true; /* to forward to oneself is to keep */
            continue;
        }
        out->accounts[out->count] = target.account_id;
        out->addresses[out->count++] = target.address;
    }
    return 0;
}

/* Changing the account's row first orders changes made at the same time. */
static int write_forward(const struct account *account, const struct forward *f, struct error *err)
{
    struct pg_args row = PG_ARGS(pg_i64(account->account_id), pg_bool(f->keeps_copy));
    struct pg_args old = PG_ARGS(pg_i64(account->account_id));
    struct pg_args new = PG_ARGS(pg_i64(account->account_id), pg_i64_array(f->accounts, f->count),
                                 pg_text_array(f->addresses, f->count));
    struct pg_call calls[] = {{&sql_account_set_keeps_copy, row},
                              {&sql_account_targets_delete, old},
                              {&sql_account_targets_insert, new}};
    struct pg_rows rows[3];

    if (pg_run_batch(pg_pool(), calls, 3, rows, err) < 0)
        return -1;
    for (size_t i = 0; i < 3; i++)
        pg_rows_free(&rows[i]);
    return 0;
}

static int find_forwarder(struct arena *a, struct str address, struct account *out,
                          struct error *err)
{
    struct error cause = {0};

    if (directory_find_account(a, address, out, &cause) < 0)
        return directory_say(err, &cause, ERR_NOT_FOUND, "there is no account %.*s", address);
    if (out->kind == ACCOUNT_GROUP)
        return fail(err, ERR_DENIED,
                    "%.*s is a group, which has members: \"merpati group add-member\" takes "
                    "addresses elsewhere too",
                    STR_ARG(out->address));
    return 0;
}

int forward_set(struct str address, const struct str *targets, size_t count, bool keeps_copy,
                struct error *err)
{
    struct arena *a = arena_new();
    struct forward f = {.keeps_copy = keeps_copy};
    struct account account;
    int status = find_forwarder(a, address, &account, err);

    if (status == 0 && count > FORWARDS_MAX)
        status = fail(err, ERR_LIMIT, "an account forwards to at most %d addresses: make a group",
                      FORWARDS_MAX);
    if (status == 0)
        status = read_forward(a, &account, targets, count, &f, err);
    if (status == 0) {
        f.keeps_copy |= f.count == 0;
        status = write_forward(&account, &f, err);
    }
    arena_free(&a);
    return status;
}

static int list_targets(struct arena *a, int64_t account_id, struct str **targets, size_t *count,
                        struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_account_targets, PG_ARGS(pg_i64(account_id)), &rows, err) < 0)
        return -1;
    *targets = directory_read_texts(a, &rows, "address", count);
    return 0;
}

int forward_get(struct arena *a, struct str address, struct str **targets, size_t *count,
                bool *keeps_copy, struct error *err)
{
    struct account account;
    struct pg_rows rows;

    if (find_forwarder(a, address, &account, err) < 0 ||
        pg_run(pg_pool(), &sql_account_ways, PG_ARGS(pg_i64(account.account_id)), &rows, err) < 0)
        return -1;
    *keeps_copy = pg_get_bool(&rows, 0, "keeps_copy");
    pg_rows_free(&rows);
    return list_targets(a, account.account_id, targets, count, err);
}

/* --- sent copies ----------------------------------------------------------------------------------- */

int account_set_sent_copy(struct str address, bool of_own, bool of_others, struct error *err)
{
    struct arena *a = arena_new();
    struct str canonical;
    bool is_changed = false;
    int status = address_split(a, address, &canonical, NULL, err);

    if (status == 0)
        status = directory_change_one(
            &sql_account_set_files_sent,
            PG_ARGS(pg_text(canonical), pg_bool(of_own), pg_bool(of_others)), &is_changed, err);
    if (status == 0 && !is_changed)
        status = directory_no_account(canonical, err);
    arena_free(&a);
    return status;
}

int account_get_sent_copy(struct str address, bool *of_own, bool *of_others, struct error *err)
{
    struct arena *a = arena_new();
    struct account account;
    struct pg_rows rows;
    int status = directory_find_account(a, address, &account, err);

    if (status == 0)
        status =
            pg_run(pg_pool(), &sql_account_ways, PG_ARGS(pg_i64(account.account_id)), &rows, err);
    if (status == 0) {
        *of_own = pg_get_bool(&rows, 0, "files_sent");
        *of_others = pg_get_bool(&rows, 0, "files_sent_as");
        pg_rows_free(&rows);
    }
    arena_free(&a);
    return status;
}

int account_set_undo_send(struct str address, int64_t duration_ms, struct error *err)
{
    struct arena *a = arena_new();
    struct str canonical;
    bool is_changed = false;
    int status = 0;

    if (duration_ms < 0 || duration_ms > UNDO_SEND_MAX_MS)
        status = fail(err, ERR_SYNTAX, "mail can wait to be called back for one day at most");
    if (status == 0)
        status = address_split(a, address, &canonical, NULL, err);
    if (status == 0)
        status = directory_change_one(&sql_account_set_undo_send,
                                      PG_ARGS(pg_text(canonical), pg_i64(duration_ms)), &is_changed,
                                      err);
    if (status == 0 && !is_changed)
        status = directory_no_account(canonical, err);
    arena_free(&a);
    return status;
}

int account_get_undo_send(struct str address, int64_t *duration_ms, struct error *err)
{
    struct arena *a = arena_new();
    struct account account;
    struct pg_rows rows;
    int status = directory_find_account(a, address, &account, err);

    if (status == 0)
        status =
            pg_run(pg_pool(), &sql_account_ways, PG_ARGS(pg_i64(account.account_id)), &rows, err);
    if (status == 0) {
        *duration_ms = pg_get_i64(&rows, 0, "undo_send_ms");
        pg_rows_free(&rows);
    }
    arena_free(&a);
    return status;
}

/* --- groups ---------------------------------------------------------------------------------------- */

static const char *const posting_names[] = {
    [POST_ANYONE] = "anyone", [POST_DOMAINS] = "domains", [POST_MEMBERS] = "members",
    [POST_OWNERS] = "owners", [POST_LISTED] = "listed",
};
#define POSTING_COUNT (sizeof posting_names / sizeof *posting_names)

const char *group_posting_name(enum group_posting posting)
{
    return posting_names[posting];
}

bool group_posting_parse(struct str name, enum group_posting *out)
{
    for (size_t i = 0; i < POSTING_COUNT; i++) {
        if (str_ieq(name, str_c(posting_names[i]))) {
            *out = (enum group_posting)i;
            return true;
        }
    }
    return false;
}

int directory_find_group(struct arena *a, struct str address, struct account *out,
                         struct error *err)
{
    struct error cause = {0};
    struct str canonical;

    if (address_split(a, address, &canonical, NULL, err) < 0)
        return -1;
    if (directory_find_account(a, canonical, out, &cause) < 0) {
        if (cause.kind != ERR_NOT_FOUND)
            return fail(err, cause.kind, "%s", cause.text);
        return fail(err, ERR_NOT_FOUND,
                    "there is no group %.*s: add it with \"merpati group add %.*s\"",
                    STR_ARG(canonical), STR_ARG(canonical));
    }
    if (out->kind != ACCOUNT_GROUP)
        return fail(err, ERR_DENIED, "%.*s is not a group", STR_ARG(out->address));
    return 0;
}

static int list_of_group(struct arena *a, const struct sql_query *query, int64_t group_id,
                         struct str **out, size_t *count, struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), query, PG_ARGS(pg_i64(group_id)), &rows, err) < 0)
        return -1;
    *out = directory_read_texts(a, &rows, "address", count);
    return 0;
}

int group_get_policy(struct arena *a, struct str group, struct group_policy *out, struct error *err)
{
    struct account house;
    struct pg_rows rows;

    *out = (struct group_policy){0};
    if (directory_find_group(a, group, &house, err) < 0 ||
        pg_run(pg_pool(), &sql_account_ways, PG_ARGS(pg_i64(house.account_id)), &rows, err) < 0)
        return -1;
    /* The table's CHECK allows no other names. */
    group_posting_parse(pg_get_str(&rows, 0, "posting"), &out->posting);
    out->is_hidden = pg_get_bool(&rows, 0, "is_hidden");
    pg_rows_free(&rows);
    if (list_of_group(a, &sql_group_owners, house.account_id, &out->owners, &out->owner_count,
                      err) < 0)
        return -1;
    return list_of_group(a, &sql_group_senders, house.account_id, &out->senders, &out->sender_count,
                         err);
}

static int set_of_group(const struct sql_query *query, struct str group, struct pg_arg value,
                        struct error *err)
{
    struct arena *a = arena_new();
    struct account house;
    int status = directory_find_group(a, group, &house, err);

    if (status == 0)
        status = pg_run(pg_pool(), query, PG_ARGS(pg_i64(house.account_id), value), NULL, err);
    arena_free(&a);
    return status;
}

int group_set_posting(struct str group, enum group_posting posting, struct error *err)
{
    return set_of_group(&sql_group_set_posting, group, pg_text(str_c(posting_names[posting])), err);
}

int group_set_hidden(struct str group, bool hidden, struct error *err)
{
    return set_of_group(&sql_group_set_hidden, group, pg_bool(hidden), err);
}

/* --- owners and senders of groups ------------------------------------------------------------------ */

static int find_owner(struct arena *a, struct str address, struct account *out, struct error *err)
{
    struct error cause = {0};

    if (directory_find_account(a, address, out, &cause) < 0)
        return directory_say(err, &cause, ERR_NOT_FOUND,
                             "there is no account %.*s: an owner has one on this server", address);
    return 0;
}

static int change_owner(struct arena *a, const struct sql_query *query, struct str group,
                        struct str owner, bool *is_changed, struct error *err)
{
    struct account house, person;

    if (directory_find_group(a, group, &house, err) < 0 || find_owner(a, owner, &person, err) < 0)
        return -1;
    return directory_change_one(query, PG_ARGS(pg_i64(house.account_id), pg_i64(person.account_id)),
                                is_changed, err);
}

/* An address, or @domain for everybody there; people of our own domains are what the rule "domains" is for. */
static int find_sender(struct arena *a, struct str sender, struct directory_target *out,
                       struct error *err)
{
    struct str domain;
    bool is_ours;

    if (!str_starts(sender, STR("@")))
        return directory_find_target(a, sender, out, err);
    if (domain_canonical(a, str_from(sender, 1), &domain, err) < 0 ||
        directory_has_domain(domain, &is_ours, err) < 0)
        return -1;
    if (is_ours)
        return fail(err, ERR_DENIED,
                    "%.*s is a domain of this server: let its people post with the rule "
                    "\"domains\", or list them or a group of them",
                    STR_ARG(domain));
    *out = (struct directory_target){0, arena_printf(a, "@%.*s", STR_ARG(domain))};
    return 0;
}

static int change_sender(struct arena *a, const struct sql_query *query, struct str group,
                         struct str sender, bool *is_changed, struct error *err)
{
    struct directory_target target;
    struct account house;

    if (directory_find_group(a, group, &house, err) < 0 || find_sender(a, sender, &target, err) < 0)
        return -1;
    return directory_change_one(
        query, PG_ARGS(pg_i64(house.account_id), pg_text(target.address), target_account(&target)),
        is_changed, err);
}

typedef int change_fn(struct arena *a, const struct sql_query *query, struct str group,
                      struct str who, bool *is_changed, struct error *err);

/* otherwise: what is said of `who` and the group when there was nothing to change. */
static int change_group(change_fn *change, const struct sql_query *query, struct str group,
                        struct str who, enum error_kind kind, const char *otherwise,
                        struct error *err)
{
    struct arena *a = arena_new();
    bool is_changed = true;
    int status = change(a, query, group, who, &is_changed, err);

    if (status == 0 && !is_changed)
        status = fail(err, kind, "%.*s %s %.*s", STR_ARG(who), otherwise, STR_ARG(group));
    arena_free(&a);
    return status;
}

int group_add_owner(struct str group, struct str owner, struct error *err)
{
    return change_group(change_owner, &sql_group_owner_insert, group, owner, ERR_EXISTS,
                        "is an owner already of", err);
}

int group_remove_owner(struct str group, struct str owner, struct error *err)
{
    return change_group(change_owner, &sql_group_owner_delete, group, owner, ERR_NOT_FOUND,
                        "is not an owner of", err);
}

int group_add_sender(struct str group, struct str sender, struct error *err)
{
    return change_group(change_sender, &sql_group_sender_insert, group, sender, ERR_EXISTS,
                        "is listed already for", err);
}

int group_remove_sender(struct str group, struct str sender, struct error *err)
{
    return change_group(change_sender, &sql_group_sender_delete, group, sender, ERR_NOT_FOUND,
                        "is not listed for", err);
}
