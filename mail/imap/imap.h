/* imap.h - IMAP4rev1 and IMAP4rev2 (RFC 3501, RFC 9051) on ports 143 and 993. */
#pragma once
#include "server/run/service.h"

enum imap_listener {
    IMAP_STARTTLS = 0, /* 143: STARTTLS is offered    */
    IMAP_TLS = 1,      /* 993: TLS from the first byte */
};

extern const struct service imap_service;
