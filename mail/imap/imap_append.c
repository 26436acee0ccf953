/* imap_append.c - APPEND, with several messages (RFC 3502), UIDPLUS answers and limits (RFC
 * 7889).
 *
 * Messages are not collected with the command: each is read into memory of its own as it comes,
 * within config.imap_append_max for one and the worker's budget for all, and then all are stored
 * in one transaction. A client that waits for "+" is refused before it sends; one that does not
 * wait is read out to its end and refused then. */
#include "mail/imap/imap_append.h"

#include <stdlib.h>

#include "mail/imap/imap_command.h"
#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_sequence.h"
#include "mail/store/delivery.h"
#include "mail/store/mailbox.h"
#include "server/base/date.h"
#include "server/run/config.h"

#define MESSAGES_MAX 20000 /* in one command */

struct append_message {
    struct append_message *next;
    struct buf raw;
    uint32_t flags;
    struct keywords keywords;
    int64_t received_us;
};

struct append {
    struct imap_session *s;
    struct imap_command *c;
    struct imap_place place;
    int64_t mailbox_id;
    struct append_message *first, **last;
    size_t count;
    int64_t budget_used;
    struct error refused; /* set: what still comes is thrown away */
};

/* Bytes held by unfinished APPENDs of this worker. */
static int64_t budget_in_use;

/* --- arguments -------------------------------------------------------------------------------- */

static int parse_message_options(struct imap_parser *p, struct arena *a, struct append_message *m,
                                 struct error *err)
{
    m->received_us = INT64_MIN;
    if (imap_parse_peek(p, '(') &&
        (imap_parse_flags(p, a, false, &m->flags, &m->keywords, err) < 0 ||
         imap_parse_space(p, err) < 0))
        return -1;
    if (imap_parse_peek(p, '"') &&
        (imap_parse_date_time(p, a, &m->received_us, err) < 0 || imap_parse_space(p, err) < 0))
        return -1;
    return 0;
}

bool imap_append_is_at_message(struct arena *a, struct str text, struct imap_literal *out)
{
    struct append_message ignored = {0};
    struct imap_parser p;
    struct str word;

    imap_parser_init(&p, text);
    return imap_parse_tag(&p, &word, NULL) == 0 && imap_parse_skip(&p, ' ') &&
           imap_parse_word(&p, STR("APPEND")) && imap_parse_skip(&p, ' ') &&
           imap_parse_astring(&p, a, &word, "", NULL) == 0 && imap_parse_skip(&p, ' ') &&
           parse_message_options(&p, a, &ignored, NULL) == 0 &&
           imap_parse_open_literal(&p, out, NULL) == 0;
}

/* --- messages --------------------------------------------------------------------------------- */

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

static int admit(struct append *ap, const struct imap_literal *literal, struct error *err)
{
    if (literal->size == 0)
        return fail(err, ERR_UNSUPPORTED, "an empty message cannot be stored");
    if (literal->size > (uint64_t)config.imap_append_max)
        return fail(err, ERR_TOO_BIG, "a message may have %lld bytes at most",
                    (long long)config.imap_append_max);
    if (ap->count == MESSAGES_MAX)
        return fail(err, ERR_LIMIT, "more than %d messages in one command", MESSAGES_MAX);
    return check_budget((int64_t)literal->size, err);
}

static void spend_budget(struct append *ap, size_t size)
{
    budget_in_use += (int64_t)size;
    ap->budget_used += (int64_t)size;
}

/* Memory grows as the bytes come and is charged then, so an announcement alone costs nothing,
 * neither to the server nor to other clients. */
static PARKS int read_message(struct append *ap, struct append_message *m, uint64_t size,
                              struct error *err)
{
    buf_init(&m->raw, (size_t)size);
    while (m->raw.n < size) {
        struct str held = conn_peek(ap->s->conn);
        if (held.n == 0) {
            imap_renew_deadline(ap->s);
            if (conn_fill(ap->s->conn, err) < 0)
                return -1;
            continue;
        }
        held = str_head(held, (size_t)size - m->raw.n);
        if (check_budget((int64_t)held.n, &ap->refused) < 0)
            return imap_discard(ap->s, size - m->raw.n, err);
        spend_budget(ap, held.n);
        buf_add(&m->raw, held);
        conn_consume(ap->s->conn, held.n);
    }
    return 0;
}

static PARKS int throw_away(struct append *ap, const struct imap_literal *literal,
                            struct error *err)
{
    if (literal->size > 4 * (uint64_t)config.imap_append_max) {
        imap_bye(ap->s, "The message is much too big");
        return fail(err, ERR_TOO_BIG, "the message is much too big");
    }
    return imap_discard(ap->s, literal->size, err);
}

/* One literal. -1: the connection; a refusal is kept in ap->refused, and is final at once when
 * the client waits. */
static PARKS int take_message(struct append *ap, struct append_message *m,
                              const struct imap_literal *literal, bool *is_final, struct error *err)
{
    if (ap->refused.kind == ERR_NONE)
        (void)admit(ap, literal, &ap->refused);
    *is_final = ap->refused.kind != ERR_NONE && literal->is_sync;
    if (*is_final)
        return 0;
    if (ap->refused.kind != ERR_NONE)
        return throw_away(ap, literal, err);
    if (literal->is_sync)
        conn_write(ap->s->conn, STR("+ OK\r\n"));
    *ap->last = m;
    ap->last = &m->next;
    ap->count++;
    return read_message(ap, m, literal->size, err);
}

/* Behind a message: the end of the command, or a space and the next one. */
static PARKS int read_tail(struct append *ap, struct append_message *next,
                           struct imap_literal *literal, bool *is_final, struct error *err)
{
    struct imap_parser p;
    struct str line;

    imap_renew_deadline(ap->s);
    if (conn_read_line(ap->s->conn, (size_t)config.imap_line_max, &line, err) < 0)
        return -1;
    *is_final = line.n == 0;
    if (*is_final)
        return 0;
    imap_parser_init(&p, arena_str(ap->s->arena, line));
    if (imap_parse_space(&p, &ap->refused) < 0 ||
        parse_message_options(&p, ap->s->arena, next, &ap->refused) < 0 ||
        imap_parse_open_literal(&p, literal, &ap->refused) < 0)
        *is_final = !imap_literal_at_end(line, literal);
    return 0;
}

static PARKS int read_messages(struct append *ap, struct append_message *m, struct error *err)
{
    struct imap_literal literal = ap->c->message;
    bool is_final = false;

    while (!is_final) {
        if (take_message(ap, m, &literal, &is_final, err) < 0)
            return -1;
        if (is_final)
            break;
        m = ARENA_NEW(ap->s->arena, struct append_message);
        if (read_tail(ap, m, &literal, &is_final, err) < 0)
            return -1;
    }
    return 0;
}

/* --- storing ---------------------------------------------------------------------------------- */

static void set_code(struct append *ap, const struct delivery *v)
{
    uint32_t *uids = ARENA_ARRAY(ap->s->arena, ap->count, uint32_t);
    struct buf code;

    for (size_t i = 0; i < ap->count; i++)
        uids[i] = v[i].uid;
    buf_init(&code, SIZE_MAX);
    buf_addf(&code, "APPENDUID %u ", v[0].uid_validity);
    imap_set_print(&code, uids, ap->count);
    ap->c->code = arena_str(ap->s->arena, buf_str(&code));
    buf_fini(&code);
}

static PARKS int store_messages(struct append *ap, struct error *err)
{
    struct message_prepared *prepared =
        ARENA_ARRAY(ap->s->arena, ap->count, struct message_prepared);
    struct delivery *v = ARENA_ARRAY(ap->s->arena, ap->count, struct delivery);
    int64_t now_us = time_now_us();
    size_t i = 0;

    for (struct append_message *m = ap->first; m != NULL; m = m->next, i++) {
        message_prepare(ap->s->arena, buf_str(&m->raw), &prepared[i]);
        v[i] =
            (struct delivery){.account_id = ap->place.account_id,
                              .mailbox_id = ap->mailbox_id,
                              .user_id = ap->s->account_id,
                              .flags = m->flags,
                              .keywords = m->keywords,
                              .received_us = m->received_us == INT64_MIN ? now_us : m->received_us};
        fiber_pause();
    }
    if (mail_append(prepared, v, ap->count, err) < 0)
        return -1;
    set_code(ap, v);
    return 0;
}

static PARKS int find_target(struct append *ap, struct error *err)
{
    struct mailbox mailbox;

    if (imap_find_mailbox(ap->s, ap->c, &ap->place, RIGHT_INSERT, &mailbox, err) < 0)
        return -1;
    ap->mailbox_id = mailbox.mailbox_id;
    return 0;
}

static PARKS int append_run(struct append *ap, struct append_message *first, struct error *err)
{
    struct error lost = {0};

    (void)find_target(ap, &ap->refused);
    if (read_messages(ap, first, &lost) < 0)
        return imap_connection_lost(ap->s, ap->c);
    if (ap->refused.kind != ERR_NONE) {
        *err = ap->refused;
        return -1;
    }
    return store_messages(ap, err);
}

int imap_cmd_append(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct append ap = {.s = s, .c = c, .last = &ap.first};
    struct append_message *first = ARENA_NEW(s->arena, struct append_message);
    struct imap_literal literal;
    int status;

    if (imap_parse_mailbox(s, c, &ap.place, err) < 0) {
        if (!c->has_message)
            return -1;
        ap.refused = *err; /* the message is coming nevertheless */
        error_clear(err);
    } else if (imap_parse_space(&c->args, err) < 0 ||
               parse_message_options(&c->args, s->arena, first, err) < 0 ||
               imap_parse_open_literal(&c->args, &literal, err) < 0) {
        return -1;
    }
    status = append_run(&ap, first, err);
    append_fini(&ap);
    return status;
}
