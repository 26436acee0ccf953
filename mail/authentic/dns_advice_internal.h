/* dns_advice_internal.h - how the files of dns_advice write down what they find. */
#pragma once
#include "mail/authentic/dns_advice.h"
#include "server/base/error.h"
#include "server/run/dns.h"

struct advice_check {                                   /* of the host, or of one domain */
    struct arena *a;
    const struct advice_facts *facts;
    struct str domain;                                  /* empty: the host */
    const struct dkim_key_row *keys;
    size_t key_count;
    struct advice_list *out;
};

/* A new entry, ok until somebody says otherwise. */
struct advice *advice_add(struct advice_check *c, const char *subject, struct str name);
void advice_missing(struct advice *v, bool is_urgent, struct str remark);
void advice_different(struct advice *v, bool is_urgent, struct str remark);
/* DNS did not answer. */
void advice_unanswered(struct advice_check *c, struct advice *v, bool is_urgent, const struct error *why);

struct str advice_join(struct arena *a, struct str list, struct str more);     /* "a, b" */
struct str advice_address_text(struct arena *a, const struct sockaddr_storage *address);
struct str advice_addresses_text(struct arena *a, const struct sockaddr_storage *v, size_t count);
bool advice_has_address(const struct sockaddr_storage *v, size_t count, const struct sockaddr_storage *address);
/* "NAME. IN TYPE DATA" */
struct str advice_line(struct arena *a, struct str name, const char *type, struct str data);
/* The same for TXT, in character strings of at most 255 bytes (RFC 1035, 3.3). */
struct str advice_txt_line(struct arena *a, struct str name, struct str text);
/* Texts at a name that begin with a version tag. False: DNS did not answer, and the entry says so. */
PARKS bool advice_texts(struct advice_check *c, struct advice *v, struct str version, bool is_urgent, struct str **texts,
                        size_t *count);

/* dns_advice_host.c */
PARKS void advice_spf(struct advice_check *c, struct str domain, bool is_host);
/* dns_advice_tlsa.c */
PARKS void advice_tlsa(struct advice_check *c, bool is_host_secure);
void advice_certificate(struct advice_check *c);
/* dns_advice_policy.c */
PARKS void advice_dkim(struct advice_check *c);
PARKS void advice_dmarc(struct advice_check *c);
PARKS void advice_sts(struct advice_check *c);
PARKS void advice_tls_reports(struct advice_check *c);
/* dns_advice_names.c */
PARKS void advice_mx(struct advice_check *c);
PARKS void advice_services(struct advice_check *c);
PARKS void advice_autoconfig(struct advice_check *c);
