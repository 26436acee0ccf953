/* preview.h - the first words of a message, for lists of messages (RFC 8970; JMAP's preview).
 *
 * One line of UTF-8: the first text part that is no attachment, HTML without its tags, white space
 * collapsed, what cannot be seen left out. Quoted text, its introduction and the signature are
 * passed over when there is anything else. Empty when there is nothing to read. Pure. */
#pragma once
#include "mail/mime/part.h"
#include "server/base/buf.h"

#define PREVIEW_CHARS_MAX 200 /* code points */

void mime_preview(struct buf *out, const struct mime_part *root, struct str message);
