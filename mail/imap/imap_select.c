/* imap_select.c - SELECT, EXAMINE, CLOSE, UNSELECT, and resynchronisation by QRESYNC (RFC 7162,
 * 3.2.5). */
#include "mail/imap/imap_select.h"

#include <stdlib.h>

#include "mail/imap/imap_capability.h"
#include "mail/imap/imap_context.h"
#include "mail/imap/imap_expunge.h"
#include "mail/imap/imap_mailbox.h"
#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_object_id.h"
#include "mail/imap/imap_notify.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_rights.h"
#include "mail/imap/imap_sequence.h"
#include "mail/imap/imap_target.h"
#include "mail/imap/imap_updates.h"
#include "mail/store/mailbox.h"

struct select_request {
    struct imap_place place;
    bool condstore;
    bool qresync;
    uint32_t uid_validity;
    uint64_t modseq;
    struct imap_set known_uids;
    bool has_known_uids;
    bool has_numbers; /* pairs of sequence numbers and UIDs */
};

void imap_deselect(struct imap_session *s)
{
    if (s->view != NULL)
        mailbox_view_close(&s->view);
    free(s->saved_uids);
    s->saved_uids = NULL;
    s->saved_count = 0;
    imap_contexts_clear(s);
    s->keyword_count = s->keyword_generation = 0;
    s->selected = (struct mailbox_key){0};
    s->is_examined = s->is_read_only = s->is_modseq_held = false;
    s->rights = 0;
    if (s->phase == IMAP_SELECTED)
        s->phase = IMAP_AUTHENTICATED;
}

void imap_mailbox_is_gone(struct imap_session *s)
{
    bool is_own = s->selected.account_id == s->account_id;

    imap_deselect(s);
    conn_write(s->conn, is_own ? STR("* OK [CLOSED] The mailbox was removed\r\n")
                               : STR("* OK [CLOSED] The mailbox was removed, or is no longer "
                                     "shared with you\r\n"));
}

/* --- arguments -------------------------------------------------------------------------------- */

/* "(UIDVALIDITY MODSEQ [known-uids [(seqs uids)]])". The pairs only save traffic; they are read
 * and not used. */
static int parse_qresync(struct imap_parser *p, struct arena *a, struct select_request *r,
                         struct error *err)
{
    struct imap_set ignored;

    r->qresync = true;
    if (imap_parse_space(p, err) < 0 || imap_parse_char(p, '(', err) < 0 ||
        imap_parse_nonzero(p, &r->uid_validity, "UIDVALIDITY", err) < 0 ||
        imap_parse_space(p, err) < 0 || imap_parse_number64(p, &r->modseq, "a modseq", err) < 0)
        return -1;
    if (imap_parse_skip(p, ' ') && !imap_parse_peek(p, '(')) {
        r->has_known_uids = true;
        if (imap_set_parse(p, a, &r->known_uids, err) < 0)
            return -1;
        (void)imap_parse_skip(p, ' ');
    }
    r->has_numbers = imap_parse_skip(p, '(');
    if (r->has_numbers &&
        (imap_set_parse(p, a, &ignored, err) < 0 || imap_parse_space(p, err) < 0 ||
         imap_set_parse(p, a, &ignored, err) < 0 || imap_parse_char(p, ')', err) < 0))
        return -1;
    return imap_parse_char(p, ')', err);
}

static int parse_select_option(struct imap_session *s, struct imap_command *c,
                               struct select_request *r, struct error *err)
{
    struct imap_parser *p = &c->args;

    if (imap_parse_word(p, STR("CONDSTORE"))) {
        r->condstore = true;
        return 0;
    }
    if (!imap_parse_word(p, STR("QRESYNC")))
        return imap_parse_expected(p, "CONDSTORE or QRESYNC", err);
    if (!(s->enabled & IMAP_ENABLED_QRESYNC))
        return fail(err, ERR_SYNTAX, "QRESYNC must be enabled first");
    if (parse_qresync(p, s->arena, r, err) < 0)
        return -1;
    if (!r->has_numbers || !imap_is_uidonly(s))
        return 0;
    c->complaint = "UIDREQUIRED";
    return fail(err, ERR_SYNTAX, "UIDONLY is enabled: QRESYNC takes no sequence numbers");
}

static int parse_select(struct imap_session *s, struct imap_command *c, struct select_request *r,
                        struct error *err)
{
    struct imap_parser *p = &c->args;

    if (imap_parse_mailbox(s, c, &r->place, err) < 0)
        return -1;
    if (!imap_parse_skip(p, ' '))
        return imap_parse_end(p, err);
    if (imap_parse_char(p, '(', err) < 0)
        return -1;
    do {
        if (parse_select_option(s, c, r, err) < 0)
            return -1;
    } while (imap_parse_skip(p, ' '));
    return imap_parse_char(p, ')', err) < 0 ? -1 : imap_parse_end(p, err);
}

/* --- what the client is told ------------------------------------------------------------------ */

static PARKS uint32_t first_unseen(const struct mailbox_view *view)
{
    struct index_entry entry;

    for (uint32_t seq = 1; seq <= view_count(view); seq++) {
        if (view_entry_at(view, seq, &entry) && !(entry.flags & FLAG_SEEN))
            return seq;
        fiber_pause();
    }
    return 0;
}

/* The special uses of others' mailboxes are theirs. */
static void add_list_line(const struct imap_session *s, struct buf *out,
                          const struct imap_place *place, const struct mailbox *mailbox)
{
    struct str use = imap_place_is_own(s, place) ? imap_special_use(mailbox->role) : STR("");

    buf_addf(out, "* LIST (%.*s) \"/\" ", STR_ARG(use));
    imap_add_mailbox(s, out, place->name);
    buf_adds(out, "\r\n");
}

/* The mailbox's own count is the owner's. */
static bool may_have_unseen(const struct imap_session *s, const struct imap_place *place,
                            const struct mailbox *mailbox)
{
    return !(s->enabled & (IMAP_ENABLED_REV2 | IMAP_ENABLED_UIDONLY)) &&
           (mailbox->unseen_count > 0 || !imap_place_is_own(s, place));
}

static PARKS void add_numbers(const struct imap_session *s, struct buf *out,
                              const struct imap_place *place, const struct mailbox *mailbox)
{
    uint32_t unseen = may_have_unseen(s, place, mailbox) ? first_unseen(s->view) : 0;

    buf_addf(out, "* %u EXISTS\r\n", view_count(s->view));
    if (!(s->enabled & IMAP_ENABLED_REV2))
        buf_adds(out, "* 0 RECENT\r\n");
    if (unseen > 0)
        buf_addf(out, "* OK [UNSEEN %u] First unseen\r\n", unseen);
    buf_addf(out, "* OK [UIDVALIDITY %u] UIDs are valid\r\n", view_uid_validity(s->view));
    buf_addf(out, "* OK [UIDNEXT %u] Predicted next UID\r\n", view_uid_next(s->view));
    buf_addf(out, "* OK [HIGHESTMODSEQ %llu] Highest\r\n",
             (unsigned long long)view_highest_modseq(s->view));
    buf_adds(out, "* OK [MAILBOXID (");
    imap_add_object_id(out, OBJECT_MAILBOX, s->selected.account_id, s->selected.mailbox_id);
    buf_adds(out, ")] Lasting name\r\n");
    if (s->enabled & IMAP_ENABLED_REV2)
        add_list_line(s, out, place, mailbox);
}

static PARKS void tell_mailbox(struct imap_session *s, const struct imap_place *place,
                               const struct mailbox *mailbox)
{
    struct buf out;

    imap_tell_keywords(s, true);
    buf_init(&out, SIZE_MAX);
    add_numbers(s, &out, place, mailbox);
    imap_write_buf(s, &out);
    buf_fini(&out);
}

static PARKS void tell_changes_since(struct imap_session *s, uint64_t modseq,
                                     const struct imap_set *known)
{
    struct index_entry entry;
    struct buf out;

    imap_tell_keywords(s, false); /* the index may have followed others since FLAGS was told */
    buf_init(&out, SIZE_MAX);
    for (uint32_t seq = 1; seq <= view_count(s->view); seq++) {
        fiber_pause();
        if (!view_entry_at(s->view, seq, &entry) || entry.modseq <= modseq ||
            (known != NULL && !imap_set_contains(known, entry.uid)))
            continue;
        imap_add_flag_update(s, &out, seq, &entry, true, true, true);
        if (out.n > 32768) {
            imap_write_buf(s, &out);
            imap_tell_keywords(s, false);
        }
    }
    if (out.n > 0)
        imap_write_buf(s, &out);
    buf_fini(&out);
}

/* What vanished and what changed since the client was here last. What goes while it is told must
 * follow at once: the client fills its list of UIDs up to EXISTS from these answers. */
static PARKS int resynchronise(struct imap_session *s, struct select_request *r, struct error *err)
{
    const struct imap_set *known = r->has_known_uids ? &r->known_uids : NULL;

    if (r->uid_validity != view_uid_validity(s->view))
        return 0;
    if (known != NULL)
        imap_set_resolve(&r->known_uids, view_uid_next(s->view));
    if (imap_tell_vanished_earlier(s, r->modseq, known, err) < 0)
        return -1;
    tell_changes_since(s, r->modseq, known);
    imap_updates_send(s, true);
    return 0;
}

/* --- commands --------------------------------------------------------------------------------- */

static PARKS int open_mailbox(struct imap_session *s, struct imap_command *c,
                              struct select_request *r, struct mailbox *mailbox, struct error *err)
{
    struct mailbox_key key;

    if (imap_find_mailbox(s, c, &r->place, RIGHT_READ, mailbox, err) < 0)
        return -1;
    key = imap_mailbox_key(&r->place, mailbox);
    s->view = mailbox_view_open(key, s->account_id, err);
    if (s->view == NULL)
        return -1;
    s->selected = key;
    s->phase = IMAP_SELECTED;
    imap_notify_watch_view(s);
    if (r->condstore)
        s->enabled |= IMAP_ENABLED_CONDSTORE;
    return 0;
}

static PARKS int select_mailbox(struct imap_session *s, struct imap_command *c, bool read_only,
                                struct error *err)
{
    struct select_request request = {0};
    bool had_one = s->view != NULL;
    struct mailbox mailbox;

    if (parse_select(s, c, &request, err) < 0 && c->refusal == NULL)
        return -1;
    imap_deselect(s);
    if (had_one)
        conn_write(s->conn, STR("* OK [CLOSED] The previous mailbox is closed\r\n"));
    if (err->kind != ERR_NONE) /* a name that no mailbox can have: NO, and nothing is selected */
        return -1;
    if (open_mailbox(s, c, &request, &mailbox, err) < 0)
        return -1;
    s->is_examined = read_only;
    imap_rights_take(s, &mailbox);
    tell_mailbox(s, &request.place, &mailbox);
    if (request.qresync && resynchronise(s, &request, err) < 0) {
        imap_deselect(s);
        return -1;
    }
    c->code = str_c(imap_rights_code(s));
    return 0;
}

int imap_cmd_select(struct imap_session *s, struct imap_command *c, struct error *err)
{
    return select_mailbox(s, c, false, err);
}

int imap_cmd_examine(struct imap_session *s, struct imap_command *c, struct error *err)
{
    return select_mailbox(s, c, true, err);
}

int imap_cmd_close(struct imap_session *s, struct imap_command *c, struct error *err)
{
    size_t count;

    if (imap_parse_end(&c->args, err) < 0)
        return -1;
    if (imap_rights_refresh(s, err) < 0) /* closed already, or nobody knows: nothing is removed */
        error_clear(err);
    else if (imap_may(s, RIGHT_EXPUNGE) && imap_expunge_deleted(s, &count, err) < 0)
        return -1;
    imap_deselect(s);
    return 0;
}

int imap_cmd_unselect(struct imap_session *s, struct imap_command *c, struct error *err)
{
    if (imap_parse_end(&c->args, err) < 0)
        return -1;
    imap_deselect(s);
    return 0;
}
