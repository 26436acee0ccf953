/* cli_report_sources.c - merpati report sources: who sends mail in the name of our domains, which of our servers others cannot
 * reach securely, and what to do about it.
 *
 * A source is ours when it is an address of this server's name or one that delivery goes out from. */
#include <arpa/inet.h>
#include <string.h>

#include "mail/store/report_store.h"
#include "server/base/date.h"
#include "server/base/net.h"
#include "server/cli/cli_internal.h"
#include "server/run/config.h"
#include "server/run/dns.h"

#define NAMES_MAX 50 /* sources whose names are looked up */
#define SINCE_S   (INT64_C(30) * 86400)

/* ---- which ones are ours ----------------------------------------------------------------------- */

struct home {
    struct sockaddr_storage *addresses;
    size_t count;
};

static struct home find_home(struct arena *a)
{
    struct home h = {NULL, 0};
    struct dns_answer answer;

    if (dns_lookup_addresses(a, str_c(config.hostname), &h.addresses, &h.count, &answer, NULL) < 0)
        h.count = 0;
    return h;
}

static bool parse_address(struct arena *a, struct str text, struct sockaddr_storage *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    const char *c = arena_c(a, text);

    *out = (struct sockaddr_storage){0};
    if (inet_pton(AF_INET, c, &v4->sin_addr) == 1)
        out->ss_family = AF_INET;
    else if (inet_pton(AF_INET6, c, &v6->sin6_addr) == 1)
        out->ss_family = AF_INET6;
    return out->ss_family != AF_UNSPEC;
}

static bool is_ours(struct arena *a, const struct home *h, struct str source)
{
    struct sockaddr_storage address;
    uint8_t wanted[16], there[16];

    if (str_eq(source, str_c(config.delivery_source_ipv4)) ||
        str_eq(source, str_c(config.delivery_source_ipv6)))
        return true;
    if (!parse_address(a, source, &address) || !net_address(&address, wanted))
        return false;
    for (size_t i = 0; i < h->count; i++)
        if (net_address(&h->addresses[i], there) && memcmp(wanted, there, sizeof there) == 0)
            return true;
    return false;
}

/* Nobody wants to wait for the time-outs of fifty questions: after the first that DNS leaves open there are no more. */
static struct str name_of(struct arena *a, size_t *questions, struct str source)
{
    struct sockaddr_storage address;
    struct str name = STR("");

    if (*questions == 0 || !parse_address(a, source, &address))
        return name;
    *questions = dns_confirmed_name(a, &address, &name, NULL) < 0 ? 0 : *questions - 1;
    return name;
}

/* ---- what to do ---------------------------------------------------------------------------------- */

static const struct {
    const char *result, *advice;
} tls_advice[] = {
    {"starttls-not-supported",
     "switch on TLS on this server, or see what is between it and the sender"},
    {"certificate-expired", "renew the certificate"},
    {"certificate-host-mismatch", "the certificate must name this server as the MX record does"},
    {"certificate-not-trusted", "use a certificate of a public authority, with its whole chain"},
    {"validation-failure", "see the detail: \"merpati report show\" of a report with it"},
    {"tlsa-invalid", "the TLSA records do not fit the certificate: publish them before it changes"},
    {"dnssec-invalid", "DNSSEC of the domain is broken: repair its signatures"},
    {"dane-required", "the sender wants TLSA records that are signed"},
    {"sts-policy-fetch-error", "the MTA-STS policy cannot be fetched from its web server"},
    {"sts-policy-invalid", "the MTA-STS policy cannot be read: mend its text"},
    {"sts-webpki-invalid", "the certificate of the MTA-STS policy's web server is not good"},
};

static struct str advise_tls(struct str result)
{
    for (size_t i = 0; i < sizeof tls_advice / sizeof *tls_advice; i++)
        if (str_eq(result, str_c(tls_advice[i].result)))
            return str_c(tls_advice[i].advice);
    return STR("");
}

static const char *mechanism(struct str source)
{
    return str_index(source, ':') >= 0 ? "ip6" : "ip4";
}

static struct str advise_ours(struct arena *a, const struct report_source *s)
{
    struct str spf = STR("");

    if (str_find(s->detail, STR("dkim=pass")) >= 0)
        return arena_printf(
            a, "it is signed for another domain than %.*s: write with an address of that one",
            STR_ARG(s->domain));
    if (str_find(s->detail, STR("spf=pass")) < 0)
        spf = arena_printf(a, "; add %s:%.*s to its SPF record", mechanism(s->source),
                           STR_ARG(s->source));
    return arena_printf(a, "publish the DKIM record that \"merpati dkim show\" prints for %.*s%.*s",
                        STR_ARG(s->domain), STR_ARG(spf));
}

static struct str advise_dmarc(struct arena *a, const struct report_source *s, bool ours)
{
    struct sockaddr_storage address;

    if (ours)
        return advise_ours(a, s);
    if (str_find(s->detail, STR("; forwarded")) >= 0 ||
        str_find(s->detail, STR("; trusted_forwarder")) >= 0 ||
        str_find(s->detail, STR("; mailing_list")) >= 0)
        return STR("forwarded by somebody else: nothing to do");
    if (!parse_address(a, s->source,
                       &address)) /* it would be told to be added to SPF, whatever it says */
        return STR("this is no address: a report with it is not to be believed");
    return arena_printf(
        a,
        "if it sends for you, add %s:%.*s to the SPF record of %.*s or let it sign; if not, "
        "p=reject keeps it from using your name",
        mechanism(s->source), STR_ARG(s->source), STR_ARG(s->domain));
}

static struct str advise(struct arena *a, const struct report_source *s, bool ours)
{
    if (s->failed == 0)
        return STR("");
    if (str_eq(s->kind, STR("dmarc")))
        return advise_dmarc(a, s, ours);
    if (str_eq(s->kind, STR("tls")))
        return advise_tls(s->outcome);
    return ours ? STR("somebody complains of mail from here: \"merpati trace\" finds who sent it")
                : STR("somebody complains of mail that did not come from here");
}

/* ---- the list -------------------------------------------------------------------------------------- */

PARKS int cli_report_sources(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct str domain = arena_lower(c->arena, cli_value(c, OPTION_DOMAIN));
    int64_t since_us = time_now_us() - SINCE_S * 1000000;
    struct home home = find_home(c->arena);
    size_t questions = NAMES_MAX;
    struct report_source *v;
    size_t count;

    if (cli_parse_time(c, OPTION_SINCE, &since_us, err) < 0 ||
        report_store_sources(c->arena, cli_value(c, OPTION_KIND), domain, since_us, &v, &count,
                             err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        bool ours = is_ours(c->arena, &home, v[i].source);

        cli_row(out);
        cli_text(out, "kind", v[i].kind);
        cli_text(out, "domain", v[i].domain);
        cli_text(out, "source", v[i].source);
        cli_text(out, "name", name_of(c->arena, &questions, v[i].source));
        cli_flag(out, "ours", ours);
        cli_number(out, "passed", v[i].passed);
        cli_number(out, "failed", v[i].failed);
        cli_number(out, "reporters", v[i].reporters);
        cli_time(out, "last", v[i].last_us);
        cli_text(out, "outcome", v[i].outcome);
        cli_text(out, "advice", advise(c->arena, &v[i], ours));
    }
    cli_print_list(out);
    return 0;
}
