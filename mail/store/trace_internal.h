/* trace_internal.h - what writing and searching the trace share. */
#pragma once
#include "mail/store/trace.h"

void trace_lane_set(int64_t number);

/* "ani@Example.org" as "example.org ani": lower case, the domain first, so that the addresses of a domain are neighbours. */
struct str trace_address_key(struct arena *a, struct str address);
struct str trace_key_address(struct arena *a, struct str key);

/* Cut to size_max bytes; valid UTF-8 on one line. */
struct str trace_clean(struct arena *a, struct str text, size_t size_max);
