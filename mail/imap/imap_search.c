/* imap_search.c - SEARCH and its answers (RFC 9051, 6.4.4; ESEARCH; SEARCHRES).
 *
 * Round one asks the mailbox's index and the text index; what stays open is read in chunks, first the
 * columns, then texts, last whole messages: those without a text yet, or with too large a header. The result is one bit per message of the view, so its size is known before the
 * search begins. */
#include <stdlib.h>
#include <string.h>

#include "mail/imap/imap_capability.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_search_index.h"
#include "mail/imap/imap_search_match.h"
#include "mail/imap/imap_session.h"
#include "mail/store/message.h"
#include "server/run/offload.h"

#define CHUNK_MAX    1000        /* open messages read together */
#define OFFLOAD_SIZE (64 * 1024) /* more bytes, times texts, are searched on a helper thread */

struct search {
    struct imap_session *s;
    struct imap_command *c;
    struct search_request request;
    unsigned columns;
    unsigned reading; /* columns of this round */
    struct arena *subject_arena;
    uint64_t *hits; /* bit seq - 1 */
    struct search_subject *open;
    int64_t *ids;
    size_t open_count;
    uint64_t modseq_max;
};

/* --- matching --------------------------------------------------------------------------------- */

static void hit(struct search *sr, const struct search_subject *subject)
{
    sr->hits[(subject->seq - 1) / 64] |= UINT64_C(1) << ((subject->seq - 1) % 64);
    if (subject->entry.modseq > sr->modseq_max)
        sr->modseq_max = subject->entry.modseq;
}

struct thread_job {
    const struct search_key *key;
    struct search_subject *subject;
    enum search_answer answer;
};

static void match_on_thread(void *arg)
{
    struct thread_job *job = arg;

    job->answer = search_matches(job->key, job->subject);
}

static PARKS int match_read_message(void *arg, size_t index, const struct message *m,
                                    struct error *err)
{
    struct search *sr = arg;
    struct search_subject *subject = &sr->open[index];
    struct thread_job job = {.key = sr->request.root, .subject = subject};

    subject->message = m;
    subject->columns = sr->reading;
    subject->a = sr->subject_arena;
    subject->text = NULL;
    subject->score = 0;
    if (m->blob.n * (1 + (uint64_t)sr->request.text_count) > OFFLOAD_SIZE)
        offload(match_on_thread, &job);
    else
        match_on_thread(&job);
    if (job.answer == SEARCH_YES)
        hit(sr, subject);
    if (job.answer != SEARCH_OPEN)
        subject->seq = 0; /* decided */
    arena_reset(sr->subject_arena);
    fiber_pause();
    return conn_failed(sr->s->conn) ? fail(err, ERR_CLOSED, "the connection is lost") : 0;
}

static PARKS int read_open(struct search *sr, unsigned columns, struct error *err)
{
    struct message_reader reader = {.account_id = sr->s->selected.account_id,
                                    .ids = sr->ids,
                                    .count = sr->open_count,
                                    .columns = columns,
                                    .each = match_read_message,
                                    .arg = sr};

    sr->reading = columns;
    for (size_t i = 0; i < sr->open_count; i++)
        sr->ids[i] = sr->open[i].entry.message_id;
    return message_read(&reader, err);
}

static void drop_decided(struct search *sr)
{
    size_t kept = 0;

    for (size_t i = 0; i < sr->open_count; i++)
        if (sr->open[i].seq != 0)
            sr->open[kept++] = sr->open[i];
    sr->open_count = kept;
}

static PARKS int decide_open(struct search *sr, struct error *err)
{
    unsigned cheap = sr->columns & ~(unsigned)MESSAGE_TEXT;

    if (sr->open_count > 0 && cheap != 0) {
        if (read_open(sr, cheap, err) < 0)
            return -1;
        drop_decided(sr);
    }
    if (sr->open_count > 0 && sr->columns != cheap) {
        if (read_open(sr, sr->columns, err) < 0)
            return -1;
        drop_decided(sr);
    }
    if (sr->open_count > 0 && read_open(sr, cheap | MESSAGE_BLOB, err) < 0)
        return -1;
    sr->open_count = 0;
    return 0;
}

static PARKS int search_all(struct search *sr, struct error *err)
{
    uint32_t count = view_count(sr->s->view);

    for (uint32_t seq = 1; seq <= count; seq++) {
        struct search_subject *subject = &sr->open[sr->open_count];
        *subject = (struct search_subject){.seq = seq};
        if (!view_entry(sr->s->view, view_uid(sr->s->view, seq), &subject->entry))
            continue;
        switch (search_matches(sr->request.root, subject)) {
        case SEARCH_NO:
            break;
        case SEARCH_YES:
            hit(sr, subject);
            break;
        case SEARCH_OPEN:
            sr->open_count++;
            break;
        }
        if (sr->open_count == CHUNK_MAX && decide_open(sr, err) < 0)
            return -1;
        if (seq % 256 == 0)
            fiber_pause();
    }
    return decide_open(sr, err);
}

/* --- sets of the keys ------------------------------------------------------------------------- */

static void resolve_saved(const struct search *sr, struct search_key *key)
{
    const struct imap_session *s = sr->s;

    key->kind = KEY_UID;
    key->set = (struct imap_set){.v = ARENA_ARRAY(s->arena, s->saved_count + 1, struct imap_range),
                                 .n = s->saved_count};
    for (uint32_t i = 0; i < s->saved_count; i++)
        key->set.v[i] = (struct imap_range){s->saved_uids[i], s->saved_uids[i]};
}

static void resolve_sets(const struct search *sr, struct search_key *key)
{
    const struct mailbox_view *view = sr->s->view;

    if (key->set.is_saved)
        resolve_saved(sr, key);
    else if (key->kind == KEY_SEQUENCE)
        imap_set_resolve(&key->set, view_count(view));
    else if (key->kind == KEY_UID)
        imap_set_resolve(&key->set, view_uid_max(view));
    for (struct search_key *child = key->first_child; child != NULL; child = child->next)
        resolve_sets(sr, child);
}

/* --- answers ---------------------------------------------------------------------------------- */

struct numbers {
    uint32_t *v;
    size_t n;
};

static struct numbers collect(const struct search *sr, bool as_uids)
{
    uint32_t words = (view_count(sr->s->view) + 63) / 64;
    struct numbers out = {0};
    size_t count = 0;

    for (uint32_t w = 0; w < words; w++)
        count += (size_t)__builtin_popcountll(sr->hits[w]);
    out.v = ARENA_ARRAY(sr->s->arena, count + 1, uint32_t);
    for (uint32_t w = 0; w < words; w++)
        for (uint64_t bits = sr->hits[w]; bits != 0; bits &= bits - 1) {
            uint32_t seq = w * 64 + (uint32_t)__builtin_ctzll(bits) + 1;
            out.v[out.n++] = as_uids ? view_uid(sr->s->view, seq) : seq;
        }
    return out;
}

/* "SAVE" with MIN or MAX alone keeps only these (RFC 5182, 2.4). */
static void save(const struct search *sr)
{
    const struct search_request *r = &sr->request;
    bool only_ends = (r->wants_min || r->wants_max) && !r->wants_all && !r->wants_count;
    struct numbers uids = collect(sr, true);

    if (only_ends && uids.n > 0) {
        uint32_t min = uids.v[0], max = uids.v[uids.n - 1];
        uids.n = 0;
        if (r->wants_min)
            uids.v[uids.n++] = min;
        if (r->wants_max && (uids.n == 0 || max != min))
            uids.v[uids.n++] = max;
    }
    free(sr->s->saved_uids);
    sr->s->saved_uids = uids.n > 0 ? malloc(uids.n * sizeof *uids.v) : NULL;
    if (sr->s->saved_uids == NULL && uids.n > 0)
        abort();
    if (uids.n > 0)
        memcpy(sr->s->saved_uids, uids.v, uids.n * sizeof *uids.v);
    sr->s->saved_count = (uint32_t)uids.n;
}

static void add_named(struct buf *out, const char *name, uint64_t value)
{
    buf_adds(out, name);
    buf_add_u64(out, value);
}

/* With MIN or MAX alone the modseq is theirs (RFC 4731, 3.2). */
static uint64_t modseq_of_result(const struct search *sr)
{
    const struct search_request *r = &sr->request;
    struct numbers uids;
    struct index_entry entry;
    uint64_t modseq = 0;

    if (r->wants_all || r->wants_count || !(r->wants_min || r->wants_max))
        return sr->modseq_max;
    uids = collect(sr, true);
    if (r->wants_min && view_entry(sr->s->view, uids.v[0], &entry))
        modseq = entry.modseq;
    if (r->wants_max && view_entry(sr->s->view, uids.v[uids.n - 1], &entry) &&
        entry.modseq > modseq)
        modseq = entry.modseq;
    return modseq > 0 ? modseq : sr->modseq_max;
}

static void add_esearch(const struct search *sr, struct buf *out, struct numbers found)
{
    const struct search_request *r = &sr->request;

    buf_adds(out, "* ESEARCH (TAG ");
    imap_add_quoted(out, sr->c->tag);
    buf_adds(out, sr->c->by_uid ? ") UID" : ")");
    if (r->wants_min && found.n > 0)
        add_named(out, " MIN ", found.v[0]);
    if (r->wants_max && found.n > 0)
        add_named(out, " MAX ", found.v[found.n - 1]);
    if (r->wants_count)
        add_named(out, " COUNT ", found.n);
    if (r->wants_all && found.n > 0) {
        buf_adds(out, " ALL ");
        imap_set_print(out, found.v, found.n);
    }
    if (r->uses_modseq && found.n > 0)
        add_named(out, " MODSEQ ", modseq_of_result(sr));
    buf_adds(out, "\r\n");
}

static void add_search(const struct search *sr, struct buf *out, struct numbers found)
{
    buf_adds(out, "* SEARCH");
    for (size_t i = 0; i < found.n; i++) {
        buf_addc(out, ' ');
        buf_add_u64(out, found.v[i]);
    }
    if (sr->request.uses_modseq && found.n > 0) {
        add_named(out, " (MODSEQ ", sr->modseq_max);
        buf_addc(out, ')');
    }
    buf_adds(out, "\r\n");
}

static PARKS void answer(struct search *sr)
{
    struct search_request *r = &sr->request;
    struct numbers found = collect(sr, sr->c->by_uid);
    struct buf out;

    if (!r->is_extended && (sr->s->enabled & IMAP_ENABLED_REV2))
        r->is_extended = r->wants_all = true;
    if (r->wants_save)
        save(sr);
    if (r->wants_save && !r->wants_min && !r->wants_max && !r->wants_all && !r->wants_count)
        return;
    buf_init(&out, SIZE_MAX);
    if (r->is_extended)
        add_esearch(sr, &out, found);
    else
        add_search(sr, &out, found);
    imap_write_buf(sr->s, &out);
    buf_fini(&out);
}

static bool names_numbers(const struct search_key *key)
{
    if (key->kind == KEY_SEQUENCE && !key->set.is_saved)
        return true;
    for (const struct search_key *child = key->first_child; child != NULL; child = child->next)
        if (names_numbers(child))
            return true;
    return false;
}

/* RFC 9586, 3.5. */
static int check_uidonly(const struct imap_session *s, struct imap_command *c,
                         const struct search_key *root, struct error *err)
{
    if (!imap_is_uidonly(s) || !names_numbers(root))
        return 0;
    c->complaint = "UIDREQUIRED";
    return fail(err, ERR_SYNTAX, "UIDONLY is enabled: search for UIDs, not for sequence numbers");
}

/* --- the command ------------------------------------------------------------------------------ */

static void forget_saved(struct imap_session *s)
{
    free(s->saved_uids);
    s->saved_uids = NULL;
    s->saved_count = 0;
}

static PARKS int run(struct search *sr, struct error *err)
{
    int status;

    sr->columns = search_columns(sr->request.root);
    sr->hits = ARENA_ARRAY(sr->s->arena, view_count(sr->s->view) / 64 + 1, uint64_t);
    sr->open = ARENA_ARRAY(sr->s->arena, CHUNK_MAX + 1, struct search_subject);
    sr->ids = ARENA_ARRAY(sr->s->arena, CHUNK_MAX + 1, int64_t);
    sr->subject_arena = arena_new();
    resolve_sets(sr, sr->request.root);
    status = search_use_index(sr->request.root, sr->s->selected.account_id,
                              view_count(sr->s->view), sr->s->arena, err);
    if (status == 0)
        status = search_all(sr, err);
    arena_free(&sr->subject_arena);
    return status;
}

int imap_cmd_search(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct search *sr = ARENA_NEW(s->arena, struct search);

    sr->s = s;
    sr->c = c;
    if (imap_parse_search(&c->args, s->arena, &sr->request, err) < 0) {
        if (sr->request.has_bad_charset)
            c->refusal = "BADCHARSET (UTF-8 US-ASCII ISO-8859-1)";
        if (sr->request.wants_save && err->kind != ERR_SYNTAX)
            forget_saved(s); /* NO empties "$", BAD leaves it (RFC 5182, 2.1) */
        return -1;
    }
    if (sr->request.has_charset && (s->enabled & IMAP_ENABLED_UTF8))
        return fail(err, ERR_SYNTAX, "CHARSET is not for who enabled UTF8=ACCEPT");
    if (check_uidonly(s, c, sr->request.root, err) < 0)
        return -1;
    if (sr->request.uses_modseq)
        imap_enable_condstore(s);
    if (run(sr, err) < 0) {
        if (sr->request.wants_save)
            forget_saved(s);
        return -1;
    }
    answer(sr);
    return 0;
}
