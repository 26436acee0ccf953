/* imap_thread.c - THREAD (RFC 5256): searching, reading the keys, printing the tree. */
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_search.h"
#include "mail/imap/imap_search_options.h"
#include "mail/imap/imap_sort_order.h"
#include "mail/imap/imap_thread_tree.h"
#include "mail/store/message_keys.h"
#include "server/run/offload.h"

#define INLINE_COUNT_MAX 2000 /* messages: about a millisecond */
#define NODE_MEMORY      160 /* bytes for each message, and for each reference when it is unknown */

struct threading {
    enum thread_algorithm algorithm;
    struct arena *a;
    struct thread_message *v;
    bool *is_known;
    uint32_t count;
    struct thread_tree tree;
    struct buf out;
    size_t memory;
};

static int take_memory(struct threading *t, size_t size, struct error *err)
{
    if (imap_sort_memory_take(size, err) < 0)
        return -1;
    t->memory += size;
    return 0;
}

static int fill_message(void *arg, size_t index, const struct message_keys *m, struct error *err)
{
    struct threading *t = arg;
    struct thread_message *to = &t->v[index];
    struct str subject = m->keys.texts[SORT_SUBJECT];
    uint64_t *refs = NULL;

    if (take_memory(t, subject.n + m->keys.ref_count * (size_t)NODE_MEMORY, err) < 0)
        return -1;
    to->sent_us = m->sent_us;
    to->is_reply = m->keys.is_reply;
    to->subject = arena_str(t->a, subject);
    t->is_known[index] = true;
    if (t->algorithm != THREAD_REFERENCES)
        return 0;
    to->msgid = m->keys.msgid;
    to->ref_count = m->keys.ref_count;
    refs = ARENA_ARRAY(t->a, to->ref_count + 1u, uint64_t);
    for (unsigned i = 0; i < to->ref_count; i++)
        refs[i] = sort_keys_ref(&m->keys, i);
    to->refs = refs;
    return 0;
}

static PARKS int read_messages(struct threading *t, struct imap_session *s, bool by_uid,
                               const struct search_found *found, struct error *err)
{
    struct message_keys_reader reader = {
        .account_id = s->selected.account_id, .count = found->n, .each = fill_message, .arg = t};
    uint32_t *seqs = arena_copy(t->a, found->seqs, (found->n + 1) * sizeof *seqs);

    if (take_memory(t, found->n * (size_t)NODE_MEMORY, err) < 0)
        return -1;
    reader.ids = imap_sort_ids(s->view, t->a, seqs, &reader.count);
    t->v = ARENA_ARRAY(t->a, reader.count + 1, struct thread_message);
    t->is_known = ARENA_ARRAY(t->a, reader.count + 1, bool);
    for (size_t i = 0; i < reader.count; i++)
        t->v[i].number = by_uid ? view_uid(s->view, seqs[i]) : seqs[i];
    if (message_keys_read(&reader, err) < 0)
        return -1;
    for (size_t i = 0; i < reader.count; i++)
        if (t->is_known[i])
            t->v[t->count++] = t->v[i];
    return 0;
}

static void build_and_print(void *arg)
{
    struct threading *t = arg;

    if (t->algorithm == THREAD_REFERENCES)
        thread_by_references(t->a, t->v, t->count, &t->tree);
    else
        thread_by_subject(t->a, t->v, t->count, &t->tree);
    buf_adds(&t->out, t->count > 0 ? "* THREAD " : "* THREAD");
    thread_print(&t->out, &t->tree, t->v);
    buf_adds(&t->out, "\r\n");
}

static PARKS int thread_found(struct threading *t, struct imap_session *s, bool by_uid,
                              const struct search_found *found, struct error *err)
{
    if (read_messages(t, s, by_uid, found, err) < 0)
        return -1;
    if (t->count > INLINE_COUNT_MAX)
        offload(build_and_print, t);
    else
        build_and_print(t);
    imap_write_buf(s, &t->out);
    return 0;
}

int imap_cmd_thread(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct search_request *r = ARENA_NEW(s->arena, struct search_request);
    struct threading t = {.count = 0};
    struct search_found found;
    int rc;

    if (imap_parse_thread(&c->args, s->arena, &t.algorithm, r, err) < 0)
        return imap_search_refused(s, c, r, err);
    if (imap_search_check(s, c, r, err) < 0 || imap_search_selected(s, c, r, true, &found, err) < 0)
        return -1;
    t.a = arena_new();
    buf_init(&t.out, SIZE_MAX);
    rc = thread_found(&t, s, c->by_uid, &found, err);
    imap_sort_memory_give(t.memory);
    buf_fini(&t.out);
    arena_free(&t.a);
    return rc;
}
