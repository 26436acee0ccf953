/* uid_list.c - an array with a reference count; who may change it is decided by mailbox_index.c
 * and mailbox_view.c. */
#include "mail/store/uid_list.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "server/base/memory.h"

#define CAP_MIN 16

static void reserve(struct uid_list *l, size_t cap)
{
    if (cap <= l->cap)
        return;
    l->cap = cap > CAP_MIN ? cap : CAP_MIN;
    l->v = memory_resize(l->v, l->cap * sizeof l->v[0]);
}

struct uid_list *uid_list_new(size_t cap)
{
    struct uid_list *l = memory_alloc(sizeof *l);

    l->refs = 1;
    reserve(l, cap);
    return l;
}

struct uid_list *uid_list_copy(const struct uid_list *l, size_t count)
{
    struct uid_list *copy = uid_list_new(count);

    assert(count <= l->n);
    if (count > 0)
        memcpy(copy->v, l->v, count * sizeof l->v[0]);
    copy->n = count;
    return copy;
}

struct uid_list *uid_list_ref(struct uid_list *l)
{
    l->refs++;
    return l;
}

void uid_list_unref(struct uid_list **list)
{
    struct uid_list *l = *list;

    *list = NULL;
    if (l == NULL || --l->refs > 0)
        return;
    free(l->v);
    free(l);
}

void uid_list_append(struct uid_list *l, uint32_t uid)
{
    assert(l->n == 0 || l->v[l->n - 1] < uid);
    if (l->n == l->cap)
        reserve(l, l->cap + l->cap / 4 + CAP_MIN);
    l->v[l->n++] = uid;
}

size_t uid_list_at_least(const struct uid_list *l, size_t count, uint32_t uid)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (l->v[middle] < uid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
