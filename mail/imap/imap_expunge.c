/* imap_expunge.c - EXPUNGE and UID EXPUNGE (RFC 9051, 6.4.3 and 6.4.9).
 *
 * The removal is committed here; the EXPUNGE answers are the updates that precede the tagged OK. */
#include "mail/imap/imap_progress.h"
#include "mail/imap/imap_rights.h"
#include "mail/imap/imap_sequence.h"
#include "mail/imap/imap_session.h"
#include "mail/imap/imap_target.h"
#include "mail/store/message.h"

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
    status = message_expunge(s->arena, s->selected, uids, count, true, &removed, &removed_count,
                             &modseq, err);
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
