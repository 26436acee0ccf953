/* imap_copy.c - COPY and MOVE (RFC 9051, 6.4.7 and 6.4.8), both with COPYUID.
 *
 * All messages or none: the store does each in one transaction. */
#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_notify.h"
#include "mail/imap/imap_progress.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_rights.h"
#include "mail/imap/imap_sequence.h"
#include "mail/imap/imap_session.h"
#include "mail/imap/imap_target.h"
#include "mail/store/mailbox.h"

typedef int transfer_function(struct arena *a, struct mailbox_key from, struct mailbox_key to,
                              int64_t user_id, uint32_t may, const uint32_t *uids, size_t count,
                              struct uid_pair **pairs, size_t *pair_count,
                              uint32_t *to_uid_validity, struct error *err);

static int parse_copy(struct imap_session *s, struct imap_command *c, struct imap_set *set,
                      struct imap_place *place, struct error *err)
{
    if (imap_set_parse(&c->args, s->arena, set, err) < 0 || imap_parse_space(&c->args, err) < 0 ||
        imap_parse_mailbox(s, c, place, err) < 0 || imap_parse_end(&c->args, err) < 0)
        return -1;
    return imap_target_resolve(s, set, c->by_uid, err);
}

/* "COPYUID validity from-set to-set"; empty when nothing was copied. */
static struct str copyuid(struct arena *a, uint32_t uid_validity, const struct uid_pair *pairs,
                          size_t count)
{
    uint32_t *uids = ARENA_ARRAY(a, count + 1, uint32_t);
    struct buf code;
    struct str out;

    if (count == 0)
        return STR("");
    buf_init(&code, SIZE_MAX);
    buf_addf(&code, "COPYUID %u ", uid_validity);
    for (size_t i = 0; i < count; i++)
        uids[i] = pairs[i].from;
    imap_set_print(&code, uids, count);
    buf_addc(&code, ' ');
    for (size_t i = 0; i < count; i++)
        uids[i] = pairs[i].to;
    imap_set_print(&code, uids, count);
    out = arena_str(a, buf_str(&code));
    buf_fini(&code);
    return out;
}

static PARKS int transfer(struct imap_session *s, struct imap_command *c, transfer_function *run,
                          struct str *code, struct error *err)
{
    struct uid_pair *pairs = NULL;
    struct mailbox target;
    struct imap_set set;
    struct imap_place place;
    size_t count, pair_count = 0;
    uint32_t *uids, uid_validity = 0;
    struct imap_progress progress;
    int status = 0;

    if (parse_copy(s, c, &set, &place, err) < 0 ||
        imap_find_mailbox(s, c, &place, RIGHT_INSERT, &target, err) < 0)
        return -1;
    if (imap_target_check_saved(c, s->arena, &set, err) < 0)
        return -1;
    uids = imap_target_uids(s, &set, &count);
    imap_progress_begin(&progress, s, c);
    if (count > 0)
        status =
            run(s->arena, s->selected, imap_mailbox_key(&place, &target), s->account_id,
                rights_flags(target.rights), uids, count, &pairs, &pair_count, &uid_validity, err);
    imap_progress_end(&progress);
    if (status < 0)
        return -1;
    if (pair_count > 0)
        imap_notify_did_add(s, imap_mailbox_key(&place, &target), pairs[0].to,
                            pairs[pair_count - 1].to);
    if (pair_count < count)
        view_doubt(s->view);
    *code = copyuid(s->arena, uid_validity, pairs, pair_count);
    if (count == 0 || pair_count > 0 || c->by_uid)
        return 0;
    c->refusal = "EXPUNGEISSUED";
    return fail(err, ERR_NOT_FOUND, "these messages were removed by somebody else");
}

int imap_cmd_copy(struct imap_session *s, struct imap_command *c, struct error *err)
{
    return transfer(s, c, message_copy_masked, &c->code, err);
}

/* COPYUID comes ahead of the EXPUNGEs that the dispatcher sends (RFC 6851, 4.3). */
int imap_cmd_move(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct str code;

    if (imap_require(s, c, RIGHT_DELETE_MESSAGES, err) < 0 ||
        imap_require(s, c, RIGHT_EXPUNGE, err) < 0)
        return -1;
    if (transfer(s, c, message_move_masked, &code, err) < 0)
        return -1;
    if (code.n > 0) {
        conn_write(s->conn, STR("* OK ["));
        conn_write(s->conn, code);
        conn_write(s->conn, STR("] Moved\r\n"));
        c->tells_modseq = true;
    }
    return 0;
}
