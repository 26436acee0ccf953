/* imap_rights.c - rights in the selected mailbox, kept up to date while it is open. */
#include "mail/imap/imap_rights.h"

#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_select.h"
#include "mail/imap/imap_updates.h"
#include "server/run/loop.h"

#define RIGHTS_AGE_MAX_MS 10000

static void set_rights(struct imap_session *s, unsigned rights)
{
    s->rights = (uint16_t)rights;
    s->is_read_only = s->is_examined || !(rights & RIGHTS_CHANGING);
    s->rights_read_ms = loop_now_ms();
}

/* The index may have seen grants that are newer than the rights. */
void imap_rights_take(struct imap_session *s, const struct mailbox *mailbox)
{
    uint64_t changed_modseq = view_changed_modseq(s->view);

    s->rights_modseq = changed_modseq <= mailbox->modseq ? changed_modseq : 0;
    set_rights(s, mailbox->rights);
}

/* \Seen is each user's own, so it does not make a mailbox writable (RFC 4314, 5.2). */
const char *imap_rights_code(const struct imap_session *s)
{
    return imap_may(s, RIGHTS_CHANGING & ~(unsigned)RIGHT_SEEN) ? "READ-WRITE" : "READ-ONLY";
}

/* RFC 4314, 5.1.1: FLAGS and PERMANENTFLAGS again when they are others now. */
static PARKS void tell_rights(struct imap_session *s, const char *old_code)
{
    const char *code = imap_rights_code(s);

    imap_tell_keywords(s, true);
    if (code != old_code)
        conn_printf(s->conn, "* OK [%s] Rights have changed\r\n", code);
}

static PARKS int read_again(struct imap_session *s, struct error *err)
{
    const char *old_code = imap_rights_code(s);
    unsigned rights, old_rights = s->rights;
    uint64_t changed_modseq = view_changed_modseq(s->view);

    if (access_rights(s->account_id, s->selected, &rights, err) < 0)
        return -1;
    if (!(rights & RIGHT_READ)) {
        imap_mailbox_is_gone(s);
        return fail(err, ERR_NOT_FOUND, "no such mailbox");
    }
    s->rights_modseq = changed_modseq;
    set_rights(s, rights);
    if (rights != old_rights)
        tell_rights(s, old_code);
    return 0;
}

int imap_rights_read(struct imap_session *s, struct error *err)
{
    if (s->view == NULL || s->selected.account_id == s->account_id)
        return 0;
    return read_again(s, err);
}

int imap_rights_refresh(struct imap_session *s, struct error *err)
{
    if (s->view == NULL || s->selected.account_id == s->account_id)
        return 0;
    (void)view_refresh(s->view, NULL);
    if (view_changed_modseq(s->view) == s->rights_modseq &&
        loop_now_ms() - s->rights_read_ms < RIGHTS_AGE_MAX_MS)
        return 0;
    return read_again(s, err);
}

int imap_require(struct imap_session *s, struct imap_command *c, unsigned rights, struct error *err)
{
    if (!(s->rights & rights))
        return imap_require_rights(0, rights, err);
    if (!s->is_read_only)
        return 0;
    c->refusal = "READ-ONLY";
    return fail(err, ERR_DENIED, "the mailbox is opened read-only");
}
