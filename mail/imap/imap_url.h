/* imap_url.h - IMAP URLs of messages and their parts (RFC 5092, RFC 2192), as CATENATE takes them.
 *
 *   /Work/Bills;UIDVALIDITY=385759045/;UID=20/;SECTION=1.MIME/;PARTIAL=0.1024
 *
 * Only absolute paths: a URL with a server, one that depends on the selected mailbox, or one with
 * an authorisation (URLAUTH) is refused. */
#pragma once
#include <stdint.h>
#include "mail/imap/imap_fetch_parse.h"

#define IMAP_URL_SIZE_MAX 8192

struct imap_url {
    struct str mailbox;    /* UTF-8 */
    uint32_t uid_validity; /* 0: any */
    uint32_t uid;
    struct fetch_item item; /* BODY[section]<partial> */
};

/* ERR_SYNTAX with what is wrong. */
int imap_url_parse(struct str url, struct arena *a, struct imap_url *out, struct error *err);
