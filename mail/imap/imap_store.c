/* imap_store.c - STORE (RFC 9051, 6.4.6) with UNCHANGEDSINCE (RFC 7162, 3.1.3). */
#include <stdlib.h>

#include "mail/imap/imap_capability.h"
#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_progress.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_rights.h"
#include "mail/imap/imap_sequence.h"
#include "mail/imap/imap_session.h"
#include "mail/imap/imap_target.h"
#include "mail/imap/imap_updates.h"
#include "mail/store/message.h"

struct store_request {
    struct imap_set set;
    enum flag_change change;
    bool is_silent;
    bool is_conditional;
    uint64_t unchanged_since;
    uint32_t flags;
    struct keywords keywords;
    uint32_t may; /* what the user may change */
};

struct store_result {
    struct index_entry *before; /* as the client knew them, ascending by UID; of .SILENT only */
    size_t before_count;
    struct message_state *states;
    size_t count;
    uint32_t *conflicts;
    size_t conflict_count;
};

/* --- arguments -------------------------------------------------------------------------------- */

static int parse_modifiers(struct imap_parser *p, struct store_request *r, struct error *err)
{
    r->unchanged_since = UINT64_MAX;
    if (!imap_parse_skip(p, '('))
        return 0;
    if (!imap_parse_word(p, STR("UNCHANGEDSINCE")))
        return imap_parse_expected(p, "UNCHANGEDSINCE", err);
    r->is_conditional = true;
    if (imap_parse_space(p, err) < 0 ||
        imap_parse_number64(p, &r->unchanged_since, "a modseq", err) < 0 ||
        imap_parse_char(p, ')', err) < 0)
        return -1;
    return imap_parse_space(p, err);
}

static int parse_item(struct imap_parser *p, struct store_request *r, struct error *err)
{
    r->change = FLAGS_REPLACE;
    if (imap_parse_skip(p, '+'))
        r->change = FLAGS_ADD;
    else if (imap_parse_skip(p, '-'))
        r->change = FLAGS_REMOVE;
    if (imap_parse_word(p, STR("FLAGS.SILENT")))
        r->is_silent = true;
    else if (!imap_parse_word(p, STR("FLAGS")))
        return imap_parse_expected(p, "FLAGS, +FLAGS or -FLAGS, with or without .SILENT,", err);
    return 0;
}

static int parse_store(struct imap_session *s, struct imap_command *c, struct store_request *r,
                       struct error *err)
{
    struct imap_parser *p = &c->args;

    if (imap_set_parse(p, s->arena, &r->set, err) < 0 || imap_parse_space(p, err) < 0 ||
        parse_modifiers(p, r, err) < 0 || parse_item(p, r, err) < 0 ||
        imap_parse_space(p, err) < 0 ||
        imap_parse_flags(p, s->arena, true, &r->flags, &r->keywords, err) < 0 ||
        imap_parse_end(p, err) < 0)
        return -1;
    return imap_target_resolve(s, &r->set, c->by_uid, err);
}

/* --- did somebody else change it, too? -------------------------------------------------------- */

static bool has_keyword(const struct keywords *k, struct str name)
{
    for (size_t i = 0; k != NULL && i < k->n; i++)
        if (str_ieq(k->v[i], name))
            return true;
    return false;
}

static uint32_t expected_flags(const struct store_request *r, uint32_t before)
{
    if (r->change == FLAGS_REPLACE)
        return r->flags;
    return r->change == FLAGS_ADD ? before | r->flags : before & ~r->flags;
}

static bool expects_keyword(const struct store_request *r, const struct keywords *before,
                            struct str name)
{
    bool is_named = has_keyword(&r->keywords, name);

    if (r->change == FLAGS_REPLACE)
        return is_named;
    return r->change == FLAGS_ADD ? is_named || has_keyword(before, name)
                                  : !is_named && has_keyword(before, name);
}

/* Every name of `names` is in `after` exactly when it should be. */
static bool are_as_expected(const struct store_request *r, const struct keywords *before,
                            const struct keywords *after, const struct keywords *names)
{
    for (size_t i = 0; names != NULL && i < names->n; i++)
        if (expects_keyword(r, before, names->v[i]) != has_keyword(after, names->v[i]))
            return false;
    return true;
}

static bool is_expected(const struct store_request *r, const struct index_entry *before,
                        const struct message_state *after)
{
    return after->flags == expected_flags(r, before->flags) &&
           are_as_expected(r, before->keywords, &after->keywords, before->keywords) &&
           are_as_expected(r, before->keywords, &after->keywords, &r->keywords) &&
           are_as_expected(r, before->keywords, &after->keywords, &after->keywords);
}

static PARKS void note_states_before(const struct imap_session *s, struct store_result *result,
                                     const uint32_t *uids, size_t count)
{
    if (view_is_ahead(s->view))
        return; /* the client knows something newer */
    result->before = ARENA_ARRAY(s->arena, count, struct index_entry);
    for (size_t i = 0; i < count; i++) {
        if (view_entry(s->view, uids[i], &result->before[result->before_count]))
            result->before_count++;
        fiber_pause();
    }
}

static int compare_entry_uid(const void *key, const void *entry)
{
    uint32_t uid = *(const uint32_t *)key, other = ((const struct index_entry *)entry)->uid;

    return uid < other ? -1 : uid > other;
}

/* .SILENT spares the client what it knows. What others changed it must learn: this answer counts
 * as told (RFC 9051, 6.4.6). */
static bool must_tell_flags(const struct imap_session *s, const struct store_request *r,
                            const struct store_result *result, const struct message_state *state)
{
    const struct index_entry *before;

    if (!r->is_silent || result->before_count == 0)
        return true;
    before = bsearch(&state->uid, result->before, result->before_count, sizeof *before,
                     compare_entry_uid);
    return before == NULL || before->modseq > view_highest_modseq(s->view) ||
           !is_expected(r, before, state);
}

/* --- answers ---------------------------------------------------------------------------------- */

/* Own changes are told here, so the updates before the tagged OK leave them out. */
static PARKS void tell_states(struct imap_session *s, struct imap_command *c,
                              const struct store_request *r, const struct store_result *result)
{
    bool with_modseq = (s->enabled & IMAP_ENABLED_CONDSTORE) != 0;
    struct buf out;

    buf_init(&out, SIZE_MAX);
    for (size_t i = 0; i < result->count; i++) {
        const struct message_state *state = &result->states[i];
        struct index_entry entry = {.uid = state->uid,
                                    .flags = state->flags,
                                    .modseq = state->modseq,
                                    .keywords = &state->keywords};
        uint32_t seq = view_seq(s->view, state->uid);
        bool tells_flags = must_tell_flags(s, r, result, state);

        view_mark_told(s->view, state->uid, state->modseq);
        fiber_pause();
        if (seq == 0 || !(tells_flags || with_modseq))
            continue;
        imap_add_flag_update(s, &out, seq, &entry, c->by_uid || with_modseq, tells_flags,
                             with_modseq);
        if (out.n > 32768)
            imap_write_buf(s, &out);
    }
    imap_write_buf(s, &out);
    buf_fini(&out);
}

/* FLAGS names every keyword before an answer has it. */
static PARKS void tell_keywords(struct imap_session *s, const struct store_result *result)
{
    for (size_t i = 0; i < result->count; i++)
        view_learn_keywords(s->view, &result->states[i].keywords);
    imap_tell_keywords(s, false);
}

static struct str modified_code(struct imap_session *s, struct imap_command *c,
                                const struct store_result *result)
{
    uint32_t *numbers = ARENA_ARRAY(s->arena, result->conflict_count, uint32_t);
    struct buf code;
    struct str out;

    for (size_t i = 0; i < result->conflict_count; i++)
        numbers[i] = c->by_uid ? result->conflicts[i] : view_seq(s->view, result->conflicts[i]);
    buf_init(&code, SIZE_MAX);
    buf_adds(&code, "MODIFIED ");
    imap_set_print(&code, numbers, result->conflict_count);
    out = arena_str(s->arena, buf_str(&code));
    buf_fini(&code);
    return out;
}

/* Flags that the user may not change stay as they are, and the client is told so; only when
 * nothing is left of the command is it refused (RFC 4314, 4). */
static int check_rights(struct imap_session *s, struct imap_command *c, struct store_request *r,
                        struct error *err)
{
    uint32_t named = r->flags | (r->keywords.n > 0 ? FLAG_KEYWORDS : 0);

    r->may = rights_flags(s->rights);
    if (imap_require(s, c, RIGHT_SEEN | RIGHT_WRITE | RIGHT_DELETE_MESSAGES, err) < 0)
        return -1;
    if (named != 0 && !(named & r->may))
        return imap_require_rights(0, RIGHT_WRITE, err);
    return 0;
}

int imap_cmd_store(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct store_request r = {0};
    struct store_result result = {0};
    struct imap_progress progress;
    uint32_t *uids;
    size_t count;
    int status;

    if (parse_store(s, c, &r, err) < 0)
        return -1;
    if (check_rights(s, c, &r, err) < 0)
        return -1;
    if (r.is_conditional)
        imap_enable_condstore(s);
    imap_target_limit(s, c, &r.set);
    uids = imap_target_uids(s, &r.set, &count);
    if (count == 0)
        return 0;
    if (r.is_silent)
        note_states_before(s, &result, uids, count);
    imap_progress_begin(&progress, s, c);
    status = message_store_masked(s->arena, s->selected, s->account_id, r.may, uids, count,
                                  r.change, r.flags, r.keywords, r.unchanged_since, &result.states,
                                  &result.count, &result.conflicts, &result.conflict_count, err);
    imap_progress_end(&progress);
    if (status < 0)
        return -1;
    tell_keywords(s, &result);
    if (result.count < count)
        view_doubt(s->view); /* what is gone is told with this answer */
    tell_states(s, c, &r, &result);
    if (result.conflict_count > 0)
        c->code = modified_code(s, c, &result);
    else if (!c->by_uid && !r.is_silent && result.count < count && c->code.n == 0)
        c->code = STR("EXPUNGEISSUED");
    return 0;
}
