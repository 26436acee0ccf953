/* smtp_auth.c - AUTH (RFC 4954): carries SASL's exchange over SMTP lines. */
#include "mail/smtp/smtp_internal.h"

#include <stdio.h>

#include "server/base/encode.h"
#include "server/directory/sasl.h"
#include "server/run/config.h"

bool smtp_auth_is_offered(const struct smtp_session *s)
{
    return s->role == SMTP_SUBMISSION || (s->role == SMTP_MX && config.smtp_auth_on_25);
}

static int send_challenge(struct smtp_session *s, struct str challenge)
{
    struct buf b;

    buf_init(&b, 2 * SMTP_LINE_MAX);
    buf_adds(&b, "334 ");
    base64_encode(&b, challenge);
    buf_adds(&b, "\r\n");
    conn_write(s->conn, buf_str(&b));
    buf_fini(&b);
    return 0;
}

/* The client's answer, decoded into the command arena. "*" calls the exchange off. */
static int read_answer(struct smtp_session *s, struct str *answer, struct error *err)
{
    struct str line;

    if (conn_read_line(s->conn, SMTP_LINE_MAX, &line, err) < 0)
        return -1;
    if (str_eq(line, STR("*")))
        return fail(err, ERR_SYNTAX, "log-in called off");
    *answer = line;
    return 0;
}

static void login_revoked(struct login_watch *w)
{
    conn_wake(CONTAINER_OF(w, struct smtp_session, login)->conn);
}

void smtp_set_login(struct smtp_session *s, const struct account *account)
{
    s->is_logged_in = true;
    s->account_id = account->account_id;
    login_watch_start(&s->login, account, login_revoked);
    s->account_address = arena_str(s->arena, account->address);
    log_add(&s->log, KV("account", s->account_address));
}

static int exchange(struct smtp_session *s, struct sasl *sasl, bool has_input, struct str text,
                    struct error *err)
{
    for (;;) {
        struct str input = STR(""), challenge;
        enum sasl_status status;

        if (has_input && !str_eq(text, STR("=")) &&
            sasl_decode_response(s->command_arena, text, &input, err) < 0)
            return -1;
        status = sasl_step(sasl, has_input, input, &challenge, err);
        if (status == SASL_FAILED)
            return -1;
        if (status == SASL_DONE) {
            smtp_set_login(s, sasl_account(sasl));
            return smtp_reply(s, 235, "2.7.0", "welcome");
        }
        send_challenge(s, challenge);
        if (read_answer(s, &text, err) < 0)
            return err->kind == ERR_TOO_BIG ? smtp_reply(s, 500, "5.5.6", "%s", err->text) : -1;
        has_input = true;
    }
}

int smtp_cmd_auth(struct smtp_session *s, struct str args, struct error *err)
{
    struct str mechanism, initial;
    struct sasl *sasl;
    bool has_initial;

    if (!smtp_auth_is_offered(s))
        return smtp_reply(s, 503, "5.5.1", "logging in is not offered here");
    if (s->is_logged_in)
        return smtp_reply(s, 503, "5.5.1", "you are logged in already");
    if (str_empty(args))
        return smtp_reply(s, 501, "5.5.4", "name a mechanism: AUTH SCRAM-SHA-256");
    has_initial = str_cut(args, ' ', &mechanism, &initial);
    initial = arena_str(s->command_arena, initial);
    mechanism = arena_str(s->command_arena, mechanism);
    sasl = sasl_new(s->command_arena, mechanism, s->conn, STR("smtp"), err);
    if (sasl == NULL)
        return err->kind == ERR_DENIED ? smtp_reply(s, 538, "5.7.11", "%s", err->text) : -1;
    snprintf(s->auth_mechanism, sizeof s->auth_mechanism, "%.*s", STR_ARG(mechanism));
    return exchange(s, sasl, has_initial, initial, err);
}
