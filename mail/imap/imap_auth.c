/* imap_auth.c - STARTTLS, LOGIN, AUTHENTICATE, UNAUTHENTICATE.
 *
 * Passwords in the clear are taken only on a connection that conn_is_secure() vouches for. What
 * goes wrong with a name or a password is one answer, made by the directory. */
#include "mail/imap/imap_capability.h"
#include "mail/imap/imap_command.h"
#include "mail/imap/imap_language.h"
#include "mail/imap/imap_notify.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_select.h"
#include "server/base/encode.h"
#include "server/base/log.h"
#include "server/directory/sasl.h"
#include "server/run/config.h"
#include "server/run/loop.h"

int imap_cmd_starttls(struct imap_session *s, struct imap_command *c, struct error *err)
{
    if (imap_parse_end(&c->args, err) < 0)
        return -1;
    if (conn_is_tls(s->conn))
        return fail(err, ERR_SYNTAX, "TLS is active already");
    c->done = "Begin TLS negotiation now";
    imap_reply_done(s, c);
    c->is_answered = true;
    conn_set_deadline(s->conn, config.imap_login_timeout);
    if (conn_start_tls(s->conn, err) < 0) {
        log_info(conn_log(s->conn), "starttls_failed", KV_ERR(err));
        s->phase = IMAP_LOGOUT;
        return -1;
    }
    return 0;
}

static void login_revoked(struct login_watch *w)
{
    conn_wake(CONTAINER_OF(w, struct imap_session, login)->conn);
}

static void logged_in(struct imap_session *s, struct imap_command *c, const struct account *account)
{
    struct buf code;

    s->account_id = account->account_id;
    s->phase = IMAP_AUTHENTICATED;
    login_watch_start(&s->login, account, login_revoked);
    s->has_quota = account->quota_bytes > 0 || account->quota_messages > 0;
    s->is_over_quota = false;
    conn_set_output_max(s->conn, SIZE_MAX);
    log_add(conn_log(s->conn), KV("account", account->account_id));
    buf_init(&code, SIZE_MAX);
    imap_add_capabilities(s, &code);
    c->code = arena_str(s->arena, buf_str(&code));
    c->done = "Logged in";
    buf_fini(&code);
}

static void forget_user(struct imap_session *s)
{
    imap_deselect(s);
    imap_notify_stop(s);
    log_drop(conn_log(s->conn), "account");
    login_watch_stop(&s->login);
    s->login.is_over = false;
    s->account_id = 0;
    s->enabled = 0;
    s->language = LANGUAGE_DEFAULT;
    s->opened_ms = loop_now_ms();
    s->phase = IMAP_NEW;
    conn_set_output_max(s->conn, IMAP_NEW_OUTPUT_MAX);
}

/* RFC 8437: everything about the user and what they switched on is forgotten, compression too,
 * which ends behind our answer; TLS stays. NO is not among the answers. */
int imap_cmd_unauthenticate(struct imap_session *s, struct imap_command *c, struct error *err)
{
    if (imap_parse_end(&c->args, err) < 0)
        return -1;
    forget_user(s);
    c->done = "Logged out, the connection stays";
    imap_reply_done(s, c);
    c->is_answered = true;
    if (conn_stop_compression(s->conn, err) < 0)
        s->phase = IMAP_LOGOUT;
    return 0;
}

/* --- LOGIN ------------------------------------------------------------------------------------ */

static int parse_login(struct imap_session *s, struct imap_command *c, struct str *name,
                       struct str *password, struct error *err)
{
    if (imap_parse_astring(&c->args, s->arena, name, "a user name", err) < 0 ||
        imap_parse_space(&c->args, err) < 0 ||
        imap_parse_astring(&c->args, s->arena, password, "a password", NULL) < 0)
        return fail(err, ERR_SYNTAX, "expected a user name and a password");
    return imap_parse_at_end(&c->args)
               ? 0
               : fail(err, ERR_SYNTAX, "expected nothing behind the password");
}

int imap_cmd_login(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct login_origin origin = {.service = STR("imap"),
                                  .address = conn_peer_text(s->conn),
                                  .log = conn_log(s->conn),
                                  .mechanism = STR("LOGIN")};
    struct str name, password;
    struct account account;

    if (parse_login(s, c, &name, &password, err) < 0)
        return -1;
    if (!conn_is_secure(s->conn)) {
        c->refusal = "PRIVACYREQUIRED";
        return fail(err, ERR_DENIED, "Start TLS before logging in");
    }
    if (credential_verify(s->arena, name, password, &origin, &account, err) < 0)
        return -1;
    logged_in(s, c, &account);
    return 0;
}

/* --- AUTHENTICATE ----------------------------------------------------------------------------- */

/* Mechanism, and the initial response when there is one; "=" is an empty one (RFC 4959). */
static int parse_authenticate(struct imap_session *s, struct imap_command *c, struct str *mechanism,
                              bool *has_input, struct str *input, struct error *err)
{
    struct str rest;

    if (imap_parse_atom(&c->args, mechanism, "a SASL mechanism", err) < 0)
        return -1;
    *has_input = imap_parse_skip(&c->args, ' ');
    *input = STR("");
    if (!*has_input)
        return imap_parse_end(&c->args, err);
    rest = imap_parse_rest(&c->args);
    return str_eq(rest, STR("=")) ? 0 : sasl_decode_response(s->arena, rest, input, err);
}

static PARKS int challenge_client(struct imap_session *s, struct imap_command *c,
                                  struct str challenge, struct str *input, struct error *err)
{
    struct str line;
    struct buf out;

    buf_init(&out, SIZE_MAX);
    buf_add(&out, STR("+ "));
    base64_encode(&out, challenge);
    buf_add(&out, STR("\r\n"));
    imap_write_buf(s, &out);
    buf_fini(&out);
    if (conn_read_line(s->conn, SASL_LINE_SIZE_MAX, &line, err) < 0)
        return err->kind == ERR_TOO_BIG ? -1 : imap_connection_lost(s, c);
    if (str_eq(line, STR("*")))
        return fail(err, ERR_SYNTAX, "authentication was called off");
    return sasl_decode_response(s->arena, line, input, err);
}

static PARKS int converse(struct imap_session *s, struct imap_command *c, struct sasl *sasl,
                          bool has_input, struct str input, struct error *err)
{
    for (;;) {
        struct str challenge = STR("");
        enum sasl_status status = sasl_step(sasl, has_input, input, &challenge, err);

        if (status == SASL_FAILED)
            return -1;
        if (status == SASL_DONE)
            return 0;
        if (challenge_client(s, c, challenge, &input, err) < 0)
            return -1;
        has_input = true;
    }
}

int imap_cmd_authenticate(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct str mechanism, input;
    struct sasl *sasl;
    bool has_input;

    if (parse_authenticate(s, c, &mechanism, &has_input, &input, err) < 0)
        return -1;
    sasl = sasl_new(s->arena, mechanism, s->conn, STR("imap"), err);
    if (sasl == NULL) {
        c->refusal = err->kind == ERR_DENIED ? "PRIVACYREQUIRED" : NULL;
        return -1;
    }
    if (converse(s, c, sasl, has_input, input, err) < 0) {
        c->refusal = err->kind == ERR_DENIED                           ? "AUTHORIZATIONFAILED"
                     : err->kind == ERR_AUTH && sasl_has_expired(sasl) ? "EXPIRED"
                                                                       : NULL;
        return -1;
    }
    logged_in(s, c, sasl_account(sasl));
    return 0;
}
