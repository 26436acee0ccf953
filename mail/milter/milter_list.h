/* milter_list.h - the setting `milters`: which filters there are, where, and what happens when one is away.
 *
 *   inet:localhost:11332, inet:[::1]:8891=accept, unix:/run/clamav/milter.sock=reject */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/dial_target.h"

#define MILTERS_MAX 16

/* When it cannot be reached, takes too long or talks nonsense. */
enum milter_away { MILTER_AWAY_TEMPFAIL, MILTER_AWAY_ACCEPT, MILTER_AWAY_REJECT };

struct milter_target {
    struct str name;                                    /* as in the setting, for logs */
    struct dial_target where;
    enum milter_away away;
};

struct milter_list {
    struct milter_target *v;
    size_t n;
};

/* Between entries stand commas or blanks. The arena holds it all. ERR_SYNTAX names what is wrong. */
int milter_list_parse(struct arena *a, struct str setting, struct milter_list *out, struct error *err);
