/* sasl_internal.h - the parts of sasl.c that tests and fuzzers take hold of. */
#pragma once
#include "server/directory/sasl.h"

/* "authzid NUL authcid NUL password" (RFC 4616). Slices of the message. */
struct sasl_plain { struct str authzid, name, password; };
int sasl_parse_plain(struct str message, struct sasl_plain *out, struct error *err);
