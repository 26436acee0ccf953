/* pop3_retr.c - RETR and TOP, and the reading ahead that makes them fast.
 *
 * A client that asks for message n asks for n + 1 next. So following messages are read in the
 * same go: a window of bytes that doubles as long as the client goes on in order. TOP reads only
 * beginnings. All windows of a worker have one budget; beyond it the least used one is dropped,
 * and is read again if it is asked for. What does not fit a window is read in parts. */
#include <stdlib.h>

#include "mail/pop3/pop3_internal.h"
#include "mail/store/message.h"
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/run/metrics.h"

#define WINDOW_MIN       ((size_t)64 << 10)
#define WINDOW_MAX       ((size_t)1 << 20)
#define WINDOWS_MAX      ((size_t)64 << 20) /* of all sessions at rest in the worker */
#define WINDOW_COUNT_MAX 400
#define PART_SIZE        ((uint32_t)4 << 20) /* of a message that is read in parts */
#define TOP_SIZE         ((uint32_t)32 << 10)

struct pop3_held {
    uint32_t number;
    uint32_t size; /* of what is held */
    size_t offset; /* in bytes */
    uint64_t total;
    int64_t message_id;
};

/* ---- the worker's budget --------------------------------------------------------------------- */

static struct list windows = {&windows, &windows};
static size_t windows_bytes; /* of those in the list */

static void window_empty(struct pop3_ahead *ahead)
{
    size_t window = ahead->window;

    buf_fini(&ahead->bytes);
    free(ahead->v);
    *ahead = (struct pop3_ahead){.window = window};
}

/* Out of the list: it stays as it is while its session parks. */
static void window_hold(struct pop3_ahead *ahead)
{
    if (!list_is_linked(&ahead->link))
        return;
    list_remove(&ahead->link);
    windows_bytes -= ahead->bytes.cap;
}

static void window_let_go(struct pop3_ahead *ahead)
{
    if (ahead->bytes.cap == 0)
        return;
    list_append(&windows, &ahead->link);
    windows_bytes += ahead->bytes.cap;
    while (windows_bytes > WINDOWS_MAX) {
        struct pop3_ahead *oldest = CONTAINER_OF(windows.next, struct pop3_ahead, link);
        window_hold(oldest);
        window_empty(oldest);
    }
}

void pop3_ahead_drop(struct pop3_ahead *ahead)
{
    window_hold(ahead);
    window_empty(ahead);
}

/* ---- reading --------------------------------------------------------------------------------- */

struct plan {
    int64_t *ids;
    uint32_t *sizes, *numbers;
    size_t n, bytes;
    uint32_t to; /* the first number that was left out */
};

static bool find_id(const struct pop3_maildrop *d, uint32_t number, int64_t *message_id)
{
    struct index_entry entry;

    if (!view_entry(d->view, view_uid(d->view, number), &entry))
        return false;
    *message_id = entry.message_id;
    return true;
}

/* The message asked for, whatever its size, and as many behind it as the window takes. */
static struct plan plan_window(const struct pop3_maildrop *d, struct arena *a, uint32_t number,
                               uint32_t size_max)
{
    struct plan p = {
        .ids = ARENA_ARRAY(a, WINDOW_COUNT_MAX, int64_t),
        .sizes = ARENA_ARRAY(a, WINDOW_COUNT_MAX, uint32_t),
        .numbers = ARENA_ARRAY(a, WINDOW_COUNT_MAX, uint32_t),
    };

    for (p.to = number; p.to <= d->count && p.n < WINDOW_COUNT_MAX; p.to++) {
        uint32_t size = d->sizes[p.to - 1] < size_max ? d->sizes[p.to - 1] : size_max;

        if (p.to > number && p.bytes + size > d->ahead.window)
            break;
        if ((p.to > number && pop3_has_mark(d, p.to, POP3_DELETED)) ||
            !find_id(d, p.to, &p.ids[p.n]))
            continue;
        p.sizes[p.n] = size;
        p.numbers[p.n++] = p.to;
        p.bytes += size;
    }
    return p;
}

struct filling {
    struct pop3_ahead *ahead;
    const struct plan *plan;
};

static int take_message(void *arg, size_t index, const struct message *m, struct error *err)
{
    struct filling *f = arg;
    struct pop3_ahead *ahead = f->ahead;

    ahead->v[ahead->n++] = (struct pop3_held){
        .number = f->plan->numbers[index],
        .size = (uint32_t)m->blob.n,
        .offset = ahead->bytes.n,
        .total = m->size,
        .message_id = m->message_id,
    };
    buf_add(&ahead->bytes, m->blob);
    return 0;
}

/* Grows while the client goes on where the last window ended. */
static void settle_window(struct pop3_ahead *ahead, uint32_t number)
{
    if (ahead->window == 0 || number != ahead->to)
        ahead->window = WINDOW_MIN;
    else if (ahead->window < WINDOW_MAX)
        ahead->window *= 2;
}

static int read_window(struct pop3_session *s, uint32_t number, uint32_t size_max,
                       struct error *err)
{
    struct pop3_ahead *ahead = &s->drop.ahead;
    struct plan p;
    struct filling f = {ahead, &p};
    struct message_reader reader = {
        .account_id = s->drop.mailbox.account_id,
        .columns = MESSAGE_ROW | MESSAGE_BLOB,
        .each = take_message,
        .arg = &f,
    };

    settle_window(ahead, number);
    window_empty(ahead);
    p = plan_window(&s->drop, s->arena, number, size_max);
    reader.ids = p.ids;
    reader.sizes = p.sizes;
    reader.count = p.n;
    for (size_t i = 0; i < p.n; i++) /* else whole ones are read, which is cheaper */
        if (s->drop.sizes[p.numbers[i] - 1] > size_max)
            reader.blob_size = size_max;
    buf_init(&ahead->bytes, SIZE_MAX);
    buf_reserve(&ahead->bytes, p.bytes + 1);
    ahead->v = memory_array(p.n + 1, sizeof *ahead->v);
    ahead->from = number;
    ahead->to = p.to;
    return message_read(&reader, err);
}

static const struct pop3_held *find_held(const struct pop3_ahead *ahead, uint32_t number)
{
    size_t low = 0, high = ahead->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (ahead->v[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < ahead->n && ahead->v[low].number == number ? &ahead->v[low] : NULL;
}

/* The message, or so much of its beginning; the window is held. NULL: it is gone, or an error. */
static const struct pop3_held *get_message(struct pop3_session *s, uint32_t number,
                                           uint32_t size_max, struct error *err)
{
    struct pop3_ahead *ahead = &s->drop.ahead;
    const struct pop3_held *held;

    if (pop3_maildrop_load_sizes(&s->drop, err) < 0)
        return NULL;
    window_hold(ahead);
    held = find_held(ahead, number);
    if (held != NULL && (held->size == held->total || held->size >= size_max))
        return held;
    if (read_window(s, number, size_max, err) < 0)
        return NULL;
    held = find_held(ahead, number);
    if (held == NULL)
        fail(err, ERR_NOT_FOUND, "message %u was removed by another client", number);
    return held;
}

/* ---- sending --------------------------------------------------------------------------------- */

static void send_part(struct pop3_session *s, struct mime_lines *lines, struct str part)
{
    struct str piece;

    mime_lines_feed(lines, part);
    while (mime_lines_next(lines, &piece) && !conn_failed(s->conn)) {
        conn_write(s->conn, piece);
        fiber_pause();
    }
}

static int send_next_part(void *arg, size_t index, const struct message *m, struct error *err)
{
    struct buf *part = arg;

    buf_clear(part);
    buf_add(part, m->blob);
    return 0;
}

/* What the window does not hold. The part is copied, so that nothing of the database waits for the client. */
static int send_rest(struct pop3_session *s, struct mime_lines *lines, struct pop3_held held,
                     struct error *err)
{
    uint64_t offset = held.size;
    int status = 0;
    struct buf part;
    struct message_reader reader = {
        .account_id = s->drop.mailbox.account_id,
        .ids = &held.message_id,
        .count = 1,
        .columns = MESSAGE_ROW | MESSAGE_BLOB,
        .blob_size = PART_SIZE,
        .each = send_next_part,
        .arg = &part,
    };

    buf_init(&part, SIZE_MAX);
    while (status == 0 && offset < held.total && !lines->is_done && !conn_failed(s->conn)) {
        buf_clear(&part);
        reader.blob_offset = offset;
        status = message_read(&reader, err);
        if (status == 0 && part.n == 0)
            status = fail(err, ERR_NOT_FOUND, "the message was removed by another client");
        send_part(s, lines, buf_str(&part));
        offset += part.n;
    }
    buf_fini(&part);
    return status;
}

static void send_message(struct pop3_session *s, const struct pop3_held *held, uint64_t body_lines)
{
    struct error err = {0};
    struct mime_lines lines;

    mime_lines_init(&lines, body_lines);
    send_part(
        s, &lines,
        str_from(str_head(buf_str(&s->drop.ahead.bytes), held->offset + held->size), held->offset));
    if (held->size < held->total && send_rest(s, &lines, *held, &err) < 0) {
        /* +OK was said. Without the last line the client knows that it does not have all. */
        log_warn(conn_log(s->conn), "message_cut_off", KV_ERR(&err));
        s->phase = POP3_CLOSING;
        return;
    }
    conn_write(s->conn, mime_lines_end(&lines));
    conn_write(s->conn, STR(".\r\n"));
}

int pop3_cmd_retr(struct pop3_session *s, struct str args, struct error *err)
{
    const struct pop3_held *held;
    uint32_t number;

    if (pop3_parse_number(s, args, &number, err) < 0)
        return -1;
    held = get_message(s, number, PART_SIZE, err);
    if (held != NULL) {
        conn_printf(s->conn, "+OK %u octets\r\n", s->drop.sizes[number - 1]);
        send_message(s, held, MIME_LINES_ALL);
        pop3_mark(&s->drop, number, POP3_RETRIEVED);
        metric_inc(METRIC_pop3_messages_sent);
    }
    window_let_go(&s->drop.ahead);
    return held != NULL ? 0 : -1;
}

int pop3_cmd_top(struct pop3_session *s, struct str args, struct error *err)
{
    const struct pop3_held *held;
    struct str first, second;
    uint64_t line_count;
    uint32_t number;

    str_cut(args, ' ', &first, &second);
    if (pop3_parse_number(s, first, &number, err) < 0)
        return -1;
    if (!str_to_u64(str_trim(second), &line_count))
        return fail(err, ERR_SYNTAX, "expected a number of lines");
    held = get_message(s, number, TOP_SIZE, err);
    if (held != NULL) {
        conn_write(s->conn, STR("+OK top of message follows\r\n"));
        send_message(s, held, line_count < MIME_LINES_ALL ? line_count : MIME_LINES_ALL - 1);
    }
    window_let_go(&s->drop.ahead);
    return held != NULL ? 0 : -1;
}
