/* imap_status.c - STATUS.
 *
 * All numbers but DELETED-STORAGE stand in the mailbox's row; nothing is counted here. */
#include "mail/imap/imap_status.h"

#include "mail/imap/imap_capability.h"
#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_object_id.h"
#include "mail/imap/imap_reply.h"
#include "server/run/config.h"

enum status_item {
    STATUS_MESSAGES,
    STATUS_RECENT,
    STATUS_UIDNEXT,
    STATUS_UIDVALIDITY,
    STATUS_UNSEEN,
    STATUS_SIZE,
    STATUS_DELETED,
    STATUS_DELETED_STORAGE,
    STATUS_HIGHESTMODSEQ,
    STATUS_APPENDLIMIT,
    STATUS_MAILBOXID,
    STATUS_ITEM_COUNT
};

static const struct str names[STATUS_ITEM_COUNT] = {
    [STATUS_MESSAGES] = {"MESSAGES", 8},
    [STATUS_RECENT] = {"RECENT", 6},
    [STATUS_UIDNEXT] = {"UIDNEXT", 7},
    [STATUS_UIDVALIDITY] = {"UIDVALIDITY", 11},
    [STATUS_UNSEEN] = {"UNSEEN", 6},
    [STATUS_SIZE] = {"SIZE", 4},
    [STATUS_DELETED] = {"DELETED", 7},
    [STATUS_DELETED_STORAGE] = {"DELETED-STORAGE", 15},
    [STATUS_HIGHESTMODSEQ] = {"HIGHESTMODSEQ", 13},
    [STATUS_APPENDLIMIT] = {"APPENDLIMIT", 11},
    [STATUS_MAILBOXID] = {"MAILBOXID", 9},
};

static int parse_item(struct imap_parser *p, unsigned *items, struct error *err)
{
    for (unsigned i = 0; i < STATUS_ITEM_COUNT; i++)
        if (imap_parse_word(p, names[i])) {
            *items |= 1u << i;
            return 0;
        }
    return imap_parse_expected(p, "a status item such as MESSAGES or UNSEEN", err);
}

int imap_parse_status_items(struct imap_parser *p, unsigned *items, struct error *err)
{
    *items = 0;
    if (imap_parse_char(p, '(', err) < 0)
        return -1;
    do {
        if (parse_item(p, items, err) < 0)
            return -1;
    } while (imap_parse_skip(p, ' '));
    return imap_parse_char(p, ')', err);
}

bool imap_status_wants_modseq(unsigned items)
{
    return (items & 1u << STATUS_HIGHESTMODSEQ) != 0;
}

unsigned imap_status_items_of_news(bool with_modseq, bool with_unseen)
{
    return 1u << STATUS_MESSAGES | 1u << STATUS_UIDNEXT | 1u << STATUS_UIDVALIDITY |
           (with_unseen ? 1u << STATUS_UNSEEN : 0) | (with_modseq ? 1u << STATUS_HIGHESTMODSEQ : 0);
}

bool imap_status_wants_unseen(unsigned items)
{
    return (items & 1u << STATUS_UNSEEN) != 0;
}

bool imap_status_wants_deleted_bytes(unsigned items)
{
    return (items & 1u << STATUS_DELETED_STORAGE) != 0;
}

static uint64_t item_value(const struct mailbox *m, enum status_item item)
{
    switch (item) {
    case STATUS_MESSAGES:
        return m->message_count;
    case STATUS_UIDNEXT:
        return m->uid_next;
    case STATUS_UIDVALIDITY:
        return m->uid_validity;
    case STATUS_UNSEEN:
        return m->unseen_count;
    case STATUS_SIZE:
        return m->bytes;
    case STATUS_DELETED:
        return m->deleted_count;
    case STATUS_DELETED_STORAGE: /* in bytes: RFC 9208, 4.1.4 */
        return m->deleted_bytes;
    case STATUS_HIGHESTMODSEQ:
        return m->modseq;
    case STATUS_APPENDLIMIT:
        return (uint64_t)config.imap_append_max;
    case STATUS_RECENT:
    case STATUS_MAILBOXID:
    case STATUS_ITEM_COUNT:
        break;
    }
    return 0;
}

static void add_item(struct buf *out, const struct mailbox *m, enum status_item item)
{
    buf_add(out, names[item]);
    buf_addc(out, ' ');
    if (item != STATUS_MAILBOXID) {
        buf_add_u64(out, item_value(m, item));
        return;
    }
    buf_addc(out, '(');
    imap_add_object_id(out, OBJECT_MAILBOX, m->account_id, m->mailbox_id);
    buf_addc(out, ')');
}

void imap_add_status(const struct imap_session *s, struct buf *out, const struct mailbox *mailbox,
                     unsigned items)
{
    const char *gap = "";

    buf_adds(out, "* STATUS ");
    imap_add_mailbox(s, out, mailbox->path);
    buf_adds(out, " (");
    for (unsigned i = 0; i < STATUS_ITEM_COUNT; i++)
        if (items & 1u << i) {
            buf_adds(out, gap);
            add_item(out, mailbox, (enum status_item)i);
            gap = " ";
        }
    buf_adds(out, ")\r\n");
}

int imap_cmd_status(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct mailbox mailbox;
    struct buf out;
    struct imap_place place;
    unsigned items;

    if (imap_parse_mailbox(s, c, &place, err) < 0 || imap_parse_space(&c->args, err) < 0 ||
        imap_parse_status_items(&c->args, &items, err) < 0 || imap_parse_end(&c->args, err) < 0)
        return -1;
    if (imap_find_mailbox(s, c, &place, RIGHT_READ, &mailbox, err) < 0)
        return -1;
    if (imap_status_wants_deleted_bytes(items) &&
        mailbox_count_deleted(place.account_id, &mailbox, 1, err) < 0)
        return -1;
    if (imap_status_wants_modseq(items))
        imap_enable_condstore(s);
    if (imap_status_wants_unseen(items) &&
        access_count_unseen(s->account_id, place.account_id, &mailbox, 1, err) < 0)
        return -1;
    mailbox.path = place.name;
    buf_init(&out, SIZE_MAX);
    imap_add_status(s, &out, &mailbox, items);
    imap_write_buf(s, &out);
    buf_fini(&out);
    if (s->view != NULL && s->selected.account_id == mailbox.account_id &&
        s->selected.mailbox_id == mailbox.mailbox_id)
        c->code = STR("CLIENTBUG"); /* it was told all this (RFC 9051, 6.3.11) */
    return 0;
}
