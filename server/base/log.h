/* log.h - one line per event: an event name and fields, never a password, token or message text.
 *
 *   log_info(&s->log, "rcpt_accepted", KV("rcpt", address), KV("size", n));
 *   time=2026-11-23T09:14:03.120Z level=info event=rcpt_accepted session=6fa1c2 peer=192.0.2.7 rcpt=bob@example.org size=1834
 *
 * A context carries fields that every line below it repeats (session, peer, account). Contexts
 * point to their parent, which must outlive them. Values are quoted when they hold spaces,
 * quotes, '=' or bytes outside printable ASCII, so that no client can forge a line or a field.
 * Lines go to standard error with one write(2) each, which systemd's journal takes as they are. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/error.h"
#include "server/base/str.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

struct log_field {
    const char *key;
    enum { LOG_STR, LOG_INT, LOG_UINT } type;
    union { struct str s; int64_t i; uint64_t u; };
};

#define LOG_CONTEXT_FIELDS_MAX 4

struct log {
    const struct log *parent;                           /* NULL at the root */
    struct log_field fields[LOG_CONTEXT_FIELDS_MAX];    /* strings are borrowed */
    unsigned field_count;
};

static inline struct log_field log_kv_str(const char *k, struct str v) { return (struct log_field){.key = k, .type = LOG_STR, .s = v}; }
static inline struct log_field log_kv_c(const char *k, const char *v) { return log_kv_str(k, str_c(v)); }
static inline struct log_field log_kv_int(const char *k, int64_t v) { return (struct log_field){.key = k, .type = LOG_INT, .i = v}; }
static inline struct log_field log_kv_uint(const char *k, uint64_t v) { return (struct log_field){.key = k, .type = LOG_UINT, .u = v}; }

#define KV(key, value) \
    _Generic((value), struct str: log_kv_str, char *: log_kv_c, const char *: log_kv_c, \
             bool: log_kv_uint, unsigned: log_kv_uint, unsigned long: log_kv_uint, \
             unsigned long long: log_kv_uint, int: log_kv_int, long: log_kv_int, \
             long long: log_kv_int)(key, value)
#define KV_ERR(err) log_kv_c("reason", (err)->text)

void log_set_level(enum log_level min);
bool log_parse_level(struct str name, enum log_level *out);
void log_set_process(const char *name);                 /* adds process=NAME to every line; borrowed */

void log_init(struct log *log, const struct log *parent);
void log_add(struct log *log, struct log_field field);  /* beyond LOG_CONTEXT_FIELDS_MAX is our bug */
void log_drop(struct log *log, const char *key);        /* a field that log_add gave, if it is there */

void log_event(const struct log *log, enum log_level level, const char *event,
               const struct log_field *fields, unsigned count);

#define LOG_AT(log, level, event, ...) \
    log_event((log), (level), (event), (const struct log_field[]){{0}, ##__VA_ARGS__} + 1, \
              sizeof((const struct log_field[]){{0}, ##__VA_ARGS__}) / sizeof(struct log_field) - 1)
#define log_debug(log, event, ...) LOG_AT(log, LOG_LEVEL_DEBUG, event, ##__VA_ARGS__)
#define log_info(log, event, ...)  LOG_AT(log, LOG_LEVEL_INFO, event, ##__VA_ARGS__)
#define log_warn(log, event, ...)  LOG_AT(log, LOG_LEVEL_WARN, event, ##__VA_ARGS__)
#define log_error(log, event, ...) LOG_AT(log, LOG_LEVEL_ERROR, event, ##__VA_ARGS__)
