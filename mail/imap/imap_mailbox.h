/* imap_mailbox.h - special uses of mailboxes (RFC 6154). */
#pragma once
#include "server/base/str.h"

struct str imap_special_use(struct str role); /* "\Drafts", or empty */
