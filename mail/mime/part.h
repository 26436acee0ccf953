/* part.h - a message as a tree of parts: offsets into the message, nothing copied.
 *
 * The parser is fed the message in blocks of any size and remembers positions only, so it works on a stream and
 * the tree costs little more than the number of parts. It never fails: what cannot be understood is text/plain
 * (RFC 2045, 5.2), lines may end in CRLF or LF, and beyond the limits the rest belongs to the part that is open. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/str.h"

#define MIME_DEPTH_MAX 100            /* nested multiparts and message/rfc822 */
#define MIME_PARTS_MAX 10000
#define MIME_HEADER_SIZE_MAX (1 << 20)  /* of one part's header; beyond it the body begins */

enum mime_encoding { MIME_7BIT, MIME_8BIT, MIME_BINARY, MIME_BASE64, MIME_QUOTED_PRINTABLE, MIME_ENCODING_UNKNOWN };

struct mime_part {
    struct mime_part *parent, *first_child, *next;
    bool is_multipart;                /* children are its parts */
    bool is_message;                  /* message/rfc822 or message/global: one child, the enclosed message */
    bool is_digest;                   /* multipart/digest: children default to message/rfc822 */
    enum mime_encoding encoding;
    uint64_t header_at, header_size;  /* from the first header byte to behind the empty line */
    uint64_t body_at, body_size;      /* without the line end that belongs to the delimiter behind it */
    uint64_t body_lines;              /* line ends in the body, and one for a last line without end */
    struct str type, subtype;         /* lower case, in the arena; "text" "plain" by default */
    struct str boundary;              /* of a multipart, in the arena */
};

struct mime_parser;

struct mime_parser *mime_parser_new(struct arena *a);             /* lives in the arena */
void mime_parser_feed(struct mime_parser *p, struct str block);
struct mime_part *mime_parser_finish(struct mime_parser *p);      /* the root; never NULL */

struct mime_part *mime_parse(struct arena *a, struct str message);   /* new + feed + finish */

static inline struct str mime_part_header(const struct mime_part *part, struct str message) { return str_of(message.p + part->header_at, part->header_size); }
static inline struct str mime_part_body(const struct mime_part *part, struct str message) { return str_of(message.p + part->body_at, part->body_size); }

/* IMAP section numbers, "1.2.3" (RFC 9051, 6.4.5.1): NULL when there is none. numbers are 1-based. */
const struct mime_part *mime_part_find(const struct mime_part *root, const uint32_t *numbers, unsigned count);
/* The next part in the order of the bytes, children before siblings; NULL behind the last. */
const struct mime_part *mime_part_next(const struct mime_part *part);
