/* smtp_data.c - DATA and BDAT: the message comes in.
 *
 * The only end of DATA is CR LF . CR LF. A line end that is not CR LF lets two servers disagree about where a message
 * ends (SMTP smuggling), so a message that holds a bare LF is read to its true end and refused. */
#include "mail/smtp/smtp_internal.h"

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

/* A few clients that begin large messages and never end them must not keep everybody's letters out: the last quarter
 * of the memory is for small messages. */
static bool has_memory(const struct smtp_tx *tx, size_t size)
{
    size_t limit = (size_t)config.smtp_message_memory_max;

    if (tx->message_charged + size > SMALL_SIZE)
        limit -= limit / 4;
    return message_memory + size <= limit;
}

/* Adds to the message, or remembers why it cannot be taken; then the rest is read and dropped. */
static void message_add(struct smtp_tx *tx, struct str s)
{
    if (tx->fault != FAULT_NONE && tx->fault != FAULT_BARE_LF)
        return;
    if (tx->message.n - tx->trace_size + s.n > (size_t)config.smtp_size_max)
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
                    (long long)config.smtp_size_max);
    case FAULT_MEMORY:
        return fail(err, ERR_TRY_LATER, "too many messages are coming in, try again in a while");
    case FAULT_BARE_LF:
        return fail(err, ERR_DENIED, "the message holds a line end that is not CR LF");
    case FAULT_NONE:
        break;
    }
    return 0;
}

/* ---- DATA -------------------------------------------------------------------------------------- */

/* Where the reader stands between blocks. LINE_START and DOT* tell what of the ending was seen. */
enum data_state { LINE_START, IN_LINE, SEEN_CR, SEEN_DOT, SEEN_DOT_CR, DATA_END };

static void add_held(struct smtp_tx *tx, const char *text)
{
    message_add(tx, str_c(text));
}

/* Reads one line's beginning: a dot there is either the end or stuffing (RFC 5321, 4.5.2). */
static enum data_state after_dot(struct smtp_tx *tx, enum data_state state, char c)
{
    if (state == SEEN_DOT && c == '\r')
        return SEEN_DOT_CR;
    if (state == SEEN_DOT_CR && c == '\n')
        return DATA_END;
    if (state == SEEN_DOT_CR) /* ". CR x": the dot was stuffing, the CR is text */
        add_held(tx, "\r");
    return IN_LINE;
}

/* Takes text up to what could be the ending; returns how many bytes were used. */
static size_t take_text(struct smtp_tx *tx, enum data_state *state, struct str block)
{
    const char *lf = memchr(block.p, '\n', block.n);
    size_t n = lf == NULL ? block.n : (size_t)(lf - block.p) + 1;
    bool had_cr = n > 1 ? block.p[n - 2] == '\r' : *state == SEEN_CR;

    message_add(tx, str_head(block, n));
    if (lf == NULL)
        *state = block.p[n - 1] == '\r' ? SEEN_CR : IN_LINE;
    else if (had_cr)
        *state = LINE_START;
    else {
        if (tx->fault == FAULT_NONE)
            tx->fault = FAULT_BARE_LF;
        *state = IN_LINE; /* not a line end: a dot behind it means nothing */
    }
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
            enum data_state next = after_dot(tx, *state, c);
            bool was_used = next != IN_LINE;
            *state = next == IN_LINE && *state == SEEN_DOT_CR ? SEEN_CR : next;
            at += was_used;
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

/* The answer to the end of the message, whatever it is, also ends the transaction. */
static int finish_message(struct smtp_session *s, struct error *err)
{
    int status = fault_error(&s->tx, err);

    if (status == 0)
        status = smtp_deliver(s, err);
    if (status < 0 && s->role == SMTP_LMTP) { /* an answer per recipient (RFC 2033, 4.2) */
        for (size_t i = 0; i < s->tx.rcpt_count; i++)
            smtp_reply_error(s, err);
        status = 0;
    }
    smtp_tx_reset(s);
    return status;
}

int smtp_cmd_data(struct smtp_session *s, struct str args, struct error *err)
{
    if (!str_empty(args))
        return smtp_reply(s, 501, "5.5.4", "DATA takes no argument");
    if (s->tx.rcpt_count == 0)
        return smtp_reply(s, 554, "5.5.1", "no valid recipients");
    smtp_trace_begin(s);
    smtp_reply(s, 354, NULL, "send the message, end with CR LF . CR LF");
    if (read_data(s, err) < 0)
        return -1;
    return finish_message(s, err);
}

/* ---- BDAT -------------------------------------------------------------------------------------- */

/* Bare LFs are looked for across chunks too: the message so far tells the byte before. */
static void chunk_add(struct smtp_tx *tx, struct str s)
{
    size_t at = 0;
    const char *lf;

    while (at < s.n && (lf = memchr(s.p + at, '\n', s.n - at)) != NULL) {
        size_t i = (size_t)(lf - s.p);
        char before = i > 0               ? s.p[i - 1]
                      : tx->message.n > 0 ? tx->message.p[tx->message.n - 1]
                                          : '\0';

        if (before != '\r' && tx->fault == FAULT_NONE)
            tx->fault = FAULT_BARE_LF;
        at = i + 1;
    }
    message_add(tx, s);
}

static int read_chunk(struct smtp_session *s, uint64_t size, bool is_wanted, struct error *err)
{
    while (size > 0) {
        struct str block;

        if (str_empty(conn_peek(s->conn))) {
            if (is_wanted && loop_now_ms() > s->tx.end_ms)
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
        smtp_trace_begin(s);
        s->tx.end_ms = loop_deadline(config.smtp_timeout * DATA_TIME_MAX_FACTOR);
    }
    if (read_chunk(s, size, is_wanted, err) < 0)
        return -1;
    if (!is_wanted)
        return smtp_reply(s, 503, "5.5.1", "give the sender and recipients first");
    if (is_last)
        return finish_message(s, err);
    s->phase = SMTP_CHUNKS;
    return smtp_reply(s, 250, "2.0.0", "%llu bytes received", (unsigned long long)size);
}
