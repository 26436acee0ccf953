/* net.c - parses and compares networks. Every address is kept in its 128-bit form, so that
 * there is one comparison and no difference between an IPv4 client and a mapped one. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include "server/base/net.h"

#define IPV4_PREFIX_BITS 96

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static void map_ipv4(uint8_t out[16], const void *ipv4)
{
    memcpy(out, mapped_prefix, sizeof mapped_prefix);
    memcpy(out + sizeof mapped_prefix, ipv4, 4);
}

bool net_address(const struct sockaddr_storage *peer, uint8_t out[16])
{
    if (peer->ss_family == AF_INET) {
        map_ipv4(out, &((const struct sockaddr_in *)peer)->sin_addr);
        return true;
    }
    if (peer->ss_family == AF_INET6) {
        memcpy(out, &((const struct sockaddr_in6 *)peer)->sin6_addr, 16);
        return true;
    }
    return false;
}

/* Sets address and the most bits that a length of this family may have. */
static bool parse_address(struct str text, struct net *out, unsigned *family_bits)
{
    char c[INET6_ADDRSTRLEN];
    uint8_t ipv4[4];

    if (text.n == 0 || text.n >= sizeof c || memchr(text.p, '\0', text.n) != NULL)
        return false;
    memcpy(c, text.p, text.n);
    c[text.n] = '\0';
    if (inet_pton(AF_INET, c, ipv4) == 1) {
        map_ipv4(out->address, ipv4);
        *family_bits = 32;
        return true;
    }
    *family_bits = 128;
    return inet_pton(AF_INET6, c, out->address) == 1;
}

bool net_parse(struct str text, struct net *out)
{
    struct str address, length;
    unsigned family_bits;
    uint32_t bits;

    *out = (struct net){.is_unix = str_ieq(text, STR("unix"))};
    if (out->is_unix)
        return true;
    bool has_length = str_cut(text, '/', &address, &length);
    if (!parse_address(address, out, &family_bits))
        return false;
    bits = family_bits;
    if (has_length && (!str_to_u32(length, &bits) || bits > family_bits))
        return false;
    out->prefix_bits = family_bits == 32 ? IPV4_PREFIX_BITS + bits : bits;
    return true;
}

bool net_contains(const struct net *net, const struct sockaddr_storage *peer)
{
    uint8_t address[16];
    unsigned bytes = net->prefix_bits / 8, rest = net->prefix_bits % 8;

    if (peer->ss_family == AF_UNIX)
        return net->is_unix;
    if (net->is_unix || !net_address(peer, address))
        return false;
    if (memcmp(net->address, address, bytes) != 0)
        return false;
    return rest == 0 || (net->address[bytes] ^ address[bytes]) >> (8 - rest) == 0;
}

static bool next_entry(struct str *rest, struct str *entry)
{
    while (rest->n > 0 && strchr(", \t", rest->p[0]) != NULL)
        *rest = str_from(*rest, 1);
    size_t n = 0;
    while (n < rest->n && (rest->p[n] == '\0' || strchr(", \t", rest->p[n]) == NULL))
        n++;
    *entry = str_head(*rest, n);
    *rest = str_from(*rest, n);
    return n > 0;
}

bool net_list_contains(struct str list, const struct sockaddr_storage *peer)
{
    struct str entry;
    struct net net;

    while (next_entry(&list, &entry))
        if (net_parse(entry, &net) && net_contains(&net, peer))
            return true;
    return false;
}

bool net_list_valid(struct str list, struct str *bad)
{
    struct str entry;
    struct net net;

    while (next_entry(&list, &entry)) {
        if (net_parse(entry, &net))
            continue;
        if (bad != NULL)
            *bad = entry;
        return false;
    }
    return true;
}

static void clear_host(uint8_t *p, unsigned size, unsigned bits)
{
    for (unsigned i = 0; i<size; i++, bits = bits> 8 ? bits - 8 : 0)
        if (bits < 8)
            p[i] &= (uint8_t)(0xff00 >> bits);
}

struct str net_text(struct arena *a, const struct sockaddr_storage *peer, unsigned ipv4_bits,
                    unsigned ipv6_bits)
{
    char text[INET6_ADDRSTRLEN];
    uint8_t address[16];

    if (!net_address(peer, address))
        return STR("unix");
    bool is_ipv4 = memcmp(address, mapped_prefix, sizeof mapped_prefix) == 0;
    uint8_t *p = is_ipv4 ? address + sizeof mapped_prefix : address;
    unsigned size = is_ipv4 ? 4 : 16, bits = is_ipv4 ? ipv4_bits : ipv6_bits;
    clear_host(p, size, bits);
    inet_ntop(is_ipv4 ? AF_INET : AF_INET6, p, text, sizeof text);
    return bits == size * 8 ? arena_str(a, str_c(text)) : arena_printf(a, "%s/%u", text, bits);
}
