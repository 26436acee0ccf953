/* pop3_list.c - what is in the maildrop: STAT, LIST, UIDL, and the marks of DELE and RSET. */
#include "mail/pop3/pop3_internal.h"

#define LIST_BATCH 16384

int pop3_parse_number(struct pop3_session *s, struct str text, uint32_t *number, struct error *err)
{
    if (!str_to_u32(text, number) || *number == 0)
        return fail(err, ERR_SYNTAX, "expected the number of a message");
    if (*number > s->drop.count)
        return fail(err, ERR_NOT_FOUND, "no such message, only %u messages in maildrop",
                    s->drop.count);
    if (pop3_has_mark(&s->drop, *number, POP3_DELETED))
        return fail(err, ERR_NOT_FOUND, "message %u is deleted already", *number);
    return 0;
}

static uint64_t bytes_left(const struct pop3_maildrop *d)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < d->count; i++)
        if (!pop3_has_mark(d, i + 1, POP3_DELETED))
            bytes += d->sizes[i];
    return bytes;
}

int pop3_cmd_stat(struct pop3_session *s, struct str args, struct error *err)
{
    if (pop3_maildrop_load_sizes(&s->drop, err) < 0)
        return -1;
    conn_printf(s->conn, "+OK %u %llu\r\n", s->drop.count - s->drop.deleted_count,
                (unsigned long long)bytes_left(&s->drop));
    return 0;
}

/* --- listings --------------------------------------------------------------------------------- */

typedef void add_fn(const struct pop3_maildrop *d, uint32_t number, struct buf *out);

static void add_size(const struct pop3_maildrop *d, uint32_t number, struct buf *out)
{
    buf_add_u64(out, number);
    buf_addc(out, ' ');
    buf_add_u64(out, d->sizes[number - 1]);
    buf_add(out, STR("\r\n"));
}

/* Stays the same for as long as the message is in the INBOX, and is never used again there. */
static void add_unique_id(const struct pop3_maildrop *d, uint32_t number, struct buf *out)
{
    buf_add_u64(out, number);
    buf_addc(out, ' ');
    buf_add_u64(out, view_uid_validity(d->view));
    buf_addc(out, '.');
    buf_add_u64(out, view_uid(d->view, number));
    buf_add(out, STR("\r\n"));
}

static int list_one(struct pop3_session *s, struct str args, add_fn *add, struct error *err)
{
    struct buf out;
    uint32_t number;

    if (pop3_parse_number(s, args, &number, err) < 0)
        return -1;
    buf_init(&out, SIZE_MAX);
    buf_add(&out, STR("+OK "));
    add(&s->drop, number, &out);
    pop3_write_buf(s, &out);
    buf_fini(&out);
    return 0;
}

static int list_all(struct pop3_session *s, add_fn *add)
{
    struct buf out;

    buf_init(&out, SIZE_MAX);
    buf_addf(&out, "+OK %u messages\r\n", s->drop.count - s->drop.deleted_count);
    for (uint32_t number = 1; number <= s->drop.count && !conn_failed(s->conn); number++) {
        if (!pop3_has_mark(&s->drop, number, POP3_DELETED))
            add(&s->drop, number, &out);
        if (out.n >= LIST_BATCH)
            pop3_write_buf(s, &out);
        fiber_pause();
    }
    buf_add(&out, STR(".\r\n"));
    pop3_write_buf(s, &out);
    buf_fini(&out);
    return 0;
}

int pop3_cmd_list(struct pop3_session *s, struct str args, struct error *err)
{
    if (pop3_maildrop_load_sizes(&s->drop, err) < 0)
        return -1;
    return args.n > 0 ? list_one(s, args, add_size, err) : list_all(s, add_size);
}

int pop3_cmd_uidl(struct pop3_session *s, struct str args, struct error *err)
{
    return args.n > 0 ? list_one(s, args, add_unique_id, err) : list_all(s, add_unique_id);
}

/* --- marks ------------------------------------------------------------------------------------ */

int pop3_cmd_dele(struct pop3_session *s, struct str args, struct error *err)
{
    uint32_t number;

    if (pop3_parse_number(s, args, &number, err) < 0)
        return -1;
    pop3_mark(&s->drop, number, POP3_DELETED);
    conn_printf(s->conn, "+OK message %u marked for deletion\r\n", number);
    return 0;
}

int pop3_cmd_rset(struct pop3_session *s, struct str args, struct error *err)
{
    pop3_unmark_deleted(&s->drop);
    conn_printf(s->conn, "+OK maildrop has %u messages\r\n", s->drop.count);
    return 0;
}
