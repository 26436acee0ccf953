/* trace.c - what is told waits here in batches; a fiber of the worker writes them behind the work.
 *
 *   told -> the open batch --full, or 200 ms old--> waiting batches --one statement each--> the database
 *
 * A batch is a set of columns in an arena, as the statement wants them. It leaves the list while it is written and comes
 * back when the database is away. Searching is trace_search.c's. */
#include "mail/store/trace.h"

#include <stdlib.h>

#include "mail/mime/header.h"
#include "mail/store/trace_internal.h"
#include "server/base/list.h"
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/base/utf8.h"
#include "server/pg/pg.h"
#include "server/run/channel.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"
#include "sql_queries.h"

#define BATCH_COUNT  500         /* messages, and events, of a batch */
#define BATCH_SIZE   (256 << 10) /* bytes of its texts */
#define BATCHES_MAX  64          /* waiting ones: 16 MB of texts */
#define FLUSH_MS     200
#define RETRY_MS     1000
#define STOP_MS      3000
#define NAME_SIZE    255
#define ADDRESS_SIZE 320
#define SUBJECT_SIZE 200
#define TEXT_SIZE    500

struct batch {
    struct list link;
    struct arena *arena;
    size_t message_count, event_count;
    struct {
        int64_t trace_id[BATCH_COUNT], account_id[BATCH_COUNT], size[BATCH_COUNT];
        int32_t recipient_count[BATCH_COUNT], direction[BATCH_COUNT];
        struct str sender[BATCH_COUNT], message_id[BATCH_COUNT], subject[BATCH_COUNT],
            recipients[BATCH_COUNT], client_ip[BATCH_COUNT], client_name[BATCH_COUNT],
            helo[BATCH_COUNT], protocol[BATCH_COUNT], tls[BATCH_COUNT];
    } m;
    struct {
        int64_t trace_id[BATCH_COUNT], event_id[BATCH_COUNT], account_id[BATCH_COUNT];
        int32_t kind[BATCH_COUNT];
        struct str recipient[BATCH_COUNT], text[BATCH_COUNT];
    } e;
};

static struct {
    bool is_running, is_stopping, is_writing, is_dropping, has_lane;
    struct batch *open;  /* NULL: nothing was told since the last one */
    struct list waiting; /* the oldest first */
    size_t waiting_count;
    struct fiber *fiber;
    struct wait_queue idle; /* nothing is being written, or the fiber ended */
} writer;

/* ---- texts ------------------------------------------------------------------------------------------- */

static bool is_plain(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < ' ' || s.p[i] >= 127)
            return false;
    return true;
}

struct str trace_clean(struct arena *a, struct str text, size_t size_max)
{
    struct buf repaired;
    struct str out;
    char *p;

    text = str_head(str_trim(text), size_max);
    if (is_plain(text))
        return arena_str(a, text);
    buf_init(&repaired, 3 * size_max + 16);
    utf8_add_repaired(&repaired, text);
    out = arena_str(a, buf_str(&repaired));
    buf_fini(&repaired);
    p = (char *)out.p;
    for (size_t i = 0; i < out.n; i++)
        if ((unsigned char)p[i] < ' ' || p[i] == 127)
            p[i] = ' ';
    return out;
}

struct str trace_address_key(struct arena *a, struct str address)
{
    struct str clean = trace_clean(a, address, ADDRESS_SIZE);
    ptrdiff_t at = str_rindex(clean, '@');
    size_t local_size = at < 0 ? clean.n : (size_t)at;

    if (str_empty(clean))
        return STR("");
    return arena_lower(a, arena_printf(a, "%.*s %.*s", STR_ARG(str_from(clean, local_size + 1)),
                                       STR_ARG(str_head(clean, local_size))));
}

struct str trace_key_address(struct arena *a, struct str key)
{
    struct str domain, local;

    if (!str_cut(key, ' ', &domain, &local))
        return arena_str(a, key);
    return str_empty(domain) ? arena_str(a, local)
                             : arena_printf(a, "%.*s@%.*s", STR_ARG(local), STR_ARG(domain));
}

/* The first few, as they are shown. */
static struct str join_recipients(struct arena *a, const struct trace_facts *f)
{
    struct buf all;
    struct str out;

    buf_init(&all, TRACE_RECIPIENTS_MAX * (3 * ADDRESS_SIZE + 20));
    for (size_t i = 0; i < f->recipient_count && i < TRACE_RECIPIENTS_MAX; i++) {
        if (i > 0)
            buf_adds(&all, ", ");
        buf_add(&all, trace_clean(a, f->recipients[i], ADDRESS_SIZE));
    }
    out = arena_str(a, buf_str(&all));
    buf_fini(&all);
    return out;
}

/* The identifier without its brackets, or what else stands there. */
static struct str message_id_of(struct arena *a, struct str value)
{
    struct str id = trace_clean(a, value, NAME_SIZE);

    if (id.n > 1 && id.p[0] == '<' && id.p[id.n - 1] == '>')
        id = str_of(id.p + 1, id.n - 2);
    return id;
}

void trace_header_facts(struct str message, struct trace_facts *f)
{
    struct header_field field;
    bool is_wanting = true;

    while (is_wanting && header_next(&message, &field)) {
        if (str_empty(f->subject) && str_ieq(field.name, STR("Subject")))
            f->subject = field.value;
        else if (str_empty(f->message_id) && str_ieq(field.name, STR("Message-ID")))
            f->message_id = field.value;
        is_wanting = str_empty(f->subject) || str_empty(f->message_id);
    }
}

/* ---- batches ------------------------------------------------------------------------------------------ */

static struct batch *batch_new(void)
{
    struct arena *arena = arena_new();
    struct batch *b = ARENA_NEW(arena, struct batch);

    b->arena = arena;
    return b;
}

static void batch_free(struct batch *b)
{
    struct arena *arena = b->arena;

    arena_free(&arena);
}

static bool batch_is_full(const struct batch *b)
{
    return b->message_count == BATCH_COUNT || b->event_count == BATCH_COUNT ||
           arena_size(b->arena) > sizeof *b + BATCH_SIZE;
}

static void close_open_batch(void)
{
    if (writer.open == NULL)
        return;
    list_append(&writer.waiting, &writer.open->link);
    writer.waiting_count++;
    writer.open = NULL;
}

static void note_dropped(size_t count)
{
    metric_add(METRIC_trace_events_dropped, (int64_t)count);
    if (!writer.is_dropping)
        log_warn(NULL, "trace_dropped", KV("waiting", writer.waiting_count * BATCH_COUNT));
    writer.is_dropping = true;
}

/* Where the next line goes; NULL when there is no room, or nobody who writes. */
static struct batch *batch_for_next(void)
{
    if (!writer.is_running)
        return NULL;
    if (writer.open != NULL && batch_is_full(writer.open)) {
        close_open_batch();
        fiber_wake(writer.fiber);
    }
    if (writer.open == NULL) {
        if (writer.waiting_count >= BATCHES_MAX) {
            note_dropped(1);
            return NULL;
        }
        writer.open = batch_new();
        fiber_wake(writer.fiber);
    }
    return writer.open;
}

/* A subject is kept as people read it, and decoding a long one would be work for nothing. */
static struct str subject_of(struct arena *a, struct str value)
{
    return trace_clean(a, header_decode_text(a, str_head(value, 4 * SUBJECT_SIZE)), SUBJECT_SIZE);
}

void trace_received(int64_t trace_id, const struct trace_facts *f)
{
    struct batch *b = batch_for_next();
    struct arena *a;
    size_t i;

    if (b == NULL)
        return;
    a = b->arena;
    i = b->message_count++;
    b->m.trace_id[i] = trace_id;
    b->m.account_id[i] = f->account_id;
    b->m.size[i] = (int64_t)f->size;
    b->m.recipient_count[i] = (int32_t)f->recipient_count;
    b->m.direction[i] = f->direction;
    b->m.sender[i] = trace_address_key(a, f->sender);
    b->m.message_id[i] = message_id_of(a, f->message_id);
    b->m.subject[i] = subject_of(a, f->subject);
    b->m.recipients[i] = join_recipients(a, f);
    b->m.client_ip[i] = trace_clean(a, f->client_ip, NAME_SIZE);
    b->m.client_name[i] = trace_clean(a, f->client_name, NAME_SIZE);
    b->m.helo[i] = trace_clean(a, f->helo, NAME_SIZE);
    b->m.protocol[i] = trace_clean(a, f->protocol, NAME_SIZE);
    b->m.tls[i] = trace_clean(a, f->tls, NAME_SIZE);
}

static void add_event(int64_t trace_id, enum trace_kind kind, struct str recipient,
                      int64_t account_id, struct str text)
{
    struct batch *b = batch_for_next();
    size_t i;

    if (b == NULL)
        return;
    i = b->event_count++;
    b->e.trace_id[i] = trace_id;
    b->e.event_id[i] = trace_id_new();
    b->e.account_id[i] = account_id;
    b->e.kind[i] = kind;
    b->e.recipient[i] = trace_address_key(b->arena, recipient);
    b->e.text[i] = trace_clean(b->arena, text, TEXT_SIZE);
}

void trace_event(int64_t trace_id, enum trace_kind kind, struct str recipient, struct str text)
{
    add_event(trace_id, kind, recipient, 0, text);
}

void trace_delivered(int64_t trace_id, struct str recipient, int64_t account_id, struct str text)
{
    add_event(trace_id, TRACE_DELIVERED, recipient, account_id, text);
}

/* ---- writing ------------------------------------------------------------------------------------------ */

static int write_batch(const struct batch *b, struct error *err)
{
    size_t m = b->message_count, e = b->event_count;
    struct pg_call calls[] = {
        {&sql_trace_commit_lazily, PG_NO_ARGS},
        {&sql_trace_write,
         PG_ARGS(pg_i64_array(b->m.trace_id, m), pg_i64_array(b->m.account_id, m),
                 pg_i64_array(b->m.size, m), pg_i32_array(b->m.recipient_count, m),
                 pg_i32_array(b->m.direction, m), pg_text_array(b->m.sender, m),
                 pg_text_array(b->m.message_id, m), pg_text_array(b->m.subject, m),
                 pg_text_array(b->m.recipients, m), pg_text_array(b->m.client_ip, m),
                 pg_text_array(b->m.client_name, m), pg_text_array(b->m.helo, m),
                 pg_text_array(b->m.protocol, m), pg_text_array(b->m.tls, m),
                 pg_i64_array(b->e.trace_id, e), pg_i64_array(b->e.event_id, e),
                 pg_i64_array(b->e.account_id, e), pg_i32_array(b->e.kind, e),
                 pg_text_array(b->e.recipient, e), pg_text_array(b->e.text, e))},
    };

    return pg_run_batch(pg_pool(), calls, 2, NULL, err);
}

/* What can be written later comes back to where it was; what cannot is our bug, and not worth a second try. */
static int put_back_or_drop(struct batch *b, const struct error *err)
{
    if (err->kind == ERR_TRY_LATER || err->kind == ERR_TIMED_OUT || err->kind == ERR_CANCELLED) {
        list_prepend(&writer.waiting, &b->link);
        writer.waiting_count++;
        return -1;
    }
    log_warn(NULL, "trace_not_written", KV_ERR(err));
    note_dropped(b->message_count + b->event_count);
    batch_free(b);
    return 0;
}

static int write_first(struct error *err)
{
    struct batch *b = CONTAINER_OF(list_take_first(&writer.waiting), struct batch, link);
    struct error cause = {0};
    int rc;

    writer.waiting_count--;
    writer.is_writing = true;
    rc = write_batch(b, &cause);
    writer.is_writing = false;
    if (rc == 0) {
        metric_add(METRIC_trace_events_written, (int64_t)(b->message_count + b->event_count));
        writer.is_dropping = false;
        batch_free(b);
    } else {
        rc = put_back_or_drop(b, &cause);
    }
    wait_queue_wake_all(&writer.idle);
    return rc == 0 ? 0 : fail(err, cause.kind, "%s", cause.text);
}

int trace_flush(struct error *err)
{
    if (!writer.is_running)
        return 0;
    while (writer.is_writing)
        if (wait_queue_wait(&writer.idle, NO_DEADLINE) == WAKE_CANCELLED)
            return fiber_wake_error(WAKE_CANCELLED, err);
    close_open_batch();
    while (!list_is_empty(&writer.waiting))
        if (write_first(err) < 0)
            return -1;
    return 0;
}

/* ---- the fiber ---------------------------------------------------------------------------------------- */

static void draw_lane(void)
{
    struct pg_rows rows = {0};

    if (writer.has_lane || pg_run(pg_pool(), &sql_trace_lane, PG_NO_ARGS, &rows, NULL) < 0)
        return;
    trace_lane_set(pg_get_i64(&rows, 0, "lane"));
    writer.has_lane = true;
    pg_rows_free(&rows);
}

static bool has_work(void)
{
    return writer.open != NULL || !list_is_empty(&writer.waiting);
}

/* Until something is told and has waited for others, or there is too much of it to wait. */
static enum wake await_work(void)
{
    int64_t deadline_ms;

    while (!has_work() && !writer.is_stopping)
        if (fiber_park(NO_DEADLINE) == WAKE_CANCELLED)
            return WAKE_CANCELLED;
    deadline_ms = loop_deadline(FLUSH_MS);
    while (list_is_empty(&writer.waiting) && !writer.is_stopping) {
        enum wake wake = fiber_park(deadline_ms);
        if (wake != WAKE_READY)
            return wake;
    }
    return WAKE_READY;
}

static void writer_run(void *arg)
{
    draw_lane();
    while (await_work() != WAKE_CANCELLED && (has_work() || !writer.is_stopping)) {
        draw_lane();
        if (trace_flush(NULL) < 0 && fiber_sleep(RETRY_MS) == WAKE_CANCELLED)
            break;
    }
    writer.fiber = NULL;
    wait_queue_wake_all(&writer.idle);
}

void trace_start(void)
{
    if (writer.is_running)
        return;
    list_init(&writer.waiting);
    wait_queue_init(&writer.idle);
    writer.waiting_count = 0;
    writer.is_stopping = writer.is_dropping = writer.has_lane = false;
    writer.is_running = true;
    writer.fiber = fiber_start("trace", writer_run, NULL);
}

static void await_writer(int64_t deadline_ms)
{
    while (writer.fiber != NULL && wait_queue_wait(&writer.idle, deadline_ms) == WAKE_READY)
        ;
}

void trace_stop(void)
{
    if (!writer.is_running)
        return;
    writer.is_stopping = true;
    fiber_wake(writer.fiber);
    await_writer(loop_deadline(STOP_MS));
    if (writer.fiber != NULL)
        fiber_cancel(writer.fiber);
    await_writer(NO_DEADLINE);
    close_open_batch();
    while (!list_is_empty(&writer.waiting)) {
        struct batch *b = CONTAINER_OF(list_take_first(&writer.waiting), struct batch, link);
        note_dropped(b->message_count + b->event_count);
        batch_free(b);
    }
    writer.is_running = false;
}
