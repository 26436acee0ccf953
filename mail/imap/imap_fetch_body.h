/* imap_fetch_body.h - sections of a message: BODY[1.2.HEADER.FIELDS (...)] as bytes, BINARY
 * decoded.
 *
 * The MIME tree of a message is made when the first item needs it. Results point into the
 * message or into the scratch buffer, which the next call overwrites. */
#pragma once
#include "mail/imap/imap_fetch_parse.h"
#include "mail/mime/part.h"
#include "server/base/buf.h"
#include "server/run/fiber.h"

struct fetch_body {
    struct arena *a; /* for the tree; reset per message by the caller */
    struct str message;
    uint64_t message_at;    /* where in the message these bytes begin */
    bool is_cut;            /* there may be more behind them */
    struct mime_part *root; /* NULL until needed */
};

/* What of a message an item needs, so that no more is read than that. */
struct fetch_window {
    uint64_t from, to; /* to UINT64_MAX: up to the end; from == to: nothing */
};
#define FETCH_HEAD_SIZE 32768 /* nearly every header is shorter */
struct fetch_window fetch_item_window(const struct fetch_item *item);
/* A piece near the beginning of a part, BODY[TEXT]<0.1024>: its window is a guess, which
 * fetch_body_has_section() proves; otherwise the whole message is needed. */
bool fetch_item_is_near(const struct fetch_item *item);
PARKS bool fetch_body_has_section(struct fetch_body *b, const struct fetch_item *item);
/* Do the bytes begin with the whole header of the message? */
PARKS bool fetch_body_has_header(struct fetch_body *b);

/* *out with p NULL: there is no such part. */
PARKS void fetch_body_section(struct fetch_body *b, const struct fetch_item *item,
                              struct buf *scratch, struct str *out);
PARKS bool fetch_body_is_decodable(struct fetch_body *b,
                                   const struct fetch_item *item); /* is its encoding known? */
PARKS void fetch_body_binary(struct fetch_body *b, const struct fetch_item *item,
                             struct buf *scratch, struct str *out);
/* Fields of a header block, those named or all others, and the empty line behind them. */
void fetch_filter_header(struct str header, const struct fetch_item *item, struct buf *out);
/* The part that a partial fetch asks for of `bytes`, which begin at bytes_at. */
struct str fetch_partial(const struct fetch_item *item, struct str bytes, uint64_t bytes_at);
