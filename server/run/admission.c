/* admission.c - a map from address to a count, which is kept in the value pointer itself. */
#include "server/run/admission.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdint.h>

#include "server/base/map.h"
#include "server/run/config.h"

static struct map *counts;

static struct str address_key(const struct sockaddr_storage *peer)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)peer;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)peer;

    if (peer->ss_family == AF_INET)
        return str_of((const char *)&in->sin_addr, 4);
    return str_of((const char *)&in6->sin6_addr, 8);
}

bool admission_is_loopback(const struct sockaddr_storage *address)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;

    if (address->ss_family == AF_INET)
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    if (address->ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
               (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) && in6->sin6_addr.s6_addr[12] == 127);
    return address->ss_family == AF_UNIX;
}

static bool is_counted(const struct sockaddr_storage *peer)
{
    return (peer->ss_family == AF_INET || peer->ss_family == AF_INET6) &&
           !admission_is_loopback(peer);
}

bool admission_enter(const struct sockaddr_storage *peer)
{
    struct str key = address_key(peer);
    uintptr_t count;

    if (!is_counted(peer))
        return true;
    if (counts == NULL)
        counts = map_new();
    count = (uintptr_t)map_get(counts, key);
    if (count >= (uintptr_t)config.connections_per_address_max)
        return false;
    map_put(counts, key, (void *)(count + 1));
    return true;
}

void admission_leave(const struct sockaddr_storage *peer)
{
    struct str key = address_key(peer);
    uintptr_t count;

    if (!is_counted(peer))
        return;
    count = (uintptr_t)map_get(counts, key);
    assert(count > 0);
    if (count == 1)
        map_remove(counts, key);
    else
        map_put(counts, key, (void *)(count - 1));
}

void admission_fini(void)
{
    if (counts != NULL)
        map_free(&counts);
}
