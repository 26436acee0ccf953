/* lines.h - a message as lines that end in CR LF, for protocols that send it line by line (POP3).
 *
 * What is kept may have bare LFs, NULs or an unfinished last line, since APPEND takes nearly
 * anything. Here each LF becomes CR LF, a NUL becomes 0x80, a last line gets its end, and a line
 * that begins with a dot gets a second one (RFC 1939, 3). All the rest is given out where it lies,
 * in the largest possible pieces. The message may be fed in parts, cut anywhere.
 *
 *   mime_lines_init(&l, MIME_LINES_ALL);
 *   for each part: mime_lines_feed(&l, part); while (mime_lines_next(&l, &piece)) write(piece);
 *   write(mime_lines_end(&l)); */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "server/base/str.h"

#define MIME_LINES_ALL UINT64_MAX

struct mime_lines {
    struct str in;       /* what is left of the part; borrowed */
    size_t clean;        /* bytes at its front that are known to hold no NUL */
    size_t line_size;    /* of the line begun, with its CR when that came last */
    bool had_cr;         /* the byte before `in` is a CR */
    bool is_stuffed;     /* the dot at the front of `in` has had its second one */
    bool in_body;
    bool is_done;        /* no more lines are wanted */
    uint64_t lines_left; /* of the body */
};

/* body_lines: how many lines of the body at most, behind the header and the empty line. */
void mime_lines_init(struct mime_lines *l, uint64_t body_lines);
/* The part before must have been given out. */
void mime_lines_feed(struct mime_lines *l, struct str part);
/* The next piece, borrowed from the part or constant; false: feed more, or it is done. */
bool mime_lines_next(struct mime_lines *l, struct str *piece);
/* What ends the last line: CR LF or nothing. */
struct str mime_lines_end(const struct mime_lines *l);

/* How many bytes more a message has in this form, stuffed dots not counted. */
size_t mime_lines_growth(struct str raw);
