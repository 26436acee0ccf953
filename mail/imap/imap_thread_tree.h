/* imap_thread_tree.h - threads of messages (RFC 5256, THREAD): which is whose answer.
 *
 * Pure: no I/O, safe on a helper thread. Time is O(n log n) in messages and references, whatever
 * they say: links that would close a loop are found by a link-cut tree, and nothing recurses. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/str.h"

struct thread_message {
    uint32_t number; /* as it is printed */
    int64_t sent_us;
    struct str subject; /* the base subject in collation form */
    bool is_reply;
    uint64_t msgid; /* hash; 0: none */
    const uint64_t *refs;
    unsigned ref_count; /* the oldest ancestor first */
};

#define THREAD_NONE UINT32_MAX

/* Nodes 0 .. message_count - 1 are the messages as given, those behind them parents that are not
 * among them. Siblings are in order. */
struct thread_node {
    uint32_t parent, first_child, next; /* THREAD_NONE: none */
};
struct thread_tree {
    struct thread_node *nodes;
    uint32_t message_count, count;
    uint32_t first_root;
};

/* `v` is in mailbox order. */
void thread_by_subject(struct arena *a, const struct thread_message *v, uint32_t count,
                       struct thread_tree *out);
void thread_by_references(struct arena *a, const struct thread_message *v, uint32_t count,
                          struct thread_tree *out);

/* "(2)(3 6 (4 23)(44 7 96))" */
void thread_print(struct buf *out, const struct thread_tree *t, const struct thread_message *v);
