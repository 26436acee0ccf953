/* test_routing_graph.c - circles in graphs: small ones by hand, random ones against reachability itself. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "server/directory/routing_graph.h"

#define NODES_MAX 12

/* Does every circle consist of exactly the nodes that reach one another, and does order go from the ends back? */
static void check(size_t node_count, struct graph_edge *edges, size_t edge_count)
{
    bool reaches[NODES_MAX][NODES_MAX] = {{false}};
    size_t place[NODES_MAX];
    struct arena *a = arena_new();
    struct graph g = {.node_count = node_count, .edges = edges, .edge_count = edge_count};

    for (size_t i = 0; i < node_count; i++)
        reaches[i][i] = true;
    for (size_t i = 0; i < edge_count; i++)
        reaches[edges[i].from][edges[i].to] = true;
    for (size_t k = 0; k < node_count; k++)
        for (size_t i = 0; i < node_count; i++)
            for (size_t j = 0; j < node_count; j++)
                reaches[i][j] |= reaches[i][k] && reaches[k][j];
    graph_find_circles(a, &g);
    for (size_t i = 0; i < node_count; i++)
        place[g.order[i]] = i;
    for (size_t i = 0; i < node_count; i++) {
        size_t size = 0;
        for (size_t j = 0; j < node_count; j++) {
            bool is_circle = reaches[i][j] && reaches[j][i];
            size += is_circle;
            assert_int_equal(g.circle[i] == g.circle[j], is_circle);
            if (reaches[i][j] && !is_circle)
                assert_true(place[j] < place[i]);
        }
        assert_int_equal(g.circle_size[g.circle[i]], size);
    }
    arena_free(&a);
}

static void circles_are_what_reaches_one_another(void **state)
{
    struct graph_edge edges[] = {{0, 1}, {1, 2}, {2, 0}, {2, 3}, {3, 3}, {4, 3}, {4, 5}, {5, 4}};

    check(0, NULL, 0);
    check(3, NULL, 0);
    check(6, edges, 8);
}

static void random_graphs_agree_with_reachability(void **state)
{
    unsigned seed = 1;

    for (int round = 0; round < 3000; round++) {
        struct graph_edge edges[2 * NODES_MAX];
        size_t node_count = 1 + (size_t)rand_r(&seed) % NODES_MAX;
        size_t edge_count = (size_t)rand_r(&seed) % (2 * NODES_MAX);
        for (size_t i = 0; i < edge_count; i++)
            edges[i] = (struct graph_edge){(size_t)rand_r(&seed) % node_count,
                                           (size_t)rand_r(&seed) % node_count};
        check(node_count, edges, edge_count);
    }
}

static void a_long_chain_needs_no_deep_stack(void **state)
{
    enum { LENGTH = 200000 };
    struct arena *a = arena_new();
    struct graph g = {.node_count = LENGTH, .edge_count = LENGTH};

    g.edges = ARENA_ARRAY(a, LENGTH, struct graph_edge);
    for (size_t i = 0; i < LENGTH; i++)
        g.edges[i] = (struct graph_edge){i, (i + 1) % LENGTH};
    graph_find_circles(a, &g);
    assert_int_equal(g.circle_size[g.circle[0]], LENGTH);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(circles_are_what_reaches_one_another),
        cmocka_unit_test(random_graphs_agree_with_reachability),
        cmocka_unit_test(a_long_chain_needs_no_deep_stack),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
