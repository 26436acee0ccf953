/* dial_target.h - a neighbour named in a setting: inet:host:port, inet:[::1]:port or unix:/path.
 *
 * For filters, scanners and the like, which the administrator puts beside this server: localhost needs no DNS (RFC 6761, 6.3),
 * and any address is good. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/dial.h"
#include "server/run/fiber.h"

struct dial_target {
    struct str host;                                    /* a name or an address; of a unix socket its path */
    uint16_t port;                                      /* 0: a unix socket */
};

/* Borrows from the text. False: it is no such name. */
bool dial_target_parse(struct str text, struct dial_target *out);

/* Fails as dial_open() does, and with what DNS says. timeout_ms is that of each address tried. */
PARKS struct dial *dial_target_open(const struct dial_target *target, int64_t timeout_ms, struct error *err);
