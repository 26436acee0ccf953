/* iprev.h - does the client's address have a name that leads back to it? (RFC 8601, 2.7.3) */
#pragma once
#include <sys/socket.h>
#include "server/base/arena.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

enum iprev_result {
    IPREV_PASS,
    IPREV_FAIL,                                         /* there are names, and none leads back */
    IPREV_TEMPERROR,                                    /* DNS could not say */
    IPREV_PERMERROR,                                    /* the address has no name at all */
};

struct iprev_answer {
    enum iprev_result result;
    struct str name;                                    /* the confirmed one; empty without a pass */
};

PARKS void iprev_check(struct arena *a, const struct sockaddr_storage *client, struct iprev_answer *out);

const char *iprev_result_name(enum iprev_result r);
