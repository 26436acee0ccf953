/* imap_metadata_parse.h - entries, options and values of GETMETADATA and SETMETADATA (RFC 5464, 5).
 *
 * A bad entry name is ERR_SYNTAX, which is answered BAD (RFC 5464, 3.2). */
#pragma once
#include "mail/imap/imap_parse.h"
#include "mail/store/metadata.h"

#define METADATA_ENTRIES_MAX 200 /* named in one command */

/* "/shared/comment", or several in parentheses; out->depth and size_max are not touched. */
int imap_parse_metadata_entries(struct imap_parser *p, struct arena *a, struct metadata_query *out,
                                struct error *err);
/* "(MAXSIZE 1024 DEPTH 1)" */
int imap_parse_metadata_options(struct imap_parser *p, struct metadata_query *out,
                                struct error *err);
/* Do options stand here, and no entries? */
bool imap_metadata_at_options(const struct imap_parser *p);
/* "(/shared/comment "text" /private/comment NIL)" */
int imap_parse_metadata_values(struct imap_parser *p, struct arena *a, struct annotation **out,
                               size_t *count, struct error *err);
