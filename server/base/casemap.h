/* casemap.h - the collation i;unicode-casemap (RFC 5051): texts that are equal to people whatever
 * their case have the same form, and forms sort by their bytes. */
#pragma once
#include "server/base/buf.h"
#include "server/base/str.h"

/* Titlecase and full decomposition of each code point, as UTF-8. What is not valid UTF-8 is taken
 * as it is (RFC 5051, 2, 1b). */
void casemap_add(struct buf *out, struct str utf8);

/* --- for forms that differ from it in details --------------------------------------------------- */
#define CASEMAP_PARTS_MAX 32 /* the longest of Unicode is 18 (U+FDFA) */

uint32_t casemap_title(uint32_t code_point);
/* Takes a code point apart; returns how many there are, itself at least. */
size_t casemap_decompose(uint32_t code_point, uint32_t parts[CASEMAP_PARTS_MAX]);
