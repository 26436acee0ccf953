/* imap_append.c - APPEND, with several messages (RFC 3502), UIDPLUS answers and limits (RFC 7889),
 * messages put together from parts (RFC 4469), and REPLACE (RFC 8508).
 *
 * Messages are not collected with the command: each is read into memory of its own as it comes,
 * within config.imap_append_max for one and the worker's budget for all, and then all are stored
 * in one transaction. A client that waits for "+" is refused before it sends; one that does not
 * wait is read out to its end and refused then. */
#include <stdlib.h>

#include "mail/imap/imap_append_parse.h"
#include "mail/imap/imap_catenate.h"
#include "mail/imap/imap_command.h"
#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_notify.h"
#include "mail/imap/imap_progress.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_rights.h"
#include "mail/imap/imap_sequence.h"
#include "mail/imap/imap_url.h"
#include "mail/mime/binary.h"
#include "mail/store/delivery.h"
#include "mail/store/mailbox.h"
#include "server/base/date.h"
#include "server/run/config.h"

#define MESSAGES_MAX 20000 /* in one command */
#define PARTS_MAX    1000  /* of a CATENATE */

struct append_message {
    struct append_message *next;
    struct buf raw;
    size_t part_count;
    uint32_t flags;
    struct keywords keywords;
    int64_t received_us;
};

struct append {
    struct imap_session *s;
    struct imap_command *c;
    struct imap_parser *p; /* what is here of the command */
    struct append_parser parser;
    struct imap_place place;
    int64_t mailbox_id;
    uint32_t may; /* flags that the user may set there */
    bool is_replace;
    uint32_t old_uid;
    struct append_message *first, *last;
    size_t count;
    int64_t budget_used;
    struct error refused; /* set: what still comes is thrown away */
};

/* Bytes held by unfinished APPENDs of this worker. */
static int64_t budget_in_use;

static void append_fini(struct append *ap)
{
    for (struct append_message *m = ap->first; m != NULL; m = m->next)
        buf_fini(&m->raw);
    budget_in_use -= ap->budget_used;
}

static int check_budget(int64_t size, struct error *err)
{
    return budget_in_use + size > config.smtp_message_memory_max
               ? fail(err, ERR_TRY_LATER, "the server is receiving too much at this moment")
               : 0;
}

static void spend_budget(struct append *ap, size_t size)
{
    budget_in_use += (int64_t)size;
    ap->budget_used += (int64_t)size;
}

/* --- what a part may be ----------------------------------------------------------------------- */

static size_t count_max(const struct append *ap)
{
    uint64_t max = ap->is_replace ? 1 : MESSAGES_MAX;

    if (config.imap_message_limit > 0 && (uint64_t)config.imap_message_limit < max)
        max = (uint64_t)config.imap_message_limit;
    if (config.imap_save_limit > 0 && (uint64_t)config.imap_save_limit < max)
        max = (uint64_t)config.imap_save_limit;
    return (size_t)max;
}

static int begin_message(struct append *ap, const struct append_event *event, struct error *err)
{
    struct append_message *m = ARENA_NEW(ap->s->arena, struct append_message);

    if (ap->count == count_max(ap) && ap->is_replace)
        return fail(err, ERR_SYNTAX, "REPLACE takes one message");
    if (ap->count == count_max(ap)) {
        if (ap->count < MESSAGES_MAX)
            ap->c->refusal =
                arena_c(ap->s->arena, arena_printf(ap->s->arena, "MESSAGELIMIT %zu", ap->count));
        return fail(err, ERR_LIMIT, "more than %zu messages in one command", ap->count);
    }
    *m = (struct append_message){
        .flags = event->flags, .keywords = event->keywords, .received_us = event->received_us};
    buf_init(&m->raw, (size_t)config.imap_append_max);
    if (ap->last == NULL)
        ap->first = m;
    else
        ap->last->next = m;
    ap->last = m;
    ap->count++;
    return 0;
}

static int begin_part(struct append *ap, const struct append_event *event, struct error *err)
{
    if (event->begins_message && begin_message(ap, event, err) < 0)
        return -1;
    if (event->is_utf8 && !(ap->s->enabled & IMAP_ENABLED_UTF8))
        return fail(err, ERR_SYNTAX, "UTF8 needs ENABLE UTF8=ACCEPT");
    if (++ap->last->part_count > PARTS_MAX)
        return fail(err, ERR_LIMIT, "a message may have %d parts at most", PARTS_MAX);
    return 0;
}

static size_t room_left(const struct append *ap)
{
    return (size_t)config.imap_append_max - ap->last->raw.n;
}

static int admit(struct append *ap, const struct append_event *event, struct error *err)
{
    bool is_whole = event->begins_message && ap->parser.state != APPEND_BEHIND_PART &&
                    ap->parser.state != APPEND_PART_UTF8;

    if (begin_part(ap, event, err) < 0)
        return -1;
    if (event->kind == APPEND_EVENT_URL_LITERAL)
        return event->literal.size <= IMAP_URL_SIZE_MAX
                   ? 0
                   : fail(err, ERR_TOO_BIG, "a URL may have %d bytes at most", IMAP_URL_SIZE_MAX);
    if (event->literal.size == 0 && is_whole)
        return fail(err, ERR_UNSUPPORTED, "an empty message cannot be stored");
    if (event->literal.size > room_left(ap))
        return fail(err, ERR_TOO_BIG, "a message may have %lld bytes at most",
                    (long long)config.imap_append_max);
    return check_budget((int64_t)event->literal.size, err);
}

/* --- bytes that come -------------------------------------------------------------------------- */

/* Memory grows as the bytes come and is charged then, so an announcement alone costs nothing,
 * neither to the server nor to other clients. */
static PARKS int read_bytes(struct append *ap, struct buf *to, uint64_t size, struct error *err)
{
    while (size > 0) {
        struct str held = conn_peek(ap->s->conn);
        if (held.n == 0) {
            imap_renew_deadline(ap->s);
            if (conn_fill(ap->s->conn, err) < 0)
                return -1;
            continue;
        }
        held = str_head(held, (size_t)size);
        if (check_budget((int64_t)held.n, &ap->refused) < 0)
            return imap_discard(ap->s, size, err);
        spend_budget(ap, held.n);
        buf_add(to, held);
        size -= held.n;
        conn_consume(ap->s->conn, held.n);
    }
    return 0;
}

static PARKS int read_line(struct append *ap, struct str *line, struct error *err)
{
    imap_renew_deadline(ap->s);
    return conn_read_line(ap->s->conn, (size_t)config.imap_line_max, line, err);
}

/* The client did not wait: everything up to where it does, or to the end of the command. */
static PARKS int throw_away(struct append *ap, struct imap_literal literal, struct error *err)
{
    struct str line;

    do {
        if (literal.size > 4 * (uint64_t)config.imap_append_max) {
            imap_bye(ap->s, "The message is much too big");
            return fail(err, ERR_TOO_BIG, "the message is much too big");
        }
        if (imap_discard(ap->s, literal.size, err) < 0 || read_line(ap, &line, err) < 0)
            return -1;
    } while (imap_literal_at_end(line, &literal) && !literal.is_sync);
    return 0;
}

static PARKS int add_url(struct append *ap, struct str url)
{
    struct buf *raw = &ap->last->raw;
    size_t before = raw->n;
    struct error err = {0};

    if (imap_catenate_url(ap->s, url, room_left(ap), raw, &err) == 0 &&
        check_budget((int64_t)(raw->n - before), &err) == 0) {
        spend_budget(ap, raw->n - before);
        return 0;
    }
    if (err.kind == ERR_SYNTAX || err.kind == ERR_NOT_FOUND || err.kind == ERR_DENIED)
        ap->c->refusal = imap_catenate_badurl(ap->s->arena, url);
    return fail(&ap->refused, err.kind == ERR_SYNTAX ? ERR_NOT_FOUND : err.kind, "%s", err.text);
}

static PARKS int take_url_literal(struct append *ap, uint64_t size, struct error *err)
{
    struct buf url;
    int status;

    buf_init(&url, IMAP_URL_SIZE_MAX);
    status = read_bytes(ap, &url, size, err);
    if (status == 0 && ap->refused.kind == ERR_NONE)
        (void)add_url(ap, arena_str(ap->s->arena, buf_str(&url)));
    buf_fini(&url);
    return status;
}

/* One literal and the line behind it. -1: the connection; a refusal is kept in ap->refused, and is
 * final. */
static PARKS int take_literal(struct append *ap, const struct append_event *event,
                              struct error *err)
{
    struct imap_literal literal = event->literal;
    struct str line;
    int status;

    if (ap->refused.kind == ERR_NONE)
        (void)admit(ap, event, &ap->refused);
    if (ap->refused.kind != ERR_NONE)
        return literal.is_sync ? 0 : throw_away(ap, literal, err);
    if (literal.is_sync)
        conn_write(ap->s->conn, STR("+ OK\r\n"));
    status = event->kind == APPEND_EVENT_URL_LITERAL
                 ? take_url_literal(ap, literal.size, err)
                 : read_bytes(ap, &ap->last->raw, literal.size, err);
    if (status < 0 || read_line(ap, &line, err) < 0)
        return -1;
    imap_parser_init(ap->p, arena_str(ap->s->arena, line));
    return 0;
}

/* What is here of the command ends with a literal that nobody will take. */
static PARKS int drain(struct append *ap, struct error *err)
{
    struct imap_literal literal;

    if (!imap_literal_at_end(imap_parse_rest(ap->p), &literal) || literal.is_sync)
        return 0;
    return throw_away(ap, literal, err);
}

static PARKS int take_events(struct append *ap, struct error *err)
{
    struct append_event event;

    for (;;) {
        struct imap_parser start = *ap->p;
        struct error wrong = {0};

        if (imap_append_next(&ap->parser, ap->p, &event, &wrong) < 0) {
            ap->refused = wrong; /* BAD, whatever else was the matter */
            ap->c->refusal = NULL;
            *ap->p = start;
            return drain(ap, err);
        }
        switch (event.kind) {
        case APPEND_EVENT_END:
            return 0;
        case APPEND_EVENT_URL:
            if (ap->refused.kind == ERR_NONE && begin_part(ap, &event, &ap->refused) == 0)
                (void)add_url(ap, event.url);
            break;
        case APPEND_EVENT_BYTES:
        case APPEND_EVENT_URL_LITERAL:
            if (take_literal(ap, &event, err) < 0)
                return -1;
            if (ap->refused.kind != ERR_NONE)
                return drain(ap, err);
            break;
        }
    }
}

/* --- storing ---------------------------------------------------------------------------------- */

static struct str appenduid(struct append *ap, const struct delivery *v)
{
    uint32_t *uids = ARENA_ARRAY(ap->s->arena, ap->count, uint32_t);
    struct buf code;
    struct str out;

    for (size_t i = 0; i < ap->count; i++)
        uids[i] = v[i].uid;
    buf_init(&code, SIZE_MAX);
    buf_addf(&code, "APPENDUID %u ", v[0].uid_validity);
    imap_set_print(&code, uids, ap->count);
    out = arena_str(ap->s->arena, buf_str(&code));
    buf_fini(&code);
    return out;
}

/* No NUL is stored where it could not go out again (RFC 3516, 4.4 and 6). */
static int make_storable(struct append *ap, struct append_message *m, struct error *err)
{
    struct arena *a;
    struct buf encoded;
    bool ok;

    if (m->raw.n == 0)
        return fail(err, ERR_UNSUPPORTED, "an empty message cannot be stored");
    if (!mime_has_nul(buf_str(&m->raw)))
        return 0;
    a = arena_new();
    buf_init(&encoded, 2 * (size_t)config.imap_append_max);
    ok = mime_encode_nul(&encoded, mime_parse(a, buf_str(&m->raw)), buf_str(&m->raw));
    arena_free(&a);
    buf_fini(&m->raw);
    m->raw = encoded;
    if (ok && buf_ok(&m->raw))
        return 0;
    ap->c->refusal = "UNKNOWN-CTE";
    return fail(err, ERR_UNSUPPORTED, "NUL stands where it cannot be stored");
}

static PARKS int prepare_messages(struct append *ap, struct message_prepared *prepared,
                                  struct delivery *v, struct error *err)
{
    int64_t now_us = time_now_us();
    size_t i = 0;

    for (struct append_message *m = ap->first; m != NULL; m = m->next, i++) {
        if (make_storable(ap, m, err) < 0)
            return -1;
        message_prepare(ap->s->arena, buf_str(&m->raw), &prepared[i]);
        v[i] = (struct delivery){
            .account_id = ap->place.account_id,
            .mailbox_id = ap->mailbox_id,
            .user_id = ap->s->account_id,
            .flags = m->flags & ap->may,
            .keywords = ap->may & FLAG_KEYWORDS ? m->keywords : (struct keywords){0},
            .received_us = m->received_us == INT64_MIN ? now_us : m->received_us};
        fiber_pause();
    }
    return 0;
}

/* The UID of the new message is told ahead of the old one's EXPUNGE (RFC 8508, 4.3). */
static PARKS int replace_message(struct append *ap, const struct message_prepared *m,
                                 struct delivery *d, struct error *err)
{
    struct imap_session *s = ap->s;

    if (mail_replace(m, d, s->selected, ap->old_uid, err) < 0) {
        if (err->kind == ERR_NOT_FOUND)
            ap->c->refusal = "EXPUNGEISSUED";
        return -1;
    }
    conn_printf(s->conn, "* OK [APPENDUID %u %u] Replacement is stored\r\n", d->uid_validity,
                d->uid);
    imap_notify_did_add(s, (struct mailbox_key){d->account_id, d->mailbox_id}, d->uid, d->uid);
    ap->c->tells_modseq = true;
    return 0;
}

static PARKS int store_messages(struct append *ap, struct error *err)
{
    struct message_prepared *prepared =
        ARENA_ARRAY(ap->s->arena, ap->count, struct message_prepared);
    struct delivery *v = ARENA_ARRAY(ap->s->arena, ap->count, struct delivery);
    struct imap_progress progress;
    int status;

    if (prepare_messages(ap, prepared, v, err) < 0)
        return -1;
    if (ap->is_replace)
        return replace_message(ap, prepared, v, err);
    imap_progress_begin(&progress, ap->s, ap->c);
    status = mail_append(prepared, v, ap->count, err);
    imap_progress_end(&progress);
    if (status < 0)
        return -1;
    ap->c->code = appenduid(ap, v);
    imap_notify_did_add(ap->s, (struct mailbox_key){ap->place.account_id, ap->mailbox_id}, v[0].uid,
                        v[ap->count - 1].uid);
    return 0;
}

/* --- the commands ----------------------------------------------------------------------------- */

static PARKS int find_target(struct append *ap, struct error *err)
{
    struct mailbox mailbox;

    if (imap_find_mailbox(ap->s, ap->c, &ap->place, RIGHT_INSERT, &mailbox, err) < 0)
        return -1;
    ap->mailbox_id = mailbox.mailbox_id;
    ap->may = rights_flags(mailbox.rights);
    return 0;
}

/* The messages may have taken minutes to come, and rights may have been taken away meanwhile. */
static PARKS int look_again(struct append *ap, struct error *err)
{
    if (!imap_place_is_own(ap->s, &ap->place) && find_target(ap, err) < 0)
        return -1;
    if (!ap->is_replace)
        return 0;
    return imap_rights_read(ap->s, err) < 0 ||
                   imap_require(ap->s, ap->c, RIGHT_DELETE_MESSAGES, err) < 0
               ? -1
               : imap_require(ap->s, ap->c, RIGHT_EXPUNGE, err);
}

/* A mailbox name that cannot be is refused like one that is not there: the message is coming
 * nevertheless. */
static PARKS int parse_target(struct append *ap, struct error *err)
{
    if (imap_parse_mailbox(ap->s, ap->c, &ap->place, err) == 0) {
        if (ap->refused.kind == ERR_NONE)
            (void)find_target(ap, &ap->refused);
        return 0;
    }
    if (!ap->c->has_message || ap->c->refusal == NULL)
        return -1;
    ap->refused = *err;
    error_clear(err);
    return 0;
}

static PARKS int append_run(struct append *ap, struct error *err)
{
    struct error lost = {0};

    if (parse_target(ap, err) < 0)
        return drain(ap, &lost) < 0 ? imap_connection_lost(ap->s, ap->c) : -1;
    if (take_events(ap, &lost) < 0)
        return imap_connection_lost(ap->s, ap->c);
    if (ap->refused.kind != ERR_NONE) {
        *err = ap->refused;
        return -1;
    }
    return look_again(ap, err) < 0 ? -1 : store_messages(ap, err);
}

static PARKS int run(struct imap_session *s, struct imap_command *c, struct append *ap,
                     struct error *err)
{
    int status;

    ap->s = s;
    ap->c = c;
    ap->p = &c->args;
    imap_append_parser_init(&ap->parser, s->arena);
    status = append_run(ap, err);
    append_fini(ap);
    return status;
}

int imap_cmd_append(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct append ap = {0};

    return run(s, c, &ap, err);
}

/* --- REPLACE ---------------------------------------------------------------------------------- */

/* One message of the view, "*" for the last. */
static int parse_old(struct imap_session *s, struct imap_command *c, uint32_t *uid,
                     struct error *err)
{
    struct imap_parser start = c->args;
    struct imap_set set;

    if (imap_set_parse(&c->args, s->arena, &set, err) < 0)
        return -1;
    if (set.is_saved || set.n != 1 || set.v[0].from != set.v[0].to)
        return imap_parse_expected(&start, "the number of one message", err);
    *uid = set.v[0].from;
    return imap_parse_space(&c->args, err);
}

static int find_old(struct append *ap, uint32_t number, struct error *err)
{
    const struct mailbox_view *view = ap->s->view;
    uint32_t seq = number;

    if (imap_require(ap->s, ap->c, RIGHT_DELETE_MESSAGES, err) < 0 ||
        imap_require(ap->s, ap->c, RIGHT_EXPUNGE, err) < 0)
        return -1;
    if (number == 0)
        seq = view_count(view);
    else if (ap->c->by_uid)
        seq = view_seq(view, number);
    if (seq == 0 && ap->c->by_uid) {
        ap->c->refusal = "NONEXISTENT";
        return fail(err, ERR_NOT_FOUND, "there is no such message");
    }
    if (seq == 0 || seq > view_count(view))
        return fail(err, ERR_SYNTAX, "message %u does not exist: the mailbox has %u", number,
                    view_count(view));
    ap->old_uid = view_uid(view, seq);
    return 0;
}

int imap_cmd_replace(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct append ap = {.s = s, .c = c, .p = &c->args, .is_replace = true};
    uint32_t number = 0;

    if (parse_old(s, c, &number, err) < 0) {
        struct error lost = {0};
        return drain(&ap, &lost) < 0 ? imap_connection_lost(s, c) : -1;
    }
    (void)find_old(&ap, number, &ap.refused);
    return run(s, c, &ap, err);
}
