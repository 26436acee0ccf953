/* imap_search_text.h - is a text in this header, in this message? Substrings, without regard to
 * case, in any charset. */
#pragma once
#include <stdbool.h>
#include "mail/mime/part.h"
#include "server/base/arena.h"
#include "server/base/str.h"

/* Lower case by code point; the form that needles have. */
struct str search_text_fold(struct arena *a, struct str utf8);

/* `is_ascii` says of the folded needle that it has no byte above 127. The arena takes what
 * decoding needs. */
bool search_text_in_field(struct arena *a, struct str header, struct str name, struct str needle,
                          bool is_ascii);
bool search_text_in_header(struct arena *a, struct str header, struct str needle,
                           bool is_ascii); /* names too */
bool search_text_in_body(struct arena *a, const struct mime_part *root, struct str message,
                         struct str needle, bool is_ascii);
