/* imap_updates.c - untagged data nobody asked for.
 *
 * The view knows which messages and states this client was told of; this file only spells the
 * difference. A database that is away delays news, it never fails a command. */
#include "mail/imap/imap_updates.h"

#include "mail/imap/imap_context.h"
#include "mail/imap/imap_notify.h"
#include "mail/imap/imap_quota.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_rights.h"
#include "mail/imap/imap_select.h"
#include "mail/imap/imap_sequence.h"

static void add_expunges(const struct imap_session *s, struct buf *out,
                         const struct view_changes *changes)
{
    if (changes->expunged_count > 0 &&
        (s->enabled & (IMAP_ENABLED_QRESYNC | IMAP_ENABLED_UIDONLY))) {
        buf_add(out, STR("* VANISHED "));
        imap_set_print(out, changes->expunged_uids, changes->expunged_count);
        buf_add(out, STR("\r\n"));
        return;
    }
    for (size_t i = 0; i < changes->expunged_count; i++) {
        buf_add(out, STR("* "));
        buf_add_u64(out, changes->expunged_seqs[i]);
        buf_add(out, STR(" EXPUNGE\r\n"));
    }
}

void imap_add_fetch_start(const struct imap_session *s, struct buf *out, uint32_t seq, uint32_t uid)
{
    buf_add(out, STR("* "));
    buf_add_u64(out, imap_is_uidonly(s) ? uid : seq);
    buf_adds(out, imap_is_uidonly(s) ? " UIDFETCH (" : " FETCH (");
}

void imap_add_flag_update(const struct imap_session *s, struct buf *out, uint32_t seq,
                          const struct index_entry *entry, bool with_uid, bool with_flags,
                          bool with_modseq)
{
    const char *gap = "";

    imap_add_fetch_start(s, out, seq, entry->uid);
    if (with_uid && !imap_is_uidonly(s)) {
        buf_add(out, STR("UID "));
        buf_add_u64(out, entry->uid);
        gap = " ";
    }
    if (with_modseq) {
        buf_adds(out, gap);
        buf_add(out, STR("MODSEQ ("));
        buf_add_u64(out, entry->modseq);
        buf_addc(out, ')');
        gap = " ";
    }
    if (with_flags) {
        buf_adds(out, gap);
        buf_add(out, STR("FLAGS "));
        imap_add_flags(out, entry->flags, entry->keywords);
    }
    buf_add(out, STR(")\r\n"));
}

static PARKS void write_changes(struct imap_session *s, const struct view_changes *changes)
{
    bool with_uid = (s->enabled & (IMAP_ENABLED_QRESYNC | IMAP_ENABLED_REV2)) != 0 ||
                    imap_notify_at_rest(s); /* RFC 5465, 5.1 */
    bool with_modseq = (s->enabled & IMAP_ENABLED_CONDSTORE) != 0;
    struct buf out;

    buf_init(&out, SIZE_MAX);
    add_expunges(s, &out, changes);
    if (changes->exists_changed) {
        buf_add(&out, STR("* "));
        buf_add_u64(&out, changes->exists);
        buf_add(&out, STR(" EXISTS\r\n"));
    }
    if (changes->exists_changed && !(s->enabled & IMAP_ENABLED_REV2))
        buf_add(&out, STR("* 0 RECENT\r\n"));
    for (size_t i = 0; i < changes->flag_count; i++) {
        imap_add_flag_update(s, &out, changes->flag_seqs[i], &changes->flags[i], with_uid, true,
                             with_modseq);
        if (out.n > 32768)
            imap_write_buf(s, &out);
    }
    if (out.n > 0)
        imap_write_buf(s, &out);
    buf_fini(&out);
}

void imap_tell_keywords(struct imap_session *s, bool always)
{
    struct str *names;
    size_t count = view_keywords(s->view, s->arena, &names);
    struct keywords keywords = {.v = names, .n = count};
    struct buf out;

    if (!always && count <= s->keyword_count &&
        view_keyword_generation(s->view) == s->keyword_generation)
        return;
    s->keyword_count = (uint32_t)count;
    s->keyword_generation = view_keyword_generation(s->view);
    buf_init(&out, SIZE_MAX);
    buf_add(&out, STR("* FLAGS "));
    imap_add_flags(&out, FLAG_SYSTEM_ALL, &keywords);
    buf_add(&out, STR("\r\n* OK [PERMANENTFLAGS "));
    if (imap_may(s, RIGHT_WRITE)) {
        imap_add_flags(&out, rights_flags(s->rights), &keywords);
        buf_truncate(&out, out.n - 1);
        buf_add(&out, STR(" \\*)] Flags are kept\r\n"));
    } else {
        imap_add_flags(&out, s->is_read_only ? 0 : rights_flags(s->rights), NULL);
        buf_adds(&out, s->is_read_only ? "] Flags cannot be changed\r\n"
                                       : "] Only these flags can be changed\r\n");
    }
    imap_write_buf(s, &out);
    buf_fini(&out);
}

static bool have_keywords(const struct view_changes *changes)
{
    for (size_t i = 0; i < changes->flag_count; i++)
        if (changes->flags[i].keywords != NULL)
            return true;
    return false;
}

static PARKS void tell_changes(struct imap_session *s, bool expunges, bool flags)
{
    struct view_changes changes = {0};
    uint32_t told_max;

    (void)view_refresh(s->view, NULL);
    if (imap_rights_refresh(s, NULL) < 0)
        return;
    if (!view_is_behind(s->view)) {
        if (imap_contexts_are_stale(s))
            imap_contexts_update(s);
        return;
    }
    told_max = view_uid_max(s->view);
    view_take_changes(s->view, s->arena, expunges, &changes);
    if (!flags)
        changes.flag_count = 0;
    if (changes.is_gone) {
        imap_mailbox_is_gone(s);
        return;
    }
    if (changes.exists_changed || have_keywords(&changes))
        imap_tell_keywords(s, false);
    imap_contexts_expunge(s, &changes);
    write_changes(s, &changes);
    imap_contexts_update(s);
    if (!changes.exists_changed)
        return;
    imap_notify_send_arrivals(s, view_seq_at_least(s->view, told_max + 1));
    imap_quota_warn(s);
}

void imap_updates_send(struct imap_session *s, bool expunges)
{
    unsigned events = imap_notify_selected_events(s);

    if (s->view != NULL && events != 0)
        tell_changes(s, expunges, (events & NOTIFY_FLAGS) != 0);
}

void imap_updates_send_all(struct imap_session *s)
{
    if (s->view != NULL)
        tell_changes(s, true, true);
}
