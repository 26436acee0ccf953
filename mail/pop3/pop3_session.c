/* pop3_session.c - the life of a POP3 session: greeting, one command per round, goodbye.
 *
 * The table says which command is legal when; handlers answer +OK themselves, and their errors
 * become -ERR here. A session that ends without QUIT changes nothing (RFC 1939, 6). */
#include <stdlib.h>

#include "mail/pop3/pop3_internal.h"
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/base/object.h"
#include "server/directory/sasl.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"

#define POP3_SESSION_MAGIC  0x90930001u
#define STALL_MS            (5 * 60 * 1000) /* for a line, or for the client to take something */
#define LINE_SIZE_MAX       16384           /* AUTH needs the most; bearer tokens are long */
#define OUTPUT_NEW_MAX      16384           /* answers that may pend before log-in */
#define REPLY_TEXT_SIZE_MAX 400             /* RFC 2449, 4: a line has 512 bytes */

/* --- answers ---------------------------------------------------------------------------------- */

/* RFC 2449, 8; RFC 3206. NULL: the text says it all. */
static const char *const codes[ERR_KIND_COUNT] = {
    [ERR_AUTH] = "AUTH",          [ERR_CONFLICT] = "IN-USE",   [ERR_LIMIT] = "SYS/TEMP",
    [ERR_TRY_LATER] = "SYS/TEMP", [ERR_INTERNAL] = "SYS/TEMP", [ERR_NONE] = "SYS/TEMP",
};

/* Texts may quote the client: an answer stays one line of ASCII. */
static void add_text(struct buf *out, struct str text)
{
    text = str_head(text, REPLY_TEXT_SIZE_MAX);
    for (size_t i = 0; i < text.n; i++)
        buf_addc(out, text.p[i] < ' ' || text.p[i] > '~' ? '?' : text.p[i]);
}

void pop3_write_buf(struct pop3_session *s, struct buf *out)
{
    conn_write(s->conn, buf_str(out));
    buf_clear(out);
}

int pop3_refuse(struct pop3_session *s, const char *code, const char *text)
{
    struct buf out;

    buf_init(&out, SIZE_MAX);
    buf_adds(&out, "-ERR ");
    if (code != NULL)
        buf_addf(&out, "[%s] ", code);
    add_text(&out, *text != '\0' ? str_c(text) : STR("the command failed"));
    buf_adds(&out, "\r\n");
    pop3_write_buf(s, &out);
    buf_fini(&out);
    return 0;
}

void pop3_reply_error(struct pop3_session *s, const struct error *err)
{
    if (err->kind == ERR_INTERNAL || err->kind == ERR_NONE)
        log_error(conn_log(s->conn), "pop3_command_failed", KV_ERR(err));
    pop3_refuse(s, codes[err->kind], err->text);
    if (err->kind == ERR_SYNTAX || err->kind == ERR_AUTH || err->kind == ERR_UNSUPPORTED)
        s->error_count++;
}

/* --- small commands --------------------------------------------------------------------------- */

static void add_sasl(struct pop3_session *s, struct buf *out)
{
    struct buf words;

    buf_init(&words, SIZE_MAX);
    sasl_add_mechanisms(&words, s->conn, "");
    if (words.n > 0)
        buf_addf(out, "SASL %.*s\r\n", STR_ARG(buf_str(&words)));
    buf_fini(&words);
}

/* The same in both states, as RFC 2449, 6 has it for each of these. */
static int cmd_capa(struct pop3_session *s, struct str args, struct error *err)
{
    struct buf out;

    buf_init(&out, SIZE_MAX);
    buf_adds(
        &out,
        "+OK capabilities follow\r\nTOP\r\nUIDL\r\nPIPELINING\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n"
        "EXPIRE NEVER\r\nLOGIN-DELAY 0\r\nUTF8 USER\r\nLANG\r\n");
    if (conn_is_secure(s->conn))
        buf_adds(&out, "USER\r\n");
    add_sasl(s, &out);
    if (!conn_is_tls(s->conn))
        buf_adds(&out, "STLS\r\n");
    buf_adds(&out, "IMPLEMENTATION Merpati\r\n.\r\n");
    pop3_write_buf(s, &out);
    buf_fini(&out);
    return 0;
}

/* Messages go out as they are in either mode: those with UTF-8 in their headers were accepted as
 * such, and a client that does not say UTF8 still gets its mail (RFC 6856, 2.1 would refuse it). */
static int cmd_utf8(struct pop3_session *s, struct str args, struct error *err)
{
    s->is_utf8 = true;
    conn_write(s->conn, STR("+OK UTF8 enabled\r\n"));
    return 0;
}

static int cmd_lang(struct pop3_session *s, struct str args, struct error *err)
{
    if (args.n == 0)
        conn_write(s->conn, STR("+OK language listing follows\r\nen English\r\n.\r\n"));
    else if (str_eq(args, STR("*")) || str_ieq(args, STR("en")) || str_ieq(args, STR("i-default")))
        conn_write(s->conn, STR("+OK en English it is\r\n"));
    else
        return fail(err, ERR_NOT_FOUND, "this language is not spoken here");
    return 0;
}

static int cmd_noop(struct pop3_session *s, struct str args, struct error *err)
{
    conn_write(s->conn, STR("+OK\r\n"));
    return 0;
}

static int cmd_apop(struct pop3_session *s, struct str args, struct error *err)
{
    return fail(err, ERR_UNSUPPORTED, "APOP is not offered, use AUTH or USER");
}

static int refuse_quit(struct pop3_session *s, const struct error *cause)
{
    struct str text =
        arena_printf(s->arena, "some deleted messages were not removed: %s", cause->text);

    log_warn(conn_log(s->conn), "maildrop_not_updated", KV_ERR(cause));
    return pop3_refuse(s, "SYS/TEMP", arena_c(s->arena, text));
}

/* The answer comes when the next session may have the maildrop, and it comes whatever happened. */
static int cmd_quit(struct pop3_session *s, struct str args, struct error *err)
{
    struct error cause = {0};
    int status = 0;

    if (s->phase == POP3_TRANSACTION)
        status = pop3_maildrop_update(&s->drop, s->arena, &cause);
    s->phase = POP3_CLOSING;
    pop3_maildrop_close(&s->drop);
    if (status < 0)
        return refuse_quit(s, &cause);
    conn_write(s->conn, STR("+OK goodbye\r\n"));
    return 0;
}

/* --- dispatch --------------------------------------------------------------------------------- */

#define AUTHORIZATION (1u << POP3_AUTHORIZATION)
#define TRANSACTION   (1u << POP3_TRANSACTION)

enum takes { NO_ARGS, ARGS, MAY_HAVE_ARGS };

/* clang-format off */
static const struct pop3_command {
    const char *verb;
    pop3_run *run;
    unsigned legal_in;
    enum takes takes;
} pop3_commands[] = {
    /* verb    run            legal in                     arguments */
    {"RETR",   pop3_cmd_retr, TRANSACTION,                 ARGS},
    {"DELE",   pop3_cmd_dele, TRANSACTION,                 ARGS},
    {"TOP",    pop3_cmd_top,  TRANSACTION,                 ARGS},
    {"LIST",   pop3_cmd_list, TRANSACTION,                 MAY_HAVE_ARGS},
    {"UIDL",   pop3_cmd_uidl, TRANSACTION,                 MAY_HAVE_ARGS},
    {"STAT",   pop3_cmd_stat, TRANSACTION,                 NO_ARGS},
    {"NOOP",   cmd_noop,      TRANSACTION,                 NO_ARGS},
    {"RSET",   pop3_cmd_rset, TRANSACTION,                 NO_ARGS},
    {"QUIT",   cmd_quit,      AUTHORIZATION | TRANSACTION, NO_ARGS},
    {"CAPA",   cmd_capa,      AUTHORIZATION | TRANSACTION, NO_ARGS},
    {"LANG",   cmd_lang,      AUTHORIZATION | TRANSACTION, MAY_HAVE_ARGS},
    {"USER",   pop3_cmd_user, AUTHORIZATION,               ARGS},
    {"PASS",   pop3_cmd_pass, AUTHORIZATION,               ARGS},
    {"AUTH",   pop3_cmd_auth, AUTHORIZATION,               MAY_HAVE_ARGS},
    {"STLS",   pop3_cmd_stls, AUTHORIZATION,               NO_ARGS},
    {"UTF8",   cmd_utf8,      AUTHORIZATION,               NO_ARGS},
    {"APOP",   cmd_apop,      AUTHORIZATION,               MAY_HAVE_ARGS},
};
/* clang-format on */

static const struct pop3_command *find_command(struct str verb)
{
    for (size_t i = 0; i < sizeof pop3_commands / sizeof *pop3_commands; i++)
        if (str_ieq(verb, str_c(pop3_commands[i].verb)))
            return &pop3_commands[i];
    return NULL;
}

static int check_command(const struct pop3_session *s, const struct pop3_command *c,
                         struct str args, struct error *err)
{
    if (c == NULL)
        return fail(err, ERR_SYNTAX, "unknown command");
    if (!(c->legal_in & 1u << s->phase))
        return fail(err, ERR_SYNTAX, "%s is possible %s log-in only", c->verb,
                    c->legal_in == TRANSACTION ? "after" : "before");
    if (c->takes == NO_ARGS && args.n > 0)
        return fail(err, ERR_SYNTAX, "%s takes no argument", c->verb);
    if (c->takes == ARGS && args.n == 0)
        return fail(err, ERR_SYNTAX, "%s needs an argument", c->verb);
    return 0;
}

/* A password may end in spaces; nothing else does on purpose. */
static struct str trim_args(const struct pop3_command *c, struct str args)
{
    return c != NULL && c->run == pop3_cmd_pass ? args : str_trim(args);
}

static int dispatch(struct pop3_session *s, struct str line, struct error *err)
{
    const struct pop3_command *command;
    struct str verb, args;

    if (memchr(line.p, '\0', line.n) != NULL)
        return fail(err, ERR_SYNTAX, "a command must not hold NUL");
    str_cut(line, ' ', &verb, &args);
    command = find_command(str_trim(verb));
    args = trim_args(command, args);
    if (check_command(s, command, args, err) < 0)
        return -1;
    metric_inc(METRIC_pop3_commands);
    return command->run(s, args, err);
}

/* --- steps ------------------------------------------------------------------------------------ */

static bool is_end_of_connection(const struct error *err)
{
    return err->kind == ERR_CLOSED || err->kind == ERR_TIMED_OUT || err->kind == ERR_CANCELLED;
}

/* A client that was idle for too long is told nothing (RFC 1939, 3). */
static void end_of_connection(struct pop3_session *s, const struct error *err)
{
    if (err->kind == ERR_CANCELLED)
        pop3_refuse(s, "SYS/TEMP", "the server is shutting down, please come back");
    s->phase = POP3_CLOSING;
}

/* Suspended, removed, or the password is another now. Nothing that was marked is removed. */
static bool end_if_revoked(struct pop3_session *s)
{
    if (!s->login.is_over)
        return false;
    pop3_refuse(s, "AUTH", "the account or its password has changed, please log in again");
    s->phase = POP3_CLOSING;
    return true;
}

/* What is said of a maildrop that another session has now would no longer be true. */
static int take_command(struct pop3_session *s, struct error *err)
{
    struct str line;

    if (conn_read_line(s->conn, LINE_SIZE_MAX, &line, err) < 0)
        return -1;
    if (end_if_revoked(s)) /* while the line was coming */
        return 0;
    if (!s->drop.claim.is_lost)
        return dispatch(s, line, err);
    s->phase = POP3_CLOSING;
    return pop3_refuse(s, "SYS/TEMP", "another session has this maildrop now, nothing was removed");
}

static void take_turn(struct pop3_session *s)
{
    struct error err = {0};

    if (end_if_revoked(s))
        return;
    conn_set_deadline(s->conn,
                      s->phase == POP3_AUTHORIZATION ? config.pop3_login_timeout : STALL_MS);
    if (take_command(s, &err) < 0) {
        if (is_end_of_connection(&err))
            end_of_connection(s, &err);
        else
            pop3_reply_error(s, &err);
    }
    if (s->error_count > (uint32_t)config.pop3_errors_max && s->phase != POP3_CLOSING) {
        pop3_refuse(s, NULL, "too many errors, goodbye");
        s->phase = POP3_CLOSING;
    }
}

static void rest(struct pop3_session *s)
{
    int64_t left = s->opened_ms + config.pop3_login_timeout - loop_now_ms();

    if (s->phase == POP3_AUTHORIZATION)
        conn_set_rest_timeout(s->conn, left > 1 ? left : 1);
    else
        conn_set_rest_timeout(s->conn, config.pop3_autologout);
}

static bool login_is_overdue(const struct pop3_session *s)
{
    return s->phase == POP3_AUTHORIZATION &&
           s->opened_ms + config.pop3_login_timeout < loop_now_ms();
}

static enum step pop3_step(void *arg)
{
    struct pop3_session *s = arg;

    CHECK_OBJ(s, POP3_SESSION_MAGIC);
    if (conn_take_wake(s->conn) && !s->login.is_over && !conn_has_input(s->conn))
        return STEP_REST;
    s->arena = arena_new();
    do {
        take_turn(s);
        arena_reset(s->arena);
        fiber_pause();
    } while (s->phase != POP3_CLOSING && !login_is_overdue(s) && conn_has_input(s->conn) &&
             !conn_failed(s->conn));
    arena_free(&s->arena);
    if (s->phase == POP3_CLOSING || login_is_overdue(s) || conn_failed(s->conn))
        return STEP_END;
    rest(s);
    return STEP_REST;
}

/* --- life ------------------------------------------------------------------------------------- */

/* No <...> in the greeting: that would offer APOP. */
static void *pop3_open(struct conn *conn, int tag)
{
    struct pop3_session *s = memory_alloc(sizeof *s);

    s->magic = POP3_SESSION_MAGIC;
    s->conn = conn;
    s->opened_ms = loop_now_ms();
    conn_set_output_max(conn, OUTPUT_NEW_MAX);
    conn_write(conn, STR("+OK Merpati ready\r\n"));
    rest(s);
    return s;
}

static void pop3_close(void *arg)
{
    struct pop3_session *s = arg;

    CHECK_OBJ(s, POP3_SESSION_MAGIC);
    login_watch_stop(&s->login);
    pop3_maildrop_close(&s->drop);
    free(s->user);
    s->magic = 0;
    free(s);
}

const struct service pop3_service = {
    .name = "pop3",
    .open = pop3_open,
    .step = pop3_step,
    .close = pop3_close,
    .busy = "-ERR [SYS/TEMP] too many connections, please try again later",
};
