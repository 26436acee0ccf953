/* admission.h - how many connections this worker has, and how many from one address.
 *
 * An IPv6 client is its /64, for a single host owns that many addresses. This machine's own
 * addresses and unix sockets are not counted by address. */
#pragma once
#include <stdbool.h>
#include <sys/socket.h>

/* False: that address has config.connections_per_address_max already, and nothing was counted. */
bool admission_enter(const struct sockaddr_storage *peer);
void admission_leave(const struct sockaddr_storage *peer);      /* of one that entered */
bool admission_is_loopback(const struct sockaddr_storage *address);      /* a unix socket is, too */
void admission_fini(void);
