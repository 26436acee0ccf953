/* imap_list_parse.h - the arguments of LIST and LSUB (RFC 9051, 6.3.9; RFC 5258; RFC 5819; RFC
 * 6154; RFC 9590). */
#pragma once
#include <stdbool.h>
#include "mail/imap/imap_match.h"
#include "mail/imap/imap_parse.h"
#include "mail/store/metadata.h"

#define IMAP_PATTERNS_MAX 50

struct imap_list_request {
    struct imap_pattern *patterns[IMAP_PATTERNS_MAX];
    size_t pattern_count;
    bool is_root_query;   /* LIST "" "": asks for the delimiter only */
    struct str reference; /* as typed */
    bool ends_in_percent; /* of the first pattern; for LSUB */
    bool select_subscribed, select_special_use, select_recursive;
    bool return_subscribed, return_children, return_status, return_myrights;
    unsigned status_items;
    bool return_metadata;
    struct metadata_query metadata;
    struct arena *arena; /* while it is parsed */
};

/* `is_utf8`: names come as UTF-8, not modified UTF-7. */
int imap_parse_list(struct imap_parser *p, struct arena *a, bool is_utf8,
                    struct imap_list_request *out, struct error *err);
int imap_parse_lsub(struct imap_parser *p, struct arena *a, bool is_utf8,
                    struct imap_list_request *out, struct error *err);
