/* imap_append_parse.h - what APPEND and REPLACE bring: messages as literals or in parts.
 *
 *   [flags] [date] {n}                          a message as it is (RFC 9051, 6.3.12)
 *   [flags] [date] UTF8 (~{n})                  the same with headers in UTF-8 (RFC 6855, 4)
 *   [flags] [date] CATENATE (TEXT {n} URL "..." UTF8 (~{n}))         put together (RFC 4469)
 *
 * and the next one behind a space (RFC 3502). Literals stand in the way: the parser is given one
 * piece of text after the other, each up to the announcement of a literal or the end, and gives
 * what it finds as events. */
#pragma once
#include <stdbool.h>
#include "mail/imap/imap_parse.h"

enum append_event_kind {
    APPEND_EVENT_END,         /* of the command */
    APPEND_EVENT_BYTES,       /* a literal with a message or a part of one comes */
    APPEND_EVENT_URL,         /* a part that is here already */
    APPEND_EVENT_URL_LITERAL, /* a literal with a URL comes */
};

struct append_event {
    enum append_event_kind kind;
    bool begins_message; /* with the options below */
    bool is_utf8;
    struct imap_literal literal;
    struct str url;
    uint32_t flags;
    struct keywords keywords;
    int64_t received_us; /* INT64_MIN: not given */
};

enum append_state {
    APPEND_BEFORE,      /* the first message */
    APPEND_BETWEEN,     /* behind a message */
    APPEND_IN_UTF8,     /* ')' closes the message */
    APPEND_PARTS,       /* a part must come */
    APPEND_PART_UTF8,   /* ')' closes the part */
    APPEND_BEHIND_PART, /* another one or ')' */
};

struct append_parser {
    struct arena *a;
    enum append_state state;
    bool begins_message;
};

void imap_append_parser_init(struct append_parser *ap, struct arena *a);
int imap_append_next(struct append_parser *ap, struct imap_parser *p, struct append_event *out,
                     struct error *err);

/* Is `text`, a command up to the announcement of a literal, an APPEND or (`with_replace`) a REPLACE
 * that goes on with this literal? Mailbox names sent as literals are not meant. */
bool imap_append_is_at_message(struct arena *a, struct str text, bool with_replace,
                               struct imap_literal *out);
