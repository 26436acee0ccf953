/* utf8.h - UTF-8 validity and modified UTF-7 (IMAP mailbox names, RFC 3501, 5.1.3). */
#pragma once
#include <stdbool.h>
#include "server/base/buf.h"
#include "server/base/str.h"

bool utf8_valid(struct str s);                                  /* no overlong forms, surrogates or beyond U+10FFFF */
void utf8_add(struct buf *out, uint32_t code_point);
/* Takes one code point off the front; U+FFFD for each bad byte. False at the end. */
bool utf8_next(struct str *s, uint32_t *code_point);
void utf8_add_repaired(struct buf *out, struct str s);          /* bad bytes become U+FFFD, NUL too */

bool utf7_imap_decode(struct buf *utf8, struct str s);          /* strict: false on any malformed run */
void utf7_imap_encode(struct buf *out, struct str utf8);
