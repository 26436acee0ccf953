/* directory_fixture.h - the directory on a private PostgreSQL: two domains and nobody in them. */
#pragma once
#include "tests/unit/pg_fixture.h"

#include "server/directory/credential.h"
#include "server/directory/directory.h"
#include "server/directory/limiter.h"
#include "server/pg/migrate.h"
#include "server/run/offload.h"

static struct arena *arena;             /* of one case */

static int directory_start(void **state)
{
    struct error err = {0};

    fixture_start(state);
    if (pg_migrate(cluster_conninfo(), &err) < 0)
        fixture_fail("pg_migrate", &err);
    return 0;
}

static void directory_run_case(void *arg)
{
    void (*body)(void) = (void (*)(void))arg;

    pg_pool_init(pg_conninfo(), 4);
    body();
    pg_pool_fini();
}

/* Each case runs in a fiber; accounts are numbered from 1. */
static void directory_in_fiber(void (*body)(void))
{
    fixture_sql("SET client_min_messages = warning; TRUNCATE account, domain, login_guess, login_success RESTART IDENTITY CASCADE;"
                "INSERT INTO domain (name) VALUES ('example.test'), ('other.test')");
    config_fini();
    config_defaults();
    config.data_dir = fixture_dir;
    config.auth_failure_delay = 0;
    arena = arena_new();
    loop_init();
    loop_run_fiber("case", directory_run_case, (void *)body);
    credential_fini();
    limiter_fini();
    offload_fini();
    fiber_pool_fini();
    loop_fini();
    arena_free(&arena);
}

#define CASE(name)                                                                                 \
    static void name##_body(void);                                                                 \
    static void name(void **state)                                                                 \
    {                                                                                              \
        directory_in_fiber(name##_body);                                                           \
    }                                                                                              \
    static void name##_body(void)

#define assert_str(actual, expected)                                                               \
    do {                                                                                           \
        const char *actual_ = arena_c(arena, actual);                                              \
        assert_string_equal(actual_, expected);                                                    \
    } while (0)

static inline int64_t make_account(const char *address, enum account_kind kind, const char *password)
{
    struct account_new n = {.kind = kind, .address = str_c(address), .password = str_c(password)};
    struct error err = {0};
    int64_t account_id = 0;

    if (account_add(&n, &account_id, &err) < 0)
        print_error("%s: %s\n", address, err.text);
    assert_int_equal(err.kind, ERR_NONE);
    return account_id;
}

static inline int64_t make_person(const char *address)
{
    return make_account(address, ACCOUNT_PERSON, NULL);
}
