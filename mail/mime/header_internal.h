/* header_internal.h - parameters of Content-Type and its kin as they are written, before any
 * decoding.
 *
 * The part parser needs a boundary byte for byte; header_parse_params() builds the decoded view on
 * top of this. */
#pragma once
#include <stdbool.h>
#include "server/base/arena.h"
#include "server/base/str.h"

#define HEADER_PARAMS_MAX 1000        /* of one field; the rest is not looked at */

struct header_raw_param {
    struct str name;                  /* as written: "filename*0*" */
    struct str value;                 /* without the quotes around it */
    bool is_quoted;                   /* value may hold backslash escapes and line ends */
};

/* Takes "type/subtype" off the front: as written, both empty when there is no type. */
void header_take_type(struct str *rest, struct str *type, struct str *subtype);
/* Takes the next parameter off the front; false at the end. */
bool header_next_raw_param(struct str *rest, struct header_raw_param *param);
/* The value with escapes resolved and line ends removed. */
struct str header_raw_value(struct arena *a, const struct header_raw_param *param);
/* Skips white space, line ends and comments (RFC 5322, 3.2.2); an unclosed comment runs to the
 * end. */
void header_skip_cfws(struct str *rest);
