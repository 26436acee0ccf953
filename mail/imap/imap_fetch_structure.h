/* imap_fetch_structure.h - BODY from the cached BODYSTRUCTURE: the same without extension data. */
#pragma once
#include "server/base/buf.h"
#include "server/base/str.h"

/* false when the text is no BODYSTRUCTURE; what was appended is worthless then. */
bool imap_add_basic_structure(struct buf *out, struct str bodystructure);
