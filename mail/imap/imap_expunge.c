/* imap_expunge.c - EXPUNGE and UID EXPUNGE (RFC 9051, 6.4.3 and 6.4.9).
 *
 * The removal is committed here; the EXPUNGE answers are the updates that precede the tagged OK. */
#include "mail/imap/imap_expunge.h"

#include "mail/imap/imap_progress.h"
#include "mail/imap/imap_rights.h"
#include "mail/imap/imap_sequence.h"
#include "mail/imap/imap_session.h"
#include "mail/imap/imap_target.h"
#include "mail/store/message.h"

/* Of the selected mailbox, as far as the index knows. */
static PARKS uint32_t *deleted_uids(struct imap_session *s, size_t *count)
{
    struct index_entry entry;
    size_t cap = 0;
    uint32_t *uids = NULL;

    *count = 0;
    for (uint32_t seq = 1; seq <= view_count(s->view); seq++) {
        fiber_pause();
        if (!view_entry_at(s->view, seq, &entry) || !(entry.flags & FLAG_DELETED))
            continue;
        if (*count == cap) {
            uint32_t *old = uids;
            cap = 2 * cap + 64;
            uids = ARENA_ARRAY(s->arena, cap, uint32_t);
            if (*count > 0)
                memcpy(uids, old, *count * sizeof *uids);
        }
        uids[(*count)++] = entry.uid;
    }
    return uids;
}

int imap_expunge_deleted(struct imap_session *s, size_t *count, struct error *err)
{
    uint32_t *removed;
    uint64_t modseq;
    size_t known, more = 0;
    uint32_t *uids = deleted_uids(s, &known);

    *count = 0;
    if (known > 0 && message_expunge(s->arena, s->selected, uids, known, true, &removed, count,
                                     &modseq, err) < 0)
        return -1;
    if (message_expunge(s->arena, s->selected, NULL, 0, true, &removed, &more, &modseq, err) < 0)
        return -1;
    *count += more;
    return 0;
}

/* uids NULL: all that are \Deleted. */
static PARKS int expunge(struct imap_session *s, struct imap_command *c, const uint32_t *uids,
                         size_t count, struct error *err)
{
    uint32_t *removed;
    size_t removed_count = 0;
    struct imap_progress progress;
    uint64_t modseq = 0;
    int status;

    if (imap_require(s, c, RIGHT_EXPUNGE, err) < 0)
        return -1;
    imap_progress_begin(&progress, s, c);
    status = uids == NULL ? imap_expunge_deleted(s, &removed_count, err)
                          : message_expunge(s->arena, s->selected, uids, count, true, &removed,
                                            &removed_count, &modseq, err);
    imap_progress_end(&progress);
    if (status < 0)
        return -1;
    c->tells_modseq = removed_count > 0;
    return 0;
}

int imap_cmd_expunge(struct imap_session *s, struct imap_command *c, struct error *err)
{
    return imap_parse_end(&c->args, err) < 0 ? -1 : expunge(s, c, NULL, 0, err);
}

int imap_cmd_uid_expunge(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct imap_set set;
    uint32_t *uids;
    size_t count;

    if (imap_set_parse(&c->args, s->arena, &set, err) < 0 || imap_parse_end(&c->args, err) < 0 ||
        imap_target_resolve(s, &set, true, err) < 0)
        return -1;
    imap_target_limit(s, c, &set);
    uids = imap_target_uids(s, &set, &count);
    return count == 0 ? 0 : expunge(s, c, uids, count, err);
}
