/* imap_thread_tree.c - building threads.
 *
 * The steps are those of RFC 5256, THREAD, REFERENCES, and are named by its numbers. A dummy of
 * the RFC is a node behind the messages. Instead of moving lists of children about, only each
 * node's parent is kept; one pass over the messages in order of date makes every list of siblings
 * sorted at once. */
#include "mail/imap/imap_thread_tree.h"

#include <stdlib.h>

#include "mail/imap/imap_thread_forest.h"
#include "server/base/map.h"
#include "server/base/memory.h"

struct ids { /* from Message-IDs to nodes: open addressing, a power of two */
    uint64_t *keys;
    uint32_t *nodes;
    size_t cap, n;
};

struct builder {
    struct arena *a;
    const struct thread_message *v;
    uint32_t message_count, count, cap; /* nodes; with room for those of step 5 */
    struct ids ids;
    uint32_t *refs; /* nodes, of all messages one behind the other */
    struct forest forest;
    uint32_t *parent;
    uint32_t *top;   /* of a dummy: what stands for it, see resolve() */
    uint32_t *order; /* messages by sent date */
};

static uint32_t *new_links(struct arena *a, size_t count)
{
    uint32_t *v = ARENA_ARRAY(a, count + 1, uint32_t);

    for (size_t i = 0; i < count; i++)
        v[i] = THREAD_NONE;
    return v;
}

static bool is_dummy(const struct builder *b, uint32_t node)
{
    return node >= b->message_count;
}

/* --- Message-IDs ------------------------------------------------------------------------------ */

/* Whoever wrote the mail chose the ids: only a keyed hash is safe. */
static size_t ids_slot(const struct ids *ids, uint64_t id)
{
    size_t at = (size_t)siphash(map_key_u64(&id)) & (ids->cap - 1);

    while (ids->keys[at] != 0 && ids->keys[at] != id)
        at = (at + 1) & (ids->cap - 1);
    return at;
}

static void ids_init(struct ids *ids, size_t cap)
{
    ids->cap = cap;
    ids->n = 0;
    ids->keys = memory_array(cap, sizeof *ids->keys);
    ids->nodes = memory_array(cap, sizeof *ids->nodes);
}

static void ids_fini(struct ids *ids)
{
    free(ids->keys);
    free(ids->nodes);
}

static void ids_put(struct ids *ids, uint64_t id, uint32_t node)
{
    size_t at = ids_slot(ids, id);

    ids->keys[at] = id;
    ids->nodes[at] = node;
    ids->n++;
}

static void ids_make_room(struct ids *ids)
{
    struct ids old = *ids;

    if (ids->n < ids->cap / 2)
        return;
    ids_init(ids, old.cap * 2);
    for (size_t i = 0; i < old.cap; i++)
        if (old.keys[i] != 0)
            ids_put(ids, old.keys[i], old.nodes[i]);
    ids_fini(&old);
}

static bool ids_get(const struct ids *ids, uint64_t id, uint32_t *node)
{
    size_t at = ids_slot(ids, id);

    *node = ids->nodes[at];
    return ids->keys[at] != 0;
}

/* Of messages with the same id the first has it. */
static void name_messages(struct builder *b)
{
    uint32_t first;

    for (uint32_t i = 0; i < b->message_count; i++) {
        if (b->v[i].msgid == 0 || ids_get(&b->ids, b->v[i].msgid, &first))
            continue;
        ids_make_room(&b->ids);
        ids_put(&b->ids, b->v[i].msgid, i);
    }
}

static uint32_t node_of_ref(struct builder *b, uint64_t id)
{
    uint32_t node;

    if (ids_get(&b->ids, id, &node))
        return node;
    ids_make_room(&b->ids);
    ids_put(&b->ids, id, b->count);
    return b->count++;
}

static void find_nodes(struct builder *b)
{
    size_t cap = 64, total = 0, at = 0;

    while (cap < 2 * (size_t)b->message_count)
        cap *= 2;
    ids_init(&b->ids, cap);
    name_messages(b);
    for (uint32_t i = 0; i < b->message_count; i++)
        total += b->v[i].ref_count;
    b->refs = ARENA_ARRAY(b->a, total + 1, uint32_t);
    for (uint32_t i = 0; i < b->message_count; i++)
        for (unsigned r = 0; r < b->v[i].ref_count; r++)
            b->refs[at++] = node_of_ref(b, b->v[i].refs[r]);
    ids_fini(&b->ids);
}

/* --- step 1: links ---------------------------------------------------------------------------- */

static void link_nodes(struct builder *b, uint32_t parent, uint32_t child)
{
    if (parent == child || forest_root(&b->forest, parent) == child)
        return; /* it would be its own ancestor */
    forest_link(&b->forest, child, parent);
    b->parent[child] = parent;
}

static void set_parent(struct builder *b, uint32_t message, uint32_t parent)
{
    if (b->parent[message] == parent)
        return;
    if (b->parent[message] != THREAD_NONE) {
        forest_cut(&b->forest, message);
        b->parent[message] = THREAD_NONE;
    }
    if (parent != THREAD_NONE)
        link_nodes(b, parent, message);
}

static void link_all(struct builder *b)
{
    const uint32_t *ref = b->refs;

    forest_init(&b->forest, b->a, b->count);
    for (uint32_t i = 0; i < b->message_count; i++) {
        uint32_t last = THREAD_NONE;
        for (unsigned r = 0; r < b->v[i].ref_count; r++, ref++) {
            if (last != THREAD_NONE && b->parent[*ref] == THREAD_NONE)
                link_nodes(b, last, *ref);
            last = *ref;
        }
        set_parent(b, i, last);
    }
}

/* --- steps 2 and 3: dummies go ---------------------------------------------------------------- */

/* What a dummy's children become the children of: the next message above it, or else the topmost
 * dummy. */
static uint32_t resolve(struct builder *b, uint32_t dummy)
{
    uint32_t found = dummy, next;

    while (is_dummy(b, found) && b->top[found] == THREAD_NONE && b->parent[found] != THREAD_NONE)
        found = b->parent[found];
    if (is_dummy(b, found) && b->top[found] != THREAD_NONE)
        found = b->top[found];
    for (uint32_t at = dummy; at != found && is_dummy(b, at) && b->top[at] == THREAD_NONE;
         at = next) {
        next = b->parent[at];
        b->top[at] = found;
    }
    return found;
}

/* A dummy at the top stays only to hold several together. */
static void prune(struct builder *b)
{
    uint32_t *held = ARENA_ARRAY(b->a, (size_t)b->count + 1, uint32_t);

    for (uint32_t i = 0; i < b->message_count; i++)
        if (b->parent[i] != THREAD_NONE && is_dummy(b, b->parent[i])) {
            b->parent[i] = resolve(b, b->parent[i]);
            if (is_dummy(b, b->parent[i]))
                held[b->parent[i]]++;
        }
    for (uint32_t i = 0; i < b->message_count; i++)
        if (b->parent[i] != THREAD_NONE && is_dummy(b, b->parent[i]) && held[b->parent[i]] == 1)
            b->parent[i] = THREAD_NONE;
}

/* --- order ------------------------------------------------------------------------------------ */

static int compare_dates(const void *a, const void *b, void *arg)
{
    const struct thread_message *v = arg;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    if (v[x].sent_us != v[y].sent_us)
        return v[x].sent_us < v[y].sent_us ? -1 : 1;
    return (x > y) - (x < y);
}

static void order_by_date(struct builder *b)
{
    b->order = ARENA_ARRAY(b->a, (size_t)b->message_count + 1, uint32_t);
    for (uint32_t i = 0; i < b->message_count; i++)
        b->order[i] = i;
    qsort_r(b->order, b->message_count, sizeof *b->order, compare_dates, (void *)b->v);
}

/* --- step 5: same subject --------------------------------------------------------------------- */

struct root {
    uint32_t node;
    uint32_t first; /* the message that gives it date and subject */
};

struct roots {
    struct root *v;
    uint32_t n;
    struct map *by_subject; /* to struct root */
};

/* Step 4: roots in the order of their first message. */
static void collect_roots(struct builder *b, struct roots *roots)
{
    bool *is_taken = ARENA_ARRAY(b->a, (size_t)b->count + 1, bool);

    roots->v = ARENA_ARRAY(b->a, (size_t)b->message_count + 1, struct root);
    for (uint32_t i = 0; i < b->message_count; i++) {
        uint32_t m = b->order[i], p = b->parent[m];
        if (p == THREAD_NONE) {
            roots->v[roots->n++] = (struct root){m, m};
        } else if (is_dummy(b, p) && !is_taken[p]) {
            is_taken[p] = true;
            roots->v[roots->n++] = (struct root){p, m};
        }
    }
}

static struct str subject_of(const struct builder *b, const struct root *r)
{
    return b->v[r->first].subject;
}

static bool is_reply(const struct builder *b, const struct root *r)
{
    return !is_dummy(b, r->node) && b->v[r->node].is_reply;
}

/* 5.B: each subject's place in the table goes to a dummy, or else to one that is no reply. */
static void fill_subjects(struct builder *b, struct roots *roots)
{
    roots->by_subject = map_new();
    for (uint32_t i = 0; i < roots->n; i++) {
        struct root *r = &roots->v[i], *first;
        if (subject_of(b, r).n == 0)
            continue;
        first = map_get(roots->by_subject, subject_of(b, r));
        if (first == NULL || (!is_dummy(b, first->node) &&
                              (is_dummy(b, r->node) || (is_reply(b, first) && !is_reply(b, r)))))
            map_put(roots->by_subject, subject_of(b, r), r);
    }
}

static void gather_below_new_dummy(struct builder *b, struct root *first, struct root *r)
{
    uint32_t dummy = b->count++;

    b->parent[first->node] = b->parent[r->node] = dummy;
    first->node = dummy;
}

/* 5.C */
static void merge(struct builder *b, struct root *first, struct root *r)
{
    if (is_dummy(b, first->node) && is_dummy(b, r->node))
        b->top[r->node] = first->node;
    else if (is_dummy(b, first->node) || (is_reply(b, r) && !is_reply(b, first)))
        b->parent[r->node] = first->node;
    else
        gather_below_new_dummy(b, first, r);
}

static void gather_subjects(struct builder *b)
{
    struct roots roots = {.n = 0};

    collect_roots(b, &roots);
    fill_subjects(b, &roots);
    for (uint32_t i = 0; i < roots.n; i++) {
        struct root *r = &roots.v[i], *first;
        if (subject_of(b, r).n == 0)
            continue;
        first = map_get(roots.by_subject, subject_of(b, r));
        if (first != r)
            merge(b, first, r);
    }
    map_free(&roots.by_subject);
}

/* --- step 6: lists ---------------------------------------------------------------------------- */

struct lists {
    struct thread_tree *tree;
    uint32_t *last_child; /* of each node; behind the last: of the roots */
};

static void append(struct lists *l, uint32_t parent, uint32_t child)
{
    struct thread_tree *t = l->tree;
    uint32_t *last = &l->last_child[parent == THREAD_NONE ? t->count : parent];

    t->nodes[child].parent = parent;
    if (*last != THREAD_NONE)
        t->nodes[*last].next = child;
    else if (parent == THREAD_NONE)
        t->first_root = child;
    else
        t->nodes[parent].first_child = child;
    *last = child;
}

static void make_tree(struct builder *b, struct thread_tree *out)
{
    struct lists lists = {.tree = out, .last_child = new_links(b->a, (size_t)b->count + 1)};

    *out =
        (struct thread_tree){.nodes = ARENA_ARRAY(b->a, (size_t)b->count + 1, struct thread_node),
                             .message_count = b->message_count,
                             .count = b->count,
                             .first_root = THREAD_NONE};
    for (uint32_t i = 0; i < b->count; i++)
        out->nodes[i] = (struct thread_node){THREAD_NONE, THREAD_NONE, THREAD_NONE};
    for (uint32_t i = 0; i < b->message_count; i++) {
        uint32_t m = b->order[i], p = b->parent[m];
        if (p != THREAD_NONE && is_dummy(b, p)) {
            if (b->top[p] != THREAD_NONE)
                p = b->top[p]; /* merged into another */
            if (out->nodes[p].first_child == THREAD_NONE)
                append(&lists, THREAD_NONE, p);
        }
        append(&lists, p, m);
    }
}

/* --- the two algorithms ----------------------------------------------------------------------- */

static void builder_init(struct builder *b, struct arena *a, const struct thread_message *v,
                         uint32_t count)
{
    *b = (struct builder){.a = a, .v = v, .message_count = count, .count = count};
}

/* Step 5 makes fewer dummies than there are messages. */
static void allocate_links(struct builder *b)
{
    b->cap = b->count + b->message_count;
    b->parent = new_links(b->a, b->cap);
    b->top = new_links(b->a, b->cap);
}

void thread_by_references(struct arena *a, const struct thread_message *v, uint32_t count,
                          struct thread_tree *out)
{
    struct builder b;

    builder_init(&b, a, v, count);
    find_nodes(&b);
    allocate_links(&b);
    link_all(&b);
    prune(&b);
    /* What resolve() remembered is used up; in step 5 `top` says into which dummy one went. */
    for (uint32_t i = 0; i < b.cap; i++)
        b.top[i] = THREAD_NONE;
    order_by_date(&b);
    gather_subjects(&b);
    make_tree(&b, out);
}

static int compare_subjects(const void *a, const void *b, void *arg)
{
    const struct thread_message *v = arg;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int order = str_cmp(v[x].subject, v[y].subject);

    return order != 0 ? order : compare_dates(a, b, arg);
}

void thread_by_subject(struct arena *a, const struct thread_message *v, uint32_t count,
                       struct thread_tree *out)
{
    struct builder b;
    uint32_t *by_subject = ARENA_ARRAY(a, (size_t)count + 1, uint32_t);
    uint32_t first = 0;

    builder_init(&b, a, v, count);
    allocate_links(&b);
    order_by_date(&b);
    for (uint32_t i = 0; i < count; i++)
        by_subject[i] = i;
    qsort_r(by_subject, count, sizeof *by_subject, compare_subjects, (void *)v);
    for (uint32_t i = 0; i < count; i++)
        if (i == 0 || !str_eq(v[by_subject[i]].subject, v[first].subject))
            first = by_subject[i];
        else
            b.parent[by_subject[i]] = first;
    make_tree(&b, out);
}

/* --- printing --------------------------------------------------------------------------------- */

/* Only children follow their parent without parentheses; roots and siblings have their own. */
static bool has_parentheses(const struct thread_tree *t, uint32_t node)
{
    uint32_t parent = t->nodes[node].parent;

    return parent == THREAD_NONE || parent >= t->message_count ||
           t->nodes[t->nodes[parent].first_child].next != THREAD_NONE;
}

static void open_node(struct buf *out, const struct thread_tree *t, const struct thread_message *v,
                      uint32_t node)
{
    if (has_parentheses(t, node))
        buf_addc(out, '(');
    if (node >= t->message_count)
        return;
    buf_add_u64(out, v[node].number);
    if (t->nodes[node].first_child != THREAD_NONE)
        buf_addc(out, ' ');
}

void thread_print(struct buf *out, const struct thread_tree *t, const struct thread_message *v)
{
    uint32_t node = t->first_root;

    while (node != THREAD_NONE) {
        open_node(out, t, v, node);
        if (t->nodes[node].first_child != THREAD_NONE) {
            node = t->nodes[node].first_child;
            continue;
        }
        while (node != THREAD_NONE) {
            if (has_parentheses(t, node))
                buf_addc(out, ')');
            if (t->nodes[node].next != THREAD_NONE) {
                node = t->nodes[node].next;
                break;
            }
            node = t->nodes[node].parent;
        }
    }
}
