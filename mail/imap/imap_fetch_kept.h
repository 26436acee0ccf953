/* imap_fetch_kept.h - large messages read a moment ago, with their trees.
 *
 * Clients fetch a large attachment in pieces, one command each: BODY.PEEK[2]<0.65536> and so
 * on. Only the whole message tells where a part lies, so without this every piece would read and
 * parse all of it again. The worker keeps a few such messages for a few seconds, within a limit
 * of bytes; a message never changes, so what is kept is never wrong. */
#pragma once
#include <stdint.h>
#include "mail/mime/part.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

struct kept_message;

/* ERR_NOT_FOUND when the message is gone. What a session holds stays until it is released. */
PARKS struct kept_message *kept_message_take(int64_t account_id, int64_t message_id,
                                             struct error *err);
void kept_message_release(struct kept_message **);

struct str kept_message_raw(const struct kept_message *);
struct mime_part *kept_message_root(const struct kept_message *);
