/* trace_search.c - the trace read: which messages fit a question, the lines of one, and the days that are over.
 *
 * Ids hold the time, so a range of time is a range of ids, and PostgreSQL looks into the partitions of those days only. */
#include "mail/store/trace.h"

#include "mail/store/trace_internal.h"
#include "server/base/date.h"
#include "server/pg/pg.h"
#include "sql_queries.h"

#define SUBJECT_WORDS_MAX 10
#define WORD_SIZE_MAX     100

const char *trace_kind_name(enum trace_kind kind)
{
    static const char *const names[TRACE_KIND_COUNT] = {
        [TRACE_VERDICT] = "verdict",     [TRACE_ROUTED] = "routed",
        [TRACE_DELIVERED] = "delivered", [TRACE_QUEUED] = "queued",
        [TRACE_ATTEMPT] = "attempt",     [TRACE_DEFERRED] = "deferred",
        [TRACE_FAILED] = "failed",       [TRACE_BOUNCED] = "bounced",
        [TRACE_HELD] = "held",           [TRACE_RELEASED] = "released",
        [TRACE_EXPIRED] = "expired",     [TRACE_DELETED] = "deleted",
        [TRACE_FORWARDED] = "forwarded", [TRACE_FILTERED] = "filtered",
        [TRACE_REFUSED] = "refused",     [TRACE_EXPANDED] = "expanded",
        [TRACE_REROUTED] = "rerouted",   [TRACE_NOTE] = "note",
    };

    return kind > 0 && kind < TRACE_KIND_COUNT ? names[kind] : "unknown";
}

const char *trace_direction_name(enum trace_direction d)
{
    static const char *const names[] = {"unknown", "in", "submitted", "local", "system"};

    return d >= TRACE_IN && d <= TRACE_SYSTEM ? names[d] : names[0];
}

/* ---- the question --------------------------------------------------------------------------------------- */

/* An address, or a domain: "@example.org", "example.org". Empty stays empty. */
static struct str search_key(struct arena *a, struct str text)
{
    if (str_empty(text) || str_index(text, '@') > 0)
        return trace_address_key(a, text);
    if (text.p[0] == '@')
        text = str_from(text, 1);
    return arena_lower(a, arena_printf(a, "%.*s ", STR_ARG(trace_clean(a, text, 255))));
}

/* The word anywhere in the subject; what LIKE reads as a wildcard is meant as written. */
static struct str like_pattern(struct arena *a, struct str word)
{
    struct str clean = trace_clean(a, word, WORD_SIZE_MAX);
    char *p = arena_alloc(a, 2 * clean.n + 3);
    size_t n = 0;

    p[n++] = '%';
    for (size_t i = 0; i < clean.n; i++) {
        if (strchr("%_\\", clean.p[i]) != NULL)
            p[n++] = '\\';
        p[n++] = clean.p[i];
    }
    p[n++] = '%';
    return str_of(p, n);
}

static size_t subject_patterns(struct arena *a, struct str subject, struct str *out)
{
    struct str word;
    size_t n = 0;

    while (n < SUBJECT_WORDS_MAX && str_next_token(&subject, ' ', &word))
        out[n++] = like_pattern(a, word);
    return n;
}

static struct str bare_message_id(struct arena *a, struct str id)
{
    id = trace_clean(a, id, 255);
    if (id.n > 1 && id.p[0] == '<' && id.p[id.n - 1] == '>')
        id = str_of(id.p + 1, id.n - 2);
    return id;
}

static bool asks_nothing(const struct trace_query *q)
{
    return q->trace_id == 0 && str_empty(q->sender) && str_empty(q->recipient) &&
           str_empty(q->subject) && str_empty(q->message_id) && q->account_id == 0 &&
           q->since_us == 0 && q->until_us == 0;
}

/* As ids: from included, to not. */
static void id_range(const struct trace_query *q, int64_t *from, int64_t *to)
{
    *from = q->since_us == 0 ? 0 : trace_id_at(q->since_us);
    *to = q->until_us == 0 ? INT64_MAX : trace_id_at(q->until_us);
    if (q->before_id != 0 && q->before_id < *to)
        *to = q->before_id;
    if (q->trace_id != 0) {
        *from = q->trace_id;
        *to = q->trace_id + 1;
    }
}

/* ---- the answer ------------------------------------------------------------------------------------------ */

static struct str column(struct arena *a, const struct pg_rows *rows, size_t row, const char *name)
{
    return arena_str(a, pg_get_str(rows, row, name));
}

static void read_message(struct arena *a, const struct pg_rows *rows, size_t i,
                         struct trace_message *m)
{
    m->trace_id = pg_get_i64(rows, i, "trace_id");
    m->recipient_list = column(a, rows, i, "recipients");
    m->account = column(a, rows, i, "account");
    m->facts = (struct trace_facts){
        .direction = (enum trace_direction)pg_get_i32(rows, i, "direction"),
        .client_ip = column(a, rows, i, "client_ip"),
        .client_name = column(a, rows, i, "client_name"),
        .helo = column(a, rows, i, "helo"),
        .protocol = column(a, rows, i, "protocol"),
        .tls = column(a, rows, i, "tls"),
        .account_id = pg_get_i64(rows, i, "account_id"),
        .sender = trace_key_address(a, pg_get_str(rows, i, "sender")),
        .recipient_count = (size_t)pg_get_i32(rows, i, "recipient_count"),
        .subject = column(a, rows, i, "subject"),
        .message_id = column(a, rows, i, "message_id"),
        .size = (uint64_t)pg_get_i64(rows, i, "size"),
    };
}

int trace_search(struct arena *a, const struct trace_query *q, struct trace_message **out,
                 size_t *count, struct error *err)
{
    size_t limit = q->limit == 0 || q->limit > TRACE_LIMIT_MAX ? TRACE_LIMIT_MAX : q->limit;
    struct str patterns[SUBJECT_WORDS_MAX];
    size_t pattern_count = subject_patterns(a, q->subject, patterns);
    struct pg_rows rows = {0};
    int64_t from, to;

    if (asks_nothing(q))
        return fail(err, ERR_SYNTAX,
                    "say which messages: by id, sender, recipient, subject, message id or time");
    id_range(q, &from, &to);
    if (pg_run(pg_pool(), &sql_trace_search,
               PG_ARGS(pg_i64(from), pg_i64(to), pg_text(search_key(a, q->sender)),
                       pg_text(search_key(a, q->recipient)), pg_text_array(patterns, pattern_count),
                       pg_text(bare_message_id(a, q->message_id)), pg_i64(q->account_id),
                       pg_i32((int32_t)limit)),
               &rows, err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count, struct trace_message);
    for (size_t i = 0; i < rows.count; i++)
        read_message(a, &rows, i, &(*out)[i]);
    pg_rows_free(&rows);
    return 0;
}

static void read_line(struct arena *a, const struct pg_rows *rows, size_t i, struct trace_line *to)
{
    to->time_us = trace_id_time_us(pg_get_i64(rows, i, "event_id"));
    to->kind = (enum trace_kind)pg_get_i32(rows, i, "kind");
    to->recipient = trace_key_address(a, pg_get_str(rows, i, "recipient"));
    to->account = column(a, rows, i, "account");
    to->text = column(a, rows, i, "text");
}

int trace_read_lines(struct arena *a, struct trace_message *m, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_trace_lines,
               PG_ARGS(pg_i64(m->trace_id), pg_i32(TRACE_LINES_MAX + 1)), &rows, err) < 0)
        return -1;
    m->has_more_lines = rows.count > TRACE_LINES_MAX;
    m->line_count = m->has_more_lines ? TRACE_LINES_MAX : rows.count;
    m->lines = ARENA_ARRAY(a, m->line_count, struct trace_line);
    for (size_t i = 0; i < m->line_count; i++)
        read_line(a, &rows, i, &m->lines[i]);
    pg_rows_free(&rows);
    return 0;
}

/* ---- upkeep ----------------------------------------------------------------------------------------------- */

int trace_upkeep(int64_t retention_ms, struct error *err)
{
    struct pg_rows rows = {0};
    bool is_done;

    if (pg_run(pg_pool(), &sql_trace_keep_partitions,
               PG_ARGS(pg_time_us(time_now_us() - retention_ms * 1000)), &rows, err) < 0)
        return -1;
    is_done = pg_get_bool(&rows, 0, "is_done");
    pg_rows_free(&rows);
    return is_done ? 0 : fail(err, ERR_TRY_LATER, "a long reader of the trace is in the way");
}
