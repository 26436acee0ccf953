/* tag_list.h - "tag=value; tag=value" as DKIM, ARC and DMARC write it (RFC 6376, 3.2).
 *
 * Names are case-sensitive and occur once. Values keep the folding white space inside them; they
 * may hold UTF-8 (RFC 8616). All slices are borrowed from the text. */
#pragma once
#include <stdbool.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define TAG_LIST_SIZE_MAX  (64 * 1024)
#define TAG_LIST_COUNT_MAX 64

struct tag {
    struct str name;
    struct str value;                                   /* without the white space around it */
    struct str raw;                                     /* all between the "=" and the ";" */
};

struct tag_list {
    struct tag *v;
    size_t n;
};

/* ERR_SYNTAX on what is no tag list, ERR_EXISTS on a name that occurs twice, ERR_TOO_BIG past the limits. */
int tag_list_parse(struct arena *a, struct str text, struct tag_list *out, struct error *err);

const struct tag *tag_list_find(const struct tag_list *list, struct str name);         /* NULL when absent */
struct str tag_list_value(const struct tag_list *list, struct str name);               /* empty when absent */

struct str tag_value_compact(struct arena *a, struct str value);        /* a copy without any white space */

/* Takes the next part between `separator`s off the front, trimmed; it may be empty. False at the end:
 * `rest->p` is NULL then. "a : b" gives "a", "b"; "" gives one empty part. */
bool tag_value_next(struct str *rest, char separator, struct str *part);
bool tag_value_has(struct str value, char separator, struct str wanted);               /* case ignored */
