/* limiter.c - counts guesses in the database, by rules that the header explains.
 *
 * Failures here never stand in the way of a right password: when a count cannot be written, the log-in goes on.
 * Only the question whether to admit needs an answer, and without a database nobody logs in anyway. */
#include <arpa/inet.h>
#include <string.h>

#include "server/base/log.h"
#include "server/base/net.h"
#include "server/directory/limiter_internal.h"
#include "server/directory/memo.h"
#include "server/directory/secret.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "sql_queries.h"

#define SUCCESS_INTERVAL_MAX_MS (60 * 60 * 1000) /* between two notes of the same good log-in */
#define FORGET_INTERVAL_MS      (10 * 60 * 1000)
#define SUCCESSES_REMEMBERED    10000
#define IPV6_NETWORK_BYTES      8

static struct {
    struct memo *noted; /* (network, name) whose success is in the database */
    int64_t forget_at_ms;
} limiter;

/* --- networks -------------------------------------------------------------------------------------- */

struct str limiter_network(struct arena *a, struct str address)
{
    struct net net;
    struct in6_addr ip;
    char text[INET6_ADDRSTRLEN];

    if (!net_parse(address, &net) || net.is_unix)
        return arena_str(a, str_head(address, sizeof text));
    memcpy(&ip, net.address, sizeof ip);
    if (IN6_IS_ADDR_V4MAPPED(&ip)) {
        inet_ntop(AF_INET, &ip.s6_addr[12], text, sizeof text);
        return arena_str(a, str_c(text));
    }
    memset(&ip.s6_addr[IPV6_NETWORK_BYTES], 0, sizeof ip - IPV6_NETWORK_BYTES);
    inet_ntop(AF_INET6, &ip, text, sizeof text);
    return arena_printf(a, "%s/64", text);
}

int64_t limiter_window_s(void)
{
    return config.auth_guess_window / 1000;
}

/* --- judging --------------------------------------------------------------------------------------- */

static int refuse(int64_t wait_s, struct error *err)
{
    int64_t minutes = (wait_s + 59) / 60;

    if (wait_s < 60)
        return fail(err, ERR_LIMIT, "too many wrong passwords: try again in a minute");
    return fail(err, ERR_LIMIT, "too many wrong passwords: try again in %lld minutes",
                (long long)minutes);
}

int limiter_judge(const struct pg_rows *rows, struct error *err)
{
    if (!config.auth_limit)
        return 0;
    if (!pg_is_null(rows, 0, "account_wait_s"))
        return refuse(pg_get_i64(rows, 0, "account_wait_s"), err);
    if (!pg_is_null(rows, 0, "network_wait_s"))
        return refuse(pg_get_i64(rows, 0, "network_wait_s"), err);
    return 0;
}

static int admit(struct arena *a, struct str name, const struct login_origin *origin,
                 struct error *err)
{
    struct pg_rows rows;
    int status;

    if (pg_run(pg_pool(), &sql_limiter_standing,
               PG_ARGS(pg_text(limiter_network(a, origin->address)), pg_text(name),
                       pg_i64(limiter_window_s()), pg_i64(config.auth_guesses_account_max),
                       pg_i64(config.auth_guesses_network_max), pg_i64(0)),
               &rows, err) < 0)
        return -1;
    status = limiter_judge(&rows, err);
    pg_rows_free(&rows);
    return status;
}

int limiter_admit(struct str name, const struct login_origin *origin, struct error *err)
{
    struct arena *a;
    int status;

    if (!config.auth_limit)
        return 0;
    a = arena_new();
    status = admit(a, name, origin, err);
    arena_free(&a);
    return status;
}

/* --- counting -------------------------------------------------------------------------------------- */

/* Once in a while, by whoever counts a guess: rows beyond the window say nothing any more. */
static void forget_old(void)
{
    if (loop_now_ms() < limiter.forget_at_ms)
        return;
    limiter.forget_at_ms = loop_deadline(FORGET_INTERVAL_MS);
    pg_run(pg_pool(), &sql_limiter_forget, PG_ARGS(pg_i64(limiter_window_s())), NULL, NULL);
}

static int digest_guess(struct str name, struct str password, uint8_t out[DIGEST_SIZE],
                        struct error *err)
{
    uint8_t key[DIGEST_SIZE];

    if (secret_get(SECRET_LIMITER, key, err) < 0)
        return -1;
    hmac_sha256_list(digest_str(key), (const struct str[]){name, password}, 2, out);
    return 0;
}

/* Writes the guess down and looks how many there are with it: one more than the limit is one too many. */
static int count_guess(struct arena *a, struct str name, struct str password,
                       const struct login_origin *origin, struct error *err)
{
    struct pg_arg network = pg_text(limiter_network(a, origin->address)),
                  window = pg_i64(limiter_window_s());
    uint8_t digest[DIGEST_SIZE];
    struct pg_rows rows[2];
    int status;

    if (digest_guess(name, password, digest, err) < 0)
        return -1;
    struct pg_call calls[] = {
        {&sql_limiter_guess, PG_ARGS(network, pg_text(name), pg_bytea(digest_str(digest)), window)},
        {&sql_limiter_standing,
         PG_ARGS(network, pg_text(name), window, pg_i64(config.auth_guesses_account_max),
                 pg_i64(config.auth_guesses_network_max), pg_i64(1))},
    };
    if (pg_run_batch(pg_pool(), calls, 2, rows, err) < 0)
        return -1;
    status = limiter_judge(&rows[1], err);
    pg_rows_free(&rows[0]);
    pg_rows_free(&rows[1]);
    return status;
}

int limiter_guess(struct str name, struct str password, const struct login_origin *origin,
                  struct error *err)
{
    struct arena *a;
    int status;

    if (!config.auth_limit)
        return 0;
    a = arena_new();
    status = count_guess(a, name, password, origin, err);
    arena_free(&a);
    forget_old();
    return status;
}

void limiter_failed(struct str name, struct str password, const struct login_origin *origin)
{
    struct error err = {0};

    if (limiter_guess(name, password, origin, &err) < 0 && err.kind != ERR_LIMIT)
        log_warn(origin->log, "guess_not_counted", KV_ERR(&err));
}

static void withdraw(struct str network, struct str name, struct str guess)
{
    uint8_t digest[DIGEST_SIZE];

    if (digest_guess(name, guess, digest, NULL) == 0)
        pg_run(pg_pool(), &sql_limiter_withdraw,
               PG_ARGS(pg_text(network), pg_text(name), pg_bytea(digest_str(digest))), NULL, NULL);
}

/* Twice in a window is enough for the network to count as good all the time. */
static int64_t success_interval_ms(void)
{
    int64_t half = config.auth_guess_window / 2;

    return half < SUCCESS_INTERVAL_MAX_MS ? half : SUCCESS_INTERVAL_MAX_MS;
}

static void note_success(struct str network, struct str name)
{
    const struct str key[] = {network, name};

    if (limiter.noted == NULL)
        limiter.noted = memo_new(SUCCESSES_REMEMBERED);
    if (memo_holds(limiter.noted, key, 2))
        return;
    if (pg_run(pg_pool(), &sql_limiter_success, PG_ARGS(pg_text(network), pg_text(name)), NULL,
               NULL) == 0)
        memo_add(limiter.noted, key, 2, success_interval_ms());
}

void limiter_succeeded(struct str name, struct str guess, const struct login_origin *origin)
{
    struct arena *a;
    struct str network;

    if (!config.auth_limit)
        return;
    a = arena_new();
    network = limiter_network(a, origin->address);
    if (guess.n > 0)
        withdraw(network, name, guess);
    note_success(network, name);
    arena_free(&a);
}

void limiter_pause(void)
{
    if (config.auth_limit && config.auth_failure_delay > 0)
        fiber_sleep(config.auth_failure_delay);
}

void limiter_fini(void)
{
    memo_free(&limiter.noted);
}
