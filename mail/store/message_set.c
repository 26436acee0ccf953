/* message_set.c - sets of UIDs: sorted, without repeats, as ranges, in portions. */
#include <stdlib.h>
#include "mail/store/message_internal.h"

static int compare_i64(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

struct uid_set uid_set_make(struct arena *a, const uint32_t *uids, size_t count)
{
    struct uid_set set = {ARENA_ARRAY(a, count, int64_t), 0};
    bool is_sorted = true;

    for (size_t i = 0; i < count; i++) {
        set.v[i] = uids[i];
        is_sorted = is_sorted && (i == 0 || uids[i - 1] < uids[i]);
    }
    if (!is_sorted)
        qsort(set.v, count, sizeof set.v[0], compare_i64);
    for (size_t i = 0; i < count; i++)
        if (set.n == 0 || set.v[i] != set.v[set.n - 1])
            set.v[set.n++] = set.v[i];
    return set;
}

void uid_set_portion(struct arena *a, const struct uid_set *set, size_t from,
                     struct pg_arg ranges[2])
{
    size_t left = set->n - from, count = left < MESSAGE_PORTION ? left : MESSAGE_PORTION, n = 0;
    int64_t *firsts = ARENA_ARRAY(a, count, int64_t), *lasts = ARENA_ARRAY(a, count, int64_t);
    const int64_t *v = set->v + from;

    for (size_t i = 0; i < count; i++)
        if (n > 0 && lasts[n - 1] + 1 == v[i]) {
            lasts[n - 1]++;
        } else {
            firsts[n] = lasts[n] = v[i];
            n++;
        }
    ranges[0] = pg_i64_array(firsts, n);
    ranges[1] = pg_i64_array(lasts, n);
}
