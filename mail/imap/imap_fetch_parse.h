/* imap_fetch_parse.h - what a FETCH asks for (RFC 9051, 6.4.5; RFC 7162; BINARY of RFC 3516). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/imap/imap_parse.h"
#include "mail/imap/imap_partial.h"
#include "mail/imap/imap_sequence.h"

#define FETCH_ITEMS_MAX         100
#define FETCH_SECTION_DEPTH_MAX 100
#define FETCH_FIELDS_MAX        250

enum fetch_kind {
    FETCH_UID,
    FETCH_FLAGS,
    FETCH_MODSEQ,
    FETCH_EMAILID, /* known to the index */
    FETCH_INTERNALDATE,
    FETCH_SIZE,
    FETCH_SAVEDATE,
    FETCH_THREADID, /* in the message's row */
    FETCH_ENVELOPE,
    FETCH_BODYSTRUCTURE,
    FETCH_BODY,    /* cached forms */
    FETCH_SECTION, /* BODY[...], RFC822 and its kin */
    FETCH_PREVIEW,
    FETCH_BINARY,
    FETCH_BINARY_SIZE,
};

enum fetch_part {
    PART_WHOLE,
    PART_HEADER,
    PART_HEADER_FIELDS,
    PART_HEADER_FIELDS_NOT,
    PART_TEXT,
    PART_MIME,
};

struct fetch_item {
    enum fetch_kind kind;
    enum fetch_part part;
    const uint32_t *numbers; /* "1.2" of BODY[1.2.TEXT] */
    unsigned number_count;
    const struct str *fields; /* of HEADER.FIELDS */
    size_t field_count;
    bool sets_seen; /* neither PEEK nor harmless */
    bool is_partial;
    uint64_t offset, size_max; /* "<offset.size_max>" */
    struct str label;          /* as it is named in the answer: "BODY[1.2.TEXT]<0>" */
};

struct fetch_request {
    struct imap_set set;
    struct fetch_item *items;
    size_t count;
    bool has_changed_since;
    bool wants_vanished;
    uint64_t changed_since;
    struct imap_partial partial; /* RFC 9394 */
};

/* uid_is_told: the answer begins with it anyhow. */
int imap_parse_fetch(struct imap_parser *p, struct arena *a, bool by_uid, bool uid_is_told,
                     struct fetch_request *out, struct error *err);
/* "[1.2.TEXT]" alone, into an item of FETCH_SECTION. */
int imap_parse_section(struct imap_parser *p, struct arena *a, struct fetch_item *item,
                       struct error *err);
/* "(UID FLAGS)" alone: what is told of new messages (RFC 5465, 5.2). */
int imap_parse_fetch_items(struct imap_parser *p, struct arena *a, struct fetch_request *out,
                           struct error *err);
bool imap_fetch_has(const struct fetch_request *r, enum fetch_kind kind);
