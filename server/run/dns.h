/* dns.h - DNS lookups by libunbound on the loop, with DNSSEC status for DANE.
 *
 * Settings: dns_server (a resolver to forward to; empty: those of /etc/resolv.conf, else from the root), dns_trust_anchor,
 * dns_override (records that win, for tests and split horizons), dns_cache. Answers live in the caller's arena.
 *
 * Names are text with dots between labels; a byte that is not printable ASCII, a quote or a backslash is written \DDD. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

enum dns_type { DNS_A = 1, DNS_NS = 2, DNS_CNAME = 5, DNS_SOA = 6, DNS_PTR = 12, DNS_MX = 15, DNS_TXT = 16,
                DNS_AAAA = 28, DNS_SRV = 33, DNS_TLSA = 52 };

struct dns_answer {
    enum { DNS_FOUND, DNS_NO_DATA, DNS_NO_NAME } status;
    bool is_secure;                                     /* validated by DNSSEC */
    bool is_bogus;                                      /* failed validation: treat as TRY_LATER */
    size_t count;
    struct str *rdata;                                  /* wire form, `count` of them */
    struct str canonical_name;                          /* after CNAMEs */
    uint32_t ttl_s;
};

void dns_serve(void);                                   /* worker: the log hears when DNSSEC, and so DANE, cannot be had */

/* ERR_TRY_LATER on SERVFAIL, timeout and bogus answers, ERR_SYNTAX on an impossible name. */
PARKS int dns_lookup(struct arena *a, struct str name, enum dns_type type, struct dns_answer *out, struct error *err);

/* Several questions at once, with one deadline for all. Each has its answer, or its error as dns_lookup() gives it. */
struct dns_question {
    struct str name;
    enum dns_type type;
    struct dns_answer answer;
    struct error err;                                   /* ERR_NONE: there is an answer */
};
PARKS void dns_lookup_all(struct arena *a, struct dns_question *v, size_t count, int64_t timeout_ms);

struct dns_mx { uint16_t preference; struct str host; };       /* by preference; an empty host is a null MX (RFC 7505) */
PARKS int dns_lookup_mx(struct arena *a, struct str name, struct dns_mx **out, size_t *count,
                        struct dns_answer *answer, struct error *err);
PARKS int dns_lookup_txt(struct arena *a, struct str name, struct str **out, size_t *count,
                         struct dns_answer *answer, struct error *err);
/* A and AAAA, asked at once. It fails only when neither could be asked; answer's status tells of both. */
PARKS int dns_lookup_addresses(struct arena *a, struct str host, struct sockaddr_storage **out, size_t *count,
                               struct dns_answer *answer, struct error *err);
/* The names of an address that lead back to it (RFC 7208, 5.5; RFC 8601, 2.7.3), of its first ten PTR records. Fails when
 * the PTR records cannot be asked for. */
struct dns_reverse {
    struct str *names;
    size_t count;
    size_t ptr_count;                                   /* PTR records there are */
    bool is_incomplete;                                 /* the addresses of a name could not be asked for */
};
PARKS int dns_lookup_reverse(struct arena *a, const struct sockaddr_storage *address, struct dns_reverse *out, struct error *err);
/* The confirmed name of an address (its PTR's name resolves back, RFC 8601, 2.7.3); empty when there is none. */
PARKS int dns_confirmed_name(struct arena *a, const struct sockaddr_storage *address, struct str *out, struct error *err);

/* A domain name inside rdata, as text without the final dot; the root is empty, and so is what is no name. */
struct str dns_rdata_name(struct arena *a, struct str rdata, size_t at);
struct str dns_escape_name(struct arena *a, struct str raw);   /* any bytes between the dots, so that dns_lookup() takes them */
/* "1.2.0.192" of 192.0.2.1 and ::ffff:192.0.2.1, 32 hexadecimal digits of IPv6; empty for a unix socket. */
struct str dns_reversed(struct arena *a, const struct sockaddr_storage *address);
/* Checks dns_override and dns_trust_anchor before anything is looked up, so that a mistake is told at start. */
int dns_check_settings(struct error *err);
void dns_fini(void);
