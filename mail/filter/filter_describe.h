/* filter_describe.h - the actions of a run in words, for dry runs and for "why is this here?". */
#pragma once
#include "mail/sieve/sieve.h"
#include "server/base/arena.h"
#include "server/base/str.h"

/* "fileinto Lists (flags \Seen)", "redirect x@example.net": one line. */
struct str filter_describe_action(struct arena *a, const struct sieve_action *action);
/* "\Seen $todo"; empty: none. */
struct str filter_describe_flags(struct arena *a, const struct sieve_target *target);
/* `"subject" is "Offer", which meets "offer"`: why a condition was true; empty when nothing was compared. */
struct str filter_describe_note(struct arena *a, const struct sieve_note *note);
