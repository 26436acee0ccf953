/* imap_multisearch.h - the arguments of ESEARCH: which mailboxes are searched (RFC 7377, 2.2). */
#pragma once
#include "mail/imap/imap_search_options.h"

#define SOURCES_MAX 100 /* names in one command */

enum source_kind {
    SOURCE_SELECTED,
    SOURCE_INBOXES,
    SOURCE_PERSONAL,
    SOURCE_SUBSCRIBED,
    SOURCE_SUBTREE, /* name */
    SOURCE_SUBTREE_ONE,
    SOURCE_MAILBOXES
};

struct search_source {
    enum source_kind kind;
    struct str name; /* as on the wire */
};

struct esearch_request {
    struct search_source *sources;
    size_t source_count; /* 0: no IN: the selected mailbox */
    struct search_request search;
};

int imap_parse_esearch(struct imap_parser *p, struct arena *a, struct esearch_request *out,
                       struct error *err);
