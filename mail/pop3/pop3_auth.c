/* pop3_auth.c - STLS, USER and PASS, AUTH, and the way into the maildrop.
 *
 * Passwords in the clear are taken only on a connection that conn_is_secure() vouches for. There
 * is no APOP: its secret would have to be kept readable. */
#include <stdlib.h>

#include "mail/pop3/pop3_internal.h"
#include "server/base/encode.h"
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/directory/sasl.h"
#include "server/run/config.h"

#define USER_SIZE_MAX 1024

static void forget_user(struct pop3_session *s)
{
    free(s->user);
    s->user = NULL;
}

/* What was said before TLS counts no more (RFC 2595, 4). */
int pop3_cmd_stls(struct pop3_session *s, struct str args, struct error *err)
{
    if (conn_is_tls(s->conn))
        return fail(err, ERR_DENIED, "TLS is active already");
    if (s->is_utf8)
        return fail(err, ERR_DENIED, "STLS comes before UTF8");
    conn_write(s->conn, STR("+OK begin TLS negotiation\r\n"));
    forget_user(s);
    if (conn_start_tls(s->conn, err) < 0) {
        log_info(conn_log(s->conn), "starttls_failed", KV_ERR(err));
        s->phase = POP3_CLOSING; /* what comes next could be anybody's */
        return -1;
    }
    return 0;
}

/* --- into the maildrop ------------------------------------------------------------------------ */

static void login_revoked(struct login_watch *w)
{
    conn_wake(CONTAINER_OF(w, struct pop3_session, login)->conn);
}

static int enter(struct pop3_session *s, const struct account *account, struct error *err)
{
    if (pop3_maildrop_open(&s->drop, account->account_id, err) < 0)
        return -1;
    forget_user(s);
    s->account_id = account->account_id;
    s->phase = POP3_TRANSACTION;
    login_watch_start(&s->login, account, login_revoked);
    conn_set_output_max(s->conn, SIZE_MAX);
    log_add(conn_log(s->conn), KV("account", account->account_id));
    conn_printf(s->conn, "+OK maildrop has %u messages\r\n", s->drop.count);
    return 0;
}

/* --- USER, PASS ------------------------------------------------------------------------------- */

static int refuse_in_clear(struct pop3_session *s)
{
    return pop3_refuse(s, "SYS/PERM", "give STLS before logging in");
}

int pop3_cmd_user(struct pop3_session *s, struct str args, struct error *err)
{
    if (!conn_is_secure(s->conn))
        return refuse_in_clear(s);
    if (args.n == 0 || args.n > USER_SIZE_MAX)
        return fail(err, ERR_SYNTAX, "expected a user name");
    forget_user(s);
    s->user = memory_copy_str(args);
    conn_write(s->conn, STR("+OK give the password\r\n"));
    return 0;
}

/* The password is all that follows, spaces included. */
int pop3_cmd_pass(struct pop3_session *s, struct str args, struct error *err)
{
    struct login_origin origin = {.service = STR("pop3"),
                                  .address = conn_peer_text(s->conn),
                                  .log = conn_log(s->conn),
                                  .mechanism = STR("PASS")};
    struct account account;
    struct str user;

    if (!conn_is_secure(s->conn))
        return refuse_in_clear(s);
    if (s->user == NULL)
        return fail(err, ERR_SYNTAX, "USER comes first");
    if (args.n == 0)
        return fail(err, ERR_SYNTAX, "expected a password");
    user = arena_str(s->arena, str_c(s->user));
    args = arena_str(s->arena, args);
    forget_user(s);
    if (credential_verify(s->arena, user, args, &origin, &account, err) < 0)
        return -1;
    return enter(s, &account, err);
}

/* --- AUTH (RFC 5034) -------------------------------------------------------------------------- */

static int challenge_client(struct pop3_session *s, struct str challenge, struct str *input,
                            struct error *err)
{
    struct str line;
    struct buf out;

    buf_init(&out, SIZE_MAX);
    buf_add(&out, STR("+ "));
    base64_encode(&out, challenge);
    buf_add(&out, STR("\r\n"));
    pop3_write_buf(s, &out);
    buf_fini(&out);
    if (conn_read_line(s->conn, SASL_LINE_SIZE_MAX, &line, err) < 0)
        return -1;
    if (str_eq(line, STR("*")))
        return fail(err, ERR_SYNTAX, "authentication was called off");
    return sasl_decode_response(s->arena, line, input, err);
}

static int converse(struct pop3_session *s, struct sasl *sasl, bool has_input, struct str input,
                    struct error *err)
{
    for (;;) {
        struct str challenge = STR("");
        enum sasl_status status = sasl_step(sasl, has_input, input, &challenge, err);

        if (status != SASL_CONTINUE)
            return status == SASL_DONE ? 0 : -1;
        if (challenge_client(s, challenge, &input, err) < 0)
            return -1;
        has_input = true;
    }
}

/* "AUTH" alone, as older clients ask. */
static int list_mechanisms(struct pop3_session *s)
{
    struct str rest, word;
    struct buf words;

    buf_init(&words, SIZE_MAX);
    sasl_add_mechanisms(&words, s->conn, "");
    conn_write(s->conn, STR("+OK mechanisms follow\r\n"));
    rest = buf_str(&words);
    while (str_next_token(&rest, ' ', &word))
        conn_printf(s->conn, "%.*s\r\n", STR_ARG(word));
    conn_write(s->conn, STR(".\r\n"));
    buf_fini(&words);
    return 0;
}

int pop3_cmd_auth(struct pop3_session *s, struct str args, struct error *err)
{
    struct str mechanism, text, input = STR("");
    bool has_input;
    struct sasl *sasl;

    if (args.n == 0)
        return list_mechanisms(s);
    has_input = str_cut(arena_str(s->arena, args), ' ', &mechanism, &text);
    if (has_input && !str_eq(text, STR("=")) &&
        sasl_decode_response(s->arena, text, &input, err) < 0)
        return -1;
    sasl = sasl_new(s->arena, mechanism, s->conn, STR("pop3"), err);
    if (sasl == NULL)
        return err->kind == ERR_DENIED ? refuse_in_clear(s) : -1;
    if (converse(s, sasl, has_input, input, err) < 0)
        return -1;
    return enter(s, sasl_account(sasl), err);
}
