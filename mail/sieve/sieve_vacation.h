/* sieve_vacation.h - whether an automatic answer may go out at all (RFC 3834; RFC 5230, 4.5 and 4.6). */
#pragma once
#include "mail/sieve/sieve_run_internal.h"

/* NULL: it may; else why not, in a few words for people. addresses: the script's :addresses. Whether the sender was told
 * before is not asked here. */
const char *sieve_vacation_refusal(struct sieve_run *r, const struct str *addresses, size_t count);
