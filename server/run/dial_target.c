/* dial_target.c - the names of neighbours taken apart, and a connection to the first address that answers. */
#include "server/run/dial_target.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "server/base/arena.h"
#include "server/run/dns.h"

#define PATH_SIZE_MAX   (sizeof((struct sockaddr_un *)0)->sun_path - 1)
#define ADDRESSES_TRIED 4

/* ---- names ------------------------------------------------------------------------------------------ */

/* "host:port", "[::1]:port". */
static bool parse_inet(struct str text, struct dial_target *out)
{
    struct str port;
    uint32_t number;

    if (!str_rcut(text, ':', &out->host, &port) || !str_to_u32(port, &number) || number == 0 ||
        number > 65535)
        return false;
    if (str_starts(out->host, STR("[")) && str_ends(out->host, STR("]")))
        out->host = str_of(out->host.p + 1, out->host.n - 2);
    else if (str_index(out->host, ':') >= 0)
        return false;
    out->port = (uint16_t)number;
    return out->host.n > 0;
}

bool dial_target_parse(struct str text, struct dial_target *out)
{
    *out = (struct dial_target){.host = text};
    if (str_skip_prefix(&out->host, STR("unix:")))
        return str_starts(out->host, STR("/")) && out->host.n <= PATH_SIZE_MAX;
    return str_skip_prefix(&text, STR("inet:")) && parse_inet(text, out);
}

/* ---- addresses ---------------------------------------------------------------------------------------- */

static bool read_literal(struct str text, struct sockaddr_storage *out)
{
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    char c[INET6_ADDRSTRLEN];

    if (text.n >= sizeof c)
        return false;
    memcpy(c, text.p, text.n);
    c[text.n] = '\0';
    *out = (struct sockaddr_storage){0};
    if (inet_pton(AF_INET, c, &in->sin_addr) == 1)
        out->ss_family = AF_INET;
    else if (inet_pton(AF_INET6, c, &in6->sin6_addr) == 1)
        out->ss_family = AF_INET6;
    return out->ss_family != 0;
}

static void set_port(struct sockaddr_storage *address, uint16_t port)
{
    if (address->ss_family == AF_INET)
        ((struct sockaddr_in *)address)->sin_port = htons(port);
    else
        ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
}

/* localhost needs no DNS (RFC 6761, 6.3). */
static int find_addresses(struct arena *a, struct str host, struct sockaddr_storage **v, size_t *n,
                          struct error *err)
{
    struct dns_answer answer;

    *v = ARENA_ARRAY(a, 2, struct sockaddr_storage);
    *n = 1;
    if (str_ieq(host, STR("localhost")))
        return *n = 2, read_literal(STR("127.0.0.1"), *v), read_literal(STR("::1"), *v + 1), 0;
    if (read_literal(host, *v))
        return 0;
    if (dns_lookup_addresses(a, host, v, n, &answer, err) < 0)
        return -1;
    return *n > 0 ? 0 : fail(err, ERR_TRY_LATER, "its host has no address in DNS");
}

static struct dial *dial_inet(const struct dial_target *target, int64_t timeout_ms,
                              struct error *err)
{
    struct arena *a = arena_new();
    struct sockaddr_storage *v;
    struct error why = {0};
    struct dial *d = NULL;
    size_t n;

    if (find_addresses(a, target->host, &v, &n, &why) == 0) {
        for (size_t i = 0; d == NULL && i < n && i < ADDRESSES_TRIED; i++) {
            why = (struct error){0};
            set_port(&v[i], target->port);
            d = dial_open(&v[i], NULL, timeout_ms, &why);
        }
    }
    arena_free(&a);
    return d != NULL ? d : fail_null(err, why.kind, "%s", why.text);
}

PARKS struct dial *dial_target_open(const struct dial_target *target, int64_t timeout_ms,
                                    struct error *err)
{
    struct sockaddr_storage to = {.ss_family = AF_UNIX};
    struct sockaddr_un *un = (struct sockaddr_un *)&to;

    if (target->port != 0)
        return dial_inet(target, timeout_ms, err);
    memcpy(un->sun_path, target->host.p, target->host.n); /* how long it may be was looked at */
    return dial_open(&to, NULL, timeout_ms, err);
}
