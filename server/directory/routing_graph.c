/* routing_graph.c - Tarjan's algorithm over arrays: its stack of nodes under way is an array too, so that a long chain
 * costs memory of the arena and not of the fiber's small stack. */
#include "server/directory/routing_graph.h"

#include <stdbool.h>
#include <stdint.h>

#define NOT_REACHED SIZE_MAX

struct search {
    struct graph *g;
    size_t *number;    /* in the order of being reached */
    size_t *lowest;    /* smallest number that the node leads back to */
    size_t *next_edge; /* that was not followed yet */
    bool *is_open;     /* its circle is not complete */
    size_t *way;       /* from the root to where we are */
    size_t *open;      /* nodes whose circle is not complete */
    size_t way_count, open_count, reached_count, order_count, circle_count;
};

/* Groups the edges by where they begin (a counting sort). */
static void sort_edges(struct arena *a, struct graph *g)
{
    struct graph_edge *sorted = ARENA_ARRAY(a, g->edge_count + 1, struct graph_edge);
    size_t *at = ARENA_ARRAY(a, g->node_count + 1, size_t);

    g->first = ARENA_ARRAY(a, g->node_count + 1, size_t);
    for (size_t i = 0; i < g->edge_count; i++)
        g->first[g->edges[i].from + 1]++;
    for (size_t i = 0; i < g->node_count; i++)
        g->first[i + 1] += g->first[i];
    for (size_t i = 0; i < g->node_count; i++)
        at[i] = g->first[i];
    for (size_t i = 0; i < g->edge_count; i++)
        sorted[at[g->edges[i].from]++] = g->edges[i];
    g->edges = sorted;
}

static void enter(struct search *s, size_t node)
{
    s->number[node] = s->lowest[node] = s->reached_count++;
    s->next_edge[node] = s->g->first[node];
    s->is_open[node] = true;
    s->open[s->open_count++] = node;
    s->way[s->way_count++] = node;
}

static void lower(struct search *s, size_t node, size_t number)
{
    if (number < s->lowest[node])
        s->lowest[node] = number;
}

/* The nodes reached since the root of a circle are that circle. */
static void close_circle(struct search *s, size_t root)
{
    size_t node, circle = s->circle_count++;

    do {
        node = s->open[--s->open_count];
        s->is_open[node] = false;
        s->g->circle[node] = circle;
        s->g->circle_size[circle]++;
        s->g->order[s->order_count++] = node;
    } while (node != root);
}

static void leave(struct search *s, size_t node)
{
    s->way_count--;
    if (s->way_count > 0)
        lower(s, s->way[s->way_count - 1], s->lowest[node]);
    if (s->lowest[node] == s->number[node])
        close_circle(s, node);
}

static void search_from(struct search *s, size_t root)
{
    enter(s, root);
    while (s->way_count > 0) {
        size_t node = s->way[s->way_count - 1], to;
        if (s->next_edge[node] == s->g->first[node + 1]) {
            leave(s, node);
            continue;
        }
        to = s->g->edges[s->next_edge[node]++].to;
        if (s->number[to] == NOT_REACHED)
            enter(s, to);
        else if (s->is_open[to])
            lower(s, node, s->number[to]);
    }
}

void graph_find_circles(struct arena *a, struct graph *g)
{
    struct search s = {
        .g = g,
        .number = ARENA_ARRAY(a, g->node_count, size_t),
        .lowest = ARENA_ARRAY(a, g->node_count, size_t),
        .next_edge = ARENA_ARRAY(a, g->node_count, size_t),
        .is_open = ARENA_ARRAY(a, g->node_count, bool),
        .way = ARENA_ARRAY(a, g->node_count, size_t),
        .open = ARENA_ARRAY(a, g->node_count, size_t),
    };

    sort_edges(a, g);
    g->order = ARENA_ARRAY(a, g->node_count, size_t);
    g->circle = ARENA_ARRAY(a, g->node_count, size_t);
    g->circle_size = ARENA_ARRAY(a, g->node_count, size_t);
    for (size_t i = 0; i < g->node_count; i++)
        s.number[i] = NOT_REACHED;
    for (size_t i = 0; i < g->node_count; i++)
        if (s.number[i] == NOT_REACHED)
            search_from(&s, i);
}
