/* body.h - transfer encodings and character sets: a part's bytes as what they mean. */
#pragma once
#include <stdbool.h>
#include "server/base/buf.h"
#include "server/base/str.h"
#include "mail/mime/part.h"

void mime_decode_base64(struct buf *out, struct str in);          /* skips what is not in the alphabet */
void mime_decode_quoted_printable(struct buf *out, struct str in);
void mime_decode(struct buf *out, enum mime_encoding encoding, struct str in);

/* To valid UTF-8; bad bytes and NUL become U+FFFD. False when the charset is unknown (read as windows-1252). */
bool charset_to_utf8(struct buf *out, struct str charset, struct str in);

/* The text of a text part: decoded, as UTF-8, line ends as LF. */
void mime_part_text(struct buf *out, const struct mime_part *part, struct str message);
