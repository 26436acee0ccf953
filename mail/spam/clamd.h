/* clamd.h - asks ClamAV's daemon about one message: the command INSTREAM of its protocol (clamd(8)).
 *
 * A connection for each message, which is what clamd closes after a command anyway. How deep archives are opened, and when it
 * gives up on one, is clamd's to limit (MaxScanSize, MaxRecursion, MaxFiles, MaxScanTime); how long we wait is ours. */
#pragma once
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/dial_target.h"
#include "server/run/fiber.h"

#define CLAMD_NAME_SIZE_MAX 100

/* 0: *virus names what was found (printable ASCII without spaces, in the arena); empty: nothing. -1: it could not say:
 * ERR_TRY_LATER (nobody there), ERR_TIMED_OUT, ERR_CLOSED, ERR_CANCELLED, ERR_SYNTAX (that is no clamd), ERR_TOO_BIG (beyond
 * its StreamMaxLength), ERR_UNSUPPORTED (it says that it cannot, and why). */
PARKS int clamd_scan(struct arena *a, const struct dial_target *target, struct str message, int64_t timeout_ms,
                     struct str *virus, struct error *err);

/* The same of one line that it answered. */
int clamd_answer_read(struct arena *a, struct str line, struct str *virus, struct error *err);
