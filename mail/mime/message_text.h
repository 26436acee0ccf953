/* message_text.h - the text of a message, as searches see it (RFC 9051, 6.4.4): decoded and folded.
 *
 *   header   the message's own fields, "name: value" and LF each: unfolded, RFC 2047 words decoded
 *   parts    the same of the parts' MIME fields, parameters (file names) decoded, too (RFC 2231)
 *   body     every text part, HTML without its tags; the header fields of enclosed messages
 *
 * The one definition of what TEXT, BODY and HEADER look into: the index and the matcher share it.
 * Pure: safe on a helper thread. */
#pragma once
#include <stdbool.h>
#include "mail/mime/part.h"
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/str.h"

#define MESSAGE_TEXT_SIZE_MAX ((size_t)64 << 20) /* of each of the three; the rest is not looked at */

struct message_text {
    struct buf header, parts, body; /* folded UTF-8 (text_fold.h) */
};

void message_text_init(struct message_text *t);
void message_text_fini(struct message_text *t);
/* Never fails; `root` is mime_parse() of the message. */
void message_text_extract(struct message_text *t, const struct mime_part *root, struct str message);

/* Of folded header lines: is the text in the value of one of the fields called `name`? */
bool header_text_contains(struct str lines, struct str name, struct str text);
