/* text_fold.h - texts in the one form in which they are compared: i;unicode-casemap (RFC 5051).
 *
 * Every character becomes its title case and is taken apart: "É" is "e" and an accent behind it,
 * a no-break space is a space. Where the RFC ends with capitals, letters of ASCII are small here;
 * that changes no comparison. Hangul syllables stay whole. Pure: safe on a helper thread. */
#pragma once
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/str.h"

/* Bytes that are no UTF-8 become U+FFFD, NUL a space. Folding twice changes nothing. The result may be
 * several times as long. */
void text_fold(struct buf *out, struct str utf8);
struct str text_fold_arena(struct arena *a, struct str utf8);

/* A folded text without its accents (U+0300 to U+036F). */
void text_drop_accents(struct buf *out, struct str folded);
