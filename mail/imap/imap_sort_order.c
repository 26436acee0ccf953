/* imap_sort_order.c - sorting.
 *
 * The keys that the program names are copied into a table with one row per message, so that
 * nothing shared is held while others run. Large tables are sorted on a helper thread. */
#include "mail/imap/imap_sort_order.h"

#include <stdlib.h>

#include "mail/store/message_keys.h"
#include "server/run/offload.h"

#define INLINE_COUNT_MAX 12000               /* rows: a few milliseconds */
#define MEMORY_MAX       ((size_t)256 << 20) /* in a worker */

static size_t memory_used;

union sort_value {
    int64_t number;
    struct str text;
};

struct sort_row {
    uint32_t seq;
    bool is_known;
    union sort_value *values; /* one for each criterion */
};

struct sort_table {
    const struct sort_program *program;
    const uint8_t *scores; /* by seq - 1 */
    struct arena *a;
    struct sort_row *rows;
    size_t count;
    size_t memory;
};

/* --- memory ----------------------------------------------------------------------------------- */

int imap_sort_memory_take(size_t size, struct error *err)
{
    if (size > MEMORY_MAX - memory_used)
        return fail(err, ERR_LIMIT, "too many messages are being sorted at the moment");
    memory_used += size;
    return 0;
}

void imap_sort_memory_give(size_t size)
{
    memory_used -= size;
}

static int take(struct sort_table *t, size_t size, struct error *err)
{
    if (imap_sort_memory_take(size, err) < 0)
        return -1;
    t->memory += size;
    return 0;
}

/* --- the table -------------------------------------------------------------------------------- */

static const enum sort_text text_of[SORT_KEY_COUNT] = {
    [SORT_KEY_CC] = SORT_CC,
    [SORT_KEY_DISPLAY_FROM] = SORT_DISPLAY_FROM,
    [SORT_KEY_DISPLAY_TO] = SORT_DISPLAY_TO,
    [SORT_KEY_FROM] = SORT_FROM,
    [SORT_KEY_SUBJECT] = SORT_SUBJECT,
    [SORT_KEY_TO] = SORT_TO,
};

static bool is_number(enum sort_key key)
{
    return key == SORT_KEY_ARRIVAL || key == SORT_KEY_DATE || key == SORT_KEY_SIZE ||
           key == SORT_KEY_RELEVANCY;
}

static int64_t number_of(const struct sort_table *t, enum sort_key key, const struct sort_row *row,
                         const struct message_keys *m)
{
    switch (key) {
    case SORT_KEY_ARRIVAL:
        return m->received_us;
    case SORT_KEY_DATE:
        return m->sent_us;
    case SORT_KEY_RELEVANCY:
        return t->scores != NULL ? -(int64_t)t->scores[row->seq - 1] : 0;
    default:
        return (int64_t)m->size;
    }
}

static int copy_text(struct sort_table *t, struct str text, struct str *out, struct error *err)
{
    if (text.n == 0)
        return 0;
    if (take(t, text.n, err) < 0)
        return -1;
    *out = str_of(arena_copy(t->a, text.p, text.n), text.n);
    return 0;
}

static int fill_row(void *arg, size_t index, const struct message_keys *m, struct error *err)
{
    struct sort_table *t = arg;
    struct sort_row *row = &t->rows[index];

    row->is_known = true;
    for (unsigned i = 0; i < t->program->n; i++) {
        enum sort_key key = t->program->v[i].key;
        if (is_number(key))
            row->values[i].number = number_of(t, key, row, m);
        else if (copy_text(t, m->keys.texts[text_of[key]], &row->values[i].text, err) < 0)
            return -1;
    }
    return 0;
}

static int allocate(struct sort_table *t, const uint32_t *seqs, size_t count, struct error *err)
{
    union sort_value *values;

    if (take(t, count * (sizeof *t->rows + t->program->n * sizeof *values), err) < 0)
        return -1;
    t->rows = ARENA_ARRAY(t->a, count + 1, struct sort_row);
    values = ARENA_ARRAY(t->a, count * t->program->n + 1, union sort_value);
    t->count = count;
    for (size_t i = 0; i < count; i++)
        t->rows[i] = (struct sort_row){.seq = seqs[i], .values = values + i * t->program->n};
    return 0;
}

static void drop_unknown(struct sort_table *t)
{
    size_t kept = 0;

    for (size_t i = 0; i < t->count; i++)
        if (t->rows[i].is_known)
            t->rows[kept++] = t->rows[i];
    t->count = kept;
}

/* --- order ------------------------------------------------------------------------------------ */

static int compare_values(enum sort_key key, const union sort_value *x, const union sort_value *y)
{
    if (is_number(key))
        return (x->number > y->number) - (x->number < y->number);
    return str_cmp(x->text, y->text);
}

static int compare_rows(const void *a, const void *b, void *arg)
{
    const struct sort_row *x = a, *y = b;
    const struct sort_program *program = arg;

    for (unsigned i = 0; i < program->n; i++) {
        int order = compare_values(program->v[i].key, &x->values[i], &y->values[i]);
        if (order != 0)
            return program->v[i].is_reversed ? -order : order;
    }
    return (x->seq > y->seq) - (x->seq < y->seq);
}

/* Mail often lies in the order that is asked for. */
static bool is_sorted(const struct sort_table *t)
{
    for (size_t i = 1; i < t->count; i++)
        if (compare_rows(&t->rows[i - 1], &t->rows[i], (void *)t->program) > 0)
            return false;
    return true;
}

static void sort_rows(void *arg)
{
    struct sort_table *t = arg;

    if (!is_sorted(t))
        qsort_r(t->rows, t->count, sizeof *t->rows, compare_rows, (void *)t->program);
}

/* --- the whole -------------------------------------------------------------------------------- */

int64_t *imap_sort_ids(struct mailbox_view *view, struct arena *a, uint32_t *seqs, size_t *count)
{
    int64_t *ids = ARENA_ARRAY(a, *count + 1, int64_t);
    struct index_entry entry;
    size_t kept = 0;

    for (size_t i = 0; i < *count; i++)
        if (seqs[i] != 0 && view_entry_at(view, seqs[i], &entry)) {
            seqs[kept] = seqs[i];
            ids[kept++] = entry.message_id;
        }
    *count = kept;
    return ids;
}

static PARKS int fill_table(struct sort_table *t, struct mailbox_view *view, int64_t account_id,
                            uint32_t *seqs, size_t count, struct error *err)
{
    struct message_keys_reader reader = {.account_id = account_id, .each = fill_row, .arg = t};

    reader.ids = imap_sort_ids(view, t->a, seqs, &count);
    reader.count = count;
    if (allocate(t, seqs, count, err) < 0 || message_keys_read(&reader, err) < 0)
        return -1;
    drop_unknown(t);
    return 0;
}

int imap_sort_order(struct mailbox_view *view, struct mailbox_key mailbox,
                    const struct sort_program *program, const uint8_t *scores, uint32_t *seqs,
                    size_t *count, struct error *err)
{
    struct sort_table t = {.program = program, .scores = scores, .a = arena_new()};
    int rc = fill_table(&t, view, mailbox.account_id, seqs, *count, err);

    if (rc == 0) {
        if (t.count > INLINE_COUNT_MAX)
            offload(sort_rows, &t);
        else
            sort_rows(&t);
        for (size_t i = 0; i < t.count; i++)
            seqs[i] = t.rows[i].seq;
        *count = t.count;
    }
    imap_sort_memory_give(t.memory);
    arena_free(&t.a);
    return rc;
}
