/* smtp_session.c - the life of an SMTP or LMTP session: greeting, commands, limits, goodbye.
 *
 * The table says which command is legal when; handlers do one thing each. Mail transactions are in
 * smtp_transaction.c, message data in smtp_data.c, what becomes of it in smtp_deliver.c. */
#include "mail/smtp/smtp_internal.h"

#include <stdlib.h>

#include "mail/smtp/smtp_milter.h"
#include "mail/smtp/smtp_policy.h"
#include "server/base/date.h"
#include "server/base/net.h"
#include "server/base/object.h"
#include "server/directory/sasl.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"

#define TEXT_OF(number) #number
#define TEXT(macro)     TEXT_OF(macro)
#define LINE_MAX_TEXT   TEXT(SMTP_LINE_MAX)
#define ANY_PHASE       (IN(START) | IN(READY) | IN(MAIL) | IN(RCPT) | IN(CHUNKS))

void smtp_greet(struct smtp_session *s)
{
    smtp_reply(s, 220, NULL, "%s %s Merpati", config.hostname,
               s->role == SMTP_LMTP ? "LMTP" : "ESMTP");
}

/* ---- small commands ------------------------------------------------------------------------- */

static bool offers_tls(const struct smtp_session *s)
{
    return !conn_is_tls(s->conn) && conn_peer(s->conn)->ss_family != AF_UNIX;
}

/* The longest time, and the date that it ends at now (RFC 4865, 3). */
static void add_future_release(struct buf *b)
{
    int64_t max_s = config.smtp_future_release_max / 1000;

    buf_addf(b, "250-FUTURERELEASE %lld ", (long long)max_s);
    date_add_rfc3339(b, (time_now_us() / 1000000 + max_s) * 1000000);
    buf_adds(b, "\r\n");
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
    buf_adds(b, "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-BINARYMIME\r\n250-SMTPUTF8\r\n"
                "250-DSN\r\n250-DELIVERBY\r\n250-MT-PRIORITY\r\n");
    if (conn_is_tls(s->conn))
        buf_adds(b, "250-REQUIRETLS\r\n");
    if (s->role != SMTP_LMTP)
        buf_addf(b, "250-LIMITS MAILMAX=%lld RCPTMAX=%lld\r\n", (long long)config.smtp_messages_max,
                 (long long)config.smtp_rcpt_max);
    if (s->role == SMTP_SUBMISSION && config.smtp_future_release_max > 0)
        add_future_release(b);
    if (config.smtp_vrfy)
        buf_adds(b, "250-VRFY\r\n");
    if (s->may_xclient)
        buf_adds(b, "250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n");
    buf_adds(b, "250-HELP\r\n250 CHUNKING\r\n");
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
    if (smtp_milter_helo(s) != 0)
        return 0;
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

void smtp_session_forget(struct smtp_session *s)
{
    smtp_tx_reset(s);
    smtp_milter_forget(s);
    log_init(&s->log, conn_log(s->conn)); /* its fields lie in the arena, and so does `listed` */
    arena_reset(s->arena);
    s->helo = STR_NULL;
    s->is_esmtp = false;
    s->is_logged_in = false;
    s->is_listed_known = false;
    s->listed = STR_NULL;
    login_watch_stop(&s->login);
    s->login.is_over = false;
    s->phase = SMTP_START;
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
    smtp_session_forget(s);
    return 0;
}

static int cmd_noop(struct smtp_session *s, struct str args, struct error *err)
{
    return smtp_reply(s, 250, "2.0.0", "ok");
}

static int cmd_vrfy(struct smtp_session *s, struct str args, struct error *err)
{
    if (!config.smtp_vrfy)
        return smtp_reply(s, 502, "5.5.1", "VRFY is not offered here");
    if (str_empty(args))
        return smtp_reply(s, 501, "5.5.4", "give an address after VRFY");
    return smtp_reply(s, 252, "2.5.0", "send some mail, and we will try our best");
}

/* Who is in a list is nobody's business, and nothing waits here to be fetched. */
static int cmd_refused(struct smtp_session *s, struct str args, struct error *err)
{
    return smtp_reply(s, 502, "5.5.1", "this command is not offered here");
}

static int cmd_help(struct smtp_session *s, struct str args, struct error *err)
{
    return smtp_reply(
        s, 214, "2.0.0",
        "EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY QUIT: see RFC 5321");
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
    bool ends_group;       /* nothing may be sent behind it before its answer (RFC 2920, 3.1) */
    bool is_idle;          /* it brings no message nearer */
    const char *otherwise; /* what to do first, when it is not legal now */
};

/* clang-format off */
static const struct smtp_command smtp_commands[] = {
    /* verb       run               legal in               ends group idle     otherwise */
    {"EHLO",      cmd_ehlo,         ANY_PHASE,             true,      true,    NULL},
    {"HELO",      cmd_helo,         ANY_PHASE,             true,      true,    NULL},
    {"LHLO",      cmd_lhlo,         ANY_PHASE,             true,      true,    NULL},
    {"STARTTLS",  cmd_starttls,     IN(READY),             false,     true,    "STARTTLS comes after EHLO and before MAIL"},
    {"AUTH",      smtp_cmd_auth,    IN(READY),             false,     false,   "AUTH comes after EHLO and before MAIL"},
    {"MAIL",      smtp_cmd_mail,    IN(READY),             false,     false,   "say EHLO first, and one MAIL per message"},
    {"RCPT",      smtp_cmd_rcpt,    IN(MAIL) | IN(RCPT),   false,     false,   "give the sender first: MAIL FROM:<address>"},
    {"DATA",      smtp_cmd_data,    IN(MAIL) | IN(RCPT),   true,      false,   "give the recipients first: RCPT TO:<address>"},
    {"BDAT",      smtp_cmd_bdat,    ANY_PHASE,             false,     false,   NULL}, /* its chunk holds no commands */
    {"RSET",      smtp_cmd_rset,    ANY_PHASE,             false,     true,    NULL},
    {"NOOP",      cmd_noop,         ANY_PHASE,             false,     true,    NULL},
    {"VRFY",      cmd_vrfy,         ANY_PHASE,             false,     true,    NULL},
    {"EXPN",      cmd_refused,      ANY_PHASE,             false,     true,    NULL},
    {"ETRN",      cmd_refused,      ANY_PHASE,             false,     true,    NULL},
    {"TURN",      cmd_refused,      ANY_PHASE,             false,     true,    NULL},
    {"XCLIENT",   smtp_cmd_xclient, IN(START) | IN(READY), false,     false,   "XCLIENT comes before MAIL"},
    {"HELP",      cmd_help,         ANY_PHASE,             false,     true,    NULL},
    {"QUIT",      cmd_quit,         ANY_PHASE,             false,     false,   NULL},
};
/* clang-format on */

static const struct smtp_command *find_command(struct str verb)
{
    for (size_t i = 0; i < sizeof smtp_commands / sizeof *smtp_commands; i++)
        if (str_ieq(verb, str_c(smtp_commands[i].verb)))
            return &smtp_commands[i];
    return NULL;
}

static int close_with(struct smtp_session *s, const char *text)
{
    smtp_reply(s, 554, "5.5.1", "%s", text);
    log_info(&s->log, "session_abused", KV("reason", text));
    s->phase = SMTP_CLOSING;
    return 0;
}

/* A line that we cannot read may end elsewhere for whoever wrote it. Of most commands that costs an error; behind BDAT
 * come bytes that must never be taken for commands. */
static int refuse_line(struct smtp_session *s, struct str line, const char *enhanced,
                       const char *why)
{
    if (str_istarts(line, STR("BDAT")))
        s->phase = SMTP_CLOSING;
    return smtp_reply(s, 500, enhanced, "%s", why);
}

/* Who keeps a session busy and brings no message gains nothing by it. Neighbours on LMTP keep theirs open between messages. */
static bool idles_too_long(struct smtp_session *s, const struct smtp_command *command)
{
    if (!command->is_idle || s->role == SMTP_LMTP || config.smtp_idle_commands_max == 0 ||
        ++s->idle_count <= (unsigned)config.smtp_idle_commands_max)
        return false;
    smtp_reply(s, 421, "4.7.0", "too many commands without a message, goodbye");
    log_info(&s->log, "too_many_idle_commands");
    s->phase = SMTP_CLOSING;
    return true;
}

static int refuse_unknown(struct smtp_session *s, struct str line)
{
    line = arena_str(s->command_arena, line); /* milters may wait, and the line with them */
    if (smtp_milter_unknown(s, line) != 0)
        return 0;
    return refuse_line(s, line, "5.5.1", "unknown command");
}

/* Somebody made a browser talk to us, or what should be a message is not read as one. */
static bool is_no_smtp(struct str verb)
{
    static const char *const others[] = {"GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS"};

    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (str_eq(verb, str_c(others[i])))
            return true;
    return verb.n > 1 && verb.p[verb.n - 1] == ':';
}

static int dispatch(struct smtp_session *s, struct str line, struct error *err)
{
    const struct smtp_command *command;
    struct str verb, args;

    if (!conn_line_had_cr(s->conn))
        return refuse_line(s, line, "5.5.2", "lines must end in CR LF");
    if (line.n > 0 &&
        (memchr(line.p, '\0', line.n) != NULL || memchr(line.p, '\r', line.n) != NULL))
        return refuse_line(s, line, "5.5.2", "a command must hold neither NUL nor CR");
    str_cut(line, ' ', &verb, &args);
    command = find_command(verb);
    if (command == NULL)
        return is_no_smtp(verb) ? close_with(s, "this is SMTP, and that is not")
                                : refuse_unknown(s, line);
    if (smtp_policy_sent_ahead(s, command->ends_group) != 0)
        return 0;
    if (s->phase == SMTP_CHUNKS &&
        loop_now_ms() > s->tx.end_ms) { /* NOOPs would hold its memory for ever */
        smtp_reply(s, 421, "4.4.2", "the message took too long, goodbye");
        s->phase = SMTP_CLOSING;
        return 0;
    }
    if (idles_too_long(s, command))
        return 0;
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
        refuse_line(s, line, "5.5.2", "the line is longer than " LINE_MAX_TEXT " bytes");
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

static void smtp_close(void *session)
{
    struct smtp_session *s = session;

    CHECK_OBJ(s, SMTP_SESSION_MAGIC);
    login_watch_stop(&s->login);
    smtp_milter_close(s);
    smtp_tx_reset(s);
    buf_fini(&s->tx.message);
    arena_free(&s->command_arena);
    arena_free(&s->tx_arena);
    arena_free(&s->arena);
    s->magic = 0;
    free(s);
}

static struct smtp_session *session_new(struct conn *c, int tag)
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
    return s;
}

static void *smtp_open(struct conn *c, int tag)
{
    struct smtp_session *s = session_new(c, tag);

    s->may_xclient = net_list_contains(str_c(config.smtp_xclient_networks), conn_peer(c));
    smtp_policy_meet(s);
    if (smtp_policy_connect(s) != 0 || smtp_milter_connect(s) != 0) {
        smtp_close(s);
        return NULL;
    }
    smtp_greet(s);
    return s;
}

const struct service smtp_service = {
    .name = "smtp",
    .open = smtp_open,
    .step = smtp_step,
    .close = smtp_close,
    .busy = "421 4.3.2 too many connections, come back later\r\n",
};
