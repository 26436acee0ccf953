/* imap_thread_forest.c - a link-cut tree.
 *
 * Each tree is divided into paths that run down from some node; a path is a splay tree ordered by
 * depth. `up` of a splay tree's root leads to the node above the path's top. */
#include "mail/imap/imap_thread_forest.h"

#include <stdbool.h>

void forest_init(struct forest *f, struct arena *a, uint32_t count)
{
    f->v = ARENA_ARRAY(a, (size_t)count + 1, struct forest_node);
    f->count = count;
}

/* --- splaying --------------------------------------------------------------------------------- */

static bool is_top(const struct forest *f, uint32_t x)
{
    uint32_t up = f->v[x].up;

    return up == 0 || (f->v[up].left != x && f->v[up].right != x);
}

/* x takes the place of its parent. */
static void rotate(struct forest *f, uint32_t x)
{
    struct forest_node *v = f->v;
    uint32_t p = v[x].up, g = v[p].up, inner;

    if (!is_top(f, p)) {
        if (v[g].left == p)
            v[g].left = x;
        else
            v[g].right = x;
    }
    if (v[p].left == x) {
        inner = v[x].right;
        v[p].left = inner;
        v[x].right = p;
    } else {
        inner = v[x].left;
        v[p].right = inner;
        v[x].left = p;
    }
    if (inner != 0)
        v[inner].up = p;
    v[p].up = x;
    v[x].up = g;
}

static void splay(struct forest *f, uint32_t x)
{
    while (!is_top(f, x)) {
        uint32_t p = f->v[x].up, g = f->v[p].up;
        if (!is_top(f, p))
            rotate(f, (f->v[g].left == p) == (f->v[p].left == x) ? p : x);
        rotate(f, x);
    }
}

/* The path from the tree's root down to x becomes one splay tree with x on top. */
static void expose(struct forest *f, uint32_t x)
{
    uint32_t below = 0;

    for (uint32_t at = x; at != 0; at = f->v[at].up) {
        splay(f, at);
        f->v[at].right = below;
        below = at;
    }
    splay(f, x);
}

/* --- the trees -------------------------------------------------------------------------------- */

uint32_t forest_root(struct forest *f, uint32_t node)
{
    uint32_t x = node + 1;

    expose(f, x);
    while (f->v[x].left != 0)
        x = f->v[x].left;
    splay(f, x); /* or the next search would go as deep again */
    return x - 1;
}

void forest_link(struct forest *f, uint32_t child, uint32_t parent)
{
    expose(f, child + 1);
    f->v[child + 1].up = parent + 1;
}

void forest_cut(struct forest *f, uint32_t child)
{
    uint32_t x = child + 1;

    expose(f, x);
    f->v[f->v[x].left].up = 0;
    f->v[x].left = 0;
}
