/* imap_context.c - contexts.
 *
 * For SEARCH positions are 0, which means "in mailbox order"; for SORT they are counted out. Keys
 * of messages never change, so a message can enter or leave a sorted list but not move in it. A
 * database that is away delays an update to the next news. */
#include "mail/imap/imap_context.h"

#include <stdlib.h>
#include <string.h>

#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_search_run.h"
#include "mail/imap/imap_sort_order.h"
#include "mail/store/text_fuzzy.h"
#include "server/base/memory.h"

struct context {
    struct arena *a; /* of the keys and names */
    struct str tag, correlator;
    bool by_uid, is_sorted;
    struct search_request request; /* sequence numbers have become UIDs */
    struct sort_program program;
    uint32_t *uids;  /* ascending */
    uint32_t *order; /* of a SORT: the same in its order */
    size_t n;
    uint64_t modseq;  /* everything up to here was matched, */
    uint32_t uid_max; /* up to this UID: a late arrival may have a lower modseq */
};

struct imap_contexts {
    struct context *v[CONTEXTS_MAX];
    unsigned n;
    size_t message_count; /* of all of them */
    bool is_stale;
};

/* --- life ------------------------------------------------------------------------------------- */

static void context_free(struct context *x)
{
    struct arena *a = x->a;

    free(x->uids);
    free(x->order);
    arena_free(&a);
}

static void drop(struct imap_contexts *all, unsigned i)
{
    all->message_count -= all->v[i]->n;
    context_free(all->v[i]);
    all->v[i] = all->v[--all->n];
}

void imap_contexts_clear(struct imap_session *s)
{
    while (s->contexts != NULL && s->contexts->n > 0)
        drop(s->contexts, 0);
    free(s->contexts);
    s->contexts = NULL;
}

static struct context *find(const struct imap_session *s, struct str tag, unsigned *at)
{
    for (unsigned i = 0; s->contexts != NULL && i < s->contexts->n; i++)
        if (str_eq(s->contexts->v[i]->tag, tag)) {
            *at = i;
            return s->contexts->v[i];
        }
    return NULL;
}

int imap_context_check(const struct imap_session *s, const struct imap_command *c,
                       const struct search_request *r, struct error *err)
{
    unsigned at;

    if (!r->wants_update)
        return 0;
    if (s->view == NULL)
        return fail(err, ERR_SYNTAX, "UPDATE needs a selected mailbox");
    if (find(s, c->tag, &at) != NULL)
        return fail(err, ERR_SYNTAX, "this tag names a search that is kept up to date");
    return 0;
}

static void tell_refusal(struct imap_session *s, struct str tag, const char *why)
{
    struct buf out;

    buf_init(&out, SIZE_MAX);
    buf_adds(&out, "* NO [NOUPDATE ");
    imap_add_quoted(&out, tag);
    buf_adds(&out, "] ");
    buf_adds(&out, why);
    buf_adds(&out, "\r\n");
    imap_write_buf(s, &out);
    buf_fini(&out);
}

void imap_context_refuse(struct imap_session *s, struct imap_command *c, const char *why)
{
    tell_refusal(s, c->tag, why);
}

/* --- lists of messages ------------------------------------------------------------------------ */

static int compare_u32(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static bool has(const uint32_t *sorted, size_t n, uint32_t number)
{
    return n > 0 && bsearch(&number, sorted, n, sizeof *sorted, compare_u32) != NULL;
}

static uint32_t *copy_numbers(const uint32_t *v, size_t n)
{
    uint32_t *copy = memory_array(n + 1, sizeof *copy);

    if (n > 0)
        memcpy(copy, v, n * sizeof *v);
    return copy;
}

static void set_list(struct imap_contexts *all, struct context *x, uint32_t *uids, uint32_t *order,
                     size_t n)
{
    all->message_count = all->message_count - x->n + n;
    free(x->uids);
    free(x->order);
    x->uids = uids;
    x->order = order;
    x->n = n;
}

/* --- beginning -------------------------------------------------------------------------------- */

/* Texts of the keys still lie in the command. */
static void own_texts(struct search_key *key, struct arena *a)
{
    key->name = arena_str(a, key->name);
    key->text = arena_str(a, key->text);
    if (key->fuzzy != NULL) {
        key->fuzzy = ARENA_NEW(a, struct fuzzy_text);
        fuzzy_parse(a, key->text, key->fuzzy);
    }
    for (struct search_key *child = key->first_child; child != NULL; child = child->next)
        own_texts(child, a);
}

static struct context *context_new(struct imap_session *s, struct str tag, struct str correlator,
                                   bool by_uid, const struct search_request *r,
                                   const struct sort_program *program,
                                   const struct search_found *found)
{
    struct arena *a = arena_new();
    struct context *x = ARENA_NEW(a, struct context);

    *x = (struct context){.a = a,
                          .tag = arena_str(a, tag),
                          .correlator = arena_str(a, correlator),
                          .by_uid = by_uid,
                          .is_sorted = program != NULL,
                          .request = *r,
                          .modseq = found->modseq_before,
                          .uid_max = view_uid_max(s->view)};
    if (program != NULL)
        x->program = *program;
    x->request.root = search_keys_resolve(s, s->view, r->root, true, a);
    own_texts(x->request.root, a);
    return x;
}

void imap_context_add_named(struct imap_session *s, struct imap_command *c, struct str correlator,
                            bool by_uid, const struct search_request *r,
                            const struct sort_program *program, const struct search_found *found)
{
    struct context *x;
    uint32_t *uids;

    if (program != NULL && sort_program_has(program, SORT_KEY_RELEVANCY)) {
        imap_context_refuse(s, c, "Relevancy is not kept up to date");
        return;
    }
    if (s->contexts == NULL)
        s->contexts = memory_alloc(sizeof *s->contexts);
    if (s->contexts->n == CONTEXTS_MAX) {
        imap_context_refuse(s, c, "Too many contexts");
        return;
    }
    if (found->n > CONTEXT_MESSAGES_MAX - s->contexts->message_count) {
        imap_context_refuse(s, c, "Too many messages in contexts");
        return;
    }
    x = context_new(s, c->tag, correlator, by_uid, r, program, found);
    uids = memory_array(found->n + 1, sizeof *uids);
    for (size_t i = 0; i < found->n; i++)
        uids[i] = view_uid(s->view, found->seqs[i]);
    set_list(s->contexts, x, uids, program != NULL ? copy_numbers(uids, found->n) : NULL, found->n);
    if (program != NULL)
        qsort(x->uids, x->n, sizeof *x->uids, compare_u32);
    s->contexts->v[s->contexts->n++] = x;
    c->done = "Completed, changes will be told";
}

void imap_context_add(struct imap_session *s, struct imap_command *c,
                      const struct search_request *r, const struct sort_program *program,
                      const struct search_found *found)
{
    struct buf correlator;

    if (!r->wants_update)
        return;
    buf_init(&correlator, SIZE_MAX);
    imap_add_tag_correlator(&correlator, c->tag);
    imap_context_add_named(s, c, buf_str(&correlator), c->by_uid, r, program, found);
    buf_fini(&correlator);
}

/* --- what came and went ----------------------------------------------------------------------- */

/* Messages that enter or leave a context, ascending by UID, with the numbers that the client
 * knows them by. */
struct moved {
    uint32_t *uids, *numbers;
    size_t n;
};

static struct moved moved_new(struct arena *a, size_t n_max)
{
    return (struct moved){ARENA_ARRAY(a, n_max + 1, uint32_t), ARENA_ARRAY(a, n_max + 1, uint32_t),
                          0};
}

static void moved_add(struct moved *m, const struct context *x, uint32_t uid, uint32_t seq)
{
    m->uids[m->n] = uid;
    m->numbers[m->n++] = x->by_uid ? uid : seq;
}

static uint32_t moved_number(const struct moved *m, uint32_t uid)
{
    const uint32_t *at = bsearch(&uid, m->uids, m->n, sizeof uid, compare_u32);

    return m->numbers[at - m->uids];
}

/* " WORD (" before the first, and then position and set of each run. */
static void add_run(struct buf *out, const char *word, bool is_first, size_t position,
                    const uint32_t *numbers, size_t n)
{
    if (is_first) {
        buf_addc(out, ' ');
        buf_adds(out, word);
        buf_adds(out, " (");
    } else {
        buf_addc(out, ' ');
    }
    buf_add_u64(out, position);
    buf_addc(out, ' ');
    imap_set_print(out, numbers, n);
}

/* Neighbours in a sorted list make one run. Before a REMOVEFROM a run lies where its first one lay
 * when those before it were gone; after an ADDTO, where it lies at last. */
static void add_runs(struct buf *out, const char *word, bool is_removal, const uint32_t *order,
                     size_t n, const struct moved *m, struct arena *a)
{
    uint32_t *numbers = ARENA_ARRAY(a, m->n + 1, uint32_t);
    size_t seen = 0;

    for (size_t i = 0; i < n;) {
        size_t run = 0;
        for (; i + run < n && has(m->uids, m->n, order[i + run]); run++)
            numbers[run] = moved_number(m, order[i + run]);
        if (run > 0)
            add_run(out, word, seen == 0, i + 1 - (is_removal ? seen : 0), numbers, run);
        seen += run;
        i += run + 1;
    }
    buf_addc(out, ')');
}

static void add_moved(struct buf *out, const char *word, const struct context *x, bool is_removal,
                      const uint32_t *order, size_t n, const struct moved *m, struct arena *a)
{
    if (m->n == 0)
        return;
    if (x->is_sorted) {
        add_runs(out, word, is_removal, order, n, m, a);
        return;
    }
    add_run(out, word, true, 0, m->numbers, m->n);
    buf_addc(out, ')');
}

static size_t without(uint32_t *v, size_t n, const struct moved *m)
{
    size_t kept = 0;

    for (size_t i = 0; v != NULL && i < n; i++)
        if (!has(m->uids, m->n, v[i]))
            v[kept++] = v[i];
    return kept;
}

static void remove_moved(struct imap_contexts *all, struct context *x, const struct moved *m)
{
    size_t kept = without(x->uids, x->n, m);

    (void)without(x->order, x->n, m);
    all->message_count -= x->n - kept;
    x->n = kept;
}

static void begin_response(struct buf *out, const struct context *x)
{
    buf_adds(out, "* ESEARCH (");
    buf_add(out, x->correlator);
    buf_adds(out, x->by_uid ? ") UID" : ")");
}

/* --- expunged --------------------------------------------------------------------------------- */

/* Sequence numbers are those before the first EXPUNGE. */
static PARKS void expunge_from(struct imap_session *s, struct context *x,
                               const struct view_changes *changes)
{
    struct moved gone = moved_new(s->arena, changes->expunged_count);
    struct buf out;

    for (size_t i = 0; i < changes->expunged_count; i++)
        if (has(x->uids, x->n, changes->expunged_uids[i]))
            moved_add(&gone, x, changes->expunged_uids[i], changes->expunged_seqs[i] + (uint32_t)i);
    if (gone.n == 0)
        return;
    buf_init(&out, SIZE_MAX);
    begin_response(&out, x);
    add_moved(&out, "REMOVEFROM", x, true, x->order, x->n, &gone, s->arena);
    buf_adds(&out, "\r\n");
    remove_moved(s->contexts, x, &gone);
    imap_write_buf(s, &out);
    buf_fini(&out);
}

void imap_contexts_expunge(struct imap_session *s, const struct view_changes *changes)
{
    for (unsigned i = 0; s->contexts != NULL && changes->expunged_count > 0 && i < s->contexts->n;
         i++)
        expunge_from(s, s->contexts->v[i], changes);
}

/* --- changed and arrived ---------------------------------------------------------------------- */

/* What some context has not looked at yet. */
struct candidates {
    uint32_t *seqs;
    uint32_t *uids;
    uint64_t *modseqs;
    size_t n;
    uint64_t modseq_max; /* of all messages of the view, */
    uint32_t uid_max;
};

static bool is_new_to(const struct context *x, uint32_t uid, uint64_t modseq)
{
    return modseq > x->modseq || uid > x->uid_max;
}

static bool is_new_to_some(const struct imap_contexts *all, uint32_t uid, uint64_t modseq)
{
    for (unsigned i = 0; i < all->n; i++)
        if (is_new_to(all->v[i], uid, modseq))
            return true;
    return false;
}

/* In one go, without a park: one transaction may give many messages the same modseq, and seeing
 * half of them would lose the others. */
static void find_candidates(const struct imap_session *s, struct candidates *out)
{
    struct index_entry entry;
    uint32_t count = view_count(s->view);
    size_t cap = 0;

    for (uint32_t seq = 1; seq <= count; seq++)
        cap += view_entry_at(s->view, seq, &entry) &&
               is_new_to_some(s->contexts, entry.uid, entry.modseq);
    *out = (struct candidates){.seqs = ARENA_ARRAY(s->arena, cap + 1, uint32_t),
                               .uids = ARENA_ARRAY(s->arena, cap + 1, uint32_t),
                               .modseqs = ARENA_ARRAY(s->arena, cap + 1, uint64_t),
                               .uid_max = view_uid_max(s->view)};
    for (uint32_t seq = 1; seq <= count; seq++) {
        if (!view_entry_at(s->view, seq, &entry))
            continue;
        if (entry.modseq > out->modseq_max)
            out->modseq_max = entry.modseq;
        if (is_new_to_some(s->contexts, entry.uid, entry.modseq)) {
            out->seqs[out->n] = seq;
            out->uids[out->n] = entry.uid;
            out->modseqs[out->n++] = entry.modseq;
        }
    }
}

static struct imap_set ranges_of(struct arena *a, const struct candidates *c,
                                 const struct context *x)
{
    struct imap_set set = {.v = ARENA_ARRAY(a, c->n + 1, struct imap_range)};

    for (size_t i = 0; i < c->n; i++) {
        if (!is_new_to(x, c->uids[i], c->modseqs[i]))
            continue;
        if (set.n > 0 && set.v[set.n - 1].to + 1 == c->seqs[i])
            set.v[set.n - 1].to = c->seqs[i];
        else
            set.v[set.n++] = (struct imap_range){c->seqs[i], c->seqs[i]};
    }
    return set;
}

static void compare_with_list(const struct imap_session *s, const struct context *x,
                              const struct search_run *run, struct moved *gone, struct moved *come)
{
    for (size_t i = 0; i < run->among->n; i++)
        for (uint32_t seq = run->among->v[i].from; seq <= run->among->v[i].to; seq++) {
            uint32_t uid = view_uid(s->view, seq);
            bool was_in = has(x->uids, x->n, uid), is_in = search_run_has(run, seq);
            if (was_in && !is_in)
                moved_add(gone, x, uid, seq);
            else if (is_in && !was_in)
                moved_add(come, x, uid, seq);
        }
}

static uint32_t *merged(const struct context *x, const struct moved *come)
{
    uint32_t *uids = memory_array(x->n + come->n + 1, sizeof *uids);
    size_t i = 0, j = 0, n = 0;

    while (i < x->n || j < come->n)
        if (j == come->n || (i < x->n && x->uids[i] < come->uids[j]))
            uids[n++] = x->uids[i++];
        else
            uids[n++] = come->uids[j++];
    return uids;
}

/* The list with its new members in the order of the SORT. ERR_TRY_LATER while some are gone whose
 * EXPUNGE was not told: their places cannot be found any more. */
static PARKS int sort_again(struct imap_session *s, const struct context *x, uint32_t *order,
                            size_t n, struct error *err)
{
    size_t count = n;

    for (size_t i = 0; i < n; i++)
        order[i] = view_seq(s->view, order[i]);
    if (imap_sort_order(s->view, s->selected, &x->program, NULL, order, &count, err) < 0)
        return -1;
    if (count < n)
        return fail(err, ERR_TRY_LATER, "messages of the list are gone");
    for (size_t i = 0; i < n; i++)
        order[i] = view_uid(s->view, order[i]);
    return 0;
}

static PARKS int let_in(struct imap_session *s, struct context *x, const struct moved *come,
                        struct buf *out, struct error *err)
{
    size_t n = x->n + come->n;
    uint32_t *uids, *order = NULL;

    if (come->n == 0)
        return 0;
    if (come->n > CONTEXT_MESSAGES_MAX - s->contexts->message_count)
        return fail(err, ERR_LIMIT, "Too many messages in contexts");
    uids = merged(x, come);
    if (x->is_sorted) {
        order = copy_numbers(uids, n);
        if (sort_again(s, x, order, n, err) < 0) {
            free(uids);
            free(order);
            return -1;
        }
    }
    add_moved(out, "ADDTO", x, false, order, n, come, s->arena);
    set_list(s->contexts, x, uids, order, n);
    return 0;
}

static PARKS int update_list(struct imap_session *s, struct context *x,
                             const struct search_run *run, struct error *err)
{
    size_t count = (size_t)imap_set_count(run->among);
    struct moved gone = moved_new(s->arena, count), come = moved_new(s->arena, count);
    struct buf out;
    int rc;

    compare_with_list(s, x, run, &gone, &come);
    if (gone.n == 0 && come.n == 0)
        return 0;
    buf_init(&out, SIZE_MAX);
    begin_response(&out, x);
    add_moved(&out, "REMOVEFROM", x, true, x->order, x->n, &gone, s->arena);
    remove_moved(s->contexts, x, &gone);
    rc = let_in(s, x, &come, &out, err);
    buf_adds(&out, "\r\n");
    if (rc == 0 || gone.n > 0)
        imap_write_buf(s, &out);
    buf_fini(&out);
    return rc;
}

static PARKS int update_one(struct imap_session *s, struct context *x, const struct candidates *c,
                            struct error *err)
{
    struct imap_set among = ranges_of(s->arena, c, x);
    struct search_run run = {.s = s,
                             .view = s->view,
                             .mailbox = s->selected,
                             .request = &x->request,
                             .a = s->arena,
                             .among = &among};

    if (among.n > 0 && (imap_search_run(&run, err) < 0 || update_list(s, x, &run, err) < 0))
        return -1;
    x->modseq = c->modseq_max > x->modseq ? c->modseq_max : x->modseq;
    x->uid_max = c->uid_max;
    return 0;
}

void imap_contexts_update(struct imap_session *s)
{
    struct candidates candidates;

    if (s->contexts == NULL || s->contexts->n == 0)
        return;
    s->contexts->is_stale = false;
    find_candidates(s, &candidates);
    for (unsigned i = 0; candidates.n > 0 && i < s->contexts->n;) {
        struct error err = {0};
        int rc = update_one(s, s->contexts->v[i], &candidates, &err);
        if (rc < 0 && err.kind == ERR_LIMIT) {
            tell_refusal(s, s->contexts->v[i]->tag, err.text);
            drop(s->contexts, i);
            continue;
        }
        s->contexts->is_stale = s->contexts->is_stale || rc < 0;
        i++;
    }
}

bool imap_contexts_are_stale(const struct imap_session *s)
{
    return s->contexts != NULL && s->contexts->is_stale;
}

/* --- CANCELUPDATE ----------------------------------------------------------------------------- */

int imap_cmd_cancelupdate(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct str tags[CONTEXTS_MAX];
    unsigned count = 0, at;

    do {
        if (count == CONTEXTS_MAX)
            return fail(err, ERR_SYNTAX, "more than %d tags", CONTEXTS_MAX);
        if (imap_parse_string(&c->args, s->arena, &tags[count], "a tag in quotes", err) < 0)
            return -1;
        if (find(s, tags[count++], &at) == NULL)
            return fail(err, ERR_SYNTAX, "no context has this tag");
    } while (imap_parse_skip(&c->args, ' '));
    if (imap_parse_end(&c->args, err) < 0)
        return -1;
    for (unsigned i = 0; i < count; i++)
        if (find(s, tags[i], &at) != NULL)
            drop(s->contexts, at);
    return 0;
}
