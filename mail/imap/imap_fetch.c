/* imap_fetch.c - FETCH.
 *
 * Messages are taken in chunks: their states from the view, everything else from the store in
 * sets, and each is printed when it comes, so the memory for a million messages is that of one
 * chunk. What the items need is found out once; flags alone touch no database. A slow client
 * parks the printing, and nothing of the database is held then. */
#include <stdlib.h>

#include "mail/imap/imap_capability.h"
#include "mail/imap/imap_command.h"
#include "mail/imap/imap_fetch.h"
#include "mail/imap/imap_fetch_body.h"
#include "mail/imap/imap_fetch_kept.h"
#include "mail/imap/imap_fetch_parse.h"
#include "mail/imap/imap_fetch_structure.h"
#include "mail/imap/imap_object_id.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_rights.h"
#include "mail/imap/imap_session.h"
#include "mail/imap/imap_target.h"
#include "mail/imap/imap_updates.h"
#include "mail/mime/binary.h"
#include "mail/mime/part.h"
#include "mail/store/message.h"
#include "server/base/date.h"

#define CHUNK_MAX   2000  /* messages */
#define WRITE_SIZE  16384 /* answers are collected up to about this */
#define DIRECT_SIZE 8192  /* larger literals go to the connection uncopied */

struct fetch_row {
    uint32_t seq;
    bool tells_seen; /* \Seen was set by this very FETCH */
    struct index_entry entry;
};

struct fetch {
    struct imap_session *s;
    struct imap_command *c;
    struct fetch_request request;
    unsigned columns;           /* enum message_columns */
    struct fetch_window window; /* of the messages' bytes */
    bool sets_seen, has_binary;
    bool has_cached_header, reads_header; /* items about the message's own header */
    bool is_single;                       /* one message is asked for */
    bool has_near;                        /* a piece that the window gives nearly always */
    bool is_unasked;                      /* news of an arrival, by NOTIFY */
    bool comes_again; /* a piece of a part of one message: its other pieces will be wanted */
    struct buf out, scratch, more, clean;
    struct arena *tree_arena;
    struct fetch_row *rows;
    int64_t *ids;
    size_t count, count_max; /* of the chunk */
    size_t printed;
    bool has_missing; /* expunged by others, and the client does not know yet */
};

/* --- one message ------------------------------------------------------------------------------ */

static PARKS void write_large(struct fetch *f, struct str bytes)
{
    imap_write_buf(f->s, &f->out);
    while (bytes.n > 0) {
        struct str piece = str_head(bytes, 65536);
        imap_renew_deadline(f->s);
        conn_write(f->s->conn, piece);
        bytes = str_from(bytes, piece.n);
    }
}

static PARKS void print_literal(struct fetch *f, struct str bytes, bool is_binary)
{
    if (bytes.p == NULL) {
        buf_add(&f->out, STR("NIL"));
        return;
    }
    buf_adds(&f->out, is_binary ? "~{" : "{");
    buf_add_u64(&f->out, bytes.n);
    buf_add(&f->out, STR("}\r\n"));
    if (bytes.n > DIRECT_SIZE)
        write_large(f, bytes);
    else
        buf_add(&f->out, bytes);
}

static bool is_cached_header(const struct fetch_item *item)
{
    if (item->part != PART_HEADER_FIELDS || item->number_count > 0)
        return false;
    for (size_t i = 0; i < item->field_count; i++)
        if (!message_header_is_cached(item->fields[i]))
            return false;
    return true;
}

static bool is_whole(const struct fetch_item *item)
{
    return item->part == PART_WHOLE && item->number_count == 0;
}

/* NUL goes out in literal8 only (RFC 9051, 4.3). A message that came with one by SMTP shows 0x80
 * there, as other servers do: sizes and offsets stay. */
static struct str without_nul(struct fetch *f, struct str bytes)
{
    if (!mime_has_nul(bytes))
        return bytes;
    buf_clear(&f->clean);
    buf_add(&f->clean, bytes);
    for (size_t i = 0; i < f->clean.n; i++)
        if (f->clean.p[i] == '\0')
            f->clean.p[i] = (char)0x80;
    return buf_str(&f->clean);
}

static PARKS void print_section(struct fetch *f, const struct fetch_item *item,
                                const struct message *m, struct fetch_body *body)
{
    struct str bytes;

    if (is_cached_header(item) && m->headers.p != NULL) {
        buf_clear(&f->scratch);
        fetch_filter_header(m->headers, item, &f->scratch);
        bytes = buf_str(&f->scratch);
    } else {
        fetch_body_section(body, item, &f->scratch, &bytes);
    }
    buf_add(&f->out, item->label);
    buf_addc(&f->out, ' ');
    bytes = fetch_partial(item, bytes, is_whole(item) ? body->message_at : 0);
    print_literal(f, without_nul(f, bytes), false);
}

static PARKS void print_binary(struct fetch *f, const struct fetch_item *item,
                               struct fetch_body *body)
{
    struct str bytes;

    fetch_body_binary(body, item, &f->scratch, &bytes);
    buf_add(&f->out, item->label);
    buf_addc(&f->out, ' ');
    if (item->kind == FETCH_BINARY_SIZE) {
        buf_add_u64(&f->out, bytes.n);
        return;
    }
    bytes = fetch_partial(item, bytes, 0);
    print_literal(f, bytes, mime_has_nul(bytes));
}

/* --- the message's bytes ---------------------------------------------------------------------- */

static PARKS int take_more(void *arg, size_t index, const struct message *m, struct error *err)
{
    struct fetch *f = arg;

    buf_clear(&f->more);
    buf_add(&f->more, m->blob);
    return 0;
}

/* Reads the message from its beginning, `size` bytes; 0: all. */
static PARKS int read_more(struct fetch *f, const struct message *m, struct fetch_body *body,
                           uint64_t size, struct error *err)
{
    struct message_reader reader = {.account_id = f->s->selected.account_id,
                                    .ids = &m->message_id,
                                    .count = 1,
                                    .columns = MESSAGE_BLOB,
                                    .blob_size = size,
                                    .each = take_more,
                                    .arg = f};

    buf_clear(&f->more);
    if (message_read(&reader, err) < 0)
        return -1;
    if (f->more.n == 0)
        return fail(err, ERR_NOT_FOUND, "the message was removed");
    *body = (struct fetch_body){
        .a = body->a, .message = buf_str(&f->more), .is_cut = size > 0 && f->more.n == size};
    return 0;
}

static PARKS bool misses_header(const struct fetch *f, const struct message *m,
                                struct fetch_body *body)
{
    bool is_needed = f->reads_header || (f->has_cached_header && m->headers.p == NULL);

    return is_needed && !fetch_body_has_header(body);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static PARKS bool misses_section(struct fetch *f, struct fetch_body *body)
{
    for (size_t i = 0; f->has_near && i < f->request.count; i++)
        if (fetch_item_is_near(&f->request.items[i]) &&
            !fetch_body_has_section(body, &f->request.items[i]))
            return true;
    return false;
}

/* ERR_NOT_FOUND: the message went while we were at it. */
static PARKS int complete_body(struct fetch *f, const struct message *m, struct fetch_body *body,
                               struct kept_message **kept, struct error *err)
{
    if (f->comes_again) {
        *kept = kept_message_take(f->s->selected.account_id, m->message_id, err);
        if (*kept == NULL)
            return -1;
        body->message = kept_message_raw(*kept);
        body->root = kept_message_root(*kept);
        return 0;
    }
    if (misses_header(f, m, body) &&
        read_more(f, m, body, larger(f->window.to, MIME_HEADER_SIZE_MAX + 1), err) < 0)
        return -1;
    if (misses_section(f, body) && read_more(f, m, body, 0, err) < 0)
        return -1;
    return 0;
}

/* An answer begun cannot be taken back, so what may fail is asked before it begins. */
static PARKS int check_binary(struct fetch *f, struct fetch_body *body, struct error *err)
{
    for (size_t i = 0; i < f->request.count; i++) {
        const struct fetch_item *item = &f->request.items[i];
        if ((item->kind == FETCH_BINARY || item->kind == FETCH_BINARY_SIZE) &&
            !fetch_body_is_decodable(body, item)) {
            f->c->refusal = "UNKNOWN-CTE";
            return fail(err, ERR_UNSUPPORTED, "a part has an unknown transfer encoding");
        }
    }
    return 0;
}

static void print_date(struct buf *out, const char *name, int64_t unix_us)
{
    buf_adds(out, name);
    buf_addc(out, '"');
    date_add_imap(out, unix_us >= 0 ? unix_us / 1000000 : -((999999 - unix_us) / 1000000));
    buf_addc(out, '"');
}

static void print_basic_structure(struct buf *out, struct str structure)
{
    size_t before;

    buf_add(out, STR("BODY "));
    before = out->n;
    if (!imap_add_basic_structure(out, structure)) {
        buf_truncate(out, before);
        buf_add(out, structure);
    }
}

static void print_number(struct buf *out, const char *name, uint64_t value)
{
    buf_adds(out, name);
    buf_add_u64(out, value);
}

static void print_object_id(struct fetch *f, const char *name, enum imap_object kind, int64_t id)
{
    buf_adds(&f->out, name);
    imap_add_object_id(&f->out, kind, f->s->selected.account_id, id);
    buf_addc(&f->out, ')');
}

static PARKS void print_item(struct fetch *f, const struct fetch_item *item,
                             const struct fetch_row *row, const struct message *m,
                             struct fetch_body *body)
{
    switch (item->kind) {
    case FETCH_UID:
        print_number(&f->out, "UID ", row->entry.uid);
        break;
    case FETCH_FLAGS:
        buf_add(&f->out, STR("FLAGS "));
        imap_add_flags(&f->out, row->entry.flags, row->entry.keywords);
        break;
    case FETCH_MODSEQ:
        print_number(&f->out, "MODSEQ (", row->entry.modseq);
        buf_addc(&f->out, ')');
        break;
    case FETCH_EMAILID:
        print_object_id(f, "EMAILID (", OBJECT_MESSAGE, row->entry.message_id);
        break;
    case FETCH_THREADID:
        print_object_id(f, "THREADID (", OBJECT_THREAD, m->thread_id);
        break;
    case FETCH_SIZE:
        print_number(&f->out, "RFC822.SIZE ", m->size);
        break;
    case FETCH_INTERNALDATE:
        print_date(&f->out, "INTERNALDATE ", m->received_us);
        break;
    case FETCH_SAVEDATE:
        print_date(&f->out, "SAVEDATE ", m->saved_us);
        break;
    case FETCH_ENVELOPE:
        buf_add(&f->out, STR("ENVELOPE "));
        buf_add(&f->out, m->envelope);
        break;
    case FETCH_BODYSTRUCTURE:
        buf_add(&f->out, STR("BODYSTRUCTURE "));
        buf_add(&f->out, m->structure);
        break;
    case FETCH_BODY:
        print_basic_structure(&f->out, m->structure);
        break;
    case FETCH_SECTION:
        print_section(f, item, m, body);
        break;
    case FETCH_PREVIEW:
        buf_add(&f->out, STR("PREVIEW "));
        imap_add_text(f->s, &f->out, m->preview);
        break;
    case FETCH_BINARY:
    case FETCH_BINARY_SIZE:
        print_binary(f, item, body);
        break;
    }
}

/* What the client did not ask for but must learn: \Seen came on by this FETCH; of which message and
 * state the news of an arrival are (RFC 7162, 3.1 and 3.2.4). */
static void print_due(struct fetch *f, const struct fetch_row *row)
{
    const struct imap_session *s = f->s;

    if (row->tells_seen && !imap_fetch_has(&f->request, FETCH_FLAGS)) {
        buf_add(&f->out, STR(" FLAGS "));
        imap_add_flags(&f->out, row->entry.flags, row->entry.keywords);
    }
    if (f->is_unasked && (s->enabled & IMAP_ENABLED_QRESYNC) && !imap_is_uidonly(s) &&
        !imap_fetch_has(&f->request, FETCH_UID))
        print_number(&f->out, " UID ", row->entry.uid);
    if ((row->tells_seen || f->is_unasked) && (s->enabled & IMAP_ENABLED_CONDSTORE) &&
        !imap_fetch_has(&f->request, FETCH_MODSEQ)) {
        print_number(&f->out, " MODSEQ (", row->entry.modseq);
        buf_addc(&f->out, ')');
    }
}

static PARKS int print_answer(struct fetch *f, const struct fetch_row *row, const struct message *m,
                              struct fetch_body *body, struct error *err)
{
    if (f->has_binary && check_binary(f, body, err) < 0)
        return -1;
    imap_add_fetch_start(f->s, &f->out, row->seq, row->entry.uid);
    for (size_t i = 0; i < f->request.count; i++) {
        if (i > 0)
            buf_addc(&f->out, ' ');
        print_item(f, &f->request.items[i], row, m, body);
    }
    print_due(f, row);
    buf_add(&f->out, STR(")\r\n"));
    if (f->out.n >= WRITE_SIZE)
        imap_write_buf(f->s, &f->out);
    f->printed++;
    return conn_failed(f->s->conn) ? fail(err, ERR_CLOSED, "the connection is lost") : 0;
}

/* m is NULL when the index knows everything. */
static PARKS int print_message(struct fetch *f, const struct fetch_row *row,
                               const struct message *m, struct error *err)
{
    struct fetch_body body = {.a = f->tree_arena};
    struct kept_message *kept = NULL;
    struct error lost = {0};
    int status;

    if (m == NULL)
        return print_answer(f, row, NULL, &body, err);
    body.message = m->blob;
    body.message_at = f->window.from;
    body.is_cut = m->blob.n == f->window.to - f->window.from;
    if (complete_body(f, m, &body, &kept, &lost) < 0)
        return lost.kind == ERR_NOT_FOUND ? 0 : fail(err, lost.kind, "%s", lost.text);
    status = print_answer(f, row, m, &body, err);
    kept_message_release(&kept);
    arena_reset(f->tree_arena);
    return status;
}

/* --- one chunk -------------------------------------------------------------------------------- */

static PARKS int print_read_message(void *arg, size_t index, const struct message *m,
                                    struct error *err)
{
    struct fetch *f = arg;

    return print_message(f, &f->rows[index], m, err);
}

static PARKS int print_from_index(struct fetch *f, struct error *err)
{
    for (size_t i = 0; i < f->count; i++) {
        if (print_message(f, &f->rows[i], NULL, err) < 0)
            return -1;
        if (i % 64 == 63)
            fiber_pause();
    }
    return 0;
}

static int compare_row_uid(const void *key, const void *row)
{
    uint32_t uid = *(const uint32_t *)key, other = ((const struct fetch_row *)row)->entry.uid;

    return uid < other ? -1 : uid > other;
}

static void take_new_state(struct fetch *f, const struct message_state *state)
{
    struct fetch_row *row =
        bsearch(&state->uid, f->rows, f->count, sizeof *f->rows, compare_row_uid);

    view_mark_told(f->s->view, state->uid, state->modseq);
    view_learn_keywords(f->s->view, &state->keywords);
    if (row == NULL)
        return;
    row->tells_seen = true;
    row->entry.flags = state->flags;
    row->entry.modseq = state->modseq;
    row->entry.keywords = &state->keywords; /* the index may not know them yet */
}

static PARKS int set_seen(struct fetch *f, struct error *err)
{
    uint32_t *uids = ARENA_ARRAY(f->s->arena, f->count + 1, uint32_t), *conflicts;
    struct message_state *states;
    size_t unseen = 0, count, conflict_count;

    for (size_t i = 0; i < f->count; i++)
        if (!(f->rows[i].entry.flags & FLAG_SEEN))
            uids[unseen++] = f->rows[i].entry.uid;
    if (unseen == 0)
        return 0;
    if (message_store_flags(f->s->arena, f->s->selected, f->s->account_id, uids, unseen, FLAGS_ADD,
                            FLAG_SEEN, (struct keywords){0}, UINT64_MAX, &states, &count,
                            &conflicts, &conflict_count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        take_new_state(f, &states[i]);
    return 0;
}

static PARKS int run_chunk(struct fetch *f, struct error *err)
{
    struct message_reader reader = {
        .account_id = f->s->selected.account_id,
        .ids = f->ids,
        .count = f->count,
        .columns = f->columns,
        .blob_offset = f->window.from,
        .blob_size = f->window.to < UINT64_MAX ? f->window.to - f->window.from : 0,
        .each = print_read_message,
        .arg = f};

    if (f->count == 0)
        return 0;
    if (f->sets_seen && set_seen(f, err) < 0)
        return -1;
    if (f->sets_seen || imap_fetch_has(&f->request, FETCH_FLAGS))
        imap_tell_keywords(f->s, false); /* the rows may have some that FLAGS did not name */
    f->printed = 0;
    if ((f->columns == 0 ? print_from_index(f, err) : message_read(&reader, err)) < 0)
        return -1;
    if (f->printed < f->count)
        f->has_missing = true;
    f->count = 0;
    return 0;
}

static void take_row(struct fetch *f, uint32_t seq)
{
    struct fetch_row *row = &f->rows[f->count];

    if (!view_entry(f->s->view, view_uid(f->s->view, seq), &row->entry)) {
        f->has_missing = true;
        return;
    }
    if (f->request.has_changed_since && row->entry.modseq <= f->request.changed_since)
        return;
    row->seq = seq;
    row->tells_seen = false;
    f->ids[f->count++] = row->entry.message_id;
}

static PARKS int run_all(struct fetch *f, struct error *err)
{
    const struct imap_set *set = &f->request.set;
    uint64_t total = imap_set_count(set);

    f->count_max = total < CHUNK_MAX ? (size_t)total : CHUNK_MAX;
    f->rows = ARENA_ARRAY(f->s->arena, f->count_max + 1, struct fetch_row);
    f->ids = ARENA_ARRAY(f->s->arena, f->count_max + 1, int64_t);
    for (size_t i = 0; i < set->n; i++)
        for (uint32_t seq = set->v[i].from; seq <= set->v[i].to; seq++) {
            take_row(f, seq);
            if (f->count == f->count_max && run_chunk(f, err) < 0)
                return -1;
        }
    return run_chunk(f, err);
}

/* --- the command ------------------------------------------------------------------------------ */

static unsigned item_columns(const struct fetch_item *item)
{
    switch (item->kind) {
    case FETCH_UID:
    case FETCH_FLAGS:
    case FETCH_MODSEQ:
    case FETCH_EMAILID:
        return 0;
    case FETCH_INTERNALDATE:
    case FETCH_SAVEDATE:
    case FETCH_THREADID:
        return MESSAGE_ROW;
    case FETCH_SIZE:
        return MESSAGE_SIZE;
    case FETCH_ENVELOPE:
        return MESSAGE_ENVELOPE;
    case FETCH_BODYSTRUCTURE:
    case FETCH_BODY:
        return MESSAGE_STRUCTURE;
    case FETCH_SECTION:
        return is_cached_header(item) ? MESSAGE_HEADERS : MESSAGE_BLOB;
    case FETCH_BINARY:
    case FETCH_BINARY_SIZE:
        return MESSAGE_BLOB;
    case FETCH_PREVIEW:
        return MESSAGE_PREVIEW;
    }
    return 0;
}

/* Header forms are kept for most fields; only what is not there makes a window of bytes wanted. */
static void plan_bytes(struct fetch *f, const struct fetch_item *item)
{
    struct fetch_window w = fetch_item_window(item);
    bool is_near = fetch_item_is_near(item);

    /* Of a single message the other pieces will be asked for: see comes_again. */
    if (is_near && f->is_single)
        w.to = UINT64_MAX;
    f->has_near = f->has_near || (is_near && !f->is_single);
    if (is_cached_header(item)) {
        f->has_cached_header = true;
        return;
    }
    if (w.from == w.to)
        return;
    f->reads_header = f->reads_header || (item->part != PART_WHOLE && item->number_count == 0);
    f->comes_again = f->comes_again || (item->is_partial && w.to == UINT64_MAX && !is_whole(item));
    if (f->window.from == f->window.to)
        f->window = w;
    f->window.from = w.from < f->window.from ? w.from : f->window.from;
    f->window.to = w.to > f->window.to ? w.to : f->window.to;
}

static void plan(struct fetch *f)
{
    f->is_single = imap_set_count(&f->request.set) == 1;
    for (size_t i = 0; i < f->request.count; i++) {
        const struct fetch_item *item = &f->request.items[i];
        f->columns |= item_columns(item);
        f->has_binary = f->has_binary || item->kind >= FETCH_BINARY;
        f->sets_seen = f->sets_seen || (item->sets_seen && imap_may(f->s, RIGHT_SEEN));
        plan_bytes(f, item);
    }
    f->comes_again = f->comes_again && f->is_single;
    if (f->comes_again)
        f->columns = (f->columns & ~(unsigned)MESSAGE_BLOB) | MESSAGE_ROW;
}

static PARKS int begin(struct fetch *f, struct error *err)
{
    struct imap_set known = {0};

    if (f->request.wants_vanished && !(f->s->enabled & IMAP_ENABLED_QRESYNC))
        return fail(err, ERR_SYNTAX, "VANISHED needs QRESYNC to be enabled");
    if (f->request.wants_vanished) {
        known = f->request.set;
        known.v = arena_copy(f->s->arena, known.v, known.n * sizeof *known.v);
        imap_set_resolve(&known, view_uid_next(f->s->view));
    }
    if (imap_target_resolve(f->s, &f->request.set, f->c->by_uid, err) < 0)
        return -1;
    if (imap_partial_is_set(&f->request.partial))
        imap_partial_cut(&f->request.partial, &f->request.set);
    imap_target_limit(f->s, f->c, &f->request.set);
    if (imap_fetch_has(&f->request, FETCH_MODSEQ))
        imap_enable_condstore(f->s);
    return f->request.wants_vanished
               ? imap_tell_vanished_earlier(f->s, f->request.changed_since, &known, err)
               : 0;
}

static PARKS int run_fetch(struct fetch *f, struct error *err)
{
    int status;

    plan(f);
    buf_init(&f->out, SIZE_MAX);
    buf_init(&f->scratch, SIZE_MAX);
    buf_init(&f->more, SIZE_MAX);
    buf_init(&f->clean, SIZE_MAX);
    f->tree_arena = arena_new();
    status = run_all(f, err);
    if (f->out.n > 0)
        imap_write_buf(f->s, &f->out);
    buf_fini(&f->out);
    buf_fini(&f->scratch);
    buf_fini(&f->more);
    buf_fini(&f->clean);
    arena_free(&f->tree_arena);
    return status;
}

int imap_cmd_fetch(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct fetch *f = ARENA_NEW(s->arena, struct fetch);
    int status;

    f->s = s;
    f->c = c;
    if (imap_parse_fetch(&c->args, s->arena, c->by_uid, imap_is_uidonly(s), &f->request, err) < 0 ||
        begin(f, err) < 0)
        return -1;
    status = run_fetch(f, err);
    if (status == 0 && f->has_missing && !c->by_uid && c->code.n == 0)
        c->code = STR("EXPUNGEISSUED");
    return status;
}

int imap_fetch_unasked(struct imap_session *s, struct str items, struct imap_set seqs,
                       struct error *err)
{
    struct fetch *f = ARENA_NEW(s->arena, struct fetch);
    struct imap_command command = {0};
    struct imap_parser p;

    f->s = s;
    f->c = &command;
    f->is_unasked = true;
    imap_parser_init(&p, items);
    if (imap_parse_fetch_items(&p, s->arena, &f->request, err) < 0)
        return -1;
    f->request.set = seqs;
    return run_fetch(f, err);
}
