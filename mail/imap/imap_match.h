/* imap_match.h - mailbox patterns of LIST: "*" is anything, "%" anything but '/' (RFC 9051,
 * 6.3.9).
 *
 * All positions of the pattern are tried at once, one bit each, so the time is bounded by name
 * size times pattern size / 64, whatever wildcards a client sends. */
#pragma once
#include <stdbool.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

struct imap_pattern;

/* The pattern is UTF-8. ERR_LIMIT when it is longer than a path can be. */
struct imap_pattern *imap_pattern_new(struct arena *a, struct str pattern, struct error *err);
/* Can it match a name that begins so? */
bool imap_pattern_may_begin(const struct imap_pattern *p, struct str beginning);
bool imap_pattern_matches(const struct imap_pattern *p, struct str path);
