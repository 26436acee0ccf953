/* report_address.h - addresses of ours to which other servers send their reports.
 *
 * The local parts in report_addresses take reports in each domain of ours without an account; postmaster and abuse, which
 * lead to people anyway, take them too (RFC 5965 feedback is often sent there). */
#pragma once
#include <stdbool.h>
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

/* local: without quotes; a +detail does not matter. */
bool report_address_is(struct str local);
bool report_address_has_no_people(struct str local);    /* of report_addresses itself */
/* Keeps the report in a message that came to such an address, for "merpati report"; a message without one, or with a broken
 * one, is let pass and is_report false. -1 with ERR_TRY_LATER when it could not be kept now: the sender should come again. The same report is kept
 * once; of too many the rest is left out, and is_report all the same. */
PARKS int report_address_keep(struct str message, bool *is_report, struct error *err);
