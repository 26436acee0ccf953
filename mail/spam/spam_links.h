/* spam_links.h - where the links of a message lead, and the tricks that hide it.
 *
 * All text parts are looked at, each with at most SPAM_LINK_TEXT_MAX bytes, and at most SPAM_LINKS_MAX links of a message.
 * Pure. */
#pragma once
#include "mail/mime/part.h"
#include "mail/spam/spam_finding.h"
#include "mail/spam/spam_lookalike.h"

#define SPAM_LINKS_MAX      500
#define SPAM_LINK_HOSTS_MAX 50
#define SPAM_LINK_TEXT_MAX  ((size_t)128 << 10)

struct spam_hosts {                               /* distinct, small letters, at most the first SPAM_LINK_HOSTS_MAX */
    struct str v[SPAM_LINK_HOSTS_MAX];            /* as written (punycode stays) without port and user */
    size_t n;
};

/* hosts: for DNS lists of hosts. */
void spam_find_links(struct arena *a, const struct mime_part *root, struct str message, const struct spam_known *known,
                     struct spam_findings *out, struct spam_hosts *hosts);
