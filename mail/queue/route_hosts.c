/* route_hosts.c - from a domain to addresses, by DNS or by order of the administrator.
 *
 * What DNS says surely (no such name, a null MX) is final; what it fails to say is put off. Hosts of
 * equal preference come in random order (RFC 5321, 5.1), and of a host's addresses IPv6 and IPv4
 * take turns, so that a broken half of the Internet costs one attempt. */
#include "mail/queue/route_hosts.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/base/encode.h"
#include "server/base/net.h"
#include "server/directory/directory.h"
#include "server/run/config.h"
#include "server/run/dns.h"

/* ---- ways that the administrator named ------------------------------------------------------ */

static int bad_way(struct str text, struct error *err)
{
    return fail(err, ERR_SYNTAX,
                "\"%.*s\" is no way to a server; write relay.example.net:587, "
                "smtps:relay.example.net:465, lmtp:[127.0.0.1]:24 or lmtp:unix:/path",
                (int)(text.n < 80 ? text.n : 80), text.p);
}

static bool parse_port(struct str text, uint16_t *port)
{
    uint32_t number;

    if (!str_to_u32(text, &number) || number == 0 || number > 65535)
        return false;
    *port = (uint16_t)number;
    return true;
}

static bool parse_address(struct str text, uint16_t port, struct sockaddr_storage *out)
{
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    char c[INET6_ADDRSTRLEN];

    memset(out, 0, sizeof *out);
    if (text.n == 0 || text.n >= sizeof c)
        return false;
    memcpy(c, text.p, text.n);
    c[text.n] = '\0';
    if (inet_pton(AF_INET, c, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
    } else if (inet_pton(AF_INET6, c, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
    }
    return out->ss_family != 0;
}

int route_way_parse(struct str text, struct route_way *out, struct error *err)
{
    struct str rest = text, port = STR_NULL;
    struct sockaddr_storage address;

    *out = (struct route_way){.port = 25};
    if (str_skip_prefix(&rest, STR("lmtp:"))) {
        out->is_lmtp = true;
        out->port = 24;
    } else if (str_skip_prefix(&rest, STR("smtps:"))) {
        out->is_tls = true;
        out->port = 465;
    } else {
        str_skip_prefix(&rest, STR("smtp:"));
    }
    out->host = rest;
    if (str_skip_prefix(&rest, STR("unix:"))) {
        out->is_unix = true;
        out->host = rest;
        return rest.n > 0 && rest.n < sizeof((struct sockaddr_un *)0)->sun_path
                   ? 0
                   : bad_way(text, err);
    }
    if (str_starts(rest, STR("["))) {
        if (!str_cut(str_from(rest, 1), ']', &out->host, &port) ||
            !parse_address(out->host, 1, &address) ||
            (port.n > 0 && !str_skip_prefix(&port, STR(":"))))
            return bad_way(text, err);
    } else {
        str_cut(rest, ':', &out->host, &port);
    }
    out->is_address = parse_address(out->host, 1, &address);
    if (out->host.n == 0 || str_index(out->host, ' ') >= 0 ||
        (port.n > 0 && !parse_port(port, &out->port)))
        return bad_way(text, err);
    return 0;
}

/* The next "domain=way"; false at the end. */
static bool next_route(struct str *rest, struct str *domain, struct str *way)
{
    struct str entry;

    while (rest->n > 0) {
        str_cut(*rest, ';', &entry, rest);
        entry = str_trim(entry);
        if (entry.n == 0)
            continue;
        str_cut(entry, '=', domain, way);
        *domain = str_trim(*domain);
        *way = str_trim(*way);
        return true;
    }
    return false;
}

static bool is_below(struct str domain, struct str above)
{
    return domain.n > above.n && str_iends(domain, above) &&
           domain.p[domain.n - above.n - 1] == '.';
}

struct str route_of_domain(struct str domain)
{
    struct str rest = str_c(config.delivery_routes), of, way, best = STR_NULL;
    size_t best_size = 0;

    while (next_route(&rest, &of, &way)) {
        bool is_match = str_eq(of, STR("*")) || str_ieq(domain, of) || is_below(domain, of);
        size_t size = str_eq(of, STR("*")) ? 1 : of.n + 1;

        if (is_match && size > best_size) {
            best = way;
            best_size = size;
        }
    }
    return best;
}

int route_check_settings(struct error *err)
{
    struct str rest = str_c(config.delivery_routes), of, way;
    struct route_way parsed;
    struct error own = {0};

    while (next_route(&rest, &of, &way))
        if (of.n == 0 || route_way_parse(way, &parsed, &own) < 0)
            return fail(err, ERR_SYNTAX, "delivery_routes: %s",
                        own.kind == ERR_NONE ? "an entry has no domain" : own.text);
    return 0;
}

/* ---- refusals ------------------------------------------------------------------------------ */

static int refuse(struct route_refusal *why, bool is_permanent, int code, const char *enhanced,
                  struct str text)
{
    *why = (struct route_refusal){is_permanent, code, enhanced, text};
    return -1;
}

static int refuse_lookup(struct arena *a, struct str name, const struct error *err,
                         struct route_refusal *why)
{
    if (err->kind == ERR_SYNTAX)
        return refuse(why, true, 550, "5.1.2",
                      arena_printf(a, "%.*s is no domain name", STR_ARG(name)));
    return refuse(
        why, false, 451, "4.4.3",
        arena_printf(a, "DNS did not say where mail for %.*s goes: %s", STR_ARG(name), err->text));
}

/* ---- this machine -------------------------------------------------------------------------- */

/* Also when one of them is written as ::ffff:192.0.2.1. */
static bool same_address(const struct sockaddr_storage *a, const struct sockaddr *b)
{
    uint8_t left[16], right[16];

    return b != NULL && net_address(a, left) &&
           net_address((const struct sockaddr_storage *)b, right) && memcmp(left, right, 16) == 0;
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    return net_list_contains(STR("127.0.0.0/8, ::1"), address);
}

/* Whether loopback is refused says delivery_refused_networks. */
static bool is_own_address(const struct sockaddr_storage *address)
{
    struct ifaddrs *all;
    bool is_own = false;

    if (is_loopback(address) || getifaddrs(&all) < 0)
        return false;
    for (struct ifaddrs *at = all; at != NULL && !is_own; at = at->ifa_next)
        is_own = same_address(address, at->ifa_addr);
    freeifaddrs(all);
    return is_own;
}

static bool is_own_name(struct str name)
{
    return str_ieq(name, str_c(config.hostname));
}

/* ---- MX ------------------------------------------------------------------------------------ */

static struct str without_dot(struct str name)
{
    return name.n > 0 && name.p[name.n - 1] == '.' ? str_head(name, name.n - 1) : name;
}

/* Within each preference every order is as likely as any other. */
static void shuffle_equals(struct route_host *v, size_t n)
{
    for (size_t from = 0; from < n;) {
        size_t to = from + 1;

        while (to < n && v[to].preference == v[from].preference)
            to++;
        for (size_t i = to - 1; i > from; i--) {
            size_t other = from + random_u64() % (i - from + 1);
            struct route_host kept = v[i];

            v[i] = v[other];
            v[other] = kept;
        }
        from = to;
    }
}

/* RFC 5321, 5.1: who stands in the list throws away itself and all that are no better. */
static int cut_at_own_host(struct arena *a, struct route_hosts *out, struct route_refusal *why)
{
    for (size_t i = 0; i < out->n; i++) {
        if (!is_own_name(out->v[i].name))
            continue;
        while (i > 0 && out->v[i - 1].preference == out->v[i].preference)
            i--;
        out->n = i;
        break;
    }
    if (out->n > 0)
        return 0;
    return refuse(why, true, 554, "5.4.6",
                  arena_printf(a,
                               "mail for %.*s loops back to this server, which does not "
                               "serve that domain",
                               STR_ARG(out->domain)));
}

static int keep_mx(struct arena *a, const struct dns_mx *mx, size_t count, struct route_hosts *out,
                   struct route_refusal *why)
{
    if (count == 1 && without_dot(mx[0].host).n == 0)
        return refuse(why, true, 556, "5.1.10",
                      arena_printf(a, "the domain %.*s does not accept mail (null MX)",
                                   STR_ARG(out->domain)));
    out->v = ARENA_ARRAY(a, count, struct route_host);
    for (size_t i = 0; i < count && out->n < ROUTE_HOSTS_MAX; i++)
        if (without_dot(mx[i].host).n > 0)
            out->v[out->n++] = (struct route_host){
                .name = without_dot(mx[i].host),
                .preference = mx[i].preference,
                .port = (uint16_t)config.delivery_port,
                .is_secure = out->is_mx_secure,
                .is_named = true,
            };
    if (out->n == 0)
        return refuse(why, true, 550, "5.4.4",
                      arena_printf(a, "the MX records of %.*s name no host", STR_ARG(out->domain)));
    shuffle_equals(out->v, out->n);
    return cut_at_own_host(a, out, why);
}

/* RFC 5321, 5.1: without MX records the domain itself is the host. */
static int keep_implicit_mx(struct arena *a, struct route_hosts *out, struct route_refusal *why)
{
    out->v = ARENA_NEW(a, struct route_host);
    out->n = 1;
    out->v[0] = (struct route_host){
        .name = out->domain,
        .port = (uint16_t)config.delivery_port,
        .is_secure = out->is_mx_secure,
        .is_named = true,
    };
    return cut_at_own_host(a, out, why);
}

static int find_mx(struct arena *a, struct route_hosts *out, struct route_refusal *why)
{
    struct dns_answer answer;
    struct error err = {0};
    struct dns_mx *mx;
    size_t count;

    out->is_mx = true;
    if (dns_lookup_mx(a, out->domain, &mx, &count, &answer, &err) < 0)
        return refuse_lookup(a, out->domain, &err, why);
    out->is_mx_secure = answer.is_secure;
    if (answer.status == DNS_NO_NAME)
        return refuse(why, true, 550, "5.1.2",
                      arena_printf(a, "there is no domain %.*s", STR_ARG(out->domain)));
    return count > 0 ? keep_mx(a, mx, count, out, why) : keep_implicit_mx(a, out, why);
}

/* ---- finding ------------------------------------------------------------------------------- */

static int find_way(struct arena *a, struct str route, struct route_hosts *out,
                    struct route_refusal *why)
{
    struct error err = {0};

    if (route_way_parse(route, &out->way, &err) < 0)
        return refuse(why, false, 451, "4.3.5", arena_str(a, str_c(err.text)));
    out->v = ARENA_NEW(a, struct route_host);
    out->n = 1;
    out->v[0] = (struct route_host){
        .name = out->way.host,
        .port = out->way.port,
        .is_named = !out->way.is_address && !out->way.is_unix,
    };
    return 0;
}

/* "[192.0.2.1]", "[IPv6:2001:db8::1]" (RFC 5321, 4.1.3). */
static int find_literal(struct arena *a, struct str literal, struct route_hosts *out,
                        struct route_refusal *why)
{
    struct sockaddr_storage address;
    struct str text = str_from(literal, 1);

    if (str_ends(text, STR("]")))
        text.n--;
    str_skip_prefix(&text, STR("IPv6:"));
    if (!parse_address(text, 1, &address))
        return refuse(why, true, 501, "5.1.2",
                      arena_printf(a, "%.*s is no address", STR_ARG(str_head(literal, 100))));
    out->v = ARENA_NEW(a, struct route_host);
    out->n = 1;
    out->v[0] = (struct route_host){.name = text, .port = (uint16_t)config.delivery_port};
    return 0;
}

PARKS int route_hosts_find(struct arena *a, struct str destination, struct str route,
                           struct route_hosts *out, struct route_refusal *why)
{
    bool is_by_mx = str_eq(route, STR(ROUTE_MX));
    struct error err = {0};

    *out = (struct route_hosts){.domain = destination};
    if (str_starts(destination, STR("["))) {
        if (route.n > 0 && !is_by_mx)
            return find_way(a, route, out, why);
        return find_literal(a, destination, out, why);
    }
    if (domain_canonical(a, without_dot(destination), &out->domain, &err) < 0)
        return refuse(why, true, 550, "5.1.2", arena_str(a, str_c(err.text)));
    if (route.n == 0)
        route = route_of_domain(out->domain);
    return route.n > 0 && !is_by_mx ? find_way(a, route, out, why) : find_mx(a, out, why);
}

/* ---- addresses of a host -------------------------------------------------------------------- */

static void set_port(struct sockaddr_storage *address, uint16_t port)
{
    if (address->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)address)->sin_port = htons(port);
}

static const struct sockaddr_storage *next_of(const struct sockaddr_storage *all, size_t count,
                                              sa_family_t family, size_t *at)
{
    while (*at < count) {
        const struct sockaddr_storage *one = &all[(*at)++];

        if (one->ss_family == family)
            return one;
    }
    return NULL;
}

/* Does this machine have a route there? Connecting a datagram socket asks the system and sends nothing. */
static bool has_way(const struct sockaddr_storage *address)
{
    struct sockaddr_storage to = *address;
    int fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool has;

    if (fd < 0)
        return false;
    set_port(&to, 25);
    has = connect(fd, (struct sockaddr *)&to, sizeof(struct sockaddr_in6)) == 0;
    close(fd);
    return has;
}

static bool has_family(const struct sockaddr_storage *all, size_t count, sa_family_t family)
{
    size_t at = 0;

    return next_of(all, count, family, &at) != NULL;
}

/* Without IPv6 here, its addresses would only use up attempts; they stay when there is nothing else. */
static size_t drop_unreachable(struct sockaddr_storage *all, size_t count)
{
    size_t kept = 0;

    if (!has_family(all, count, AF_INET))
        return count;
    for (size_t i = 0; i < count; i++)
        if (all[i].ss_family != AF_INET6 || has_way(&all[i]))
            all[kept++] = all[i];
    return kept;
}

/* IPv6 first, then IPv4, in turn; of one family in random order, as the records of DNS have none. */
static void take_in_turn(struct sockaddr_storage *all, size_t count, uint16_t port,
                         struct route_addresses *out)
{
    size_t at4 = 0, at6 = 0;
    bool is_turn_of_6 = true, had_none = false;

    for (size_t i = count; i > 1; i--) {
        size_t other = random_u64() % i;
        struct sockaddr_storage kept = all[i - 1];

        all[i - 1] = all[other];
        all[other] = kept;
    }
    while (out->n < ROUTE_ADDRESSES_MAX) {
        const struct sockaddr_storage *one = is_turn_of_6 && config.delivery_ipv6
                                                 ? next_of(all, count, AF_INET6, &at6)
                                                 : next_of(all, count, AF_INET, &at4);

        if (one == NULL && had_none)
            break;
        had_none = one == NULL;
        is_turn_of_6 = !is_turn_of_6;
        if (one == NULL)
            continue;
        out->v[out->n] = *one;
        set_port(&out->v[out->n++], port);
    }
}

/* Addresses to which MX records may not lead are left out; our own end everything. */
static int filter(struct arena *a, const struct route_hosts *hosts, const struct route_host *host,
                  struct route_addresses *out, struct route_refusal *why)
{
    size_t kept = 0;

    for (size_t i = 0; i < out->n; i++) {
        if (is_own_address(&out->v[i]) && host->port == 25) {
            out->is_loop = true;
            out->n = 0;
            return 0;
        }
        if (!net_list_contains(str_c(config.delivery_refused_networks), &out->v[i]))
            out->v[kept++] = out->v[i];
    }
    if (kept == 0 && out->n > 0)
        return refuse(why, true, 554, "5.4.6",
                      arena_printf(a,
                                   "mail for %.*s loops back: %.*s is at an address that no "
                                   "public mail server can have",
                                   STR_ARG(hosts->domain), STR_ARG(host->name)));
    out->n = kept;
    return 0;
}

static int unix_address(struct arena *a, const struct route_host *host, struct route_addresses *out)
{
    struct sockaddr_un *un;

    out->v = ARENA_NEW(a, struct sockaddr_storage);
    out->n = 1;
    un = (struct sockaddr_un *)out->v;
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, host->name.p, host->name.n); /* route_way_parse saw that it fits */
    return 0;
}

static int look_up(struct arena *a, const struct route_host *host, struct route_addresses *out,
                   struct route_refusal *why)
{
    struct sockaddr_storage *all;
    struct dns_answer answer;
    struct error err = {0};
    size_t count;

    if (dns_lookup_addresses(a, host->name, &all, &count, &answer, &err) < 0)
        return refuse_lookup(a, host->name, &err, why);
    out->is_secure = answer.is_secure;
    out->canonical_name = without_dot(answer.canonical_name);
    out->v = ARENA_ARRAY(a, count + 1, struct sockaddr_storage);
    if (config.delivery_ipv6)
        count = drop_unreachable(all, count);
    take_in_turn(all, count, host->port, out);
    if (out->n > 0)
        return 0;
    return refuse(why, true, 550, answer.status == DNS_NO_NAME ? "5.1.2" : "5.4.4",
                  arena_printf(a, "%.*s has no address", STR_ARG(host->name)));
}

PARKS int route_host_addresses(struct arena *a, const struct route_hosts *hosts,
                               const struct route_host *host, struct route_addresses *out,
                               struct route_refusal *why)
{
    *out = (struct route_addresses){0};
    if (hosts->way.is_unix)
        return unix_address(a, host, out);
    if (!host->is_named) {
        out->v = ARENA_NEW(a, struct sockaddr_storage);
        out->n = 1;
        parse_address(host->name, host->port, out->v);
    } else if (look_up(a, host, out, why) < 0) {
        return -1;
    }
    return hosts->way.host.n > 0 ? 0 : filter(a, hosts, host, out, why);
}

struct str route_address_text(struct arena *a, struct str name,
                              const struct sockaddr_storage *address)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
    char text[INET6_ADDRSTRLEN] = "";

    if (address->ss_family == AF_UNIX)
        return arena_printf(a, "unix:%.*s", STR_ARG(name));
    if (address->ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
        return arena_printf(a, "%.*s [IPv6:%s]:%u", STR_ARG(name), text, ntohs(in6->sin6_port));
    }
    inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
    return arena_printf(a, "%.*s [%s]:%u", STR_ARG(name), text, ntohs(in->sin_port));
}
