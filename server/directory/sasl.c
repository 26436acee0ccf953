/* sasl.c - leads a client through a mechanism and decides who it is.
 *
 *   PLAIN, LOGIN   name and password, verified by credential_verify
 *   SCRAM          the password never travels; the server proves itself as well
 *   OAUTHBEARER,   a token in place of the password, judged by bearer_login
 *   XOAUTH2
 *
 * Each mechanism is a row of a table and a chain of states; a state is a function that takes the client's next
 * message. Names that nobody has walk the same states with a salt that is always the same for them, so that
 * the exchange does not tell (RFC 5802, 9: the salt would). */
#include <string.h>

#include "server/base/encode.h"
#include "server/base/object.h"
#include "server/directory/bearer.h"
#include "server/directory/credential_internal.h"
#include "server/directory/directory_internal.h"
#include "server/directory/limiter.h"
#include "server/directory/sasl_internal.h"
#include "server/directory/saslprep.h"
#include "server/directory/scram.h"
#include "server/directory/secret.h"
#include "server/run/conn.h"

#define SASL_MAGIC       0x5a51c0de
#define NONCE_SIZE       18 /* bytes; 24 characters on the wire */
#define NAME_SIZE_MAX    1024
#define BINDING_SIZE_MAX 1024

typedef enum sasl_status state_fn(struct sasl *s, struct str input, struct str *challenge,
                                  struct error *err);

struct mechanism {
    const char *name;
    state_fn *start;
    const char *first_challenge; /* when the client sent nothing at first */
    bool needs_secrecy;          /* the password travels */
    bool needs_tls;              /* binds to the channel */
    bool needs_verifier;         /* of tokens */
};

struct scram {
    struct login login;
    struct scram_verifier verifier; /* the one whose salt was shown */
    bool is_fake;                   /* no verifier: nothing can match */
    struct scram_client_first first;
    struct str nonce, server_first;
    struct str binding_expected;
};

struct sasl {
    uint32_t magic;
    struct arena *arena;
    struct conn *conn;
    struct login_origin origin;
    const struct mechanism *mechanism;
    state_fn *state; /* NULL: it is over */
    struct str name; /* LOGIN: while waiting for the password */
    struct scram scram;
    struct error refusal; /* of a token: told once the client has heard why */
    bool has_expired;     /* it was one that has */
    struct account account;
    sasl_authorize *authorize; /* NULL: nobody acts for others */
    struct account acts_for;   /* account_id 0: for itself */
};

/* --- authorization identity ------------------------------------------------------------------------ */

static struct str beside(struct arena *a, struct str local, struct str address)
{
    struct str own, domain;

    str_rcut(address, '@', &own, &domain);
    return arena_printf(a, "%.*s@%.*s", STR_ARG(local), STR_ARG(domain));
}

static int act_for(struct sasl *s, const struct account *wanted, struct error *err)
{
    if (s->authorize == NULL)
        return fail(err, ERR_DENIED, "you may not log in as somebody else");
    if (s->authorize(s->arena, &s->account, wanted, err) < 0)
        return -1;
    s->acts_for = *wanted;
    return 0;
}

/* Whom the client wants to be: itself, by any of its addresses, or somebody for whom it may act. */
static int check_authzid(struct sasl *s, struct str authzid, struct error *err)
{
    struct account wanted;
    struct error cause = {0};
    bool is_bare;
    struct str name;

    if (authzid.n == 0)
        return 0;
    name = login_name(s->arena, authzid, &is_bare);
    if (is_bare) /* as the name itself may be, when the server has one domain */
        name = beside(s->arena, name, s->account.address);
    if (str_eq(name, s->account.address))
        return 0;
    if (directory_find_account(s->arena, name, &wanted, &cause) == 0)
        return wanted.account_id == s->account.account_id ? 0 : act_for(s, &wanted, err);
    if (cause.kind == ERR_TRY_LATER)
        return fail(err, cause.kind, "%s", cause.text);
    return fail(err, ERR_DENIED, "you may not log in as somebody else");
}

static enum sasl_status verify_password(struct sasl *s, struct str authzid, struct str name,
                                        struct str password, struct error *err)
{
    if (credential_verify(s->arena, name, password, &s->origin, &s->account, err) < 0 ||
        check_authzid(s, authzid, err) < 0)
        return SASL_FAILED;
    return SASL_DONE;
}

/* --- PLAIN ----------------------------------------------------------------------------------------- */

int sasl_parse_plain(struct str message, struct sasl_plain *out, struct error *err)
{
    struct str rest;

    if (!str_cut(message, '\0', &out->authzid, &rest) ||
        !str_cut(rest, '\0', &out->name, &out->password))
        return fail(err, ERR_SYNTAX, "malformed PLAIN message");
    if (str_index(out->password, '\0') >= 0)
        return fail(err, ERR_SYNTAX, "malformed PLAIN message");
    if (out->name.n == 0 || out->password.n == 0)
        return fail(err, ERR_SYNTAX, "the name or the password is empty");
    if (out->name.n > NAME_SIZE_MAX || out->authzid.n > NAME_SIZE_MAX)
        return fail(err, ERR_SYNTAX, "the name is too long");
    return 0;
}

static enum sasl_status plain_message(struct sasl *s, struct str input, struct str *challenge,
                                      struct error *err)
{
    struct sasl_plain plain;

    if (sasl_parse_plain(input, &plain, err) < 0)
        return SASL_FAILED;
    return verify_password(s, plain.authzid, plain.name, plain.password, err);
}

/* --- LOGIN ----------------------------------------------------------------------------------------- */

static enum sasl_status login_password(struct sasl *s, struct str input, struct str *challenge,
                                       struct error *err)
{
    return verify_password(s, STR_NULL, s->name, input, err);
}

static enum sasl_status login_name_given(struct sasl *s, struct str input, struct str *challenge,
                                         struct error *err)
{
    if (input.n == 0 || input.n > NAME_SIZE_MAX) {
        fail(err, ERR_SYNTAX, "the name is empty or too long");
        return SASL_FAILED;
    }
    s->name = arena_str(s->arena, input);
    s->state = login_password;
    *challenge = STR("Password:");
    return SASL_CONTINUE;
}

/* --- SCRAM ----------------------------------------------------------------------------------------- */

static bool offers_binding(const struct conn *c)
{
    struct buf data;
    bool has;

    buf_init(&data, BINDING_SIZE_MAX);
    has = conn_is_tls(c) && (conn_tls_binding(c, "tls-exporter", &data) ||
                             conn_tls_binding(c, "tls-server-end-point", &data));
    buf_fini(&data);
    return has;
}

static struct str binding_data(struct sasl *s, struct str type)
{
    struct buf data;
    struct str out = STR_NULL;

    buf_init(&data, BINDING_SIZE_MAX);
    if ((str_eq(type, STR("tls-exporter")) || str_eq(type, STR("tls-server-end-point"))) &&
        conn_tls_binding(s->conn, arena_c(s->arena, type), &data))
        out = arena_str(s->arena, buf_str(&data));
    buf_fini(&data);
    return out;
}

static int check_binding_flag(struct sasl *s, struct error *err)
{
    char flag = s->scram.first.binding_flag;

    if (s->mechanism->needs_tls != (flag == 'p'))
        return fail(err, ERR_SYNTAX, "the mechanism and the channel binding do not fit");
    if (flag != 'y' || !offers_binding(s->conn))
        return 0;
    /* The client could bind and believes that we cannot, though we said so: RFC 5802, 6. */
    log_warn(conn_log(s->conn), "login_downgraded", KV("mechanism", s->mechanism->name));
    return fail(err, ERR_AUTH, "channel binding is offered here, and somebody between us hid that");
}

/* What the client must repeat under its proof: its GS2 header, and with -PLUS the channel's own data. */
static int settle_binding(struct sasl *s, struct error *err)
{
    struct scram *scram = &s->scram;
    struct str header = scram->first.gs2_header, data = STR_NULL;
    char *joined;

    if (check_binding_flag(s, err) < 0)
        return -1;
    if (scram->first.binding_flag == 'p') {
        data = binding_data(s, scram->first.binding_type);
        if (data.n == 0)
            return fail(err, ERR_UNSUPPORTED, "this channel binding is not offered here");
    }
    joined = arena_alloc(s->arena, header.n + data.n);
    memcpy(joined, header.p, header.n);
    if (data.n > 0)
        memcpy(joined + header.n, data.p, data.n);
    scram->binding_expected = str_of(joined, header.n + data.n);
    return 0;
}

/* Nobody has the name, or no password of it can do SCRAM: a salt that looks like any and stays the same. */
static int invent_verifier(struct sasl *s, struct error *err)
{
    uint8_t key[DIGEST_SIZE], digest[DIGEST_SIZE];

    if (secret_get(SECRET_SCRAM, key, err) < 0)
        return -1;
    hmac_sha256(digest_str(key), s->scram.login.name, digest);
    s->scram.is_fake = true;
    s->scram.verifier = (struct scram_verifier){
        .iterations = SCRAM_ITERATIONS,
        .salt = arena_str(s->arena, str_of((const char *)digest, SCRAM_SALT_SIZE)),
    };
    return 0;
}

static int choose_verifier(struct sasl *s, struct error *err)
{
    const struct login *login = &s->scram.login;

    for (size_t i = 0; i < login->stored_count; i++)
        if (scram_verifier_parse(s->arena, login->stored[i].scram, &s->scram.verifier))
            return 0;
    return invent_verifier(s, err);
}

static int prepare_name(struct sasl *s, struct str *name, struct error *err)
{
    struct buf prepared;
    bool is_good;

    buf_init(&prepared, 4 * NAME_SIZE_MAX);
    is_good = name->n <= NAME_SIZE_MAX && saslprep(*name, &prepared) && prepared.n > 0;
    *name = arena_str(s->arena, buf_str(&prepared));
    buf_fini(&prepared);
    return is_good ? 0 : fail(err, ERR_SYNTAX, "the name holds characters that SASLprep forbids");
}

static struct str make_nonce(struct sasl *s)
{
    char bytes[NONCE_SIZE];
    struct buf text;
    struct str nonce;

    random_bytes(bytes, sizeof bytes);
    buf_init(&text, 64);
    base64_encode(&text, str_of(bytes, sizeof bytes));
    nonce =
        arena_printf(s->arena, "%.*s%.*s", STR_ARG(s->scram.first.nonce), STR_ARG(buf_str(&text)));
    buf_fini(&text);
    return nonce;
}

static enum sasl_status scram_end(struct sasl *s, struct str input, struct str *challenge,
                                  struct error *err)
{
    return SASL_DONE;
}

/* Does the proof fit this verifier? Only if it has the salt that was shown, as all of the account's do. */
static bool fits(struct sasl *s, struct str text, struct str auth_message, const uint8_t *proof,
                 struct scram_verifier *v)
{
    return scram_verifier_parse(s->arena, text, v) &&
           v->iterations == s->scram.verifier.iterations &&
           str_eq(v->salt, s->scram.verifier.salt) && scram_proof_matches(v, auth_message, proof);
}

/* Which of the account's passwords made the proof. */
static const struct stored *find_proven(struct sasl *s, struct str auth_message,
                                        const uint8_t *proof)
{
    struct scram *scram = &s->scram;
    struct scram_verifier v;

    for (size_t i = 0; i < scram->login.stored_count; i++)
        if (fits(s, scram->login.stored[i].scram, auth_message, proof, &v)) {
            scram->verifier = v;
            return &scram->login.stored[i];
        }
    return NULL;
}

/* What the limiter knows a wrong proof by: the password before has its verifier, and is the same guess each time. */
static struct str guess_of(struct sasl *s, struct str auth_message, const uint8_t *proof)
{
    const struct login *login = &s->scram.login;
    struct scram_verifier v;

    for (size_t i = 0; i < login->stored_count; i++)
        if (fits(s, login->stored[i].old_scram, auth_message, proof, &v))
            return login->stored[i].old_scram;
    return digest_str(proof);
}

static int refuse_proof(struct sasl *s, struct str auth_message, const uint8_t *proof,
                        struct error *err)
{
    struct login *login = &s->scram.login;

    /* Where no proof can ever be right, there is nothing to guess: an account from elsewhere is not to be
     * locked for a client that prefers SCRAM. Names that nobody has are counted, or the limit would tell them. */
    if (!s->scram.is_fake || !login->is_known)
        limiter_failed(login->name, guess_of(s, auth_message, proof), &s->origin);
    if (!login->is_known)
        return login_failed(login, "unknown_name", err);
    return login_failed(login, s->scram.is_fake ? "no_scram_verifier" : "wrong_password", err);
}

/* The proof is right; the count of other guesses may have changed since the first message. */
static int accept_proof(struct sasl *s, const struct stored *used, struct error *err)
{
    struct login *login = &s->scram.login;
    struct error cause = {0};

    if (!login->account.is_active)
        return login_failed(login, "suspended", err);
    if (limiter_admit(login->name, &s->origin, &cause) < 0) {
        if (cause.kind == ERR_LIMIT)
            login_limited(login, &cause);
        return fail(err, cause.kind, "%s", cause.text);
    }
    s->account = login->account;
    if (check_authzid(s, s->scram.first.authzid, err) < 0)
        return -1;
    login_succeeded(login, used, STR_NULL);
    s->account = login->account;
    return 0;
}

static enum sasl_status scram_final(struct sasl *s, struct str input, struct str *challenge,
                                    struct error *err)
{
    struct scram *scram = &s->scram;
    struct scram_client_final final;
    const struct stored *used;
    struct str auth_message;

    if (scram_parse_client_final(s->arena, input, &final, err) < 0)
        return SASL_FAILED;
    if (!str_eq(final.nonce, scram->nonce) || !str_eq(final.binding, scram->binding_expected)) {
        login_failed(&scram->login, "wrong_nonce_or_binding", err);
        return SASL_FAILED;
    }
    auth_message =
        scram_auth_message(s->arena, scram->first.bare, scram->server_first, final.without_proof);
    used = scram->is_fake ? NULL : find_proven(s, auth_message, final.proof);
    if (used == NULL ? refuse_proof(s, auth_message, final.proof, err) < 0
                     : accept_proof(s, used, err) < 0)
        return SASL_FAILED;
    *challenge = scram_server_final(s->arena, &scram->verifier, auth_message);
    s->state = scram_end;
    return SASL_CONTINUE;
}

static enum sasl_status scram_first(struct sasl *s, struct str input, struct str *challenge,
                                    struct error *err)
{
    struct scram *scram = &s->scram;
    struct str name;

    /* The message is part of what is signed, and the caller's buffer does not wait for us. */
    input = arena_str(s->arena, input);
    if (scram_parse_client_first(s->arena, input, &scram->first, err) < 0 ||
        settle_binding(s, err) < 0)
        return SASL_FAILED;
    name = scram->first.name;
    if (prepare_name(s, &name, err) < 0 ||
        login_find(s->arena, name, &s->origin, &scram->login, err) < 0 ||
        choose_verifier(s, err) < 0)
        return SASL_FAILED;
    scram->nonce = make_nonce(s);
    scram->server_first = scram_server_first(s->arena, scram->nonce, scram->verifier.salt,
                                             scram->verifier.iterations);
    *challenge = scram->server_first;
    s->state = scram_final;
    return SASL_CONTINUE;
}

/* --- OAUTHBEARER, XOAUTH2 ------------------------------------------------------------------------------ */

/* Whatever the client answers to the reasons, usually ^A or nothing (RFC 7628, 3.2.3). */
static enum sasl_status bearer_reasons_heard(struct sasl *s, struct str input,
                                             struct str *challenge, struct error *err)
{
    fail(err, s->refusal.kind, "%s", s->refusal.text);
    return SASL_FAILED;
}

static enum sasl_status bearer_token(struct sasl *s, const struct sasl_bearer *bearer,
                                     const char *const reasons[], struct str *challenge,
                                     struct error *err)
{
    struct error cause = {0};
    enum bearer_fault fault;

    if (bearer->name.n > NAME_SIZE_MAX) {
        fail(err, ERR_SYNTAX, "the name is too long");
        return SASL_FAILED;
    }
    if (bearer_login(s->arena, bearer->name, bearer->token, &s->origin, &s->account, &fault,
                     &cause) == 0)
        return SASL_DONE;
    if (cause.kind != ERR_AUTH) {
        fail(err, cause.kind, "%s", cause.text);
        return SASL_FAILED;
    }
    s->has_expired = fault == BEARER_EXPIRED;
    s->refusal = cause;
    s->state = bearer_reasons_heard;
    *challenge = str_c(reasons[fault]);
    return SASL_CONTINUE;
}

static enum sasl_status oauthbearer_message(struct sasl *s, struct str input, struct str *challenge,
                                            struct error *err)
{
    static const char *const reasons[] = {
        [BEARER_INVALID] = "{\"status\":\"invalid_token\",\"scope\":\"" BEARER_SCOPE "\"}",
        [BEARER_EXPIRED] = "{\"status\":\"invalid_token\",\"scope\":\"" BEARER_SCOPE "\"}",
        [BEARER_SCOPE_MISSING] =
            "{\"status\":\"insufficient_scope\",\"scope\":\"" BEARER_SCOPE "\"}",
    };
    struct sasl_bearer bearer;

    if (sasl_parse_oauthbearer(s->arena, arena_str(s->arena, input), &bearer, err) < 0)
        return SASL_FAILED;
    return bearer_token(s, &bearer, reasons, challenge, err);
}

static enum sasl_status xoauth2_message(struct sasl *s, struct str input, struct str *challenge,
                                        struct error *err)
{
    static const char *const reasons[] = {
        [BEARER_INVALID] =
            "{\"status\":\"401\",\"schemes\":\"bearer\",\"scope\":\"" BEARER_SCOPE "\"}",
        [BEARER_EXPIRED] =
            "{\"status\":\"401\",\"schemes\":\"bearer\",\"scope\":\"" BEARER_SCOPE "\"}",
        [BEARER_SCOPE_MISSING] =
            "{\"status\":\"403\",\"schemes\":\"bearer\",\"scope\":\"" BEARER_SCOPE "\"}",
    };
    struct sasl_bearer bearer;

    if (sasl_parse_xoauth2(arena_str(s->arena, input), &bearer, err) < 0)
        return SASL_FAILED;
    return bearer_token(s, &bearer, reasons, challenge, err);
}

/* --- mechanisms ------------------------------------------------------------------------------------ */

/* The strongest first: some clients take the first that they know. */
static const struct mechanism mechanisms[] = {
    /* name                start                first challenge  secrecy  TLS    verifier */
    {"SCRAM-SHA-256-PLUS", scram_first, "", false, true, false},
    {"SCRAM-SHA-256", scram_first, "", false, false, false},
    {"PLAIN", plain_message, "", true, false, false},
    {"LOGIN", login_name_given, "Username:", true, false, false},
    {"OAUTHBEARER", oauthbearer_message, "", true, false, true},
    {"XOAUTH2", xoauth2_message, "", true, false, true},
};
#define MECHANISM_COUNT (sizeof mechanisms / sizeof *mechanisms)

static bool is_offered(const struct mechanism *m, const struct conn *c)
{
    if (m->needs_verifier && !bearer_is_accepted())
        return false;
    if (m->needs_secrecy)
        return conn_is_secure(c);
    return !m->needs_tls || offers_binding(c);
}

void sasl_add_mechanisms(struct buf *out, const struct conn *c, const char *prefix)
{
    const char *separator = "";

    for (size_t i = 0; i < MECHANISM_COUNT; i++) {
        if (!is_offered(&mechanisms[i], c))
            continue;
        buf_addf(out, "%s%s%s", separator, prefix, mechanisms[i].name);
        separator = " ";
    }
}

static const struct mechanism *find_mechanism(struct str name)
{
    for (size_t i = 0; i < MECHANISM_COUNT; i++)
        if (str_ieq(name, str_c(mechanisms[i].name)))
            return &mechanisms[i];
    return NULL;
}

struct sasl *sasl_new(struct arena *a, struct str mechanism, struct conn *c, struct str service,
                      struct error *err)
{
    const struct mechanism *m = find_mechanism(mechanism);
    struct sasl *s;

    if (m == NULL || (m->needs_verifier && !bearer_is_accepted()))
        return fail_null(err, ERR_UNSUPPORTED, "this mechanism is not offered here");
    if (!is_offered(m, c))
        return fail_null(err, ERR_DENIED, "this mechanism needs TLS first");
    s = ARENA_NEW(a, struct sasl);
    s->magic = SASL_MAGIC;
    s->arena = a;
    s->conn = c;
    s->origin = (struct login_origin){.service = service,
                                      .address = conn_peer_text(c),
                                      .log = conn_log(c),
                                      .mechanism = str_c(m->name)};
    s->mechanism = m;
    s->state = m->start;
    return s;
}

enum sasl_status sasl_step(struct sasl *s, bool has_input, struct str input, struct str *challenge,
                           struct error *err)
{
    enum sasl_status status;

    CHECK_OBJ(s, SASL_MAGIC);
    *challenge = STR_NULL;
    if (s->state == NULL) {
        fail(err, ERR_SYNTAX, "the exchange is over");
        return SASL_FAILED;
    }
    if (!has_input && s->state == s->mechanism->start) {
        *challenge = str_c(s->mechanism->first_challenge);
        return SASL_CONTINUE;
    }
    status = s->state(s, input, challenge, err);
    if (status != SASL_CONTINUE)
        s->state = NULL;
    return status;
}

void sasl_set_authorizer(struct sasl *s, sasl_authorize *authorize)
{
    s->authorize = authorize;
}

const struct account *sasl_account(const struct sasl *s)
{
    return &s->account;
}

const struct account *sasl_acts_for(const struct sasl *s)
{
    return s->acts_for.account_id != 0 ? &s->acts_for : NULL;
}

bool sasl_has_expired(const struct sasl *s)
{
    return s->has_expired;
}

int sasl_decode_response(struct arena *a, struct str base64, struct str *out, struct error *err)
{
    struct buf raw;
    int status = 0;

    buf_init(&raw, SASL_LINE_SIZE_MAX);
    if (!base64_decode(&raw, base64) || !buf_ok(&raw))
        status = fail(err, ERR_SYNTAX, "the response is not valid base64");
    else
        *out = arena_str(a, buf_str(&raw));
    buf_fini(&raw);
    return status;
}
