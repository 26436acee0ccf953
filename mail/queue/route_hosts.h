/* route_hosts.h - where mail for a destination goes: MX hosts in order, an address literal, or a relay that the
 * administrator named (RFC 5321, 5.1; RFC 7505).
 *
 * Addresses are looked up host by host, as each is tried. Our own host in the list ends it: what stands behind would
 * lead the message in a circle. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

#define ROUTE_HOSTS_MAX     32                          /* MX records looked at */
#define ROUTE_ADDRESSES_MAX 16                          /* of one host */
#define ROUTE_MX            "mx:"                       /* a job's route: by MX, whatever delivery_routes says */

/* A way named by the administrator: [smtp:|smtps:|lmtp:]host[:port], host may be [address], or unix:/path behind
 * smtp: or lmtp:. No MX lookup. */
struct route_way {
    bool is_lmtp, is_tls;                               /* is_tls: TLS from the first byte, verified */
    struct str host;                                    /* name, address without brackets, or path */
    bool is_unix, is_address;
    uint16_t port;                                      /* 25, 465 with smtps, 24 with lmtp, where none is said */
};
/* ERR_SYNTAX with a sentence. Slices borrow from the text. */
int route_way_parse(struct str text, struct route_way *out, struct error *err);
/* The way for a domain in delivery_routes: its own, of the closest domain above it, of "*", or empty. */
struct str route_of_domain(struct str domain);
/* Checks delivery_routes: the first entry that is none. */
int route_check_settings(struct error *err);

struct route_host {
    struct str name;                                    /* A-labels, no final dot; or the address, or a path */
    uint16_t preference, port;
    bool is_secure;                                     /* DNSSEC vouches for the way to this name */
    bool is_named;                                      /* a name found in DNS, not an address or a path */
};

/* What kept us from an answer, as it goes to the sender. */
struct route_refusal {
    bool is_permanent;
    int code;
    const char *enhanced;
    struct str text;
};

struct route_hosts {
    struct route_way way;                               /* where the administrator named one; else host is empty */
    bool is_mx;                                         /* found in DNS: policies for MX hosts hold */
    bool is_mx_secure;                                  /* DNSSEC vouches for the MX records */
    struct str domain;                                  /* in A-labels */
    struct route_host *v;
    size_t n;
};

/* `route`: of the job; empty: delivery_routes, else MX; ROUTE_MX. -1: see *why. */
PARKS int route_hosts_find(struct arena *a, struct str destination, struct str route, struct route_hosts *out,
                           struct route_refusal *why);

struct route_addresses {
    struct sockaddr_storage *v;                         /* with ports; IPv6 and IPv4 in turn, both tried */
    size_t n;
    bool is_secure;                                     /* DNSSEC vouches for them */
    struct str canonical_name;                          /* behind CNAMEs; empty: the same */
    bool is_loop;                                       /* it is this machine: the list ends here, and v is empty */
};
PARKS int route_host_addresses(struct arena *a, const struct route_hosts *hosts, const struct route_host *host,
                               struct route_addresses *out, struct route_refusal *why);

/* "mx1.example.net [192.0.2.1]:25" */
struct str route_address_text(struct arena *a, struct str name, const struct sockaddr_storage *address);
