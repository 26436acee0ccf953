/* dns_advice_names.c - the names by which others find this server: MX for mail, SRV and well-known names for clients. */
#include "mail/authentic/dns_advice_internal.h"

#define MX_LOOKED_AT    10
#define SERVICE_WAIT_MS 20000

/* ---- MX ------------------------------------------------------------------------------------ */

static bool is_pattern(struct str host)
{
    return str_starts(host, STR("*."));
}

static void want_mx(struct advice_check *c, struct advice *v)
{
    unsigned preference = 10;

    for (size_t i = 0; i < c->facts->mx_count; i++) {
        struct str host = c->facts->mx_hosts[i], data, line;

        if (is_pattern(host))
            continue;
        data = arena_printf(c->a, "%u %.*s.", preference, STR_ARG(host));
        line = advice_line(c->a, c->domain, "MX", data);
        v->wanted = advice_join(c->a, v->wanted, data);
        v->zone = str_empty(v->zone)
                      ? line
                      : arena_printf(c->a, "%.*s\n%.*s", STR_ARG(v->zone), STR_ARG(line));
        preference += 10;
    }
}

static bool has_mx(const struct dns_mx *mx, size_t count, struct str host)
{
    for (size_t i = 0; i < count; i++)
        if (str_ieq(mx[i].host, host))
            return true;
    return false;
}

/* Ours that are not there, and there that are not ours. */
static bool judge_hosts(struct advice_check *c, struct advice *v, const struct dns_mx *mx,
                        size_t count)
{
    struct sts_policy ours = {.mx = c->facts->mx_hosts, .mx_count = c->facts->mx_count};

    for (size_t i = 0; i < c->facts->mx_count; i++)
        if (!is_pattern(c->facts->mx_hosts[i]) && !has_mx(mx, count, c->facts->mx_hosts[i])) {
            advice_different(v, true,
                             arena_printf(c->a, "mail goes elsewhere: %.*s is not among them",
                                          STR_ARG(c->facts->mx_hosts[i])));
            return false;
        }
    for (size_t i = 0; i < count; i++)
        if (!sts_mx_matches(&ours, mx[i].host)) {
            advice_different(v, true,
                             arena_printf(c->a,
                                          "mail may also go to %.*s: take it out, or name it in "
                                          "mx_hosts when it is yours",
                                          STR_ARG(mx[i].host)));
            return false;
        }
    return true;
}

/* RFC 5321, 5.1 and RFC 2181, 10.3: an MX names a host with addresses, never an alias. */
static PARKS void judge_target(struct advice_check *c, struct advice *v, struct str host)
{
    struct sockaddr_storage *addresses;
    struct dns_answer answer;
    struct error err = {0};
    size_t count;

    if (dns_lookup_addresses(c->a, host, &addresses, &count, &answer, &err) < 0)
        advice_unanswered(c, v, true, &err);
    else if (!str_empty(answer.canonical_name) && !str_ieq(answer.canonical_name, host))
        advice_different(
            v, true,
            arena_printf(
                c->a,
                "%.*s is an alias (CNAME) of %.*s, which an MX must not name: give it addresses",
                STR_ARG(host), STR_ARG(answer.canonical_name)));
    else if (count == 0)
        advice_different(v, true, arena_printf(c->a, "%.*s has no address", STR_ARG(host)));
}

static PARKS void judge_mx(struct advice_check *c, struct advice *v, const struct dns_mx *mx,
                           size_t count)
{
    if (count == 0) {
        advice_missing(v, true, STR("others do not know where this domain's mail goes"));
        return;
    }
    if (str_empty(mx[0].host)) {
        advice_different(v, true, STR("it says that this domain takes no mail (RFC 7505)"));
        return;
    }
    if (!judge_hosts(c, v, mx, count))
        return;
    for (size_t i = 0; i < count && i < MX_LOOKED_AT && v->state == ADVICE_OK; i++)
        judge_target(c, v, mx[i].host);
}

PARKS void advice_mx(struct advice_check *c)
{
    struct advice *v = advice_add(c, "MX", c->domain);
    struct dns_answer answer;
    struct error err = {0};
    struct dns_mx *mx;
    size_t count;

    want_mx(c, v);
    if (dns_lookup_mx(c->a, c->domain, &mx, &count, &answer, &err) < 0) {
        advice_unanswered(c, v, true, &err);
        return;
    }
    for (size_t i = 0; i < count && i < MX_LOOKED_AT; i++)
        v->found = advice_join(
            c->a, v->found, arena_printf(c->a, "%u %.*s.", mx[i].preference, STR_ARG(mx[i].host)));
    judge_mx(c, v, mx, count);
}

/* ---- SRV (RFC 2782, 6186) ------------------------------------------------------------------ */

static unsigned read_u16(struct str rdata, size_t at)
{
    return (unsigned)((unsigned char)rdata.p[at] << 8 | (unsigned char)rdata.p[at + 1]);
}

/* A target of "." says that the service is not offered, which is the administrator's to decide. */
static void judge_service(struct advice_check *c, struct advice *v, const struct dns_question *q,
                          unsigned port)
{
    bool fits = false;

    for (size_t i = 0; i < q->answer.count; i++) {
        struct str rdata = q->answer.rdata[i], target;

        if (rdata.n < 7)
            continue;
        target = dns_rdata_name(c->a, rdata, 6);
        v->found =
            advice_join(c->a, v->found,
                        arena_printf(c->a, "%u %u %u %.*s.", read_u16(rdata, 0), read_u16(rdata, 2),
                                     read_u16(rdata, 4), STR_ARG(target)));
        fits = fits || str_empty(target) ||
               (str_ieq(target, c->facts->hostname) && read_u16(rdata, 4) == port);
    }
    if (q->answer.count == 0)
        advice_missing(v, false, STR("some programs find their server by it"));
    else if (!fits)
        advice_different(v, true, STR("programs that set themselves up are led elsewhere"));
}

PARKS void advice_services(struct advice_check *c)
{
    size_t n = c->facts->service_count;
    struct dns_question *q = ARENA_ARRAY(c->a, n + 1, struct dns_question);

    for (size_t i = 0; i < n; i++)
        q[i] = (struct dns_question){
            .name = arena_printf(c->a, "%s.%.*s", c->facts->services[i].name, STR_ARG(c->domain)),
            .type = DNS_SRV};
    dns_lookup_all(c->a, q, n, SERVICE_WAIT_MS);
    for (size_t i = 0; i < n; i++) {
        struct advice *v = advice_add(c, "SRV", q[i].name);

        v->wanted = arena_printf(c->a, "0 1 %u %.*s.", c->facts->services[i].port,
                                 STR_ARG(c->facts->hostname));
        v->zone = advice_line(c->a, v->name, "SRV", v->wanted);
        if (q[i].err.kind != ERR_NONE)
            advice_unanswered(c, v, false, &q[i].err);
        else
            judge_service(c, v, &q[i], c->facts->services[i].port);
    }
}

/* ---- autoconfig and autodiscover ----------------------------------------------------------- */

static bool shares_address(const struct advice_facts *facts, const struct sockaddr_storage *v,
                           size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (advice_has_address(facts->addresses, facts->address_count, &v[i]))
            return true;
    return false;
}

static PARKS void check_alias(struct advice_check *c, const char *subject)
{
    struct advice *v =
        advice_add(c, subject, arena_printf(c->a, "%s.%.*s", subject, STR_ARG(c->domain)));
    struct sockaddr_storage *addresses;
    struct dns_answer answer;
    struct error err = {0};
    size_t count;

    v->wanted = arena_printf(c->a, "%.*s.", STR_ARG(c->facts->hostname));
    v->zone = advice_line(c->a, v->name, "CNAME", v->wanted);
    if (dns_lookup_addresses(c->a, v->name, &addresses, &count, &answer, &err) < 0) {
        advice_unanswered(c, v, false, &err);
        return;
    }
    v->found = advice_addresses_text(c->a, addresses, count);
    if (count == 0)
        advice_missing(v, false, STR("mail programs ask there how to set themselves up"));
    else if (!shares_address(c->facts, addresses, count) &&
             !str_ieq(answer.canonical_name, c->facts->hostname))
        advice_different(v, false,
                         STR("it leads to another address than this host's: right only if a proxy "
                             "stands there"));
}

PARKS void advice_autoconfig(struct advice_check *c)
{
    check_alias(c, "autoconfig");
    check_alias(c, "autodiscover");
}
