/* managesieve_auth.c - STARTTLS, AUTHENTICATE and back.
 *
 * Scripts of a shared mailbox are looked after by those who may administer its INBOX (RFC 4314): they log in as themselves
 * and name its address as the authorization identity. */
#include <stdlib.h>

#include "mail/sieve/managesieve_internal.h"
#include "mail/store/access.h"
#include "mail/store/mailbox.h"
#include "server/base/encode.h"
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/directory/sasl.h"
#include "server/run/loop.h"

/* Nothing was said before that could count afterwards but the capabilities, which are said anew (RFC 5804, 2.2). */
int managesieve_cmd_starttls(struct managesieve_session *s, const struct managesieve_command *c,
                             struct error *err)
{
    struct error cause = {0};

    if (conn_is_tls(s->conn))
        return fail(err, ERR_DENIED, "TLS is active already");
    managesieve_ok(s, "begin TLS negotiation");
    if (conn_start_tls(s->conn, &cause) < 0) {
        log_info(conn_log(s->conn), "starttls_failed", KV_ERR(&cause));
        s->phase = MANAGESIEVE_CLOSING; /* what comes next could be anybody's */
        return 0;
    }
    managesieve_say_capabilities(s);
    return 0;
}

/* ---- AUTHENTICATE ---------------------------------------------------------------------------- */

static int authorize(struct arena *a, const struct account *who, const struct account *for_whom,
                     struct error *err)
{
    struct mailbox_key inbox = {for_whom->account_id, INBOX_ID};
    unsigned rights;

    if (access_rights(who->account_id, inbox, &rights, err) < 0)
        return -1;
    return rights & RIGHT_ADMINISTER
               ? 0
               : fail(err, ERR_DENIED,
                      "looking after the filters of another account needs the right \"a\" in its "
                      "INBOX");
}

/* The client's answer to a challenge is a string; "*" calls it off (RFC 5804, 2.1). */
static int challenge_client(struct managesieve_session *s, struct str challenge, struct str *input,
                            struct error *err)
{
    struct managesieve_command answer;
    struct buf out, text;

    buf_init(&out, SIZE_MAX);
    buf_init(&text, SIZE_MAX);
    base64_encode(&text, challenge);
    managesieve_add_string(&out, buf_str(&text));
    buf_adds(&out, "\r\n");
    conn_write(s->conn, buf_str(&out));
    buf_fini(&text);
    buf_fini(&out);
    if (managesieve_read(s, true, &answer, err) < 0)
        return -1;
    if (answer.n != 1 || answer.v[0].is_number)
        return fail(err, ERR_SYNTAX, "expected a string as the answer");
    if (str_eq(answer.v[0].text, STR("*")))
        return fail(err, ERR_SYNTAX, "authentication was called off");
    return sasl_decode_response(s->arena, answer.v[0].text, input, err);
}

static int converse(struct managesieve_session *s, struct sasl *sasl, bool has_input,
                    struct str input, struct error *err)
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

static void login_revoked(struct login_watch *w)
{
    conn_wake(CONTAINER_OF(w, struct managesieve_session, login)->conn);
}

static void enter(struct managesieve_session *s, const struct sasl *sasl)
{
    const struct account *who = sasl_account(sasl), *owner = sasl_acts_for(sasl);

    if (owner == NULL)
        owner = who;
    s->account_id = owner->account_id;
    s->owner = memory_copy_str(owner->address);
    s->phase = MANAGESIEVE_READY;
    login_watch_start(&s->login, who, login_revoked);
    conn_set_output_max(s->conn, SIZE_MAX);
    log_add(conn_log(s->conn), KV("account", who->account_id));
    if (owner != who)
        log_info(conn_log(s->conn), "managesieve_acts_for", KV("owner", owner->address));
    managesieve_ok(s, "logged in");
}

int managesieve_cmd_authenticate(struct managesieve_session *s, const struct managesieve_command *c,
                                 struct error *err)
{
    struct str input = STR("");
    bool has_input = c->n > 1;
    struct sasl *sasl;

    if (has_input && sasl_decode_response(s->arena, c->v[1].text, &input, err) < 0)
        return -1;
    sasl = sasl_new(s->arena, c->v[0].text, s->conn, STR("sieve"), err);
    if (sasl == NULL && err->kind == ERR_DENIED) {
        managesieve_refuse(s, "NO", "ENCRYPT-NEEDED", STR("give STARTTLS before logging in"));
        return 0;
    }
    if (sasl == NULL)
        return -1;
    sasl_set_authorizer(sasl, authorize);
    if (converse(s, sasl, has_input, input, err) < 0)
        return -1;
    enter(s, sasl);
    return 0;
}

int managesieve_cmd_unauthenticate(struct managesieve_session *s,
                                   const struct managesieve_command *c, struct error *err)
{
    login_watch_stop(&s->login);
    s->login = (struct login_watch){0};
    log_drop(conn_log(s->conn), "account");
    free(s->owner);
    s->owner = NULL;
    s->account_id = 0;
    s->phase = MANAGESIEVE_NEW;
    s->opened_ms = loop_now_ms();
    managesieve_ok(s, "logged out of the account");
    return 0;
}
