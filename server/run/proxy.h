/* proxy.h - the PROXY protocol, version 2: a load balancer tells who the client is.
 *
 * A header stands before the connection's first byte. Only the binary version is understood. */
#pragma once
#include <stddef.h>
#include <sys/socket.h>
#include "server/base/str.h"

#define PROXY_HEADER_MIN 16                             /* with this many bytes the size is known */
#define PROXY_HEADER_MAX 4096                           /* more TLVs than anybody sends */

enum proxy_result {
    PROXY_INCOMPLETE,    /* so far it may become one             */
    PROXY_MALFORMED,
    PROXY_LOCAL,         /* the balancer's own: no address given */
    PROXY_ADDRESSES,
};

struct proxy_header {
    size_t size;                                        /* of the header, once PROXY_HEADER_MIN bytes are there */
    struct sockaddr_storage source, destination;        /* PROXY_ADDRESSES only */
};

enum proxy_result proxy_header_parse(struct str input, struct proxy_header *out);
