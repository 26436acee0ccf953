/* imap_reply.c - how an IMAP answer is spelled.
 *
 * Error texts may quote what the client sent; whatever they hold, an answer stays one line. */
#include "mail/imap/imap_reply.h"

#include "mail/imap/imap_command.h"
#include "mail/imap/imap_language.h"
#include "server/base/log.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

struct answer {
    const char *status;
    const char *code; /* RFC 5530; NULL: none */
};

/* clang-format off */
static const struct answer answers[ERR_KIND_COUNT] = {
    [ERR_NONE]        = {"NO", "SERVERBUG"},
    [ERR_SYNTAX]      = {"BAD", NULL},
    [ERR_DENIED]      = {"NO", "NOPERM"},
    [ERR_AUTH]        = {"NO", "AUTHENTICATIONFAILED"},
    [ERR_NOT_FOUND]   = {"NO", "NONEXISTENT"},
    [ERR_EXISTS]      = {"NO", "ALREADYEXISTS"},
    [ERR_TOO_BIG]     = {"NO", "TOOBIG"},
    [ERR_OVER_QUOTA]  = {"NO", "OVERQUOTA"},
    [ERR_CONFLICT]    = {"NO", "INUSE"},
    [ERR_LIMIT]       = {"NO", "LIMIT"},
    [ERR_UNSUPPORTED] = {"NO", "CANNOT"},
    [ERR_TRY_LATER]   = {"NO", "UNAVAILABLE"},
    [ERR_CLOSED]      = {"NO", "UNAVAILABLE"},
    [ERR_TIMED_OUT]   = {"NO", "UNAVAILABLE"},
    [ERR_CANCELLED]   = {"NO", "UNAVAILABLE"},
    [ERR_INTERNAL]    = {"NO", "SERVERBUG"},
};
/* clang-format on */

static void add_one_line(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++)
        buf_addc(out, *text < ' ' || *text == 127 ? '?' : *text);
}

static const char *verb_name(const struct imap_command *c)
{
    return c->verb != NULL ? c->verb->name : "Command";
}

void imap_reply_done(struct imap_session *s, const struct imap_command *c)
{
    struct buf out;

    buf_init(&out, SIZE_MAX);
    buf_add(&out, c->tag);
    buf_add(&out, STR(" OK "));
    if (c->code.n > 0) {
        buf_addc(&out, '[');
        buf_add(&out, c->code);
        buf_add(&out, STR("] "));
    }
    if (c->done != NULL)
        buf_adds(&out, imap_text(s, c->done));
    else {
        buf_adds(&out, verb_name(c));
        buf_adds(&out, imap_text(s, " completed"));
    }
    buf_add(&out, STR("\r\n"));
    imap_write_buf(s, &out);
    buf_fini(&out);
}

static const char *refusal_code(const struct imap_command *c, const struct error *err)
{
    if (err->kind == ERR_SYNTAX)
        return c->complaint;
    if (c->refusal != NULL)
        return c->refusal;
    if (err->kind == ERR_NOT_FOUND && c->verb != NULL && (c->verb->flags & VERB_TRYCREATE))
        return "TRYCREATE";
    return answers[err->kind].code;
}

static void write_error(struct imap_session *s, struct str tag, const char *status,
                        const char *code, const char *text)
{
    struct buf out;

    buf_init(&out, SIZE_MAX);
    buf_add(&out, tag);
    buf_addc(&out, ' ');
    buf_adds(&out, status);
    if (code != NULL) {
        buf_adds(&out, " [");
        buf_adds(&out, code);
        buf_addc(&out, ']');
    }
    buf_addc(&out, ' ');
    add_one_line(&out, *text != '\0' ? text : "The command failed");
    buf_add(&out, STR("\r\n"));
    imap_write_buf(s, &out);
    buf_fini(&out);
}

void imap_reply_error(struct imap_session *s, struct imap_command *c, const struct error *err)
{
    bool is_cannot = c->refusal != NULL && err->kind == ERR_SYNTAX;
    const char *code;

    c->is_answered = true;
    if (err->kind == ERR_INTERNAL || err->kind == ERR_NONE)
        log_error(conn_log(s->conn), "imap_command_failed", KV("command", verb_name(c)),
                  KV_ERR(err));
    code = is_cannot ? c->refusal : refusal_code(c, err);
    write_error(s, c->tag, is_cannot ? "NO" : answers[err->kind].status, code,
                imap_refusal_text(s, code, err->text));
    if ((err->kind != ERR_SYNTAX || is_cannot) && err->kind != ERR_AUTH)
        return;
    metric_inc(METRIC_imap_commands_bad);
    if (++s->bad_count >= (uint64_t)config.imap_errors_max)
        imap_bye(s, "Too many errors");
}

void imap_bye(struct imap_session *s, const char *text)
{
    if (s->phase == IMAP_LOGOUT)
        return;
    conn_set_deadline(s->conn, 10000);
    conn_printf(s->conn, "* BYE %s\r\n", imap_text(s, text));
    s->phase = IMAP_LOGOUT;
}

int imap_connection_lost(struct imap_session *s, struct imap_command *c)
{
    imap_bye(s, "The command was not finished in time");
    c->is_answered = true;
    return -1;
}

void imap_add_flags(struct buf *out, uint32_t flags, const struct keywords *keywords)
{
    static const struct {
        uint32_t flag;
        struct str name;
    } names[] = {
        {FLAG_ANSWERED, {"\\Answered ", 10}}, {FLAG_FLAGGED, {"\\Flagged ", 9}},
        {FLAG_DELETED, {"\\Deleted ", 9}},    {FLAG_SEEN, {"\\Seen ", 6}},
        {FLAG_DRAFT, {"\\Draft ", 7}},
    };
    size_t before;

    buf_addc(out, '(');
    before = out->n;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (flags & names[i].flag)
            buf_add(out, names[i].name);
    for (size_t i = 0; keywords != NULL && i < keywords->n; i++) {
        buf_add(out, keywords->v[i]);
        buf_addc(out, ' ');
    }
    if (out->n > before)
        buf_truncate(out, out->n - 1);
    buf_addc(out, ')');
}

void imap_add_quoted(struct buf *out, struct str s)
{
    size_t from = 0;

    buf_addc(out, '"');
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '"' || s.p[i] == '\\') {
            buf_add(out, str_of(s.p + from, i - from));
            buf_addc(out, '\\');
            from = i;
        }
    buf_add(out, str_from(s, from));
    buf_addc(out, '"');
}

void imap_add_string(struct buf *out, struct str s)
{
    bool is_plain = s.n < 1000;

    for (size_t i = 0; is_plain && i < s.n; i++)
        is_plain = s.p[i] >= ' ' && s.p[i] < 127;
    if (is_plain) {
        imap_add_quoted(out, s);
        return;
    }
    buf_addc(out, '{');
    buf_add_u64(out, s.n);
    buf_add(out, STR("}\r\n"));
    buf_add(out, s);
}

void imap_add_text(const struct imap_session *s, struct buf *out, struct str utf8)
{
    if (imap_has_utf8(s) && utf8.n > 0 && memchr(utf8.p, '\n', utf8.n) == NULL &&
        memchr(utf8.p, '\r', utf8.n) == NULL)
        imap_add_quoted(out, utf8);
    else
        imap_add_string(out, utf8);
}

void imap_write_buf(struct imap_session *s, struct buf *out)
{
    imap_renew_deadline(s);
    conn_write(s->conn, buf_str(out));
    buf_clear(out);
}
