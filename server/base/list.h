/* list.h - a doubly linked ring whose links live inside its members.
 *
 *   struct list waiters;  list_init(&waiters);
 *   list_append(&waiters, &w->link);
 *   for (struct list *l = waiters.next; l != &waiters; l = l->next) ... CONTAINER_OF(l, struct waiter, link)
 *
 * An unlinked member's links are NULL, so list_is_linked() can be asserted. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev, *next;
};

#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
#define LIST_EACH(at, head) for (struct list *at = (head)->next; at != (head); at = at->next)
/* The member at `at` may be removed inside the loop. */
#define LIST_EACH_SAFE(at, head) \
    for (struct list *at = (head)->next, *at##_next = at->next; at != (head); at = at##_next, at##_next = at->next)

static inline void list_init(struct list *head) { head->prev = head->next = head; }
static inline bool list_is_empty(const struct list *head) { return head->next == head; }
static inline bool list_is_linked(const struct list *l) { return l->next != NULL; }
static inline void list_insert_before(struct list *at, struct list *l)
{
    l->prev = at->prev;
    l->next = at;
    at->prev->next = l;
    at->prev = l;
}
static inline void list_append(struct list *head, struct list *l) { list_insert_before(head, l); }
static inline void list_prepend(struct list *head, struct list *l) { list_insert_before(head->next, l); }
static inline void list_remove(struct list *l)          /* does nothing when not linked */
{
    if (l->next == NULL)
        return;
    l->prev->next = l->next;
    l->next->prev = l->prev;
    l->prev = l->next = NULL;
}
static inline struct list *list_take_first(struct list *head)   /* NULL when empty */
{
    struct list *l = head->next;
    if (l == head)
        return NULL;
    list_remove(l);
    return l;
}
