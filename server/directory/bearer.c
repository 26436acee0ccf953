/* bearer.c - judges a log-in by token: signature, expiry, scope, account; and counts what is false. */
#include "server/directory/bearer.h"

#include <assert.h>

#include "server/base/date.h"
#include "server/directory/credential_internal.h"
#include "server/directory/limiter.h"

#define VERIFIERS_MAX 4
#define NO_NAME                                                                                    \
    STR("(token)") /* for the limiter, when the client says no name: nobody can have it */

static struct {
    const struct bearer_verifier *v[VERIFIERS_MAX];
    size_t n;
} verifiers;

void bearer_register(const struct bearer_verifier *verifier)
{
    assert(verifiers.n < VERIFIERS_MAX);
    verifiers.v[verifiers.n++] = verifier;
}

void bearer_unregister_all(void)
{
    verifiers.n = 0;
}

bool bearer_is_accepted(void)
{
    return verifiers.n > 0;
}

static int verify(struct arena *a, struct str token, struct bearer_claims *claims,
                  struct error *err)
{
    for (size_t i = 0; i < verifiers.n; i++) {
        struct error cause = {0};

        if (verifiers.v[i]->verify(a, token, claims, &cause) == 0)
            return 0;
        if (cause.kind != ERR_NOT_FOUND)
            return fail(err, cause.kind, "%s", cause.text);
    }
    return fail(err, ERR_AUTH, "nobody here knows this token");
}

static bool has_scope(const struct bearer_claims *claims, struct str service)
{
    struct str rest = claims->scope, word;

    if (!claims->has_scope)
        return true;
    while (str_next_token(&rest, ' ', &word))
        if (str_eq(word, STR(BEARER_SCOPE)) || str_eq(word, service))
            return true;
    return false;
}

struct attempt {
    struct login login;
    struct str token;
    enum bearer_fault *fault;
};

static int refuse(struct attempt *t, enum bearer_fault fault, const char *reason, struct error *err)
{
    static const char *const texts[] = {
        [BEARER_INVALID] = "the token is not valid",
        [BEARER_EXPIRED] = "the token has expired",
        [BEARER_SCOPE_MISSING] = "the token is not good for this service",
    };

    *t->fault = fault;
    login_failed(&t->login, reason, NULL);
    return fail(err, ERR_AUTH, "%s", texts[fault]);
}

static int find_account(struct attempt *t, const struct bearer_claims *claims, struct account *out,
                        struct error *err)
{
    struct error cause = {0};

    if (directory_find_account(t->login.arena, claims->name, out, &cause) < 0) {
        if (cause.kind == ERR_NOT_FOUND || cause.kind == ERR_SYNTAX)
            return refuse(t, BEARER_INVALID, "token_for_nobody", err);
        return fail(err, cause.kind, "%s", cause.text);
    }
    if (out->kind == ACCOUNT_GROUP)
        return refuse(t, BEARER_INVALID, "token_for_group", err);
    return out->is_active ? 0 : refuse(t, BEARER_INVALID, "suspended", err);
}

/* The name that was given must be the account's. Without one the token decides, and the log names the account. */
static int check_name(struct attempt *t, struct str typed, const struct account *account,
                      struct error *err)
{
    if (typed.n > 0 && (!t->login.is_known || t->login.account.account_id != account->account_id)) {
        login_failed(&t->login, "token_of_another", NULL);
        return fail(err, ERR_DENIED, "the token is another account's");
    }
    t->login.is_known = true;
    t->login.account = *account;
    t->login.name = account->address;
    return 0;
}

static int judge(struct attempt *t, struct str typed, struct account *out, struct error *err)
{
    const struct login_origin *origin = t->login.origin;
    struct bearer_claims claims = {0};
    struct error cause = {0};

    if (verify(t->login.arena, t->token, &claims, &cause) < 0) {
        if (cause.kind != ERR_AUTH)
            return fail(err, cause.kind, "%s", cause.text);
        limiter_failed(t->login.name, t->token, origin);
        return refuse(t, BEARER_INVALID, "false_token", err);
    }
    if (claims.expires_us <= time_now_us())
        return refuse(t, BEARER_EXPIRED, "expired_token", err);
    if (!has_scope(&claims, origin->service))
        return refuse(t, BEARER_SCOPE_MISSING, "scope", err);
    if (find_account(t, &claims, out, err) < 0)
        return -1;
    return check_name(t, typed, out, err);
}

int bearer_login(struct arena *a, struct str typed, struct str token,
                 const struct login_origin *origin, struct account *out, enum bearer_fault *fault,
                 struct error *err)
{
    struct attempt t = {.token = token, .fault = fault};

    *fault = BEARER_INVALID;
    if (login_find(a, typed.n > 0 ? typed : NO_NAME, origin, &t.login, err) < 0 ||
        judge(&t, typed, out, err) < 0)
        return -1;
    login_succeeded(&t.login, &(struct stored){.id = 0}, STR_NULL);
    return 0;
}
