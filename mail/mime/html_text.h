/* html_text.h - what people read of an HTML part: no tags, scripts or styles, entities resolved.
 *
 * Forgiving as browsers are, and no more than a reading of words: blocks end lines, other tags
 * vanish between letters, runs of white space are one space. Pure: safe on a helper thread. */
#pragma once
#include "server/base/buf.h"
#include "server/base/str.h"

void html_text(struct buf *out, struct str html); /* both UTF-8 */
