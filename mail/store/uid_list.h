/* uid_list.h - ascending UIDs, shared by those who look at them.
 *
 * A looker holds a reference and a count of its own. Appending is seen by nobody whose count
 * stays, so it happens in place; taking UIDs out needs a list of one's own. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct uid_list {
    uint32_t *v;
    size_t n, cap;
    unsigned refs;
};

struct uid_list *uid_list_new(size_t cap); /* empty, one reference */
struct uid_list *uid_list_copy(const struct uid_list *l, size_t count);
struct uid_list *uid_list_ref(struct uid_list *l);
void uid_list_unref(struct uid_list **l);

void uid_list_append(struct uid_list *l, uint32_t uid); /* above all others */
/* Position of the first of the first `count` UIDs that is not below uid; count when there is
 * none. */
size_t uid_list_at_least(const struct uid_list *l, size_t count, uint32_t uid);
