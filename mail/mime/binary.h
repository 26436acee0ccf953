/* binary.h - messages with NUL in them (RFC 3516) made fit for where NUL cannot go. */
#pragma once
#include <stdbool.h>
#include "mail/mime/part.h"
#include "server/base/buf.h"

static inline bool mime_has_nul(struct str s) { return s.n > 0 && memchr(s.p, '\0', s.n) != NULL; }

/* The message with every body that holds NUL in base64; nothing else is changed, and no byte of what
 * a body means is lost. False when NUL stands where no encoding can help: in a header, between the
 * parts, or in a body whose encoding is unknown. */
bool mime_encode_nul(struct buf *out, const struct mime_part *root, struct str message);
