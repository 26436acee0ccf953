/* imap_thread_forest.h - rooted trees whose links come and go, with the question "who is at the
 * top?" answered in O(log n) however deep they are: a link-cut tree (Sleator and Tarjan, 1983). */
#pragma once
#include <stdint.h>
#include "server/base/arena.h"

struct forest_node {
    uint32_t left, right, up; /* 0: none; of the splay tree that holds a path */
};
struct forest {
    struct forest_node *v; /* v[0] is not used */
    uint32_t count;
};

/* Nodes are numbered from 0; each is a tree of its own. */
void forest_init(struct forest *f, struct arena *a, uint32_t count);
uint32_t forest_root(struct forest *f, uint32_t node);
/* child must be a root, and parent in another tree. */
void forest_link(struct forest *f, uint32_t child, uint32_t parent);
/* child must not be a root. */
void forest_cut(struct forest *f, uint32_t child);
