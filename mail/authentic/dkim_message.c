/* dkim_message.c - a message as signers see it: its fields with an index by name, and the body.
 *
 * A name is looked up by its hash, and the fields of one name hang together from the bottom up, so
 * that choosing fields costs as much as the list of names is long, whatever the message holds. */
#include <string.h>

#include "mail/authentic/dkim_internal.h"
#include "mail/mime/header.h"
#include "server/base/map.h"

static int count_fields(struct str message, size_t *count, size_t *header_size, struct error *err)
{
    struct str rest = message;
    struct header_field field;

    for (*count = 0; header_next(&rest, &field); ++*count)
        if (*count == DKIM_FIELDS_MAX || message.n - rest.n > DKIM_HEADER_SIZE_MAX)
            return fail(err, ERR_TOO_BIG,
                        "the header is larger than %d KB or has more than %d fields",
                        DKIM_HEADER_SIZE_MAX / 1024, DKIM_FIELDS_MAX);
    *header_size = message.n - rest.n;
    return 0;
}

static uint32_t *bucket_of(const struct dkim_message *m, struct str lower_name)
{
    return &m->buckets[siphash(lower_name) & m->bucket_mask];
}

static uint32_t find_name(const struct dkim_message *m, struct str lower_name)
{
    uint32_t at = *bucket_of(m, lower_name);

    while (at != 0 && !str_eq(m->names[at - 1].name, lower_name))
        at = m->names[at - 1].next;
    return at;
}

static uint32_t add_name(struct dkim_message *m, struct str lower_name)
{
    uint32_t *bucket = bucket_of(m, lower_name);

    m->names[m->name_count++] = (struct dkim_name){.name = lower_name, .next = *bucket};
    return *bucket = (uint32_t)m->name_count;
}

static void index_field(struct arena *a, struct dkim_message *m, struct dkim_field *field)
{
    struct str lower = arena_lower(a, field->name);
    uint32_t at = find_name(m, lower);

    if (at == 0)
        at = add_name(m, lower);
    field->name_index = at - 1;
    field->above = m->names[at - 1].lowest;
    m->names[at - 1].lowest = (uint32_t)(field - m->fields) + 1;
}

static struct str skip_empty_line(struct str s)
{
    if (s.n > 0 && s.p[0] == '\r')
        s = str_from(s, 1);
    return str_from(s, 1);
}

int dkim_message_read(struct arena *a, struct str message, struct dkim_message *out,
                      struct error *err)
{
    struct header_field field;
    size_t count, header_size = 0, buckets = 16;

    *out = (struct dkim_message){0};
    if (count_fields(message, &count, &header_size, err) < 0)
        return -1;
    while (buckets < count)
        buckets *= 2;
    out->fields = ARENA_ARRAY(a, count + 1, struct dkim_field);
    out->names = ARENA_ARRAY(a, count + 1, struct dkim_name);
    out->buckets = ARENA_ARRAY(a, buckets, uint32_t);
    out->bucket_mask = buckets - 1;
    out->body = skip_empty_line(str_from(message, header_size));
    while (header_next(&message, &field)) {
        struct dkim_field *f = &out->fields[out->field_count++];

        *f = (struct dkim_field){.name = field.name, .value = field.value, .whole = field.whole};
        if (field.name.n > 0)
            index_field(a, out, f);
    }
    return 0;
}

uint32_t dkim_message_lowest(struct arena *a, const struct dkim_message *m, struct str name)
{
    uint32_t at = find_name(m, arena_lower(a, name));

    return at == 0 ? 0 : m->names[at - 1].lowest;
}

static size_t count_names(struct str names)
{
    size_t count = 1;

    for (size_t i = 0; i < names.n; i++)
        count += names.p[i] == ':';
    return count;
}

/* What may occur once (RFC 5322, 3.6; RFC 2045, 3) and readers go by: with one of them signed and another put above it, they
 * would show the other (RFC 6376, 8.15). next: the fields that the list left. */
static struct str doubled_name(struct arena *a, const struct dkim_message *m, const uint32_t *next)
{
    static const char *const single[] = {
        "From", "Sender",  "Reply-To",     "To",
        "Cc",   "Subject", "Content-Type", "Content-Transfer-Encoding",
        "Date"};

    for (size_t i = 0; i < sizeof single / sizeof single[0]; i++) {
        uint32_t at = find_name(m, arena_lower(a, str_c(single[i])));

        if (at != 0 && next[at - 1] != 0 && next[at - 1] != m->names[at - 1].lowest)
            return str_c(single[i]);
    }
    return STR_NULL;
}

int dkim_select(struct arena *a, const struct dkim_message *m, struct str names,
                const struct dkim_field *own, struct dkim_selection *out, struct error *err)
{
    size_t count = count_names(names);
    uint32_t *next; /* by name_index: the field to take, as index + 1 */
    struct str name;

    *out = (struct dkim_selection){0};
    if (count > DKIM_NAMES_MAX)
        return fail(err, ERR_TOO_BIG, "h= names more than %d fields", DKIM_NAMES_MAX);
    out->wholes = ARENA_ARRAY(a, count, struct str);
    next = ARENA_ARRAY(a, m->name_count + 1, uint32_t);
    for (size_t i = 0; i < m->name_count; i++)
        next[i] = m->names[i].lowest;
    while (tag_value_next(&names, ':', &name)) {
        uint32_t at = find_name(m, arena_lower(a, name)), chosen;

        if (at == 0)
            continue;
        chosen = next[at - 1];
        if (chosen != 0 && &m->fields[chosen - 1] == own)
            chosen = m->fields[chosen - 1].above;
        if (chosen == 0)
            continue;
        out->wholes[out->count++] = m->fields[chosen - 1].whole;
        next[at - 1] = m->fields[chosen - 1].above;
    }
    out->doubled = doubled_name(a, m, next);
    return 0;
}
