/* filter.h - what an account's scripts make of its mail: the filter of mail/queue/submit.h.
 *
 *   a copy for an account -> its domain's scripts, its own, its domain's again (mail/sieve/sieve.h) -> filings, answers
 *
 * Whatever goes wrong in a script, the message is kept in the INBOX; what the database cannot tell puts it off. */
#pragma once
#include "mail/queue/submit.h"

extern const struct submit_filter filter_scripts_filter;
