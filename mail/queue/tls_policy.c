/* tls_policy.c - the rules of which proof a host owes us, in the order in which they win. */
#include "mail/queue/tls_policy.h"

#include "server/base/encode.h"
#include "server/base/net.h"
#include "server/run/config.h"
#include "server/run/dns.h"

#define TLSA_MAX      32
#define TLSA_SIZE_MAX 8192

const char *tls_result_word(enum dial_tls_result result)
{
    switch (result) {
    case DIAL_TLS_OK:
        return NULL;
    case DIAL_TLS_EXPIRED:
        return "certificate-expired";
    case DIAL_TLS_NAME:
        return "certificate-host-mismatch";
    case DIAL_TLS_UNTRUSTED:
        return "certificate-not-trusted";
    case DIAL_TLS_NO_TLSA:
        return "tlsa-invalid";
    case DIAL_TLS_FAILED:
        return "validation-failure";
    }
    return "validation-failure";
}

struct str tls_tlsa_text(struct arena *a, const struct str *tlsa, size_t count)
{
    struct buf b;
    struct str out;

    buf_init(&b, TLSA_MAX * (2 * TLSA_SIZE_MAX + 16));
    for (size_t i = 0; i < count && i < TLSA_MAX; i++) {
        if (tlsa[i].n < 4)
            continue;
        buf_addf(&b, "%s%u %u %u ", b.n > 0 ? "\n" : "", (unsigned char)tlsa[i].p[0],
                 (unsigned char)tlsa[i].p[1], (unsigned char)tlsa[i].p[2]);
        hex_encode(&b, str_from(tlsa[i], 3));
    }
    out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

/* ---- the domain ---------------------------------------------------------------------------- */

static bool is_listed(const char *list, struct str domain)
{
    struct str rest = str_c(list), one;

    while (rest.n > 0) {
        str_cut(rest, ',', &one, &rest);
        if (str_ieq(str_trim(one), domain))
            return true;
    }
    return false;
}

bool tls_is_ordered(struct str domain)
{
    return is_listed(config.delivery_tls_domains, domain);
}

PARKS void tls_domain_find(struct arena *a, const struct route_hosts *hosts, struct tls_domain *out)
{
    *out = (struct tls_domain){.domain = hosts->domain};
    out->is_forced = tls_is_ordered(hosts->domain);
    if (hosts->is_mx && config.mta_sts && config.delivery_tls)
        sts_find(a, hosts->domain, &out->sts);
}

/* ---- DANE ---------------------------------------------------------------------------------- */

static int refuse(struct arena *a, struct route_refusal *why, bool is_permanent, int code,
                  const char *enhanced, const char *text, struct str host)
{
    *why = (struct route_refusal){is_permanent, code, enhanced,
                                  arena_printf(a, "%s (%.*s)", text, STR_ARG(host))};
    return -1;
}

/* 1: there are records that DNSSEC vouches for, 0: there are none, -1: nobody knows. */
static int look_up_tlsa(struct arena *a, struct str base, uint16_t port, struct tls_host *out)
{
    struct str name = arena_printf(a, "_%u._tcp.%.*s", port, STR_ARG(base));
    struct dns_answer answer;

    if (dns_lookup(a, name, DNS_TLSA, &answer, NULL) < 0)
        return -1;
    if (!answer.is_secure || answer.count == 0)
        return 0;
    out->dial.tlsa = answer.rdata;
    out->dial.tlsa_count = answer.count < TLSA_MAX ? answer.count : TLSA_MAX;
    out->base = base;
    return 1;
}

/* RFC 7672, 2.2.2: behind a CNAME the name it leads to is asked first. */
static int find_tlsa(struct arena *a, const struct route_host *host,
                     const struct route_addresses *addresses, struct tls_host *out)
{
    int found = 0;

    if (addresses->canonical_name.n > 0 && !str_ieq(addresses->canonical_name, host->name))
        found = look_up_tlsa(a, addresses->canonical_name, host->port, out);
    return found != 0 ? found : look_up_tlsa(a, host->name, host->port, out);
}

/* RFC 7672, 3.2.2: the base domain, the host as the MX record has it, the domain of the recipients. */
static void want_names(struct arena *a, const struct route_hosts *hosts,
                       const struct route_host *host, struct tls_host *out)
{
    struct str *names = ARENA_ARRAY(a, 3, struct str);

    names[0] = out->base;
    names[1] = host->name;
    names[2] = hosts->domain;
    out->dial.names = names;
    out->dial.name_count = 3;
    out->dial.server_name = out->base;
}

static int apply_dane(struct arena *a, const struct route_hosts *hosts,
                      const struct route_host *host, const struct route_addresses *addresses,
                      struct tls_host *out, struct route_refusal *why, const char **result)
{
    int found;

    if (!config.dane || !hosts->is_mx || !host->is_secure || !addresses->is_secure)
        return 0;
    found = find_tlsa(a, host, addresses, out);
    if (found < 0) {
        *result = "dnssec-invalid";
        return refuse(a, why, false, 451, "4.7.5",
                      "DNS did not say whether this host has TLSA "
                      "records, so its identity cannot be checked now",
                      host->name);
    }
    if (found == 0)
        return 0;
    if (dial_tlsa_usable(out->dial.tlsa, out->dial.tlsa_count) == 0) {
        /* RFC 7672, 2.2: records that nobody can use still ask for TLS. */
        out->level = TLS_LEVEL_ENCRYPT;
        out->dial.tlsa_count = 0;
        out->warning = "tlsa-invalid";
        return 0;
    }
    out->level = TLS_LEVEL_DANE;
    out->dial.verify = DIAL_TLS_DANE;
    want_names(a, hosts, host, out);
    return 0;
}

/* ---- the other rules ------------------------------------------------------------------------ */

static void verify(struct tls_host *out)
{
    if (out->level >= TLS_LEVEL_VERIFY)
        return;
    out->level = TLS_LEVEL_VERIFY;
    out->dial.verify = DIAL_TLS_PKIX;
}

static int apply_sts(struct arena *a, const struct tls_domain *domain,
                     const struct route_host *host, struct tls_host *out, struct route_refusal *why,
                     const char **result)
{
    const struct sts_result *sts = &domain->sts;

    if (sts->is_unknown && out->level != TLS_LEVEL_DANE)
        return refuse(a, why, false, 451, "4.7.5",
                      "DNS did not say whether the domain has an MTA-STS policy, so what its mail "
                      "servers must prove is not known now",
                      domain->domain);
    if (!sts->has_policy || sts->policy.mode == STS_MODE_NONE || out->level == TLS_LEVEL_DANE)
        return 0;
    out->is_sts = true;
    out->is_mx_mismatch = !sts_mx_matches(&sts->policy, host->name);
    if (sts->policy.mode == STS_MODE_TESTING) {
        out->is_testing = true;
        return 0;
    }
    if (out->is_mx_mismatch) {
        *result = "validation-failure";
        return refuse(a, why, false, 451, "4.7.5",
                      "this mail server is not in the domain's MTA-STS policy", host->name);
    }
    verify(out);
    return 0;
}

/* RFC 8689, 4.2.1: a name that an attacker could have put there proves nothing. */
static int apply_require_tls(struct arena *a, const struct route_hosts *hosts,
                             const struct route_host *host, struct tls_host *out,
                             struct route_refusal *why)
{
    if (hosts->is_mx && !host->is_secure && !(out->is_sts && !out->is_testing))
        return refuse(a, why, true, 550, "5.7.10",
                      "the sender asked for REQUIRETLS, but neither DNSSEC nor MTA-STS vouches "
                      "for this mail server's name",
                      host->name);
    verify(out);
    return 0;
}

/* All of them: DNS may be lying about some. */
static bool is_loopback(const struct route_addresses *addresses)
{
    for (size_t i = 0; i < addresses->n; i++)
        if (addresses->v[i].ss_family != AF_UNIX &&
            !net_list_contains(STR("127.0.0.0/8, ::1"), &addresses->v[i]))
            return false;
    return addresses->n > 0;
}

static void begin(const struct route_hosts *hosts, const struct route_host *host,
                  const struct route_addresses *addresses, bool has_credentials,
                  struct tls_host *out)
{
    *out = (struct tls_host){.level = config.delivery_tls ? TLS_LEVEL_MAY : TLS_LEVEL_OFF};
    out->dial.server_name = host->name;
    if (hosts->way.is_unix)
        out->level = TLS_LEVEL_OFF;
    else if (hosts->way.is_tls || (has_credentials && !is_loopback(addresses)))
        verify(out);
}

static bool is_ruled(const struct remote_job *job, const struct tls_domain *domain)
{
    return config.delivery_tls || domain->is_forced || (job->requires_tls && job->sender.n > 0);
}

PARKS int tls_host_find(struct arena *a, const struct tls_domain *domain,
                        const struct route_hosts *hosts, const struct route_host *host,
                        const struct route_addresses *addresses, const struct remote_job *job,
                        bool has_credentials, struct tls_host *out, struct route_refusal *why,
                        const char **result)
{
    *result = NULL;
    begin(hosts, host, addresses, has_credentials, out);
    if (!is_ruled(job, domain) || hosts->way.is_unix || job->tls_optional)
        return 0;
    if (config.delivery_tls && (apply_dane(a, hosts, host, addresses, out, why, result) < 0 ||
                                apply_sts(a, domain, host, out, why, result) < 0))
        return -1;
    if (domain->is_forced)
        verify(out);
    /* A report of failure may travel without (RFC 8689, 4.2.1). */
    if (job->requires_tls && job->sender.n > 0)
        return apply_require_tls(a, hosts, host, out, why);
    return 0;
}
