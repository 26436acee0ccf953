/* imap_object_id.h - names that last (RFC 8474): of mailboxes through renames, of messages through
 * moves, of threads.
 *
 * They are made of numbers of the store, which are never used again: F1-7 is mailbox 7 of account
 * 1, M1-9 a message, T1-9 the thread that this message began. A copy is a message of its own. */
#pragma once
#include <stdint.h>
#include "server/base/buf.h"

enum imap_object { OBJECT_MAILBOX = 'F', OBJECT_MESSAGE = 'M', OBJECT_THREAD = 'T' };

static inline void imap_add_object_id(struct buf *out, enum imap_object kind, int64_t account_id,
                                      int64_t id)
{
    buf_addc(out, (char)kind);
    buf_add_u64(out, (uint64_t)account_id);
    buf_addc(out, '-');
    buf_add_u64(out, (uint64_t)id);
}
