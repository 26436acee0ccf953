/* saslprep.h - prepares names and passwords for comparison (RFC 4013).
 *
 * Character data is utf8proc's Unicode, newer than the 3.2 of the RFC, and NFKC likewise; for characters
 * assigned since, the rules are those of their general category. */
#pragma once
#include <stdbool.h>
#include "server/base/buf.h"
#include "server/base/str.h"

/* False on bad UTF-8, prohibited or unassigned characters, and mixed directions (RFC 3454, 6). */
bool saslprep(struct str in, struct buf *out);
