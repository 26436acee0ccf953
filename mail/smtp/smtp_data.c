/* smtp_data.c - DATA and BDAT: the message comes in.
 *
 * The only end of DATA is CR LF . CR LF. A line end that is not CR LF lets two servers disagree about where a message
 * ends (SMTP smuggling), so a message that holds a CR or LF on its own is read to its true end and refused. Where the
 * client declared BODY=BINARYMIME they are data (RFC 3030), but in the header they are not. */
#include "mail/smtp/smtp_internal.h"

#include "mail/smtp/smtp_message_check.h"
#include "mail/smtp/smtp_policy.h"
#include "server/run/config.h"
#include "server/run/loop.h"

#define DATA_TIME_MAX_FACTOR 10 /* a whole message may take so many times smtp_timeout */
#define TRACE_SIZE_MAX       65536
#define SMALL_SIZE           ((size_t)128 << 10) /* what most messages are below */

static size_t message_memory; /* bytes of messages being received in this worker */

static void message_drop(struct smtp_tx *tx)
{
    message_memory -= tx->message_charged;
    tx->message_charged = 0;
    buf_fini(&tx->message);
    buf_init(&tx->message, (size_t)config.smtp_size_max + TRACE_SIZE_MAX);
}

void smtp_message_discard(struct smtp_tx *tx)
{
    message_drop(tx);
    tx->fault = FAULT_NONE;
}

static void message_begin(struct smtp_tx *tx)
{
    static const char room[SMTP_ROOM_SIZE] = {[SMTP_ROOM_SIZE - 2] = '\r',
                                              '\n'}; /* a line begins */

    smtp_trace_name(tx);
    buf_clear(&tx->message);
    buf_add(&tx->message, str_of(room, sizeof room));
}

/* A few clients that begin large messages and never end them must not keep everybody's letters out: the last quarter
 * of the memory is for small messages. */
static bool has_memory(const struct smtp_tx *tx, size_t size)
{
    size_t limit = (size_t)config.smtp_message_memory_max;

    if (tx->message_charged + size > SMALL_SIZE)
        limit -= limit / 4;
    return message_memory + size <= limit;
}

/* A domain may take less than the server; never more. */
static size_t size_max(const struct smtp_tx *tx)
{
    bool is_lower = tx->size_max > 0 && tx->size_max < config.smtp_size_max;

    return (size_t)(is_lower ? tx->size_max : config.smtp_size_max);
}

/* Adds to the message, or remembers why it cannot be taken; then the rest is read and dropped. */
static void message_add(struct smtp_tx *tx, struct str s)
{
    if (tx->fault != FAULT_NONE && tx->fault != FAULT_LINE_END)
        return;
    if (tx->message.n - SMTP_ROOM_SIZE + s.n > size_max(tx))
        tx->fault = FAULT_TOO_BIG;
    else if (!has_memory(tx, s.n))
        tx->fault = FAULT_MEMORY;
    else {
        buf_add(&tx->message, s);
        message_memory += s.n;
        tx->message_charged += s.n;
        return;
    }
    message_drop(tx);
}

static int fault_error(const struct smtp_tx *tx, struct error *err)
{
    switch (tx->fault) {
    case FAULT_TOO_BIG:
        return fail(err, ERR_TOO_BIG, "the message is larger than the %lld bytes we take",
                    (long long)size_max(tx));
    case FAULT_MEMORY:
        return fail(err, ERR_TRY_LATER, "too many messages are coming in, try again in a while");
    case FAULT_LINE_END:
        return fail(err, ERR_DENIED,
                    "the message holds a line end that is not CR LF: a CR or LF on its own");
    case FAULT_NONE:
        break;
    }
    return 0;
}

/* ---- DATA -------------------------------------------------------------------------------------- */

/* Where the reader stands between blocks. LINE_START and DOT* tell what of the ending was seen. */
enum data_state { LINE_START, IN_LINE, SEEN_CR, SEEN_DOT, SEEN_DOT_CR, DATA_END };

static void bad_line_end(struct smtp_tx *tx)
{
    if (tx->fault == FAULT_NONE)
        tx->fault = FAULT_LINE_END;
}

/* Reads one line's beginning: a dot there is either the end or stuffing (RFC 5321, 4.5.2). */
static enum data_state after_dot(struct smtp_tx *tx, enum data_state state, char c)
{
    if (state == SEEN_DOT && c == '\r')
        return SEEN_DOT_CR;
    if (state == SEEN_DOT_CR && c == '\n')
        return DATA_END;
    if (state == SEEN_DOT_CR) { /* ". CR x": the dot was stuffing, the CR is text */
        message_add(tx, STR("\r"));
        return SEEN_CR;
    }
    return IN_LINE;
}

/* A CR that is neither before an LF nor the last byte, of which the next block tells. */
static bool has_bare_cr(enum data_state state, struct str line)
{
    const char *cr;

    if (state == SEEN_CR && line.p[0] != '\n')
        return true;
    cr = memchr(line.p, '\r', line.n);
    return cr != NULL && cr + 1 < line.p + line.n && cr[1] != '\n';
}

/* Takes text up to what could be the ending; returns how many bytes were used. */
static size_t take_text(struct smtp_tx *tx, enum data_state *state, struct str block)
{
    const char *lf = memchr(block.p, '\n', block.n);
    size_t n = lf == NULL ? block.n : (size_t)(lf - block.p) + 1;
    bool had_cr = n > 1 ? block.p[n - 2] == '\r' : *state == SEEN_CR;

    message_add(tx, str_head(block, n));
    if (has_bare_cr(*state, str_head(block, n)) || (lf != NULL && !had_cr))
        bad_line_end(tx);
    if (lf == NULL)
        *state = block.p[n - 1] == '\r' ? SEEN_CR : IN_LINE;
    else
        *state = had_cr ? LINE_START : IN_LINE; /* behind a bare LF a dot means nothing */
    return n;
}

/* Consumes a block; returns how many bytes of it belong to the message and its ending. */
static size_t data_feed(struct smtp_tx *tx, enum data_state *state, struct str block)
{
    size_t at = 0;

    while (at < block.n && *state != DATA_END) {
        char c = block.p[at];

        if (*state == LINE_START && c == '.') {
            *state = SEEN_DOT;
            at++;
        } else if (*state == SEEN_DOT || *state == SEEN_DOT_CR) {
            *state = after_dot(tx, *state, c);
            at += *state == SEEN_DOT_CR || *state == DATA_END;
        } else
            at += take_text(tx, state, str_from(block, at));
    }
    return at;
}

static int read_data(struct smtp_session *s, struct error *err)
{
    int64_t end_ms = loop_deadline(config.smtp_timeout * DATA_TIME_MAX_FACTOR);
    enum data_state state = LINE_START;

    while (state != DATA_END) {
        if (str_empty(conn_peek(s->conn))) {
            if (loop_now_ms() > end_ms)
                return fail(err, ERR_TIMED_OUT, "the message took too long");
            conn_set_deadline(s->conn, config.smtp_timeout);
            if (conn_fill(s->conn, err) < 0)
                return -1;
        }
        conn_consume(s->conn, data_feed(&s->tx, &state, conn_peek(s->conn)));
        fiber_pause();
    }
    return 0;
}

/* 1: refused, and every recipient that expects an answer was told. */
static int refuse_message(struct smtp_session *s, int code, const char *enhanced, const char *why)
{
    size_t answers = s->role == SMTP_LMTP ? s->tx.rcpt_count : 1;

    log_info(&s->log, "message_refused", KV("id", s->tx.trace_text), KV("from", s->tx.sender),
             KV("reason", why));
    smtp_trace_refused(s, smtp_message_of(&s->tx), str_c(why));
    for (size_t i = 0; i < answers; i++)
        smtp_reply(s, code, enhanced, "%s", why);
    return 1;
}

static int check_message(struct smtp_session *s)
{
    struct smtp_message_limits limits = {
        .header_size_max = config.smtp_header_max,
        .line_size_max = config.smtp_text_line_max,
        .received_max = config.smtp_received_max,
        .hostname = str_c(config.hostname),
    };
    struct str message = smtp_message_of(&s->tx);

    switch (smtp_message_check(message, &limits, s->tx.rcpts, s->tx.rcpt_count)) {
    case SMTP_MESSAGE_LOOPS:
        return refuse_message(s, 554, "5.4.6",
                              "the message has been here before: it goes round in "
                              "circles, look at its Received fields");
    case SMTP_MESSAGE_HEADER_TOO_LARGE:
        return refuse_message(s, 552, "5.3.4", "the header is larger than we take");
    case SMTP_MESSAGE_LINE_TOO_LONG:
        return refuse_message(s, 554, "5.6.0", "a line is longer than we take");
    case SMTP_MESSAGE_GOOD:
        break;
    }
    return 0;
}

static int take_message(struct smtp_session *s, struct error *err)
{
    int status;

    if (fault_error(&s->tx, err) < 0) {
        smtp_trace_refused(s, smtp_message_of(&s->tx), str_c(err->text));
        return -1;
    }
    if ((status = check_message(s)) != 0)
        return status;
    if ((status = smtp_deliver(s, err)) != 0)
        return status;
    smtp_policy_accepted(s);
    return 0;
}

/* The answer to the end of the message, whatever it is, also ends the transaction. */
static int finish_message(struct smtp_session *s, struct error *err)
{
    size_t answers = s->role == SMTP_LMTP ? s->tx.rcpt_count : 1; /* RFC 2033, 4.2 */
    int status = take_message(s, err);

    if (status < 0 && s->role != SMTP_LMTP &&
        (err->kind == ERR_CANCELLED || err->kind == ERR_TIMED_OUT || err->kind == ERR_CLOSED)) {
        smtp_tx_reset(s);
        return -1; /* the session ends with it */
    }
    for (size_t i = 0; i < answers && status < 0; i++)
        smtp_reply_message_error(s, err);
    smtp_tx_reset(s);
    return 0;
}

int smtp_cmd_data(struct smtp_session *s, struct str args, struct error *err)
{
    if (!str_empty(args))
        return smtp_reply(s, 501, "5.5.4", "DATA takes no argument");
    if (s->tx.rcpt_count == 0)
        return smtp_reply(s, 554, "5.5.1", "no valid recipients");
    if (s->tx.params.body == SMTP_BODY_BINARYMIME)
        return smtp_reply(s, 503, "5.5.1", "BODY=BINARYMIME needs BDAT (RFC 3030)");
    message_begin(&s->tx);
    smtp_reply(s, 354, NULL, "send the message, end with CR LF . CR LF");
    if (read_data(s, err) < 0)
        return -1;
    return finish_message(s, err);
}

/* ---- BDAT -------------------------------------------------------------------------------------- */

/* The byte before what comes, across chunks: the message so far tells. */
static char last_byte(const struct smtp_tx *tx)
{
    return tx->message.n > 0 ? tx->message.p[tx->message.n - 1] : '\n';
}

static bool has_bad_line_end(struct str s, char before)
{
    bool is_cr = before == '\r';

    for (size_t at = 0; at < s.n;) {
        struct str rest = str_from(s, at);
        const char *lf = memchr(rest.p, '\n', rest.n);
        size_t n = lf == NULL ? rest.n : (size_t)(lf - rest.p) + 1;
        bool had_cr = n > 1 ? rest.p[n - 2] == '\r' : is_cr;

        if (has_bare_cr(is_cr ? SEEN_CR : IN_LINE, str_head(rest, n)) || (lf != NULL && !had_cr))
            return true;
        is_cr = rest.p[n - 1] == '\r';
        at += n;
    }
    return false;
}

/* How much of a binary message, from here on, is its header still: nothing, once the empty line was seen. The seam with
 * what came before is looked at too; our own fields end as any line does, so a message may begin with that line. */
static struct str header_part(struct smtp_tx *tx, struct str s)
{
    struct str tail = str_from(buf_str(&tx->message), tx->message.n - 3), head = str_head(s, 3);
    char seam[6];
    ptrdiff_t end;

    if (tx->is_in_body)
        return str_head(s, 0);
    memcpy(seam, tail.p, tail.n);
    memcpy(seam + tail.n, head.p, head.n);
    if (str_find(str_of(seam, tail.n + head.n), STR("\r\n\r\n")) >= 0)
        end = 0;
    else
        end = str_find(s, STR("\r\n\r\n"));
    tx->is_in_body = end >= 0;
    return end < 0 ? s : str_head(s, (size_t)end);
}

static void chunk_add(struct smtp_tx *tx, struct str s)
{
    bool is_binary = tx->params.body == SMTP_BODY_BINARYMIME;
    struct str text = s;

    if (is_binary && tx->fault == FAULT_NONE)
        text = header_part(tx, s);
    if (tx->fault == FAULT_NONE && has_bad_line_end(text, last_byte(tx)))
        bad_line_end(tx);
    message_add(tx, s);
}

/* A last CR that nothing followed stands alone. */
static void chunks_end(struct smtp_tx *tx)
{
    bool is_text = tx->params.body != SMTP_BODY_BINARYMIME || !tx->is_in_body;

    if (is_text && last_byte(tx) == '\r')
        bad_line_end(tx);
}

static int read_chunk(struct smtp_session *s, uint64_t size, bool is_wanted, struct error *err)
{
    int64_t end_ms =
        is_wanted ? s->tx.end_ms : loop_deadline(config.smtp_timeout * DATA_TIME_MAX_FACTOR);

    while (size > 0) {
        struct str block;

        if (str_empty(conn_peek(s->conn))) {
            if (loop_now_ms() > end_ms)
                return fail(err, ERR_TIMED_OUT, "the message took too long");
            conn_set_deadline(s->conn, config.smtp_timeout);
            if (conn_fill(s->conn, err) < 0)
                return -1;
        }
        block = str_head(conn_peek(s->conn), size);
        if (is_wanted)
            chunk_add(&s->tx, block);
        size -= block.n;
        conn_consume(s->conn, block.n);
        fiber_pause();
    }
    return 0;
}

int smtp_cmd_bdat(struct smtp_session *s, struct str args, struct error *err)
{
    bool is_wanted = s->tx.rcpt_count > 0;
    uint64_t size;
    bool is_last;

    /* Without a size we cannot find the next command: there is no way to go on. */
    if (smtp_parse_bdat(args, &size, &is_last, err) < 0) {
        smtp_reply_error(s, err);
        s->phase = SMTP_CLOSING;
        return 0;
    }
    if (size > 4 * (uint64_t)config.smtp_size_max) {
        smtp_reply(s, 552, "5.3.4", "the chunk is larger than any message we take, goodbye");
        s->phase = SMTP_CLOSING;
        return 0;
    }
    if (is_wanted && s->phase != SMTP_CHUNKS) {
        message_begin(&s->tx);
        s->tx.end_ms = loop_deadline(config.smtp_timeout * DATA_TIME_MAX_FACTOR);
    }
    if (read_chunk(s, size, is_wanted, err) < 0)
        return -1;
    if (!is_wanted)
        return smtp_reply(s, 503, "5.5.1", "give the sender and recipients first");
    if (is_last) {
        chunks_end(&s->tx);
        return finish_message(s, err);
    }
    s->phase = SMTP_CHUNKS;
    return smtp_reply(s, 250, "2.0.0", "%llu bytes received", (unsigned long long)size);
}
