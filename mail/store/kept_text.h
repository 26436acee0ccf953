/* kept_text.h - the text of a message as it is stored: cut to a size, packed with LZ4.
 *
 * Packed here and not by PostgreSQL, so that half the bytes travel and the rows stay whole. The
 * texts are those of mail/mime/message_text.h. Pure: safe on a helper thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/mime/message_text.h"
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/str.h"

#define KEPT_TEXT_SIZE_MAX ((size_t)1 << 20) /* of each of the three */

struct kept_text {
    struct str header, parts, body;
    bool is_cut; /* there was more */
};

/* What of a message's text is kept; borrowed from it. */
struct kept_text kept_text_of(const struct message_text *t);

struct str kept_text_pack(struct arena *a, const struct kept_text *t);
bool kept_text_is_cut(struct str packed);
/* Into `room`, which is overwritten; false when the bytes are damaged. */
bool kept_text_unpack(struct str packed, struct buf *room, struct kept_text *out);
