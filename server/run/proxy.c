/* proxy.c - reading a PROXY v2 header: signature, command, family, size, addresses, then TLVs that we skip. */
#include "server/run/proxy.h"

#include <netinet/in.h>
#include <string.h>

#define SIGNATURE      "\r\n\r\n\0\r\nQUIT\n"
#define SIGNATURE_SIZE 12
#define COMMAND_LOCAL  0x20
#define COMMAND_PROXY  0x21
#define FAMILY_UNSPEC  0x00
#define FAMILY_TCP4    0x11
#define FAMILY_TCP6    0x21
#define FAMILY_UNIX    0x31

static void set_v4(struct sockaddr_storage *to, const char *address, const char *port)
{
    struct sockaddr_in in = {.sin_family = AF_INET};

    memcpy(&in.sin_addr, address, 4);
    memcpy(&in.sin_port, port, 2);
    memcpy(to, &in, sizeof in);
}

static void set_v6(struct sockaddr_storage *to, const char *address, const char *port)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

    memcpy(&in6.sin6_addr, address, 16);
    memcpy(&in6.sin6_port, port, 2);
    if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr))
        set_v4(to, address + 12, port);
    else
        memcpy(to, &in6, sizeof in6);
}

static enum proxy_result parse_addresses(unsigned char family, struct str body,
                                         struct proxy_header *out)
{
    switch (family) {
    case FAMILY_UNSPEC:
    case FAMILY_UNIX:
        return PROXY_LOCAL;
    case FAMILY_TCP4:
        if (body.n < 12)
            return PROXY_MALFORMED;
        set_v4(&out->source, body.p, body.p + 8);
        set_v4(&out->destination, body.p + 4, body.p + 10);
        return PROXY_ADDRESSES;
    case FAMILY_TCP6:
        if (body.n < 36)
            return PROXY_MALFORMED;
        set_v6(&out->source, body.p, body.p + 32);
        set_v6(&out->destination, body.p + 16, body.p + 34);
        return PROXY_ADDRESSES;
    }
    return PROXY_MALFORMED; /* datagrams, families to come */
}

enum proxy_result proxy_header_parse(struct str input, struct proxy_header *out)
{
    const unsigned char *p = (const unsigned char *)input.p;
    size_t known = input.n < SIGNATURE_SIZE ? input.n : SIGNATURE_SIZE;

    memset(out, 0, sizeof *out);
    if (known > 0 && memcmp(p, SIGNATURE, known) != 0)
        return PROXY_MALFORMED;
    if (input.n < PROXY_HEADER_MIN)
        return PROXY_INCOMPLETE;
    out->size = PROXY_HEADER_MIN + ((size_t)p[14] << 8 | p[15]);
    if (out->size > PROXY_HEADER_MAX || (p[12] != COMMAND_LOCAL && p[12] != COMMAND_PROXY))
        return PROXY_MALFORMED;
    if (input.n < out->size)
        return PROXY_INCOMPLETE;
    if (p[12] == COMMAND_LOCAL)
        return PROXY_LOCAL;
    return parse_addresses(p[13], str_of(input.p + PROXY_HEADER_MIN, out->size - PROXY_HEADER_MIN),
                           out);
}
