/* managesieve_session.c - the life of a ManageSieve session: capabilities, one command per round, goodbye.
 *
 * The table says which command is legal when and what it takes; handlers answer OK themselves, and
 * their errors become NO here. */
#include <stdlib.h>
#include <string.h>

#include "mail/sieve/managesieve_internal.h"
#include "mail/sieve/sieve.h"
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/base/object.h"
#include "server/directory/sasl.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"

#define MANAGESIEVE_MAGIC 0x4190c0deu
#define STALL_MS          (5 * 60 * 1000) /* for a line, or for the client to take something */
#define LINE_SIZE_MAX     16384           /* AUTHENTICATE needs the most */
#define LITERAL_SIZE_MAX                                                                           \
    (4 << 20)                /* what is longer ends the session: it cannot be skipped for ever */
#define OUTPUT_NEW_MAX 16384 /* answers that may pend before log-in */

/* ---- answers --------------------------------------------------------------------------------- */

static bool can_be_quoted(struct str text)
{
    return text.n <= MANAGESIEVE_QUOTED_MAX && str_index(text, '\r') < 0 &&
           str_index(text, '\n') < 0 && str_index(text, '\0') < 0;
}

void managesieve_add_string(struct buf *out, struct str text)
{
    if (!can_be_quoted(text)) {
        buf_addf(out, "{%zu}\r\n", text.n);
        buf_add(out, text);
        return;
    }
    buf_addc(out, '"');
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '"' || text.p[i] == '\\')
            buf_addc(out, '\\');
        buf_addc(out, text.p[i]);
    }
    buf_addc(out, '"');
}

static void say(struct managesieve_session *s, const char *word, const char *code, struct str text)
{
    struct buf out;

    buf_init(&out, SIZE_MAX);
    buf_adds(&out, word);
    if (code != NULL)
        buf_addf(&out, " (%s)", code);
    buf_addc(&out, ' ');
    managesieve_add_string(&out, text);
    buf_adds(&out, "\r\n");
    conn_write(s->conn, buf_str(&out));
    buf_fini(&out);
}

void managesieve_ok(struct managesieve_session *s, const char *text)
{
    say(s, "OK", NULL, str_c(text));
}

void managesieve_refuse(struct managesieve_session *s, const char *word, const char *code,
                        struct str text)
{
    say(s, word, code, str_empty(text) ? STR("the command failed") : text);
}

/* RFC 5804, 1.3. */
static const char *const codes[ERR_KIND_COUNT] = {
    [ERR_LIMIT] = "QUOTA/MAXSCRIPTS", [ERR_OVER_QUOTA] = "QUOTA",
    [ERR_TOO_BIG] = "QUOTA/MAXSIZE",  [ERR_NOT_FOUND] = "NONEXISTENT",
    [ERR_EXISTS] = "ALREADYEXISTS",   [ERR_CONFLICT] = "ACTIVE",
    [ERR_TRY_LATER] = "TRYLATER",     [ERR_INTERNAL] = "TRYLATER",
    [ERR_NONE] = "TRYLATER",
};

static void reply_error(struct managesieve_session *s, const struct error *err)
{
    if (err->kind == ERR_INTERNAL || err->kind == ERR_NONE)
        log_error(conn_log(s->conn), "managesieve_command_failed", KV_ERR(err));
    managesieve_refuse(s, "NO", codes[err->kind], str_c(err->text));
    if (err->kind == ERR_SYNTAX || err->kind == ERR_AUTH || err->kind == ERR_UNSUPPORTED)
        s->error_count++;
}

/* ---- capabilities ---------------------------------------------------------------------------- */

static void add_capability(struct buf *out, const char *name, struct str value)
{
    buf_addf(out, "\"%s\" ", name);
    managesieve_add_string(out, value);
    buf_adds(out, "\r\n");
}

/* The language knows these, but nothing runs scripts on IMAP events, and there are no calendars and no address books: who
 * offered them would be believed. */
static bool is_unserved(const char *extension)
{
    static const char *const unserved[] = {"imapsieve", "processcalendar", "extlists"};

    for (size_t i = 0; i < sizeof unserved / sizeof *unserved; i++)
        if (strcmp(extension, unserved[i]) == 0)
            return true;
    return false;
}

static void add_words(struct buf *out, const char *const *words)
{
    for (; *words != NULL; words++)
        if (!is_unserved(*words))
            buf_addf(out, "%s%s", out->n > 0 ? " " : "", *words);
}

static void add_list(struct buf *out, const char *name, const char *const *words)
{
    struct buf value;

    buf_init(&value, SIZE_MAX);
    add_words(&value, words);
    buf_addf(out, "\"%s\" \"%.*s\"\r\n", name, STR_ARG(buf_str(&value)));
    buf_fini(&value);
}

static void add_sasl(struct managesieve_session *s, struct buf *out)
{
    struct buf words;

    buf_init(&words, SIZE_MAX);
    if (s->phase == MANAGESIEVE_NEW)
        sasl_add_mechanisms(&words, s->conn, "");
    add_capability(out, "SASL", buf_str(&words));
    buf_fini(&words);
}

void managesieve_say_capabilities(struct managesieve_session *s)
{
    struct buf out;

    buf_init(&out, SIZE_MAX);
    add_capability(&out, "IMPLEMENTATION", STR("Merpati"));
    add_sasl(s, &out);
    add_list(&out, "SIEVE", sieve_extensions);
    add_list(&out, "NOTIFY", sieve_notify_methods);
    buf_addf(&out, "\"MAXREDIRECTS\" \"%d\"\r\n", SIEVE_REDIRECTS_MAX);
    if (!conn_is_tls(s->conn) && s->phase == MANAGESIEVE_NEW)
        buf_adds(&out, "\"STARTTLS\"\r\n");
    buf_adds(&out, "\"UNAUTHENTICATE\"\r\n\"LANGUAGE\" \"en\"\r\n\"VERSION\" \"1.0\"\r\n");
    if (s->phase == MANAGESIEVE_READY)
        add_capability(&out, "OWNER", str_c(s->owner));
    conn_write(s->conn, buf_str(&out));
    buf_fini(&out);
    managesieve_ok(s, "Merpati ready");
}

static int cmd_capability(struct managesieve_session *s, const struct managesieve_command *c,
                          struct error *err)
{
    managesieve_say_capabilities(s);
    return 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int end_with(struct managesieve_session *s, const char *text)
{
    managesieve_refuse(s, "BYE", NULL, str_c(text));
    s->phase = MANAGESIEVE_CLOSING;
    return 0;
}

static uint64_t literal_max(const struct managesieve_session *s)
{
    return s->phase == MANAGESIEVE_READY ? LITERAL_SIZE_MAX : SASL_LINE_SIZE_MAX;
}

static int read_literal(struct managesieve_session *s, struct managesieve_command *c,
                        struct error *err)
{
    char *bytes;
    struct str line;

    if (c->literal_size > literal_max(s)) {
        end_with(s, "the literal is longer than any that could be taken");
        return fail(err, ERR_CLOSED, "the literal is too long");
    }
    bytes = arena_alloc(s->arena, c->literal_size + 1);
    if (conn_read_exact(s->conn, bytes, c->literal_size, err) < 0 ||
        conn_read_line(s->conn, LINE_SIZE_MAX, &line, err) < 0)
        return -1;
    return managesieve_parse_more(s->arena, str_of(bytes, c->literal_size), line, c, err);
}

int managesieve_read(struct managesieve_session *s, bool is_answer, struct managesieve_command *out,
                     struct error *err)
{
    struct str line;

    if (conn_read_line(s->conn, LINE_SIZE_MAX, &line, err) < 0)
        return -1;
    if ((is_answer ? managesieve_parse_answer : managesieve_parse_start)(s->arena, line, out, err) <
        0)
        return -1;
    while (out->wants_literal)
        if (read_literal(s, out, err) < 0)
            return -1;
    return 0;
}

/* ---- small commands -------------------------------------------------------------------------- */

static int cmd_noop(struct managesieve_session *s, const struct managesieve_command *c,
                    struct error *err)
{
    struct buf out;

    if (c->n == 0) {
        managesieve_ok(s, "done");
        return 0;
    }
    buf_init(&out, SIZE_MAX);
    buf_adds(&out, "OK (TAG ");
    managesieve_add_string(&out, c->v[0].text);
    buf_adds(&out, ") \"done\"\r\n");
    conn_write(s->conn, buf_str(&out));
    buf_fini(&out);
    return 0;
}

static int cmd_logout(struct managesieve_session *s, const struct managesieve_command *c,
                      struct error *err)
{
    managesieve_ok(s, "goodbye");
    s->phase = MANAGESIEVE_CLOSING;
    return 0;
}

/* ---- dispatch -------------------------------------------------------------------------------- */

#define NEW   (1u << MANAGESIEVE_NEW)
#define READY (1u << MANAGESIEVE_READY)

/* clang-format off */
static const struct command {
    const char *verb;
    managesieve_run *run;
    unsigned legal_in;
    const char *takes;                                  /* "s" a string, "n" a number, "?" before what may be left out */
} commands[] = {
    /* verb            run                             legal in     takes */
    {"CAPABILITY",     cmd_capability,                 NEW | READY, ""},
    {"STARTTLS",       managesieve_cmd_starttls,       NEW,         ""},
    {"AUTHENTICATE",   managesieve_cmd_authenticate,   NEW,         "s?s"},
    {"UNAUTHENTICATE", managesieve_cmd_unauthenticate, READY,       ""},
    {"LOGOUT",         cmd_logout,                     NEW | READY, ""},
    {"NOOP",           cmd_noop,                       NEW | READY, "?s"},
    {"HAVESPACE",      managesieve_cmd_havespace,      READY,       "sn"},
    {"PUTSCRIPT",      managesieve_cmd_putscript,      READY,       "ss"},
    {"CHECKSCRIPT",    managesieve_cmd_checkscript,    READY,       "s"},
    {"LISTSCRIPTS",    managesieve_cmd_listscripts,    READY,       ""},
    {"SETACTIVE",      managesieve_cmd_setactive,      READY,       "s"},
    {"GETSCRIPT",      managesieve_cmd_getscript,      READY,       "s"},
    {"DELETESCRIPT",   managesieve_cmd_deletescript,   READY,       "s"},
    {"RENAMESCRIPT",   managesieve_cmd_renamescript,   READY,       "ss"},
};
/* clang-format on */

static const struct command *find_command(struct str verb)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (str_ieq(verb, str_c(commands[i].verb)))
            return &commands[i];
    return NULL;
}

static bool has_arguments(const char *takes, const struct managesieve_command *c)
{
    bool may_end = false;
    size_t i = 0;

    for (; *takes != '\0'; takes++) {
        if (*takes == '?') {
            may_end = true;
            continue;
        }
        if (i == c->n)
            return may_end;
        if (c->v[i++].is_number != (*takes == 'n'))
            return false;
    }
    return i == c->n;
}

static int check_command(const struct managesieve_session *s, const struct command *command,
                         const struct managesieve_command *c, struct error *err)
{
    if (command == NULL)
        return fail(err, ERR_SYNTAX, "unknown command; CAPABILITY says what there is");
    if (!(command->legal_in & 1u << s->phase))
        return fail(err, ERR_SYNTAX, "%s is possible %s log-in only", command->verb,
                    command->legal_in == READY ? "after" : "before");
    if (!has_arguments(command->takes, c))
        return fail(err, ERR_SYNTAX, "%s has other arguments (RFC 5804)", command->verb);
    return 0;
}

static bool end_if_revoked(struct managesieve_session *s)
{
    if (!s->login.is_over)
        return false;
    end_with(s, "the account or its password has changed, please log in again");
    return true;
}

static int take_command(struct managesieve_session *s, struct error *err)
{
    struct managesieve_command c;
    const struct command *command;

    if (managesieve_read(s, false, &c, err) < 0)
        return -1;
    if (end_if_revoked(s)) /* while it was coming */
        return 0;
    command = find_command(c.verb);
    if (check_command(s, command, &c, err) < 0)
        return -1;
    metric_inc(METRIC_managesieve_commands);
    return command->run(s, &c, err);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static bool is_end_of_connection(const struct error *err)
{
    return err->kind == ERR_CLOSED || err->kind == ERR_TIMED_OUT || err->kind == ERR_CANCELLED;
}

static void end_of_connection(struct managesieve_session *s, const struct error *err)
{
    if (s->phase != MANAGESIEVE_CLOSING && err->kind == ERR_CANCELLED)
        managesieve_refuse(s, "BYE", "TRYLATER", STR("the server is shutting down"));
    if (s->phase != MANAGESIEVE_CLOSING && err->kind == ERR_TIMED_OUT)
        managesieve_refuse(s, "BYE", NULL, STR("nothing was said for too long"));
    s->phase = MANAGESIEVE_CLOSING;
}

static void take_turn(struct managesieve_session *s)
{
    struct error err = {0};

    if (end_if_revoked(s))
        return;
    conn_set_deadline(s->conn,
                      s->phase == MANAGESIEVE_NEW ? config.managesieve_login_timeout : STALL_MS);
    if (take_command(s, &err) < 0) {
        if (is_end_of_connection(&err))
            end_of_connection(s, &err);
        else
            reply_error(s, &err);
    }
    if (s->error_count > (uint32_t)config.managesieve_errors_max && s->phase != MANAGESIEVE_CLOSING)
        end_with(s, "too many errors, goodbye");
}

static void rest(struct managesieve_session *s)
{
    int64_t left = s->opened_ms + config.managesieve_login_timeout - loop_now_ms();

    if (s->phase == MANAGESIEVE_NEW)
        conn_set_rest_timeout(s->conn, left > 1 ? left : 1);
    else
        conn_set_rest_timeout(s->conn, config.managesieve_autologout);
}

static bool login_is_overdue(const struct managesieve_session *s)
{
    return s->phase == MANAGESIEVE_NEW &&
           s->opened_ms + config.managesieve_login_timeout < loop_now_ms();
}

static enum step managesieve_step(void *arg)
{
    struct managesieve_session *s = arg;

    CHECK_OBJ(s, MANAGESIEVE_MAGIC);
    if (conn_take_wake(s->conn) && !s->login.is_over && !conn_has_input(s->conn))
        return STEP_REST;
    s->arena = arena_new();
    do {
        take_turn(s);
        arena_reset(s->arena);
        fiber_pause();
    } while (s->phase != MANAGESIEVE_CLOSING && !login_is_overdue(s) && conn_has_input(s->conn) &&
             !conn_failed(s->conn));
    arena_free(&s->arena);
    if (s->phase == MANAGESIEVE_CLOSING || login_is_overdue(s) || conn_failed(s->conn))
        return STEP_END;
    rest(s);
    return STEP_REST;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void *managesieve_open(struct conn *conn, int tag)
{
    struct managesieve_session *s = memory_alloc(sizeof *s);

    s->magic = MANAGESIEVE_MAGIC;
    s->conn = conn;
    s->opened_ms = loop_now_ms();
    conn_set_output_max(conn, OUTPUT_NEW_MAX);
    managesieve_say_capabilities(s);
    rest(s);
    return s;
}

static void managesieve_close(void *arg)
{
    struct managesieve_session *s = arg;

    CHECK_OBJ(s, MANAGESIEVE_MAGIC);
    login_watch_stop(&s->login);
    free(s->owner);
    s->magic = 0;
    free(s);
}

const struct service managesieve_service = {
    .name = "managesieve",
    .open = managesieve_open,
    .step = managesieve_step,
    .close = managesieve_close,
    .busy = "BYE (TRYLATER) \"too many connections, please try again later\"",
};
