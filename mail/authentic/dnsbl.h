/* dnsbl.h - lists of addresses in DNS that block or allow clients (RFC 5782).
 *
 * Written as "zone[=range][*weight]", separated by commas or spaces:
 *
 *   zen.example.org                      listed with any answer in 127.0.0.0/8, weight 1
 *   zen.example.org=127.0.0.2-11*3       last bytes 2 to 11 of 127.0.0, weight 3
 *   bl.example.net=127.0.0.4             exactly this answer
 *   list.example.com=127.0.1.0-127.0.2.255*-5    an allow list: weights may be negative
 *
 * An answer in 127.255.255.0/24 never matches: that is how lists say that they refuse to answer us. */
#pragma once
#include <sys/socket.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

#define DNSBL_ZONES_MAX 32

struct dnsbl_zone {
    struct str name;
    uint32_t first, last;                               /* answers that match, host byte order */
    int weight;                                         /* -1000 to 1000 */
};

struct dnsbl_list {
    struct dnsbl_zone *zones;
    size_t count;
};

/* ERR_SYNTAX: which entry is wrong, and how to write it. An empty text is an empty list. */
int dnsbl_parse(struct arena *a, struct str text, struct dnsbl_list *out, struct error *err);

struct dnsbl_match {
    const struct dnsbl_zone *zone;
    uint32_t code;                                      /* the answer that matched, host byte order */
    struct str reason;                                  /* TXT of the entry: printable ASCII; may be empty */
};

struct dnsbl_answer {
    struct dnsbl_match *matches;                        /* in the order of the list */
    size_t count;
    int weight;                                         /* of all matches together */
    size_t failed_count;                                /* zones that did not answer: their entries count as not listed */
};

/* Asks all zones at once, and then for the reasons, within the time given. Private addresses and unix sockets are
 * in no list and are not asked for. */
PARKS void dnsbl_check(struct arena *a, const struct dnsbl_list *list, const struct sockaddr_storage *client,
                       int64_t timeout_ms, struct dnsbl_answer *out);
