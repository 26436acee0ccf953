/* net.h - networks as settings name them: "127.0.0.0/8, ::1, 192.0.2.7, unix".
 *
 * An address without a length is that one address. An IPv4 client that reached an IPv6 socket
 * (::ffff:192.0.2.7) counts as IPv4. The word "unix" stands for peers on a unix socket. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "server/base/arena.h"
#include "server/base/str.h"

struct net {
    bool is_unix;
    uint8_t address[16];  /* IPv4 as ::ffff:a.b.c.d */
    unsigned prefix_bits; /* of the 128 */
};

bool net_parse(struct str text, struct net *out);
bool net_contains(const struct net *net, const struct sockaddr_storage *peer);

/* Networks separated by commas or spaces. A list with a bad entry still works for its good ones. */
bool net_list_contains(struct str list, const struct sockaddr_storage *peer);
bool net_list_valid(struct str list,
                    struct str *bad); /* bad: the first entry that is none; may be NULL */

/* The network of that many bits that the peer is in: "192.0.2.0/24", "2001:db8:1:2::/64"; without the length when it is one
 * address; "unix" for a unix socket. */
struct str net_text(struct arena *a, const struct sockaddr_storage *peer, unsigned ipv4_bits,
                    unsigned ipv6_bits);

/* The address without its port as 16 bytes, IPv4 mapped. False for a unix socket. */
bool net_address(const struct sockaddr_storage *peer, uint8_t out[16]);
