/* imap_mailbox.h - special uses of mailboxes (RFC 6154). */
#pragma once
#include <stdbool.h>
#include "server/base/str.h"

struct str imap_special_use(struct str role); /* "\Drafts", or empty */
/* The way back; false when no mailbox can have that use. */
bool imap_special_role(struct str use, struct str *role);
