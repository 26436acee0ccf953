/* routing_graph.h - the circles of a directed graph (Tarjan's strongly connected components), without recursion. */
#pragma once
#include <stddef.h>
#include "server/base/arena.h"

struct graph_edge { size_t from, to; };

struct graph {
    size_t node_count;                                  /* nodes are 0 .. node_count - 1 */
    struct graph_edge *edges;                           /* sorted by `from` when the circles were found */
    size_t edge_count;
    /* Found, in the arena: */
    size_t *first;                                      /* edges of node i: first[i] .. first[i + 1] - 1 */
    size_t *order;                                      /* all nodes; what a node leads to comes before it, circles apart */
    size_t *circle;                                     /* of each node: nodes with the same number reach one another */
    size_t *circle_size;                                /* of each circle; 1: only itself */
};

/* Linear in nodes and edges. */
void graph_find_circles(struct arena *a, struct graph *g);
