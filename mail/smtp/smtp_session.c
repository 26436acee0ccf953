/* smtp_session.c - the life of an SMTP or LMTP session: greeting, commands, limits, goodbye.
 *
 * The table says which command is legal when; handlers do one thing each. Mail transactions are in
 * smtp_transaction.c, message data in smtp_data.c, what becomes of it in smtp_deliver.c. */
#include "mail/smtp/smtp_internal.h"

#include <stdlib.h>

#include "server/base/object.h"
#include "server/directory/sasl.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

#define ANY_PHASE (IN(START) | IN(READY) | IN(MAIL) | IN(RCPT) | IN(CHUNKS))

/* ---- small commands ------------------------------------------------------------------------- */

static bool offers_tls(const struct smtp_session *s)
{
    return !conn_is_tls(s->conn) && conn_peer(s->conn)->ss_family != AF_UNIX;
}

static void add_extensions(struct smtp_session *s, struct buf *b)
{
    buf_adds(b, "250-PIPELINING\r\n");
    buf_addf(b, "250-SIZE %lld\r\n", (long long)config.smtp_size_max);
    if (offers_tls(s))
        buf_adds(b, "250-STARTTLS\r\n");
    if (smtp_auth_is_offered(s) && !s->is_logged_in) {
        struct buf words;
        buf_init(&words, 256);
        sasl_add_mechanisms(&words, s->conn, "");
        if (words.n > 0)
            buf_addf(b, "250-AUTH %.*s\r\n", STR_ARG(str_trim(buf_str(&words))));
        buf_fini(&words);
    }
    buf_adds(b, "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n");
}

static int greet_back(struct smtp_session *s, struct str name, bool is_extended)
{
    struct buf b;

    if (!smtp_helo_is_valid(name))
        return smtp_reply(s, 501, "5.5.4", "give your host's name or [address] after the command");
    smtp_tx_reset(s);
    s->phase = SMTP_READY;
    memcpy(s->helo_text, name.p, name.n);
    s->helo = str_of(s->helo_text, name.n);
    s->is_esmtp = is_extended;
    if (!is_extended)
        return smtp_reply(s, 250, NULL, "%s", config.hostname);
    buf_init(&b, 2048);
    buf_addf(&b, "250-%s\r\n", config.hostname);
    add_extensions(s, &b);
    conn_write(s->conn, buf_str(&b));
    buf_fini(&b);
    return 0;
}

static int cmd_ehlo(struct smtp_session *s, struct str args, struct error *err)
{
    if (s->role == SMTP_LMTP)
        return smtp_reply(s, 500, "5.5.1", "this is LMTP: begin with LHLO");
    return greet_back(s, args, true);
}

static int cmd_helo(struct smtp_session *s, struct str args, struct error *err)
{
    if (s->role == SMTP_LMTP)
        return smtp_reply(s, 500, "5.5.1", "this is LMTP: begin with LHLO");
    return greet_back(s, args, false);
}

static int cmd_lhlo(struct smtp_session *s, struct str args, struct error *err)
{
    if (s->role != SMTP_LMTP)
        return smtp_reply(s, 500, "5.5.1", "this is SMTP: begin with EHLO");
    return greet_back(s, args, true);
}

/* Everything learned before TLS is forgotten (RFC 3207, 4.2). */
static int cmd_starttls(struct smtp_session *s, struct str args, struct error *err)
{
    if (!offers_tls(s))
        return smtp_reply(s, 503, "5.5.1", "TLS is active already");
    if (!str_empty(args))
        return smtp_reply(s, 501, "5.5.4", "STARTTLS takes no argument");
    smtp_reply(s, 220, "2.0.0", "go ahead");
    if (conn_start_tls(s->conn, err) < 0) {
        s->phase = SMTP_CLOSING; /* what comes next could be anybody's */
        return -1;
    }
    smtp_tx_reset(s);
    log_init(&s->log, conn_log(s->conn)); /* its fields lie in the arena */
    arena_reset(s->arena);
    s->helo = STR_NULL;
    s->is_logged_in = false;
    login_watch_stop(&s->login);
    s->login.is_over = false;
    s->phase = SMTP_START;
    return 0;
}

static int cmd_noop(struct smtp_session *s, struct str args, struct error *err)
{
    return smtp_reply(s, 250, "2.0.0", "ok");
}

static int cmd_vrfy(struct smtp_session *s, struct str args, struct error *err)
{
    return smtp_reply(s, 252, "2.5.0", "send some mail, and we will try our best");
}

static int cmd_help(struct smtp_session *s, struct str args, struct error *err)
{
    return smtp_reply(s, 214, "2.0.0", "see RFC 5321");
}

static int cmd_quit(struct smtp_session *s, struct str args, struct error *err)
{
    smtp_reply(s, 221, "2.0.0", "goodbye");
    s->phase = SMTP_CLOSING;
    return 0;
}

/* ---- dispatch -------------------------------------------------------------------------------- */

struct smtp_command {
    const char *verb;
    int (*run)(struct smtp_session *s, struct str args, struct error *err);
    unsigned legal_in;
    const char *otherwise; /* what to do first, when it is not legal now */
};

/* clang-format off */
static const struct smtp_command smtp_commands[] = {
    /* verb       run            legal in                        otherwise */
    {"EHLO",      cmd_ehlo,      ANY_PHASE,                      NULL},
    {"HELO",      cmd_helo,      ANY_PHASE,                      NULL},
    {"LHLO",      cmd_lhlo,      ANY_PHASE,                      NULL},
    {"STARTTLS",  cmd_starttls,  IN(READY),                      "STARTTLS comes after EHLO and before MAIL"},
    {"AUTH",      smtp_cmd_auth, IN(READY),                      "AUTH comes after EHLO and before MAIL"},
    {"MAIL",      smtp_cmd_mail, IN(READY),                      "say EHLO first, and one MAIL per message"},
    {"RCPT",      smtp_cmd_rcpt, IN(MAIL) | IN(RCPT),            "give the sender first: MAIL FROM:<address>"},
    {"DATA",      smtp_cmd_data, IN(MAIL) | IN(RCPT),            "give the recipients first: RCPT TO:<address>"},
    {"BDAT",      smtp_cmd_bdat, ANY_PHASE,                      NULL}, /* its chunk holds no commands */
    {"RSET",      smtp_cmd_rset, ANY_PHASE,                      NULL},
    {"NOOP",      cmd_noop,      ANY_PHASE,                      NULL},
    {"VRFY",      cmd_vrfy,      ANY_PHASE,                      NULL},
    {"HELP",      cmd_help,      ANY_PHASE,                      NULL},
    {"QUIT",      cmd_quit,      ANY_PHASE,                      NULL},
};
/* clang-format on */

static const struct smtp_command *find_command(struct str verb)
{
    for (size_t i = 0; i < sizeof smtp_commands / sizeof *smtp_commands; i++)
        if (str_ieq(verb, str_c(smtp_commands[i].verb)))
            return &smtp_commands[i];
    return NULL;
}

static int dispatch(struct smtp_session *s, struct str line, struct error *err)
{
    const struct smtp_command *command;
    struct str verb, args;

    if (!conn_line_had_cr(s->conn))
        return smtp_reply(s, 500, "5.5.2", "lines must end in CR LF");
    if (memchr(line.p, '\0', line.n) != NULL)
        return smtp_reply(s, 500, "5.5.2", "a command must not hold NUL");
    str_cut(line, ' ', &verb, &args);
    command = find_command(verb);
    if (command == NULL)
        return smtp_reply(s, 500, "5.5.1", "unknown command");
    if (!(command->legal_in & (1u << s->phase)))
        return smtp_reply(s, 503, "5.5.1", "%s", command->otherwise);
    return command->run(s, str_trim(args), err);
}

/* ---- life ------------------------------------------------------------------------------------- */

static enum step end_session(struct smtp_session *s, const struct error *err)
{
    if (err->kind == ERR_TIMED_OUT)
        smtp_reply(s, 421, "4.4.2", "%s waited too long for you, goodbye", config.hostname);
    else if (err->kind == ERR_CANCELLED)
        smtp_reply(s, 421, "4.3.2", "%s is restarting, come back in a moment", config.hostname);
    log_debug(&s->log, "session_end", KV_ERR(err));
    return STEP_END;
}

/* Suspended, removed, or the password is another now. */
static enum step end_revoked(struct smtp_session *s)
{
    smtp_reply(s, 421, "4.7.0", "the account or its password has changed, please log in again");
    return STEP_END;
}

static enum step smtp_step(void *session)
{
    struct smtp_session *s = session;
    struct error err = {0};
    struct str line;

    CHECK_OBJ(s, SMTP_SESSION_MAGIC);
    if (s->login.is_over)
        return end_revoked(s);
    if (conn_take_wake(s->conn) && !conn_has_input(s->conn))
        return STEP_REST;
    arena_reset(s->command_arena);
    conn_set_deadline(s->conn, config.smtp_timeout);
    if (conn_read_line(s->conn, SMTP_LINE_MAX, &line, &err) < 0) {
        if (err.kind != ERR_TOO_BIG)
            return end_session(s, &err);
        smtp_reply(s, 500, "5.5.2", "the line is longer than %d bytes", SMTP_LINE_MAX);
    } else if (dispatch(s, line, &err) < 0) {
        if (err.kind == ERR_CLOSED || err.kind == ERR_TIMED_OUT || err.kind == ERR_CANCELLED)
            return end_session(s, &err);
        smtp_reply_error(s, &err);
    }
    /* A neighbour on LMTP brings everybody's mail over one connection: refusals are no attack. */
    if (s->role != SMTP_LMTP && s->error_count > (unsigned)config.smtp_errors_max) {
        smtp_reply(s, 421, "4.7.0", "too many refused commands, goodbye");
        log_info(&s->log, "too_many_errors");
        return STEP_END;
    }
    return s->phase == SMTP_CLOSING ? STEP_END : STEP_REST;
}

static void *smtp_open(struct conn *c, int tag)
{
    struct smtp_session *s = calloc(1, sizeof *s);

    if (s == NULL)
        abort();
    s->magic = SMTP_SESSION_MAGIC;
    s->role = (enum smtp_role)tag;
    s->conn = c;
    s->arena = arena_new();
    s->tx_arena = arena_new();
    s->command_arena = arena_new();
    log_init(&s->log, conn_log(c));
    smtp_message_discard(&s->tx);
    conn_set_rest_timeout(c, config.smtp_timeout);
    smtp_reply(s, 220, NULL, "%s %s Merpati", config.hostname,
               s->role == SMTP_LMTP ? "LMTP" : "ESMTP");
    return s;
}

static void smtp_close(void *session)
{
    struct smtp_session *s = session;

    CHECK_OBJ(s, SMTP_SESSION_MAGIC);
    login_watch_stop(&s->login);
    smtp_tx_reset(s);
    buf_fini(&s->tx.message);
    arena_free(&s->command_arena);
    arena_free(&s->tx_arena);
    arena_free(&s->arena);
    s->magic = 0;
    free(s);
}

const struct service smtp_service = {
    .name = "smtp",
    .open = smtp_open,
    .step = smtp_step,
    .close = smtp_close,
    .busy = "421 4.3.2 too many connections, come back later\r\n",
};
