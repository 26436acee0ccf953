/* test_routing.c - where mail goes, against a real server: groups, forwards, domains and who may post. */
#include "tests/unit/directory_fixture.h"

#include "server/directory/grants.h"
#include "server/directory/routing.h"
#include "server/directory/routing_admin.h"

static struct routes resolved;
static struct error refusal;

static enum error_kind resolve_from(struct routing_sender from, const char *local,
                                    const char *domain)
{
    refusal = (struct error){0};
    directory_route(arena, str_c(local), str_c(domain), &from, &resolved, &refusal);
    return refusal.kind;
}

static struct routing_sender stranger(const char *address)
{
    return (struct routing_sender){.address = str_c(address)};
}

static struct routing_sender person(int64_t account_id, const char *address)
{
    return (struct routing_sender){.address = str_c(address), .account_id = account_id};
}

static enum error_kind resolve(const char *local, const char *domain)
{
    return resolve_from(stranger("x@sender.test"), local, domain);
}

static int by_name(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

/* What the address leads to, in order: "1 3 list@far.test", accounts by number; or the kind of the refusal. */
static const char *ways_from(struct routing_sender from, const char *address)
{
    struct str local, domain, names[100], out = STR("");

    str_rcut(str_c(address), '@', &local, &domain);
    if (resolve_from(from, arena_c(arena, local), arena_c(arena, domain)) != ERR_NONE)
        return error_kind_name(refusal.kind);
    for (size_t i = 0; i < resolved.n; i++)
        names[i] = resolved.v[i].kind == ROUTE_REMOTE
                       ? resolved.v[i].address
                       : arena_printf(arena, "%lld", (long long)resolved.v[i].account_id);
    qsort(names, resolved.n, sizeof *names, by_name);
    for (size_t i = 0; i < resolved.n; i++)
        out = arena_printf(arena, "%.*s%s%.*s", STR_ARG(out), i > 0 ? " " : "", STR_ARG(names[i]));
    return out.p;
}

static const char *ways(const char *address)
{
    return ways_from(stranger("x@sender.test"), address);
}

/* Runs one change, which must be done. */
static void done(int status, const struct error *err)
{
    if (status < 0)
        print_error("%s\n", err->text);
    assert_int_equal(status, 0);
}

static void forward(const char *address, bool keeps_copy, const char *first, const char *second)
{
    struct str targets[2] = {str_c(first), str_c(second)};
    struct error err = {0};

    done(forward_set(str_c(address), targets, second != NULL ? 2 : 1, keeps_copy, &err), &err);
}

static void set_domain(const char *name, unsigned fields, struct domain_settings settings)
{
    struct error err = {0};

    done(domain_set(str_c(name), &settings, fields, &err), &err);
}

static void make_group(const char *address, enum group_posting posting)
{
    struct error err = {0};

    make_account(address, ACCOUNT_GROUP, NULL);
    done(group_set_posting(str_c(address), posting, &err), &err);
}

static void join(const char *group, const char *member)
{
    struct error err = {0};

    if (group_add_member(str_c(group), str_c(member), &err) < 0)
        print_error("%s + %s: %s\n", group, member, err.text);
    assert_int_equal(err.kind, ERR_NONE);
}

CASE(mail_finds_its_way)
{
    static const struct {
        const char *local, *domain;
        enum error_kind refusal;
        int64_t account_id;
        const char *address, *detail;
    } rows[] = {
        {"ani", "example.test", ERR_NONE, 1, "ani@example.test", ""},
        {"ANI", "EXAMPLE.Test", ERR_NONE, 1, "ani@example.test", ""},
        {"ani+shop", "example.test", ERR_NONE, 1, "ani@example.test", "shop"},
        {"ani+", "example.test", ERR_NONE, 1, "ani@example.test", ""},
        {"ani+a+b", "example.test", ERR_NONE, 1, "ani@example.test", "a+b"},
        {"ani+own", "example.test", ERR_NONE, 2, "ani+own@example.test", ""},
        {"a.putri", "other.test", ERR_NONE, 1, "a.putri@other.test", ""},
        {"a.putri+x", "other.test", ERR_NONE, 1, "a.putri@other.test", "x"},
        {"+ani", "example.test", ERR_NOT_FOUND, 0, "", ""},
        {"budi", "example.test", ERR_NOT_FOUND, 0, "", ""},
        {"ani", "other.test", ERR_NOT_FOUND, 0, "", ""},
        {"ani", "nowhere.test", ERR_UNSUPPORTED, 0, "", ""},
        {"ani", "sub.example.test", ERR_UNSUPPORTED, 0, "", ""},
        {"", "example.test", ERR_SYNTAX, 0, "", ""},
        {"ani", "[192.0.2.1]", ERR_SYNTAX, 0, "", ""},
    };
    struct error err = {0};

    make_person("ani@example.test");
    make_person("ani+own@example.test");
    assert_int_equal(alias_add(STR("a.putri@other.test"), STR("ani@example.test"), &err), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(resolve(rows[i].local, rows[i].domain), rows[i].refusal);
        assert_int_equal(resolved.n, rows[i].refusal == ERR_NONE);
        if (resolved.n == 0)
            continue;
        assert_int_equal(resolved.v[0].account_id, rows[i].account_id);
        assert_str(resolved.v[0].address, rows[i].address);
        assert_str(resolved.v[0].detail, rows[i].detail);
    }
}

CASE(no_delimiter_means_no_detail)
{
    make_person("ani@example.test");
    config_set(STR("recipient_delimiter"), STR(""), NULL);
    assert_int_equal(resolve("ani+shop", "example.test"), ERR_NOT_FOUND);
    config_set(STR("recipient_delimiter"), STR("-"), NULL);
    assert_int_equal(resolve("ani-shop", "example.test"), ERR_NONE);
    assert_str(resolved.v[0].detail, "shop");
}

CASE(a_group_leads_to_each_member_once)
{
    make_person("a@example.test");
    make_person("b@example.test");
    make_account("inner@example.test", ACCOUNT_GROUP, NULL);
    make_account("outer@example.test", ACCOUNT_GROUP, NULL);
    make_account("empty@example.test", ACCOUNT_GROUP, NULL);
    join("inner@example.test", "a@example.test");
    join("inner@example.test", "outer@example.test");
    join("outer@example.test", "a@example.test");
    join("outer@example.test", "b@example.test");
    join("outer@example.test", "inner@example.test");

    assert_int_equal(resolve("outer", "example.test"), ERR_NONE);
    assert_int_equal(resolved.n, 2);
    assert_str(resolved.v[0].address, "outer@example.test");
    assert_int_equal(resolve("inner", "example.test"), ERR_NONE);
    assert_int_equal(resolved.n, 2);
    assert_int_equal(resolve("empty", "example.test"), ERR_NOT_FOUND);
}

CASE(an_address_that_stands_for_several_says_so)
{
    make_person("a@example.test");
    make_person("b@example.test");
    make_account("one@example.test", ACCOUNT_GROUP, NULL);
    join("one@example.test", "a@example.test");

    assert_int_equal(resolve("a", "example.test"), ERR_NONE);
    assert_false(resolved.is_group);
    assert_int_equal(resolve("one", "example.test"), ERR_NONE);
    assert_int_equal(resolved.n, 1);
    assert_true(resolved.is_group);
    forward("b@example.test", false, "me@far.test", NULL);
    assert_int_equal(resolve("b", "example.test"), ERR_NONE);
    assert_false(resolved.is_group);
    forward("b@example.test", true, "me@far.test", NULL);
    assert_int_equal(resolve("b", "example.test"), ERR_NONE);
    assert_true(resolved.is_group);
}

CASE(a_removed_member_gets_nothing_until_restored)
{
    struct error err = {0};

    make_person("a@example.test");
    make_account("all@example.test", ACCOUNT_GROUP, NULL);
    join("all@example.test", "a@example.test");
    assert_int_equal(account_remove(STR("a@example.test"), &err), 0);
    assert_int_equal(resolve("all", "example.test"), ERR_NOT_FOUND);
    assert_int_equal(resolve("a", "example.test"), ERR_NOT_FOUND);
    assert_int_equal(account_restore(1, STR_NULL, &err), 0);
    assert_int_equal(resolve("all", "example.test"), ERR_NONE);
    assert_int_equal(resolve("a", "example.test"), ERR_NONE);
}

CASE(a_removed_group_leads_nobody_on)
{
    struct error err = {0};

    make_person("a@example.test");
    make_person("b@example.test");
    make_account("inner@example.test", ACCOUNT_GROUP, NULL);
    make_account("outer@example.test", ACCOUNT_GROUP, NULL);
    join("inner@example.test", "a@example.test");
    join("outer@example.test", "inner@example.test");
    join("outer@example.test", "b@example.test");
    assert_int_equal(account_remove(STR("inner@example.test"), &err), 0);
    assert_int_equal(resolve("outer", "example.test"), ERR_NONE);
    assert_int_equal(resolved.n, 1);
    assert_int_equal(resolved.v[0].account_id, 2);
    assert_int_equal(account_restore(3, STR_NULL, &err), 0);
    assert_int_equal(resolve("outer", "example.test"), ERR_NONE);
    assert_int_equal(resolved.n, 2);
}

CASE(a_group_beyond_the_limit_is_refused)
{
    make_account("all@example.test", ACCOUNT_GROUP, NULL);
    fixture_sql("INSERT INTO account (kind) SELECT 'person' FROM generate_series(1, 10001);"
                "INSERT INTO group_member SELECT 1, account_id FROM account WHERE kind = 'person'");
    assert_int_equal(resolve("all", "example.test"), ERR_LIMIT);
    fixture_sql("DELETE FROM group_member WHERE member_account_id = 2");
    assert_int_equal(resolve("all", "example.test"), ERR_NONE);
    assert_int_equal(resolved.n, RECIPIENTS_MAX);
}

CASE(postmaster_always_leads_somewhere)
{
    struct error err = {0};

    assert_int_equal(resolve("postmaster", "example.test"), ERR_NOT_FOUND);
    make_account("room@example.test", ACCOUNT_ROOM, NULL);
    make_person("first@other.test");
    assert_int_equal(resolve("Postmaster", "example.test"), ERR_NONE);
    assert_int_equal(resolved.v[0].account_id, 2);
    make_person("second@example.test");
    assert_int_equal(resolve("abuse", "example.test"), ERR_NONE);
    assert_int_equal(resolved.v[0].account_id, 3);
    assert_int_equal(account_set_active(STR("second@example.test"), false, &err), 0);
    assert_int_equal(resolve("abuse", "example.test"), ERR_NONE);
    assert_int_equal(resolved.v[0].account_id, 2);
    assert_int_equal(alias_add(STR("postmaster@example.test"), STR("room@example.test"), &err), 0);
    assert_int_equal(resolve("postmaster", "example.test"), ERR_NONE);
    assert_int_equal(resolved.v[0].account_id, 1);
    assert_int_equal(resolve("postmaster", "nowhere.test"), ERR_UNSUPPORTED);
}

/* --- elsewhere -------------------------------------------------------------------------------------- */

CASE(an_alias_may_lead_elsewhere)
{
    struct error err = {0};

    make_person("ani@example.test");
    done(alias_add(STR("Sales@example.test"), STR("List@FAR.test"), &err), &err);
    assert_string_equal(ways("sales@example.test"), "list@far.test");
    assert_string_equal(ways("sales+x@example.test"), "list@far.test");
    assert_int_equal(resolved.v[0].through_account_id, 0);
    assert_true(resolved.v[0].needs_srs);
    assert_string_equal(ways_from(stranger("ani@example.test"), "sales@example.test"),
                        "list@far.test");
    assert_false(resolved.v[0].needs_srs);
    assert_string_equal(ways_from(stranger(""), "sales@example.test"), "list@far.test");
    assert_false(resolved.v[0].needs_srs);
    /* An alias of that alias leads there too; a name that nobody has does not. */
    done(alias_add(STR("more@example.test"), STR("sales@example.test"), &err), &err);
    assert_string_equal(ways("more@example.test"), "list@far.test");
    assert_int_equal(alias_add(STR("x@example.test"), STR("nobody@example.test"), &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    done(alias_remove(STR("sales@example.test"), NULL), &err);
    assert_string_equal(ways("sales@example.test"), "not_found");
}

CASE(a_group_reaches_members_elsewhere)
{
    struct error err = {0};

    make_person("a@example.test");
    make_account("g@example.test", ACCOUNT_GROUP, NULL);
    join("g@example.test", "a@example.test");
    join("g@example.test", "B@Far.test");
    assert_string_equal(ways("g@example.test"), "1 b@far.test");
    assert_int_equal(resolved.v[0].through_account_id, 2);
    assert_int_equal(resolved.v[1].through_account_id, 2);
    assert_int_equal(group_add_member(STR("g@example.test"), STR("b@far.test"), &err), -1);
    assert_int_equal(err.kind, ERR_EXISTS);
    done(group_remove_member(STR("g@example.test"), STR("b@FAR.test"), &err), &err);
    assert_string_equal(ways("g@example.test"), "1");
}

CASE(an_address_elsewhere_that_became_ours_is_what_it_is_here)
{
    struct error err = {0};

    make_person("a@example.test");
    make_account("g@example.test", ACCOUNT_GROUP, NULL);
    join("g@example.test", "a@example.test");
    join("g@example.test", "b@new.test");
    join("g@example.test", "c@new.test");
    done(alias_add(STR("new@example.test"), STR("b@new.test"), &err), &err);
    done(domain_add(STR("new.test"), &err), &err);
    assert_string_equal(ways("g@example.test"), "1");
    assert_string_equal(ways("new@example.test"), "not_found");
    make_person("b@new.test");
    assert_string_equal(ways("g@example.test"), "1 3");
    assert_string_equal(ways("new@example.test"), "3");
}

/* --- forwards ---------------------------------------------------------------------------------------- */

CASE(a_forward_keeps_a_copy_or_not)
{
    struct str *targets;
    size_t count;
    bool keeps_copy;
    struct error err = {0};

    make_person("a@example.test");
    make_person("b@example.test");
    forward("a@example.test", true, "b@example.test", "me@far.test");
    assert_string_equal(ways("a@example.test"), "1 2 me@far.test");
    forward("a@example.test", false, "b@example.test", "me@far.test");
    assert_string_equal(ways("a@example.test"), "2 me@far.test");
    for (size_t i = 0; i < resolved.n; i++)
        assert_int_equal(resolved.v[i].through_account_id, 1);
    done(forward_get(arena, STR("a@example.test"), &targets, &count, &keeps_copy, &err), &err);
    assert_int_equal(count, 2);
    assert_str(targets[0], "b@example.test");
    assert_false(keeps_copy);
    done(forward_set(STR("a@example.test"), NULL, 0, false, &err), &err);
    assert_string_equal(ways("a@example.test"), "1");
}

CASE(a_circle_of_forwards_keeps_a_copy_in_each_account)
{
    make_person("a@example.test");
    make_person("b@example.test");
    make_person("c@example.test");
    forward("a@example.test", false, "b@example.test", NULL);
    forward("b@example.test", false, "c@example.test", NULL);
    forward("c@example.test", false, "a@example.test", "out@far.test");
    assert_string_equal(ways("a@example.test"), "1 2 3 out@far.test");
    assert_string_equal(ways("c@example.test"), "1 2 3 out@far.test");
}

CASE(an_account_that_forwards_to_itself_keeps_a_copy)
{
    struct error err = {0};

    make_person("a@example.test");
    done(alias_add(STR("also.a@example.test"), STR("a@example.test"), &err), &err);
    forward("a@example.test", false, "also.a@example.test", "me@far.test");
    assert_string_equal(ways("a@example.test"), "1 me@far.test");
    forward("a@example.test", false, "A@example.test", NULL);
    assert_string_equal(ways("a@example.test"), "1");
    /* Elsewhere, which then became ours. */
    forward("a@example.test", false, "a@new.test", "me@far.test");
    done(domain_add(STR("new.test"), &err), &err);
    done(alias_add(STR("a@new.test"), STR("a@example.test"), &err), &err);
    assert_string_equal(ways("a@example.test"), "1 me@far.test");
}

CASE(a_circle_through_a_group_keeps_a_copy)
{
    make_person("a@example.test");
    make_person("b@example.test");
    make_account("g@example.test", ACCOUNT_GROUP, NULL);
    join("g@example.test", "a@example.test");
    join("g@example.test", "b@example.test");
    forward("a@example.test", false, "g@example.test", NULL);
    assert_string_equal(ways("a@example.test"), "1 2");
    assert_string_equal(ways("g@example.test"), "1 2");
    /* b leads into the circle and does not lie in it. */
    make_person("c@example.test");
    forward("c@example.test", false, "a@example.test", NULL);
    assert_string_equal(ways("c@example.test"), "1 2");
}

CASE(a_forward_that_reaches_nobody_keeps_the_mail)
{
    struct error err = {0};

    make_person("a@example.test");
    make_person("b@example.test");
    make_account("empty@example.test", ACCOUNT_GROUP, NULL);
    make_group("closed@example.test", POST_OWNERS);
    join("closed@example.test", "b@example.test");
    forward("a@example.test", false, "empty@example.test", NULL);
    assert_string_equal(ways("a@example.test"), "1");
    forward("a@example.test", false, "closed@example.test", NULL);
    assert_string_equal(ways("a@example.test"), "1");
    forward("a@example.test", false, "b@example.test", NULL);
    assert_string_equal(ways("a@example.test"), "2");
    done(account_remove(STR("b@example.test"), &err), &err);
    assert_string_equal(ways("a@example.test"), "1");
}

CASE(a_chain_of_forwards_ends_at_the_limit)
{
    char from[40], to[40];

    for (int i = 0; i <= 30; i++) {
        snprintf(from, sizeof from, "a%d@example.test", i);
        make_person(from);
    }
    for (int i = 0; i < 30; i++) {
        snprintf(from, sizeof from, "a%d@example.test", i);
        snprintf(to, sizeof to, "a%d@example.test", i + 1);
        forward(from, false, to, NULL);
    }
    assert_string_equal(ways("a15@example.test"), "31");
    assert_int_equal(resolve("a0", "example.test"), ERR_NONE);
    assert_int_equal(resolved.n, 1);
    assert_int_equal(resolved.v[0].account_id, 1 + ROUTE_DEPTH_MAX);
}

CASE(groups_nested_too_deeply_are_refused)
{
    char inner[40], outer[40];

    make_account("g0@example.test", ACCOUNT_GROUP, NULL);
    make_person("a@example.test");
    join("g0@example.test", "a@example.test");
    for (int i = 1; i < 30; i++) {
        snprintf(outer, sizeof outer, "g%d@example.test", i);
        snprintf(inner, sizeof inner, "g%d@example.test", i - 1);
        make_account(outer, ACCOUNT_GROUP, NULL);
        join(outer, inner);
    }
    assert_string_equal(ways("g10@example.test"), "2");
    assert_int_equal(resolve("g29", "example.test"), ERR_LIMIT);
}

CASE(forwards_refuse)
{
    static const struct {
        const char *address, *target;
        enum error_kind refusal;
    } rows[] = {
        {"a@example.test", "b@far.test", ERR_NONE},
        {"nobody@example.test", "b@far.test", ERR_NOT_FOUND},
        {"a@example.test", "nobody@example.test", ERR_NOT_FOUND},
        {"a@example.test", "nonsense", ERR_SYNTAX},
        {"g@example.test", "b@far.test", ERR_DENIED},
    };
    struct str many[FORWARDS_MAX + 1];
    struct error err = {0};

    make_person("a@example.test");
    make_account("g@example.test", ACCOUNT_GROUP, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct str target = str_c(rows[i].target);
        err = (struct error){0};
        forward_set(str_c(rows[i].address), &target, 1, true, &err);
        assert_int_equal(err.kind, rows[i].refusal);
    }
    for (size_t i = 0; i <= FORWARDS_MAX; i++)
        many[i] = arena_printf(arena, "m%zu@far.test", i);
    err = (struct error){0};
    assert_int_equal(forward_set(STR("a@example.test"), many, FORWARDS_MAX + 1, true, &err), -1);
    assert_int_equal(err.kind, ERR_LIMIT);
    err = (struct error){0};
    done(forward_set(STR("a@example.test"), many, FORWARDS_MAX, true, &err), &err);
}

/* --- domains ----------------------------------------------------------------------------------------- */

CASE(a_catch_all_gets_what_nobody_has)
{
    make_person("a@example.test");
    make_person("b@example.test");
    set_domain("example.test", DOMAIN_CATCH_ALL,
               (struct domain_settings){.catch_all = STR("b@example.test")});
    assert_string_equal(ways("a@example.test"), "1");
    assert_string_equal(ways("anybody+x@example.test"), "2");
    assert_str(resolved.v[0].address, "anybody+x@example.test");
    assert_string_equal(ways("anybody@other.test"), "not_found");
    set_domain("example.test", DOMAIN_CATCH_ALL,
               (struct domain_settings){.catch_all = STR("all@far.test")});
    assert_string_equal(ways("anybody@example.test"), "all@far.test");
    assert_string_equal(ways("postmaster@example.test"), "1");
    make_group("g@example.test", POST_OWNERS);
    set_domain("example.test", DOMAIN_CATCH_ALL,
               (struct domain_settings){.catch_all = STR("g@example.test")});
    assert_string_equal(ways("anybody@example.test"), "denied");
    set_domain("example.test", DOMAIN_CATCH_ALL, (struct domain_settings){0});
    assert_string_equal(ways("anybody@example.test"), "not_found");
}

CASE(details_can_be_off_in_a_domain)
{
    make_person("a@example.test");
    set_domain("example.test", DOMAIN_DETAILS, (struct domain_settings){.has_details = false});
    assert_string_equal(ways("a+x@example.test"), "not_found");
    assert_string_equal(ways("a@example.test"), "1");
    set_domain("example.test", DOMAIN_DETAILS, (struct domain_settings){.has_details = true});
    assert_string_equal(ways("a+x@example.test"), "1");
}

CASE(an_alias_domain_has_each_address_of_its_target)
{
    struct account found;
    struct error err = {0};

    make_person("a@example.test");
    done(domain_add(STR("old.test"), &err), &err);
    set_domain("old.test", DOMAIN_ALIAS_OF,
               (struct domain_settings){.alias_of = STR("Example.test")});
    assert_string_equal(ways("A+x@OLD.test"), "1");
    assert_str(resolved.v[0].address, "a@example.test");
    assert_str(resolved.v[0].detail, "x");
    assert_string_equal(ways("b@old.test"), "not_found");
    assert_string_equal(ways("postmaster@old.test"), "1");
    done(directory_find_account(arena, STR("a@old.test"), &found, &err), &err);
    done(directory_find_login(arena, STR("a@old.test"), &found, &err), &err);
    assert_int_equal(found.account_id, 1);
    set_domain("example.test", DOMAIN_CATCH_ALL,
               (struct domain_settings){.catch_all = STR("a@old.test")});
    assert_string_equal(ways("b@old.test"), "1");
    set_domain("old.test", DOMAIN_ALIAS_OF, (struct domain_settings){0});
    assert_string_equal(ways("a@old.test"), "not_found");
}

CASE(alias_domains_refuse)
{
    static const struct {
        const char *domain;
        unsigned fields;
        struct domain_settings settings;
        enum error_kind refusal;
    } rows[] = {
        {"alias.test", DOMAIN_ALIAS_OF, {.alias_of = STR("alias.test")}, ERR_DENIED},
        {"alias.test", DOMAIN_ALIAS_OF, {.alias_of = STR("nowhere.test")}, ERR_NOT_FOUND},
        {"nowhere.test", DOMAIN_ALIAS_OF, {.alias_of = STR("example.test")}, ERR_NOT_FOUND},
        {"example.test", DOMAIN_ALIAS_OF, {.alias_of = STR("other.test")}, ERR_CONFLICT},
        {"alias.test", DOMAIN_ALIAS_OF, {.alias_of = STR("example.test")}, ERR_NONE},
        {"other.test", DOMAIN_ALIAS_OF, {.alias_of = STR("alias.test")}, ERR_CONFLICT},
        {"example.test", DOMAIN_ALIAS_OF, {.alias_of = STR("other.test")}, ERR_CONFLICT},
        {"alias.test", DOMAIN_CATCH_ALL, {.catch_all = STR("a@example.test")}, ERR_DENIED},
        {"example.test",
         DOMAIN_CATCH_ALL,
         {.catch_all = STR("nobody@example.test")},
         ERR_NOT_FOUND},
        {"example.test", DOMAIN_CATCH_ALL, {.catch_all = STR("nonsense")}, ERR_SYNTAX},
    };
    struct account_new n = {.address = STR("x@alias.test")};
    struct error err = {0};

    make_person("a@example.test");
    done(domain_add(STR("alias.test"), &err), &err);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        err = (struct error){0};
        domain_set(str_c(rows[i].domain), &rows[i].settings, rows[i].fields, &err);
        assert_int_equal(err.kind, rows[i].refusal);
    }
    err = (struct error){0};
    assert_int_equal(account_add(&n, NULL, &err), -1);
    assert_non_null(strstr(err.text, "alias of example.test"));
    err = (struct error){0};
    assert_int_equal(alias_add(STR("x@alias.test"), STR("a@example.test"), &err), -1);
    assert_non_null(strstr(err.text, "alias of example.test"));
    done(account_remove(STR("a@example.test"), NULL), &err);
    err = (struct error){0};
    assert_int_equal(domain_remove(STR("example.test"), &err), -1);
    assert_non_null(strstr(err.text, "alias.test is an alias"));
    done(domain_remove(STR("alias.test"), NULL), &err);
    done(domain_remove(STR("example.test"), NULL), &err);
}

CASE(new_accounts_take_their_domains_limits)
{
    struct account_new own = {
        .address = STR("own@example.test"), .quota_bytes = 7, .quota_messages = QUOTA_UNLIMITED};
    struct domain_settings got;
    struct account found;
    struct error err = {0};

    set_domain(
        "example.test", DOMAIN_QUOTA_BYTES | DOMAIN_QUOTA_MESSAGES | DOMAIN_SIZE_MAX,
        (struct domain_settings){.quota_bytes = 1000, .quota_messages = 10, .size_max = 5000});
    make_person("a@example.test");
    done(account_add(&own, NULL, &err), &err);
    done(directory_get_account(arena, 1, &found, &err), &err);
    assert_int_equal(found.quota_bytes, 1000);
    assert_int_equal(found.quota_messages, 10);
    done(directory_get_account(arena, 2, &found, &err), &err);
    assert_int_equal(found.quota_bytes, 7);
    assert_int_equal(found.quota_messages, 0);
    done(account_set_quota(STR("own@example.test"), QUOTA_DEFAULT, QUOTA_KEEP, &err), &err);
    done(directory_get_account(arena, 2, &found, &err), &err);
    assert_int_equal(found.quota_bytes, 1000);
    assert_int_equal(found.quota_messages, 0);
    assert_string_equal(ways("a@example.test"), "1");
    assert_int_equal(resolved.size_max, 5000);
    assert_true(resolved.v[0].bytes_free <= 1000);
    done(domain_get(arena, STR("EXAMPLE.test"), &got, &err), &err);
    assert_int_equal(got.quota_bytes, 1000);
    assert_int_equal(got.size_max, 5000);
    assert_true(got.has_details);
}

CASE(a_domain_says_who_its_postmaster_is)
{
    struct error err = {0};

    make_person("a@example.test");
    make_person("b@other.test");
    set_domain("example.test", DOMAIN_POSTMASTER,
               (struct domain_settings){.postmaster = STR("b@other.test")});
    assert_string_equal(ways("postmaster@example.test"), "2");
    assert_string_equal(ways("abuse@example.test"), "2");
    done(account_remove(STR("b@other.test"), &err), &err);
    assert_string_equal(ways("abuse@example.test"), "1");
    set_domain("example.test", DOMAIN_POSTMASTER,
               (struct domain_settings){.postmaster = STR("it@far.test")});
    assert_string_equal(ways("Abuse@example.test"), "it@far.test");
    /* A group of its own that is closed, or empty, does not stop it. */
    make_group("postmaster@example.test", POST_OWNERS);
    assert_string_equal(ways("postmaster@example.test"), "it@far.test");
    join("postmaster@example.test", "a@example.test");
    assert_string_equal(ways_from(stranger(""), "postmaster@example.test"), "1");
}

/* --- who may post ------------------------------------------------------------------------------------ */

CASE(a_group_says_who_may_post)
{
    enum {
        STRANGER,
        FORGED,
        FAR_MEMBER,
        FRIEND,
        PARTNER,
        PERSON,
        MEMBER,
        NESTED,
        OWNER,
        LISTED,
        COUNT
    };
    static const struct {
        int64_t account_id;
        const char *address;
    } senders[COUNT] = {
        [STRANGER] = {0, "x@sender.test"},     [FORGED] = {0, "member@example.test"},
        [FAR_MEMBER] = {0, "Far@far.test"},    [FRIEND] = {0, "friend@friends.test"},
        [PARTNER] = {0, "any@partner.test"},   [PERSON] = {5, "person@example.test"},
        [MEMBER] = {1, "member@example.test"}, [NESTED] = {2, "nested@example.test"},
        [OWNER] = {3, "owner@example.test"},   [LISTED] = {4, "listed@example.test"},
    };
    static const char *const may[][COUNT] = {
        /*                 strange forged  far     friend  partner person  member  nested  owner   listed */
        [POST_ANYONE] = {"yes", "yes", "yes", "yes", "yes", "yes", "yes", "yes", "yes", "yes"},
        [POST_DOMAINS] = {"no", "no", "no", "yes", "yes", "yes", "yes", "yes", "yes", "yes"},
        [POST_MEMBERS] = {"no", "no", "yes", "yes", "yes", "no", "yes", "yes", "yes", "yes"},
        [POST_OWNERS] = {"no", "no", "no", "yes", "yes", "no", "no", "no", "yes", "yes"},
        [POST_LISTED] = {"no", "no", "no", "yes", "yes", "no", "no", "no", "yes", "yes"},
    };
    struct error err = {0};

    make_person("member@example.test");
    make_person("nested@example.test");
    make_person("owner@example.test");
    make_person("listed@example.test");
    make_person("person@example.test");
    make_account("g@example.test", ACCOUNT_GROUP, NULL);
    make_account("inner@example.test", ACCOUNT_GROUP, NULL);
    join("g@example.test", "member@example.test");
    join("g@example.test", "inner@example.test");
    join("inner@example.test", "nested@example.test");
    join("inner@example.test", "far@far.test");
    done(group_add_owner(STR("g@example.test"), STR("owner@example.test"), &err), &err);
    done(group_add_sender(STR("g@example.test"), STR("listed@example.test"), &err), &err);
    done(group_add_sender(STR("g@example.test"), STR("Friend@friends.test"), &err), &err);
    done(group_add_sender(STR("g@example.test"), STR("@Partner.test"), &err), &err);
    for (enum group_posting posting = POST_ANYONE; posting <= POST_LISTED; posting++) {
        done(group_set_posting(STR("g@example.test"), posting, &err), &err);
        for (int i = 0; i < COUNT; i++) {
            struct routing_sender from = person(senders[i].account_id, senders[i].address);
            bool is_refused = strcmp(ways_from(from, "g@example.test"), "denied") == 0;
            if (is_refused == (strcmp(may[posting][i], "yes") == 0))
                print_error("%s to %s\n", senders[i].address, group_posting_name(posting));
            assert_int_equal(is_refused, strcmp(may[posting][i], "no") == 0);
        }
    }
    /* A neighbour vouches for what it hands over. */
    done(group_set_posting(STR("g@example.test"), POST_MEMBERS, &err), &err);
    assert_string_equal(
        ways_from((struct routing_sender){STR("member@example.test"), 0, true}, "g@example.test"),
        "1 2 far@far.test");
    assert_string_equal(
        ways_from((struct routing_sender){STR("person@example.test"), 0, true}, "g@example.test"),
        "denied");
}

CASE(a_refusal_says_the_rule_and_whom_to_ask)
{
    struct error err = {0};

    make_person("a@example.test");
    make_group("g@example.test", POST_MEMBERS);
    join("g@example.test", "a@example.test");
    assert_string_equal(ways("g@example.test"), "denied");
    assert_string_equal(
        refusal.text,
        "only members may post to g@example.test: ask postmaster@example.test to let you");
    done(group_add_owner(STR("g@example.test"), STR("a@example.test"), &err), &err);
    assert_string_equal(ways("g@example.test"), "denied");
    assert_non_null(strstr(refusal.text, "ask a@example.test"));
    done(group_set_hidden(STR("g@example.test"), true, &err), &err);
    assert_string_equal(ways("g@example.test"), "denied");
    assert_non_null(strstr(refusal.text, "ask postmaster@example.test"));
}

CASE(a_group_in_a_group_takes_what_that_lets_through)
{
    make_person("a@example.test");
    make_person("b@example.test");
    make_group("inner@example.test", POST_OWNERS);
    make_account("outer@example.test", ACCOUNT_GROUP, NULL);
    join("inner@example.test", "a@example.test");
    join("outer@example.test", "inner@example.test");
    assert_string_equal(ways("inner@example.test"), "denied");
    assert_string_equal(ways("outer@example.test"), "1");
    /* Somebody's forward opens nothing. */
    forward("b@example.test", true, "inner@example.test", NULL);
    assert_string_equal(ways("b@example.test"), "2");
}

CASE(owners_and_senders_refuse)
{
    static const struct {
        int (*change)(struct str group, struct str who, struct error *err);
        const char *group, *who;
        enum error_kind refusal;
    } rows[] = {
        {group_add_owner, "g@example.test", "a@example.test", ERR_NONE},
        {group_add_owner, "g@example.test", "a@example.test", ERR_EXISTS},
        {group_add_owner, "g@example.test", "b@far.test", ERR_NOT_FOUND},
        {group_add_owner, "a@example.test", "a@example.test", ERR_DENIED},
        {group_add_owner, "nobody@example.test", "a@example.test", ERR_NOT_FOUND},
        {group_remove_owner, "g@example.test", "a@example.test", ERR_NONE},
        {group_remove_owner, "g@example.test", "a@example.test", ERR_NOT_FOUND},
        {group_add_sender, "g@example.test", "b@far.test", ERR_NONE},
        {group_add_sender, "g@example.test", "B@FAR.test", ERR_EXISTS},
        {group_add_sender, "g@example.test", "a@example.test", ERR_NONE},
        {group_add_sender, "g@example.test", "alias@example.test", ERR_EXISTS},
        {group_add_sender, "g@example.test", "@example.test", ERR_DENIED},
        {group_add_sender, "g@example.test", "@", ERR_SYNTAX},
        {group_add_sender, "g@example.test", "nobody@example.test", ERR_NOT_FOUND},
        {group_remove_sender, "g@example.test", "alias@example.test", ERR_NONE},
        {group_remove_sender, "g@example.test", "a@example.test", ERR_NOT_FOUND},
        {group_remove_sender, "g@example.test", "b@far.test", ERR_NONE},
    };
    struct group_policy policy;
    struct error err = {0};

    make_person("a@example.test");
    make_account("g@example.test", ACCOUNT_GROUP, NULL);
    done(alias_add(STR("alias@example.test"), STR("a@example.test"), &err), &err);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        err = (struct error){0};
        rows[i].change(str_c(rows[i].group), str_c(rows[i].who), &err);
        assert_int_equal(err.kind, rows[i].refusal);
    }
    err = (struct error){0};
    done(group_get_policy(arena, STR("g@example.test"), &policy, &err), &err);
    assert_int_equal(policy.owner_count + policy.sender_count, 0);
}

/* --- sending as --------------------------------------------------------------------------------------- */

static enum send_right right_of(int64_t account_id, const char *address)
{
    struct send_address v = {.address = str_c(address)};
    struct error err = {0};

    done(directory_may_send_as(account_id, &v, 1, NULL, &err), &err);
    return v.right;
}

CASE(own_addresses_may_send_and_others_need_a_grant)
{
    struct grant *grants;
    size_t count;
    struct error err = {0};

    make_person("a@example.test");
    make_person("b@example.test");
    make_account("help@example.test", ACCOUNT_SHARED, NULL);
    make_account("team@example.test", ACCOUNT_GROUP, NULL);
    join("team@example.test", "b@example.test");
    done(alias_add(STR("c@other.test"), STR("a@example.test"), &err), &err);
    done(alias_add(STR("hello@other.test"), STR("help@example.test"), &err), &err);
    done(alias_add(STR("far@other.test"), STR("a@far.test"), &err), &err);
    assert_int_equal(right_of(1, "A+x@example.test"), SEND_AS);
    assert_int_equal(right_of(1, "c@other.test"), SEND_AS);
    assert_int_equal(right_of(1, "b@example.test"), SEND_DENIED);
    assert_int_equal(right_of(1, "far@other.test"), SEND_DENIED);
    assert_int_equal(right_of(1, "nobody@example.test"), SEND_DENIED);
    assert_int_equal(right_of(1, "a@far.test"), SEND_DENIED);
    assert_int_equal(right_of(1, "nonsense"), SEND_DENIED);
    assert_int_equal(right_of(2, "team@example.test"), SEND_DENIED);

    done(grant_add(STR("help@example.test"), STR("a@example.test"), SEND_ON_BEHALF, &err), &err);
    assert_int_equal(right_of(1, "hello+x@other.test"), SEND_ON_BEHALF);
    assert_int_equal(right_of(2, "hello@other.test"), SEND_DENIED);
    done(grant_add(STR("hello@other.test"), STR("team@example.test"), SEND_AS, &err), &err);
    assert_int_equal(right_of(2, "help@example.test"), SEND_AS);
    done(grant_add(STR("team@example.test"), STR("team@example.test"), SEND_AS, &err), &err);
    assert_int_equal(right_of(2, "team@example.test"), SEND_AS);
    assert_int_equal(right_of(1, "team@example.test"), SEND_DENIED);
    done(grant_list(arena, STR("help@example.test"), &grants, &count, &err), &err);
    assert_int_equal(count, 2);
    assert_str(grants[0].grantee, "a@example.test");
    assert_int_equal(grants[0].right, SEND_ON_BEHALF);
    done(grant_remove(STR("help@example.test"), STR("team@example.test"), &err), &err);
    assert_int_equal(right_of(2, "help@example.test"), SEND_DENIED);
    assert_int_equal(grant_remove(STR("help@example.test"), STR("team@example.test"), &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    err = (struct error){0};
    assert_int_equal(grant_add(STR("a@example.test"), STR("a@example.test"), SEND_AS, &err), -1);
    assert_int_equal(err.kind, ERR_EXISTS);
}

CASE(administrators_send_as_everybody_only_where_the_domain_lets_them)
{
    struct error err = {0};

    make_person("a@example.test");
    make_person("b@example.test");
    make_person("c@other.test");
    done(account_set_administrator(STR("a@example.test"), true, &err), &err);
    assert_int_equal(right_of(1, "b@example.test"), SEND_DENIED);
    set_domain("example.test", DOMAIN_ADMINISTRATORS,
               (struct domain_settings){.administrators_send_as = true});
    assert_int_equal(right_of(1, "b@example.test"), SEND_AS);
    assert_int_equal(right_of(1, "c@other.test"), SEND_DENIED);
    assert_int_equal(right_of(2, "a@example.test"), SEND_DENIED);
}

CASE(one_question_for_many_addresses_tells_whose_sent_wants_a_copy)
{
    struct send_address v[] = {{.address = STR("nobody@far.test")},
                               {.address = STR("HELP@example.test")},
                               {.address = STR("")},
                               {.address = STR("a@example.test")}};
    struct error err = {0};
    struct send_wishes wishes;
    bool of_own, of_others;

    make_person("a@example.test");
    make_account("help@example.test", ACCOUNT_SHARED, NULL);
    done(grant_add(STR("help@example.test"), STR("a@example.test"), SEND_AS, &err), &err);
    done(account_set_sent_copy(STR("help@example.test"), false, true, &err), &err);
    done(directory_may_send_as(1, v, 4, &wishes, &err), &err);
    assert_false(wishes.wants_sent_copy);
    assert_int_equal(v[0].right, SEND_DENIED);
    assert_int_equal(v[0].owner_id, 0);
    assert_int_equal(v[1].right, SEND_AS);
    assert_int_equal(v[1].owner_id, 2);
    assert_true(v[1].wants_sent_copy);
    assert_int_equal(v[2].right, SEND_DENIED);
    assert_int_equal(v[3].right, SEND_AS);
    assert_false(v[3].wants_sent_copy);
    done(account_set_sent_copy(STR("a@example.test"), true, false, &err), &err);
    done(directory_may_send_as(1, v, 4, &wishes, &err), &err);
    assert_true(wishes.wants_sent_copy);
    assert_int_equal(wishes.undo_ms, 0);
    done(account_get_sent_copy(STR("a@example.test"), &of_own, &of_others, &err), &err);
    assert_true(of_own);
    assert_false(of_others);
}

CASE(of_an_address_that_nobody_has_its_domain_is_known)
{
    struct send_address v[] = {{.address = STR("nobody@example.test")},
                               {.address = STR("nobody@far.test")},
                               {.address = STR("nobody@alias.test")},
                               {.address = STR("nonsense")},
                               {.address = STR("a@alias.test")}};
    struct error err = {0};

    make_person("a@example.test");
    done(domain_add(STR("alias.test"), &err), &err);
    set_domain("alias.test", DOMAIN_ALIAS_OF,
               (struct domain_settings){.alias_of = STR("example.test")});
    done(directory_may_send_as(1, v, 5, NULL, &err), &err);
    assert_true(v[0].is_in_our_domain);
    assert_false(v[1].is_in_our_domain);
    assert_true(v[2].is_in_our_domain);
    assert_false(v[3].is_in_our_domain);
    assert_true(v[4].is_in_our_domain);
    assert_int_equal(v[4].right, SEND_AS);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(v[i].owner_id, 0);
}

CASE(what_is_sent_waits_for_as_long_as_its_sender_wishes)
{
    struct send_address v = {.address = STR("a@example.test")};
    struct send_wishes wishes;
    struct error err = {0};
    int64_t duration_ms;

    make_person("a@example.test");
    make_person("b@example.test");
    done(account_set_undo_send(STR("A@example.test"), 30000, &err), &err);
    done(account_get_undo_send(STR("a@example.test"), &duration_ms, &err), &err);
    assert_int_equal(duration_ms, 30000);
    done(directory_may_send_as(1, &v, 1, &wishes, &err), &err);
    assert_int_equal(wishes.undo_ms, 30000);
    done(directory_may_send_as(2, &v, 1, &wishes, &err), &err);
    assert_int_equal(wishes.undo_ms, 0);
    assert_int_equal(account_set_undo_send(STR("a@example.test"), UNDO_SEND_MAX_MS + 1, &err), -1);
    assert_int_equal(err.kind, ERR_SYNTAX);
    error_clear(&err);
    assert_int_equal(account_set_undo_send(STR("nobody@example.test"), 0, &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_finds_its_way),
        cmocka_unit_test(no_delimiter_means_no_detail),
        cmocka_unit_test(a_group_leads_to_each_member_once),
        cmocka_unit_test(a_removed_member_gets_nothing_until_restored),
        cmocka_unit_test(an_address_that_stands_for_several_says_so),
        cmocka_unit_test(a_removed_group_leads_nobody_on),
        cmocka_unit_test(a_group_beyond_the_limit_is_refused),
        cmocka_unit_test(postmaster_always_leads_somewhere),
        cmocka_unit_test(an_alias_may_lead_elsewhere),
        cmocka_unit_test(a_group_reaches_members_elsewhere),
        cmocka_unit_test(an_address_elsewhere_that_became_ours_is_what_it_is_here),
        cmocka_unit_test(a_forward_keeps_a_copy_or_not),
        cmocka_unit_test(a_circle_of_forwards_keeps_a_copy_in_each_account),
        cmocka_unit_test(an_account_that_forwards_to_itself_keeps_a_copy),
        cmocka_unit_test(a_circle_through_a_group_keeps_a_copy),
        cmocka_unit_test(a_forward_that_reaches_nobody_keeps_the_mail),
        cmocka_unit_test(a_chain_of_forwards_ends_at_the_limit),
        cmocka_unit_test(groups_nested_too_deeply_are_refused),
        cmocka_unit_test(forwards_refuse),
        cmocka_unit_test(a_catch_all_gets_what_nobody_has),
        cmocka_unit_test(details_can_be_off_in_a_domain),
        cmocka_unit_test(an_alias_domain_has_each_address_of_its_target),
        cmocka_unit_test(alias_domains_refuse),
        cmocka_unit_test(new_accounts_take_their_domains_limits),
        cmocka_unit_test(a_domain_says_who_its_postmaster_is),
        cmocka_unit_test(a_group_says_who_may_post),
        cmocka_unit_test(a_refusal_says_the_rule_and_whom_to_ask),
        cmocka_unit_test(a_group_in_a_group_takes_what_that_lets_through),
        cmocka_unit_test(owners_and_senders_refuse),
        cmocka_unit_test(own_addresses_may_send_and_others_need_a_grant),
        cmocka_unit_test(of_an_address_that_nobody_has_its_domain_is_known),
        cmocka_unit_test(what_is_sent_waits_for_as_long_as_its_sender_wishes),
        cmocka_unit_test(administrators_send_as_everybody_only_where_the_domain_lets_them),
        cmocka_unit_test(one_question_for_many_addresses_tells_whose_sent_wants_a_copy),
    };

    return cmocka_run_group_tests(tests, directory_start, fixture_stop);
}
