/* log.c - builds one line and writes it with one write(2).
 *
 * No levels per module, no files, no rotation: systemd's journal or a pipe does that better. A
 * line stays within PIPE_BUF, so that the lines of several workers never mix on a shared pipe. */
#include "server/base/log.h"
#include <assert.h>
#include <unistd.h>
#include "server/base/buf.h"
#include "server/base/date.h"

#define LINE_SIZE_MAX  4096 /* PIPE_BUF */
#define LINE_END       " cut=1\n"
#define VALUE_SIZE_MAX 1024

static const char *const level_names[] = {
    [LOG_LEVEL_DEBUG] = "debug",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_WARN] = "warn",
    [LOG_LEVEL_ERROR] = "error",
};

static enum log_level level_min = LOG_LEVEL_INFO;
static const char *process_name;

void log_set_level(enum log_level min)
{
    level_min = min;
}

bool log_parse_level(struct str name, enum log_level *out)
{
    for (unsigned i = 0; i < sizeof level_names / sizeof level_names[0]; i++)
        if (str_ieq(name, str_c(level_names[i]))) {
            *out = (enum log_level)i;
            return true;
        }
    return false;
}

void log_set_process(const char *name)
{
    process_name = name;
}

void log_init(struct log *log, const struct log *parent)
{
    *log = (struct log){.parent = parent};
}

void log_add(struct log *log, struct log_field field)
{
    assert(log->field_count < LOG_CONTEXT_FIELDS_MAX);
    log->fields[log->field_count++] = field;
}

void log_drop(struct log *log, const char *key)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < log->field_count; i++)
        if (strcmp(log->fields[i].key, key) != 0)
            log->fields[kept++] = log->fields[i];
    log->field_count = kept;
}

static bool needs_quotes(struct str value)
{
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];

        if (c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '=')
            return true;
    }
    return value.n == 0;
}

static void add_escaped(struct buf *line, unsigned char c)
{
    if (c == '"' || c == '\\')
        buf_addf(line, "\\%c", c);
    else if (c == '\n')
        buf_adds(line, "\\n");
    else if (c == '\r')
        buf_adds(line, "\\r");
    else if (c == '\t')
        buf_adds(line, "\\t");
    else if (c < ' ' || c >= 0x7f)
        buf_addf(line, "\\x%02x", c);
    else
        buf_addc(line, (char)c);
}

static void add_text(struct buf *line, struct str value)
{
    bool is_cut = value.n > VALUE_SIZE_MAX;

    value = str_head(value, VALUE_SIZE_MAX);
    if (!is_cut && !needs_quotes(value)) {
        buf_add(line, value);
        return;
    }
    buf_addc(line, '"');
    for (size_t i = 0; i < value.n; i++)
        add_escaped(line, (unsigned char)value.p[i]);
    buf_adds(line, is_cut ? "...\"" : "\"");
}

/* A field that does not fit is left out whole, so that no quote stays open. */
static void add_field(struct buf *line, const struct log_field *field)
{
    size_t start = line->n;

    buf_addf(line, " %s=", field->key);
    if (field->type == LOG_STR)
        add_text(line, field->s);
    else if (field->type == LOG_INT)
        buf_addf(line, "%lld", (long long)field->i);
    else
        buf_add_u64(line, field->u);
    if (!buf_ok(line))
        buf_truncate(line, start);
}

static void add_fields(struct buf *line, const struct log_field *fields, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        add_field(line, &fields[i]);
}

static void add_context(struct buf *line, const struct log *log)
{
    if (log == NULL)
        return;
    add_context(line, log->parent);
    add_fields(line, log->fields, log->field_count);
}

static void add_end(struct buf *line)
{
    bool is_cut = !buf_ok(line);

    line->overflowed = false;
    line->size_max = LINE_SIZE_MAX;
    buf_adds(line, is_cut ? LINE_END : "\n");
}

void log_event(const struct log *log, enum log_level level, const char *event,
               const struct log_field *fields, unsigned count)
{
    struct buf line;

    if (level < level_min)
        return;
    buf_init(&line, LINE_SIZE_MAX - sizeof LINE_END);
    buf_adds(&line, "time=");
    date_add_rfc3339(&line, time_now_us());
    buf_addf(&line, " level=%s event=%s", level_names[level], event);
    if (process_name != NULL)
        add_field(&line, &(struct log_field){.key = "process", .s = str_c(process_name)});
    add_context(&line, log);
    add_fields(&line, fields, count);
    add_end(&line);
    if (write(STDERR_FILENO, line.p, line.n) < 0) {
        /* Nobody reads standard error, and there is nobody else to tell. */
    }
    buf_fini(&line);
}
