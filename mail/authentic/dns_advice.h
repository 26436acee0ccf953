/* dns_advice.h - what an administrator should publish in DNS, beside what is there now.
 *
 * Facts go in (what this server is called, which keys and certificate it has), advice comes out: one entry for each record,
 * with its state and the line to paste into a zone. Nothing is printed and nothing changed here, but that a DKIM key
 * remembers whether its record was seen. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "mail/queue/mta_sts.h"
#include "mail/store/dkim_key_store.h"
#include "server/base/arena.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

enum advice_state {
    ADVICE_OK,
    ADVICE_MISSING,
    ADVICE_DIFFERENT,                                   /* something is there, and it is wrong */
    ADVICE_UNANSWERED,                                  /* DNS did not say */
};
const char *advice_state_name(enum advice_state state); /* "ok", "missing", "different", "no answer" */

struct advice {
    struct advice *next;
    const char *subject;                                /* "MX", "SPF", "DKIM", "MTA-STS", ... */
    struct str name;                                    /* where in DNS; an address or a host where it is no record */
    enum advice_state state;
    bool is_urgent;                                     /* while this is not ok, mail or clients suffer; else it is good to have */
    struct str found;                                   /* as in a zone; several are joined by ", " */
    struct str wanted;                                  /* likewise; empty where many things would be right */
    struct str remark;                                  /* what is wrong and what to do; may be there with ok */
    struct str zone;                                    /* a line of a zone file; empty where there is none to write */
};
static inline bool advice_is_wrong(const struct advice *v) { return v->state != ADVICE_OK && v->is_urgent; }

struct advice_list {
    struct advice *first, **end;
};
void advice_list_init(struct advice_list *list);

struct advice_service {
    const char *name;                                   /* "_imaps._tcp" (RFC 6186, 6764, 8314, 8620) */
    uint16_t port;
};

struct advice_facts {
    struct str hostname;                                /* lower case */
    struct sockaddr_storage *addresses;                 /* from which mail leaves, as the world sees them ... */
    size_t address_count;                               /* ... 0: believe what DNS says of the host */
    struct str *mx_hosts;                               /* as sts_host_names() */
    size_t mx_count;
    struct str *certificates;                           /* DER, our own first; none: not looked at */
    size_t certificate_count;
    bool is_self_signed;
    enum sts_mode sts_mode;
    struct str sts_id, sts_policy;
    const struct advice_service *services;
    size_t service_count;
    struct str dmarc_reports, tls_reports;              /* local parts that take reports of others */
    struct str block_lists;                             /* as dnsbl_parse(); empty: not asked */
};

/* What holds for all domains: the host's addresses, their names, its certificate. Where the facts name no addresses, those
 * that DNS has of the host are filled in. */
PARKS void advice_of_host(struct arena *a, struct advice_facts *facts, struct advice_list *out);
/* One domain of ours (canonical), with its keys. */
PARKS void advice_of_domain(struct arena *a, const struct advice_facts *facts, struct str domain,
                            const struct dkim_key_row *keys, size_t key_count, struct advice_list *out);
