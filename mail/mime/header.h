/* header.h - walking header fields, and what stands in them. Zero-copy until decoding is asked for. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/str.h"

struct header_field {
    struct str name;                  /* as written, without spaces before the colon */
    struct str value;                 /* raw: folded, without the colon and without the last line end */
    struct str whole;                 /* the field with its line end, byte for byte */
};

/* Takes the next field off a header block; ends at the empty line or the end. Lines without a colon are part
 * of `whole` of nothing: they are skipped (name empty, whole set), so that concatenating every `whole` gives the block back. */
bool header_next(struct str *rest, struct header_field *field);
bool header_find(struct str header, struct str name, struct header_field *field);        /* the first of that name */

struct str header_unfold(struct arena *a, struct str value);      /* line ends and NULs gone, trimmed (RFC 5322, 2.2.3) */

/* Unstructured text as UTF-8: unfolded, RFC 2047 words decoded (adjacent ones joined, broken ones left as they
 * are), raw 8-bit read as UTF-8 or else windows-1252; control characters dropped; always valid UTF-8. */
struct str header_decode_text(struct arena *a, struct str value);

/* Content-Type and its kin: "text/html; charset=utf-8; name*0*=..." (RFC 2045, 5.1; RFC 2231 with continuations,
 * charsets and the quoted RFC 2047 words that some clients put there). */
struct header_param { struct str name, value; };     /* name in lower case; value as UTF-8 */
struct header_params {
    struct str type, subtype;         /* lower case; for Content-Disposition only type; empty when unparsable */
    struct header_param *v;
    size_t n;
};
void header_parse_params(struct arena *a, struct str value, struct header_params *out);
struct str header_param(const struct header_params *p, struct str name);      /* empty when absent */

/* Message-IDs in a References or In-Reply-To field, in order, with their angle brackets; at most count_max. */
size_t header_parse_msgids(struct arena *a, struct str value, struct str *out, size_t count_max);

/* Base subject (RFC 5256, 2.1) of a decoded subject: without Re:, Fwd:, [list] and (fwd). */
struct str header_base_subject(struct arena *a, struct str decoded_subject, bool *is_reply);
