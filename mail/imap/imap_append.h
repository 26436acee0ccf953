/* imap_append.h - where the message of an APPEND begins. */
#pragma once
#include <stdbool.h>
#include "mail/imap/imap_parse.h"

/* Is `text`, a command up to the announcement of a literal, an APPEND whose next literal is the
 * message? */
bool imap_append_is_at_message(struct arena *a, struct str text, struct imap_literal *out);
