/* imap_command.c - reading a command off the connection.
 *
 * A command without literals, nearly all of them, is parsed where it lies in the connection's
 * input buffer. What is refused here is refused because of its size, before anything was parsed
 * but the tag. */
#include "mail/imap/imap_command.h"

#include "mail/imap/imap_append_parse.h"
#include "mail/imap/imap_reply.h"
#include "server/run/config.h"

#define STALL_MS             (5 * 60 * 1000) /* for one line, one block, one write */
#define NEW_LINE_SIZE_MAX    16384           /* before log-in; bearer tokens are long */
#define NEW_LITERAL_SIZE_MAX 4096
#define DISCARD_SIZE_MAX     (64 * 1024 * 1024) /* more than this is not worth reading: BYE */

void imap_renew_deadline(struct imap_session *s)
{
    conn_set_deadline(s->conn, s->phase == IMAP_NEW ? config.imap_login_timeout : STALL_MS);
}

static size_t line_size_max(const struct imap_session *s)
{
    return s->phase == IMAP_NEW ? NEW_LINE_SIZE_MAX : (size_t)config.imap_line_max;
}

static size_t literal_size_max(const struct imap_session *s)
{
    return s->phase == IMAP_NEW ? NEW_LITERAL_SIZE_MAX : (size_t)config.imap_literal_max;
}

int imap_discard(struct imap_session *s, uint64_t size, struct error *err)
{
    while (size > 0) {
        size_t held = conn_peek(s->conn).n;
        if (held == 0) {
            imap_renew_deadline(s);
            if (conn_fill(s->conn, err) < 0)
                return -1;
            continue;
        }
        if (held > size)
            held = (size_t)size;
        conn_consume(s->conn, held);
        size -= held;
    }
    return 0;
}

static void set_tag(struct imap_session *s, struct imap_command *c, struct str text)
{
    struct imap_parser p;

    imap_parser_init(&p, text);
    if (imap_parse_tag(&p, &c->tag, NULL) < 0 || c->tag.n > 200 || !imap_parse_peek(&p, ' '))
        c->tag = STR("*");
    c->tag = arena_str(s->arena, c->tag);
}

/* --- refusing by size ------------------------------------------------------------------------- */

/* `line` begins with what was too long; only of the first line it is the tag's place. */
static enum imap_read refuse_line(struct imap_session *s, struct imap_command *c, struct str line)
{
    struct error refused = {0};

    if (c->tag.p == NULL)
        set_tag(s, c, line);
    fail(&refused, ERR_SYNTAX, "the command line is longer than %zu bytes", line_size_max(s));
    imap_reply_error(s, c, &refused);
    return IMAP_READ_REFUSED;
}

int imap_discard_command(struct imap_session *s, struct imap_literal literal, struct error *err)
{
    struct str line;

    do {
        if (literal.size > DISCARD_SIZE_MAX) {
            imap_bye(s, "The literal is much too big");
            return fail(err, ERR_TOO_BIG, "the literal is much too big");
        }
        if (imap_discard(s, literal.size, err) < 0 ||
            conn_read_line(s->conn, line_size_max(s), &line, err) < 0)
            return -1;
    } while (imap_literal_at_end(line, &literal) && !literal.is_sync);
    return 0;
}

/* The lines of one command are too long together; this one may announce another literal. */
static enum imap_read refuse_lines(struct imap_session *s, struct imap_command *c, struct str line,
                                   struct error *err)
{
    struct imap_literal literal;

    if (imap_literal_at_end(line, &literal) && !literal.is_sync &&
        imap_discard_command(s, literal, err) < 0)
        return IMAP_READ_ENDED;
    return refuse_line(s, c, line);
}

static enum imap_read refuse_literal(struct imap_session *s, struct imap_command *c,
                                     struct imap_literal literal, struct error *err)
{
    struct error refused = {0};

    if (!literal.is_sync && imap_discard_command(s, literal, err) < 0)
        return IMAP_READ_ENDED;
    fail(&refused, ERR_TOO_BIG, "a literal of this command may have %zu bytes at most",
         literal_size_max(s));
    imap_reply_error(s, c, &refused);
    return IMAP_READ_REFUSED;
}

/* --- collecting ------------------------------------------------------------------------------- */

static int read_literal(struct imap_session *s, struct imap_command *c,
                        const struct imap_literal *literal, struct error *err)
{
    char *to;

    if (literal->is_sync)
        conn_write(s->conn, STR("+ OK\r\n"));
    buf_add(&c->text, STR("\r\n"));
    to = buf_reserve(&c->text, (size_t)literal->size);
    if (to == NULL)
        return fail(err, ERR_CLOSED, "the command does not fit");
    imap_renew_deadline(s);
    if (conn_read_exact(s->conn, to, (size_t)literal->size, err) < 0)
        return -1;
    buf_commit(&c->text, (size_t)literal->size);
    return 0;
}

static enum imap_read read_more(struct imap_session *s, struct imap_command *c, struct str line,
                                struct error *err)
{
    size_t line_bytes = 0, literal_bytes = 0;
    struct imap_literal literal;

    set_tag(s, c, line);
    buf_init(&c->text, line_size_max(s) + literal_size_max(s) + 4096);
    for (;;) {
        line_bytes += line.n + 2;
        if (line_bytes > line_size_max(s) + 2)
            return refuse_lines(s, c, line, err);
        buf_add(&c->text, line);
        if (!imap_literal_at_end(line, &literal))
            return IMAP_READ_DONE;
        if (s->phase != IMAP_NEW &&
            imap_append_is_at_message(s->arena, buf_str(&c->text), s->phase == IMAP_SELECTED,
                                      &c->message)) {
            c->has_message = true;
            return IMAP_READ_DONE;
        }
        if (literal.size > literal_size_max(s) - literal_bytes)
            return refuse_literal(s, c, literal, err);
        literal_bytes += (size_t)literal.size;
        if (read_literal(s, c, &literal, err) < 0)
            return IMAP_READ_ENDED;
        imap_renew_deadline(s);
        if (conn_read_line(s->conn, line_size_max(s), &line, err) < 0)
            return err->kind == ERR_TOO_BIG ? refuse_line(s, c, line) : IMAP_READ_ENDED;
    }
}

/* --- tag and verb ----------------------------------------------------------------------------- */

static void find_verb(struct imap_command *c)
{
    struct str word;

    if (imap_parse_atom(&c->args, &word, "a command", NULL) < 0)
        return;
    c->by_uid = str_ieq(word, STR("UID"));
    if (c->by_uid && (!imap_parse_skip(&c->args, ' ') ||
                      imap_parse_atom(&c->args, &word, "a command", NULL) < 0))
        return;
    c->verb = imap_verb_find(word, c->by_uid);
}

/* A handler that reads from the client overwrites the input buffer: its command moves to the
 * arena. */
static void keep_text(struct imap_session *s, struct imap_command *c)
{
    c->tag = arena_str(s->arena, c->tag);
    if (c->text.p == NULL)
        imap_parser_init(&c->args, arena_str(s->arena, imap_parse_rest(&c->args)));
}

static enum imap_read parse_start(struct imap_session *s, struct imap_command *c, struct str text)
{
    struct error refused = {0};

    imap_parser_init(&c->args, text);
    if (imap_parse_tag(&c->args, &c->tag, &refused) < 0) {
        c->tag = STR("*");
        imap_reply_error(s, c, &refused);
        return IMAP_READ_REFUSED;
    }
    if (imap_parse_space(&c->args, &refused) < 0) {
        if (!imap_parse_at_end(&c->args)) /* "a+b NOOP": "a" may be the tag of another command */
            c->tag = STR("*");
        imap_reply_error(s, c, &refused);
        return IMAP_READ_REFUSED;
    }
    find_verb(c);
    if (c->verb != NULL && (c->verb->flags & VERB_READS))
        keep_text(s, c);
    c->args.is_utf8 = imap_has_utf8(s);
    return IMAP_READ_DONE;
}

/* Blanks at the end of the last line are harmless and frequent. */
static struct str without_blanks(struct str text)
{
    while (text.n > 0 && text.p[text.n - 1] == ' ')
        text.n--;
    return text;
}

enum imap_read imap_command_read(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct imap_literal literal;
    enum imap_read status;
    struct str line;

    imap_renew_deadline(s);
    if (conn_read_line(s->conn, line_size_max(s), &line, err) < 0)
        return err->kind == ERR_TOO_BIG ? refuse_line(s, c, line) : IMAP_READ_ENDED;
    if (!imap_literal_at_end(line, &literal))
        return parse_start(s, c, without_blanks(line));
    status = read_more(s, c, line, err);
    return status == IMAP_READ_DONE ? parse_start(s, c, buf_str(&c->text)) : status;
}
