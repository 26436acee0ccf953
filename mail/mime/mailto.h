/* mailto.h - mailto: URIs (RFC 6068), as records in DNS name addresses for reports. */
#pragma once
#include <stdbool.h>
#include "server/base/arena.h"
#include "server/base/str.h"

#define MAILTO_SIZE_MAX 1000

/* The one address of "mailto:local@domain?subject=...", decoded; the local part is without quotes. False on anything else, and on
 * an address with spaces, control characters or angle brackets. */
bool mailto_parse(struct arena *a, struct str uri, struct str *address);
/* The value of "subject" or another field behind the "?", decoded; empty when there is none, or it is no UTF-8. */
struct str mailto_field(struct arena *a, struct str uri, struct str name);
