/* dns_advice_tlsa.c - our own certificate: is it good, and do the TLSA records tell the truth about it (RFC 7672)?
 *
 * A wrong TLSA record in a signed zone is worse than none: who obeys DANE sends no mail then. Records beside the one
 * that fits are for the next certificate. */
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "mail/authentic/dns_advice_internal.h"
#include "mail/queue/tls_policy.h"
#include "server/base/buf.h"
#include "server/base/encode.h"

#define EXPIRES_SOON_S (14 * 86400)
#define TLSA_LOOKED_AT 20

enum { USAGE_DANE_TA = 2, USAGE_DANE_EE = 3, SELECTOR_KEY = 1, MATCH_SHA256 = 1, MATCH_SHA512 = 2 };

static X509 *parse_certificate(struct str der)
{
    const unsigned char *p = (const unsigned char *)der.p;

    return d2i_X509(NULL, &p, (long)der.n);
}

/* ---- the certificate ----------------------------------------------------------------------- */

static bool ends_before(const X509 *x, int64_t seconds_ahead)
{
    time_t then = time(NULL) + seconds_ahead;

    return X509_cmp_time(X509_get0_notAfter(x), &then) < 0;
}

static void judge_certificate(struct advice_check *c, struct advice *v, X509 *x)
{
    struct str host = c->facts->hostname;

    if (ends_before(x, 0))
        advice_different(v, true, STR("the certificate has expired: renew it, clients refuse it"));
    else if (X509_check_host(x, host.p, host.n, 0, NULL) != 1)
        advice_different(v, true,
                         STR("the certificate does not name this host: get one that does, for "
                             "clients and MTA-STS"));
    else if (c->facts->is_self_signed)
        advice_missing(v, false,
                       STR("the server uses a certificate of its own making, which nobody else "
                           "trusts: get one from a CA and "
                           "set tls_cert and tls_key"));
    else if (ends_before(x, EXPIRES_SOON_S))
        v->remark = STR("the certificate expires within two weeks");
}

void advice_certificate(struct advice_check *c)
{
    struct advice *v;
    X509 *x;

    if (c->facts->certificate_count == 0)
        return;
    v = advice_add(c, "certificate", c->facts->hostname);
    x = parse_certificate(c->facts->certificates[0]);
    if (x == NULL)
        advice_different(v, true, STR("the certificate cannot be read"));
    else
        judge_certificate(c, v, x);
    X509_free(x);
}

/* ---- TLSA ---------------------------------------------------------------------------------- */

/* The certificate, or its public key, as bytes. */
static struct str selected(struct arena *a, struct str der, unsigned selector)
{
    unsigned char *key = NULL;
    struct str out = STR("");
    X509 *x;
    int size;

    if (selector != SELECTOR_KEY)
        return der;
    x = parse_certificate(der);
    if (x == NULL)
        return out;
    size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &key);
    if (size > 0)
        out = str_of(arena_copy(a, key, (size_t)size), (size_t)size);
    OPENSSL_free(key);
    X509_free(x);
    return out;
}

static struct str digest(struct arena *a, struct str data, unsigned match)
{
    unsigned char *out = arena_alloc(a, EVP_MAX_MD_SIZE);
    unsigned size = 0;

    if (match != MATCH_SHA256 && match != MATCH_SHA512)
        return data;
    if (EVP_Digest(data.p, data.n, out, &size, match == MATCH_SHA256 ? EVP_sha256() : EVP_sha512(),
                   NULL) != 1)
        size = 0;
    return str_of((char *)out, size);
}

static bool fits(struct advice_check *c, struct str rdata)
{
    unsigned usage, selector, match;

    if (rdata.n < 4)
        return false;
    usage = (unsigned char)rdata.p[0];
    selector = (unsigned char)rdata.p[1];
    match = (unsigned char)rdata.p[2];
    if ((usage != USAGE_DANE_TA && usage != USAGE_DANE_EE) || selector > SELECTOR_KEY ||
        match > MATCH_SHA512)
        return false;
    for (size_t i = 0; i < c->facts->certificate_count && (i == 0 || usage == USAGE_DANE_TA); i++) {
        struct str data = selected(c->a, c->facts->certificates[i], selector);

        if (data.n > 0 && str_eq(digest(c->a, data, match), str_from(rdata, 3)))
            return true;
    }
    return false;
}

static struct str tlsa_wanted(struct advice_check *c)
{
    struct str key = selected(c->a, c->facts->certificates[0], SELECTOR_KEY), out;
    struct buf hex;

    buf_init(&hex, 256);
    hex_encode(&hex, digest(c->a, key, MATCH_SHA256));
    out = arena_printf(c->a, "3 1 1 %.*s", STR_ARG(buf_str(&hex)));
    buf_fini(&hex);
    return out;
}

static void judge_tlsa(struct advice_check *c, struct advice *v, const struct dns_answer *answer,
                       bool is_host_secure)
{
    size_t fitting = 0;

    for (size_t i = 0; i < answer->count && i < TLSA_LOOKED_AT; i++)
        fitting += fits(c, answer->rdata[i]);
    if (answer->count == 0)
        advice_missing(v, false,
                       is_host_secure ? STR("the zone is signed by DNSSEC: with this record others "
                                            "can be sure to reach this server")
                                      : STR("good to have where the zone is signed by DNSSEC, of "
                                            "which this server sees nothing (see "
                                            "dns_root_key)"));
    else if (fitting == 0)
        advice_different(v, true,
                         STR("no record is of our certificate: who obeys DANE cannot send to this "
                             "host. Put the right one "
                             "beside them now"));
    else if (!answer->is_secure)
        v->remark = STR("not signed by DNSSEC as far as this server can see, so nobody heeds it");
    if (answer->count > 0 || is_host_secure)
        v->zone = advice_line(c->a, v->name, "TLSA", v->wanted);
}

PARKS void advice_tlsa(struct advice_check *c, bool is_host_secure)
{
    struct dns_answer answer;
    struct error err = {0};
    struct str name = arena_printf(c->a, "_25._tcp.%.*s", STR_ARG(c->facts->hostname));
    struct advice *v;

    if (c->facts->certificate_count == 0)
        return;
    v = advice_add(c, "TLSA", name);
    v->wanted = tlsa_wanted(c);
    if (dns_lookup(c->a, name, DNS_TLSA, &answer, &err) < 0) {
        advice_unanswered(c, v, true, &err);
        return;
    }
    for (size_t i = 0; i < answer.count && i < TLSA_LOOKED_AT; i++)
        v->found = advice_join(c->a, v->found, tls_tlsa_text(c->a, &answer.rdata[i], 1));
    judge_tlsa(c, v, &answer, is_host_secure);
}
