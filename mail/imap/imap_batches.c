/* imap_batches.c - UIDBATCHES (RFC 10022): the mailbox cut into ranges of UIDs that hold about the
 * same number of messages, the newest first.
 *
 * Here the last batch alone is smaller. Both ends of a range are messages of the view. */
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_session.h"

#define BATCH_SIZE_MIN 500

struct batches {
    uint32_t size;
    uint32_t first, last; /* batches wanted, counted from 1 */
};

static int parse_range(struct imap_command *c, struct batches *b, struct error *err)
{
    if (imap_parse_nonzero(&c->args, &b->first, "the number of a batch", err) < 0)
        return -1;
    b->last = b->first;
    if (imap_parse_skip(&c->args, ':') &&
        imap_parse_nonzero(&c->args, &b->last, "the number of a batch", err) < 0)
        return -1;
    if (b->last >= b->first)
        return 0;
    c->complaint = "CLIENTBUG";
    return fail(err, ERR_SYNTAX, "a range of batches goes upwards");
}

static int parse_batches(struct imap_command *c, struct batches *b, struct error *err)
{
    *b = (struct batches){.first = 1, .last = UINT32_MAX};
    if (imap_parse_nonzero(&c->args, &b->size, "the size of a batch", err) < 0 ||
        (imap_parse_skip(&c->args, ' ') && parse_range(c, b, err) < 0) ||
        imap_parse_end(&c->args, err) < 0)
        return -1;
    if (b->size >= BATCH_SIZE_MIN)
        return 0;
    c->refusal = "TOOFEW";
    return fail(err, ERR_LIMIT, "a batch has %d messages at least", BATCH_SIZE_MIN);
}

static void add_range(struct buf *out, uint32_t from, uint32_t to)
{
    buf_add_u64(out, from);
    if (to == from)
        return;
    buf_addc(out, ':');
    buf_add_u64(out, to);
}

int imap_cmd_uidbatches(struct imap_session *s, struct imap_command *c, struct error *err)
{
    uint64_t count = view_count(s->view), from, to;
    struct batches b;
    struct buf out;
    char gap = ' ';

    if (parse_batches(c, &b, err) < 0)
        return -1;
    buf_init(&out, SIZE_MAX);
    buf_adds(&out, "* UIDBATCHES (TAG ");
    imap_add_quoted(&out, c->tag);
    buf_addc(&out, ')');
    for (uint64_t i = b.first; i <= b.last && (i - 1) * b.size < count; i++) {
        from = count - (i - 1) * b.size;
        to = from > b.size ? from - b.size + 1 : 1;
        buf_addc(&out, gap);
        add_range(&out, view_uid(s->view, (uint32_t)from), view_uid(s->view, (uint32_t)to));
        gap = ',';
    }
    buf_adds(&out, "\r\n");
    imap_write_buf(s, &out);
    buf_fini(&out);
    return 0;
}
