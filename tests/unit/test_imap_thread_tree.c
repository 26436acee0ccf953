/* test_imap_thread_tree.c - threads: the forest beside plain parent links, trees of random and of
 * hostile references. What the trees must look like is compared with a model in
 * tests/integration/test_imap_thread.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mail/imap/imap_thread_forest.h"
#include "mail/imap/imap_thread_tree.h"

static uint64_t random_state = 88172645463325252u;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 20) % n;
}

/* ---- the forest ------------------------------------------------------------------------------ */

static uint32_t plain_root(const uint32_t *parent, uint32_t node)
{
    while (parent[node] != THREAD_NONE)
        node = parent[node];
    return node;
}

static void forest_agrees_with_plain_links(void **state)
{
    struct arena *a = arena_new();

    (void)state;
    for (uint32_t count = 1; count < 80; count += 13) {
        uint32_t parent[80];
        struct forest f;
        forest_init(&f, a, count);
        memset(parent, 0xff, sizeof parent);
        for (unsigned step = 0; step < 20000; step++) {
            uint32_t x = random_below(count), y = random_below(count);
            assert_int_equal(forest_root(&f, x), plain_root(parent, x));
            if (parent[x] != THREAD_NONE && random_below(3) == 0) {
                forest_cut(&f, x);
                parent[x] = THREAD_NONE;
            } else if (parent[x] == THREAD_NONE && plain_root(parent, y) != x) {
                forest_link(&f, x, y);
                parent[x] = y;
            }
        }
    }
    arena_free(&a);
}

/* ---- trees ----------------------------------------------------------------------------------- */

/* Every message is in the tree once, siblings are in order, and what is printed is balanced. */
static void check_tree(const struct thread_tree *t, const struct thread_message *v)
{
    bool *seen = calloc(t->count + 1, sizeof *seen);
    uint32_t node = t->first_root, found = 0;

    assert_non_null(seen);
    while (node != THREAD_NONE) {
        const struct thread_node *n = &t->nodes[node];
        assert_false(seen[node]);
        seen[node] = true;
        found += node < t->message_count;
        if (node >= t->message_count)
            assert_true(n->parent == THREAD_NONE && n->first_child != THREAD_NONE);
        if (n->parent != THREAD_NONE && n->next != THREAD_NONE) {
            assert_int_equal(t->nodes[n->next].parent, n->parent);
            assert_true(v[node].sent_us <= v[n->next].sent_us);
        }
        if (n->first_child != THREAD_NONE) {
            node = n->first_child;
            continue;
        }
        while (node != THREAD_NONE && t->nodes[node].next == THREAD_NONE)
            node = t->nodes[node].parent;
        if (node != THREAD_NONE)
            node = t->nodes[node].next;
    }
    assert_int_equal(found, t->message_count);
    free(seen);
}

static void check_print(const struct thread_tree *t, const struct thread_message *v)
{
    struct buf out;
    uint32_t depth = 0, numbers = 0;

    buf_init(&out, SIZE_MAX);
    thread_print(&out, t, v);
    for (size_t i = 0; i < out.n; i++) {
        char c = out.p[i], before = i > 0 ? out.p[i - 1] : '(';
        assert_true(c != ')' || (before != '(' && before != ' '));
        assert_true(depth > 0 || c == '(');
        depth += c == '(';
        depth -= c == ')';
        numbers += c >= '0' && c <= '9' && !(before >= '0' && before <= '9');
    }
    assert_int_equal(depth, 0);
    assert_int_equal(numbers, t->message_count);
    buf_fini(&out);
}

static void check(struct arena *a, const struct thread_message *v, uint32_t count)
{
    struct thread_tree t;

    thread_by_references(a, v, count, &t);
    check_tree(&t, v);
    check_print(&t, v);
    thread_by_subject(a, v, count, &t);
    check_tree(&t, v);
    check_print(&t, v);
}

static struct thread_message *random_messages(struct arena *a, uint32_t count, uint32_t ids,
                                              uint32_t refs_max, uint32_t subjects)
{
    static const char *const texts[] = {"", "A", "B", "C", "D", "E", "F", "G"};
    struct thread_message *v = ARENA_ARRAY(a, (size_t)count + 1, struct thread_message);

    for (uint32_t i = 0; i < count; i++) {
        uint64_t *refs = ARENA_ARRAY(a, refs_max + 1u, uint64_t);
        v[i] = (struct thread_message){.number = i + 1,
                                       .sent_us = random_below(1000),
                                       .subject = str_c(texts[random_below(subjects)]),
                                       .is_reply = random_below(2) == 0,
                                       .msgid = random_below(ids + 1),
                                       .refs = refs,
                                       .ref_count = random_below(refs_max + 1)};
        for (unsigned r = 0; r < v[i].ref_count; r++)
            refs[r] = 1 + random_below(ids);
    }
    return v;
}

static void random_references_make_trees(void **state)
{
    struct arena *a = arena_new();

    (void)state;
    for (unsigned round = 0; round < 2000; round++) {
        uint32_t count = random_below(40), ids = 1 + random_below(60);
        check(a, random_messages(a, count, ids, random_below(6), 1 + random_below(8)), count);
        arena_reset(a);
    }
    check(a, random_messages(a, 20000, 5000, 20, 8), 20000);
    arena_free(&a);
}

/* Every message answers the next, the last one the first: naive searches for loops take hours. */
static void endless_chains_take_no_time(void **state)
{
    const uint32_t count = 200000;
    struct arena *a = arena_new();
    struct thread_message *v = ARENA_ARRAY(a, count, struct thread_message);
    uint64_t *ids = ARENA_ARRAY(a, count, uint64_t);

    (void)state;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = i + 1;
    for (uint32_t i = 0; i < count; i++)
        v[i] = (struct thread_message){.number = i + 1,
                                       .sent_us = i,
                                       .msgid = ids[i],
                                       .refs = &ids[(i + 1) % count],
                                       .ref_count = 1};
    check(a, v, count);
    for (uint32_t i = 0; i < count; i++)
        v[i].refs = &ids[i > 0 ? i - 1 : count - 1];
    check(a, v, count);
    arena_free(&a);
}

/* One message names everybody, over and over and in both directions. */
static void long_lists_of_references_end(void **state)
{
    const uint32_t count = 100000;
    struct arena *a = arena_new();
    struct thread_message v[3];
    uint64_t *ids = ARENA_ARRAY(a, 2 * count, uint64_t);

    (void)state;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = ids[2 * count - 1 - i] = i + 10;
    for (uint32_t i = 0; i < 3; i++)
        v[i] = (struct thread_message){
            .number = i + 1, .msgid = i + 10, .refs = ids, .ref_count = 2 * count};
    check(a, v, 3);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forest_agrees_with_plain_links),
        cmocka_unit_test(random_references_make_trees),
        cmocka_unit_test(endless_chains_take_no_time),
        cmocka_unit_test(long_lists_of_references_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
