/* credential.c - log-ins with a password, and the keeping of passwords.
 *
 * A log-in is one query (login_find) when its password was verified lately in this process, and nothing else:
 * a thousand of them a second must not cost more than their TLS handshakes. Only a password that is not remembered
 * goes through the limiter and a helper thread. How hashes are made is in credential_hash.c. */
#include <stdlib.h>
#include <string.h>

#include "server/base/encode.h"
#include "server/base/list.h"
#include "server/base/memory.h"
#include "server/base/utf8.h"
#include "server/directory/credential_internal.h"
#include "server/directory/directory_internal.h"
#include "server/directory/limiter_internal.h"
#include "server/directory/memo.h"
#include "server/directory/saslprep.h"
#include "server/directory/scram.h"
#include "server/run/channel.h"
#include "server/run/config.h"
#include "server/run/metrics.h"
#include "sql_queries.h"

#define VERIFICATIONS_REMEMBERED 10000
#define APP_PASSWORD_SIZE        24
#define APP_PASSWORDS_MAX        100
#define LABEL_SIZE_MAX           200
#define CRYPT_SIZE_MAX           383

/* Verified when there is no account or it has no password, so that the time of the answer does not tell.
 * The yescrypt of random bytes that nobody kept, at the cost of those that we make. */
#define NOBODYS_HASH                                                                               \
    STR("$y$j9T$3ZbUYNs4GqYvPp2Yb3zL81$vjxRNdFTl2kTNDmkXHuBK63eiHzdCsxltiTD8mCoSk7")

static struct memo *verified; /* (stored hash, password) pairs that matched */

/* --- finding --------------------------------------------------------------------------------------- */

static void read_stored(struct arena *a, const struct pg_rows *rows, struct login *login)
{
    login->stored = ARENA_ARRAY(a, rows->count, struct stored);
    for (size_t i = 0; i < rows->count; i++) {
        if (pg_is_null(rows, i, "credential_id"))
            continue;
        login->stored[login->stored_count++] = (struct stored){
            .id = pg_get_i64(rows, i, "credential_id"),
            .crypt = arena_str(a, pg_get_str(rows, i, "crypt")),
            .created_us = pg_get_time_us(rows, i, "created_at"),
            .scram = arena_str(a, pg_get_str(rows, i, "scram")),
            .old_scram = arena_str(a, pg_get_str(rows, i, "old_scram")),
            .is_use_due = pg_get_bool(rows, i, "is_use_due"),
        };
    }
}

static int read_login(struct arena *a, const struct pg_rows *rows, struct login *login,
                      struct error *err)
{
    login->name = arena_str(a, pg_get_str(rows, 0, "limiter_name"));
    login->is_known = !pg_is_null(rows, 0, "account_id");
    if (login->is_known) {
        account_read(a, rows, 0, &login->account);
        read_stored(a, rows, login);
    }
    return limiter_judge(rows, err);
}

int login_find(struct arena *a, struct str typed, const struct login_origin *origin,
               struct login *out, struct error *err)
{
    struct error limit = {0};
    struct pg_rows rows;
    bool is_bare;
    int status;

    *out = (struct login){.arena = a, .origin = origin};
    out->name = login_name(a, typed, &is_bare);
    if (pg_run(pg_pool(), &sql_credential_find,
               PG_ARGS(pg_text(out->name), pg_bool(is_bare),
                       pg_text(limiter_network(a, origin->address)), pg_i64(limiter_window_s()),
                       pg_i64(config.auth_guesses_account_max),
                       pg_i64(config.auth_guesses_network_max)),
               &rows, err) < 0)
        return -1;
    status = read_login(a, &rows, out, &limit);
    pg_rows_free(&rows);
    if (status == 0)
        return 0;
    login_limited(out, &limit);
    return fail(err, limit.kind, "%s", limit.text);
}

/* --- how it ended ---------------------------------------------------------------------------------- */

static struct str mechanism_of(const struct login *login)
{
    return login->origin->mechanism.n > 0 ? login->origin->mechanism : STR("PASSWORD");
}

static void log_end(const struct login *login, enum log_level level, const char *event,
                    struct log_field detail)
{
    const struct log_field fields[] = {
        KV("account", login->name),
        KV("mechanism", mechanism_of(login)),
        detail,
        /* A connection's own context names these already. */
        KV("service", login->origin->service),
        KV("peer", login->origin->address),
    };
    unsigned count = login->origin->log != NULL ? 3 : 5;

    log_event(login->origin->log, level, event, fields, count);
}

void login_succeeded(struct login *login, const struct stored *used, struct str guess)
{
    login->account.credential_id = used->id;
    login->account.credential_us = used->created_us;
    metric_inc(METRIC_logins_ok);
    log_end(login, LOG_LEVEL_INFO, "login_ok", KV("credential", used->id));
    limiter_succeeded(login->name, guess, login->origin);
    if (used->id != 0 && used->is_use_due)
        pg_run(pg_pool(), &sql_credential_used,
               PG_ARGS(pg_i64(login->account.account_id), pg_i64(used->id)), NULL, NULL);
}

int login_failed(struct login *login, const char *reason, struct error *err)
{
    metric_inc(METRIC_logins_failed);
    log_end(login, LOG_LEVEL_INFO, "login_failed", KV("reason", reason));
    limiter_pause();
    return fail(err, ERR_AUTH, "the name or the password is wrong");
}

int login_limited(const struct login *login, const struct error *err)
{
    metric_inc(METRIC_logins_limited);
    log_end(login, LOG_LEVEL_WARN, "login_limited", KV_ERR(err));
    limiter_pause();
    return -1;
}

/* --- verifying ------------------------------------------------------------------------------------- */

static bool is_verified(struct str hash, struct str password)
{
    return verified != NULL && memo_holds(verified, (const struct str[]){hash, password}, 2);
}

static void remember(struct str hash, struct str password)
{
    if (verified == NULL)
        verified = memo_new(VERIFICATIONS_REMEMBERED);
    memo_add(verified, (const struct str[]){hash, password}, 2, config.auth_cache);
}

static bool looks_like_app_password(struct str password)
{
    for (size_t i = 0; i < password.n; i++)
        if (!(password.p[i] >= 'a' && password.p[i] <= 'z') &&
            !(password.p[i] >= '2' && password.p[i] <= '9'))
            return false;
    return password.n == APP_PASSWORD_SIZE;
}

/* The credentials that this password may belong to: app passwords have a form of their own. */
static size_t candidates(const struct login *login, struct str password, const struct stored **out)
{
    bool may_be_app = looks_like_app_password(password);
    size_t n = 0;

    for (size_t i = 0; i < login->stored_count; i++)
        if (login->stored[i].id == 0 || may_be_app)
            out[n++] = &login->stored[i];
    return n;
}

static const struct stored *find_remembered(const struct stored **tried, size_t count,
                                            struct str password)
{
    for (size_t i = 0; i < count; i++)
        if (is_verified(tried[i]->crypt, password))
            return tried[i];
    return NULL;
}

static const struct stored *find_by_hashing(struct arena *a, const struct stored **tried,
                                            size_t count, struct str password)
{
    struct str *hashes = ARENA_ARRAY(a, count + 1, struct str);
    ptrdiff_t match;

    for (size_t i = 0; i < count; i++)
        hashes[i] = tried[i]->crypt;
    if (count == 0)
        hashes[count++] = NOBODYS_HASH;
    match = password_find_match(password, hashes, count);
    if (match < 0 || tried[match] == NULL)
        return NULL;
    remember(hashes[match], password);
    return tried[match];
}

static bool can_be_prepared(struct str password)
{
    struct buf prepared;
    bool can;

    buf_init(&prepared, 8 * PASSWORD_SIZE_MAX);
    can = saslprep(password, &prepared);
    buf_fini(&prepared);
    return can;
}

/* The one salt of the account's verifiers; empty when it has none yet. */
static struct str salt_of(const struct login *login)
{
    struct scram_verifier verifier;

    for (size_t i = 0; i < login->stored_count; i++)
        if (scram_verifier_parse(login->arena, login->stored[i].scram, &verifier))
            return verifier.salt;
    return STR_NULL;
}

/* A password that came as a foreign hash is known in clear for this moment: keep it in our forms from now on. */
static void renew(const struct login *login, const struct stored *s, struct str password)
{
    struct password_forms forms = {.password = password, .salt = salt_of(login)};
    bool is_ours = str_starts(s->crypt, STR("$y$"));
    size_t done;

    if (s->id != 0 || (is_ours && (s->scram.n > 0 || !can_be_prepared(password))))
        return;
    if (password_forms_make(login->arena, &forms, 1, &done, NULL) < 0)
        return;
    if (pg_run(pg_pool(), &sql_credential_renew,
               PG_ARGS(pg_i64(login->account.account_id), pg_text(s->crypt), pg_text(forms.crypt),
                       forms.scram.n > 0 ? pg_text(forms.scram) : pg_null()),
               NULL, NULL) == 0)
        remember(forms.crypt, password);
}

/* A verification that is under way. A client that opens ten connections at once, or ten thousand clients after
 * a restart, must not cost ten hashes each: who asks the same meanwhile waits for this answer. */
struct flight {
    struct list link; /* in flights until it has landed */
    unsigned refs;
    struct str name, password; /* of the fiber that verifies */
    struct wait_queue landed;
    bool has_landed;
    char match[CRYPT_SIZE_MAX + 1]; /* the hash that matched; empty: none did */
    struct error error;             /* why it could not be tried */
};

static struct list flights = {&flights, &flights};

static struct flight *find_flight(struct str name, struct str password)
{
    LIST_EACH (at, &flights) {
        struct flight *f = CONTAINER_OF(at, struct flight, link);
        if (str_eq(f->name, name) && f->password.n == password.n &&
            bytes_equal_constant_time(f->password.p, password.p, password.n))
            return f;
    }
    return NULL;
}

static void flight_unref(struct flight *f)
{
    if (--f->refs == 0)
        free(f);
}

static struct flight *flight_start(struct str name, struct str password)
{
    struct flight *f = memory_alloc(sizeof *f);

    f->refs = 1;
    f->name = name;
    f->password = password;
    wait_queue_init(&f->landed);
    list_append(&flights, &f->link);
    return f;
}

static void flight_land(struct flight *f, const struct stored *used, const struct error *error)
{
    if (used != NULL && used->crypt.n <= CRYPT_SIZE_MAX)
        memcpy(f->match, used->crypt.p, used->crypt.n);
    f->error = *error;
    f->has_landed = true;
    list_remove(&f->link);
    wait_queue_wake_all(&f->landed);
    flight_unref(f);
}

struct attempt {
    struct login *login;
    struct str password;
    const struct stored **tried; /* the credentials it may belong to */
    size_t tried_count;
    const struct stored *used; /* the one it does; NULL: wrong */
    bool is_guess;             /* counted, and to be taken back when right */
};

static int await_flight(struct attempt *t, struct flight *f, struct error *err)
{
    enum wake wake = WAKE_READY;
    int status = 0;

    f->refs++;
    while (!f->has_landed && wake == WAKE_READY)
        wake = wait_queue_wait(&f->landed, NO_DEADLINE);
    if (!f->has_landed)
        status = fiber_wake_error(wake, err);
    else if (f->error.kind != ERR_NONE)
        status = fail(err, f->error.kind, "%s", f->error.text);
    for (size_t i = 0; status == 0 && i < t->tried_count; i++)
        if (str_eq(t->tried[i]->crypt, str_c(f->match)))
            t->used = t->tried[i];
    flight_unref(f);
    return status;
}

static int fly(struct attempt *t, struct error *err)
{
    struct flight *f = flight_start(t->login->name, t->password);
    int status = limiter_guess(t->login->name, t->password, t->login->origin, err);

    if (status == 0) {
        t->is_guess = true;
        t->used = find_by_hashing(t->login->arena, t->tried, t->tried_count, t->password);
    }
    flight_land(f, t->used, err);
    return status;
}

/* As the first to ask, or with the answer of who asked before. One who was called off leaves it to the next. */
static int fly_or_await(struct attempt *t, struct error *err)
{
    struct flight *f;

    while ((f = find_flight(t->login->name, t->password)) != NULL) {
        int status = await_flight(t, f, err);

        if (status == 0 || err->kind != ERR_CANCELLED || fiber_cancelled())
            return status;
        error_clear(err);
    }
    return fly(t, err);
}

/* ERR_LIMIT and ERR_TRY_LATER; otherwise 0, and used is NULL when the password is wrong. */
static int verify(struct attempt *t, struct error *err)
{
    struct login *login = t->login;
    int status;

    t->tried = ARENA_ARRAY(login->arena, login->stored_count + 1, const struct stored *);
    t->tried_count = candidates(login, t->password, t->tried);
    t->used = find_remembered(t->tried, t->tried_count, t->password);
    if (t->used != NULL)
        return 0;
    status = fly_or_await(t, err);
    return status < 0 && err->kind == ERR_LIMIT ? login_limited(login, err) : status;
}

int credential_verify(struct arena *a, struct str name, struct str password,
                      const struct login_origin *origin, struct account *out, struct error *err)
{
    struct attempt attempt = {.password = password};
    struct error cause = {0};
    struct login login;

    if (login_find(a, name, origin, &login, err) < 0)
        return -1;
    attempt.login = &login;
    if (verify(&attempt, &cause) < 0)
        return fail(err, cause.kind, "%s", cause.text);
    if (attempt.used == NULL)
        return login_failed(&login, login.is_known ? "wrong_password" : "unknown_name", err);
    if (!login.account.is_active)
        return login_failed(&login, "suspended", err);
    login_succeeded(&login, attempt.used, attempt.is_guess ? password : STR_NULL);
    if (attempt.is_guess)
        renew(&login, attempt.used, password);
    *out = login.account;
    return 0;
}

void credential_fini(void)
{
    memo_free(&verified);
}

/* --- keeping --------------------------------------------------------------------------------------- */

/* The account's one salt for SCRAM, so that a client's proof can be tried against each of its passwords. */
static int shared_salt(struct arena *a, int64_t account_id, struct str *out, struct error *err)
{
    struct scram_verifier verifier;
    struct pg_rows rows;

    *out = STR_NULL;
    if (pg_run(pg_pool(), &sql_credential_scram_any, PG_ARGS(pg_i64(account_id)), &rows, err) < 0)
        return -1;
    if (rows.count > 0 && scram_verifier_parse(a, pg_get_str(&rows, 0, "scram"), &verifier))
        *out = verifier.salt;
    pg_rows_free(&rows);
    return 0;
}

static int store_password(int64_t account_id, struct str crypt, struct str scram, struct error *err)
{
    struct error cause = {0};

    if (pg_run(
            pg_pool(), &sql_credential_set,
            PG_ARGS(pg_i64(account_id), pg_text(crypt), scram.n > 0 ? pg_text(scram) : pg_null()),
            NULL, &cause) == 0)
        return 0;
    if (cause.kind == ERR_NOT_FOUND)
        return fail(err, ERR_NOT_FOUND, "there is no such account");
    return fail(err, cause.kind, "%s", cause.text);
}

static int set_password(struct arena *a, int64_t account_id, struct str password, struct error *err)
{
    struct password_forms forms = {.password = password};
    size_t done;

    if (password.n == 0)
        return fail(err, ERR_SYNTAX, "the password is empty");
    if (shared_salt(a, account_id, &forms.salt, err) < 0 ||
        password_forms_make(a, &forms, 1, &done, err) < 0)
        return -1;
    return store_password(account_id, forms.crypt, forms.scram, err);
}

int credential_set_password(int64_t account_id, struct str password, struct error *err)
{
    struct arena *a = arena_new();
    int status = set_password(a, account_id, password, err);

    arena_free(&a);
    return status;
}

int credential_set_hash(int64_t account_id, struct str crypt_string, struct error *err)
{
    struct arena *a = arena_new();
    struct str crypt;
    int status = password_hash_import(a, crypt_string, &crypt, err);

    if (status == 0)
        status = store_password(account_id, crypt, STR_NULL, err);
    arena_free(&a);
    return status;
}

/* --- app passwords --------------------------------------------------------------------------------- */

static int store_app_password(int64_t account_id, struct str label,
                              const struct password_forms *forms, int64_t *id, struct error *err)
{
    struct pg_rows rows;
    bool is_stored;

    if (pg_run(pg_pool(), &sql_app_password_insert,
               PG_ARGS(pg_i64(account_id), pg_text(label), pg_text(forms->crypt),
                       pg_text(forms->scram), pg_i64(APP_PASSWORDS_MAX)),
               &rows, err) < 0)
        return -1;
    is_stored = rows.count > 0;
    *id = is_stored ? pg_get_i64(&rows, 0, "credential_id") : 0;
    pg_rows_free(&rows);
    return is_stored ? 0
                     : fail(err, ERR_LIMIT, "an account has at most %d passwords: remove one first",
                            APP_PASSWORDS_MAX);
}

int app_password_add(struct arena *a, int64_t account_id, struct str label, int64_t *id,
                     struct str *password, struct error *err)
{
    char text[APP_PASSWORD_SIZE + 1];
    struct password_forms forms = {.is_random = true};
    size_t done;

    if (!utf8_valid(label) || str_index(label, '\0') >= 0)
        return fail(err, ERR_SYNTAX, "the label is not valid UTF-8");
    if (label.n > LABEL_SIZE_MAX)
        return fail(err, ERR_TOO_BIG, "the label is longer than %d bytes", LABEL_SIZE_MAX);
    random_text(text, APP_PASSWORD_SIZE);
    *password = arena_str(a, str_c(text));
    forms.password = *password;
    if (shared_salt(a, account_id, &forms.salt, err) < 0 ||
        password_forms_make(a, &forms, 1, &done, err) < 0)
        return -1;
    return store_app_password(account_id, label, &forms, id, err);
}

int app_password_remove(int64_t account_id, int64_t id, struct error *err)
{
    struct pg_rows rows;
    bool is_gone;

    if (pg_run(pg_pool(), &sql_app_password_delete, PG_ARGS(pg_i64(account_id), pg_i64(id)), &rows,
               err) < 0)
        return -1;
    is_gone = rows.count > 0;
    pg_rows_free(&rows);
    return is_gone ? 0
                   : fail(err, ERR_NOT_FOUND,
                          "the account has no app password with the number %lld", (long long)id);
}

int app_password_list(struct arena *a, int64_t account_id, struct app_password **out, size_t *count,
                      struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_app_passwords, PG_ARGS(pg_i64(account_id)), &rows, err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count, struct app_password);
    for (size_t i = 0; i < rows.count; i++)
        (*out)[i] = (struct app_password){
            .id = pg_get_i64(&rows, i, "credential_id"),
            .label = arena_str(a, pg_get_str(&rows, i, "label")),
            .created_us = pg_get_time_us(&rows, i, "created_at"),
            .used_us = pg_get_time_us(&rows, i, "used_at"),
        };
    pg_rows_free(&rows);
    return 0;
}
