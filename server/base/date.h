/* date.h - dates as mail writes them, to and from seconds or microseconds of Unix time. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/buf.h"
#include "server/base/str.h"

int64_t time_now_us(void);                                      /* wall clock, microseconds since 1970 */

/* RFC 5322, 3.3 with the obsolete forms of 4.3: "Mon, 23 Nov 2026 10:00:00 +0700 (WIB)". Comments,
 * missing seconds, two-digit years and named zones are understood. offset_min may be NULL. */
bool date_parse_rfc5322(struct str s, int64_t *unix_s, int *offset_min);
void date_add_rfc5322(struct buf *out, int64_t unix_s, int offset_min);

/* RFC 3339: "2026-11-23T03:00:00Z". */
bool date_parse_rfc3339(struct str s, int64_t *unix_us);
void date_add_rfc3339(struct buf *out, int64_t unix_us);        /* milliseconds, Z */

/* IMAP date-time (RFC 9051, 9): "23-Nov-2026 10:00:00 +0700"; day may be " 3". Always printed in UTC. */
bool date_parse_imap(struct str s, int64_t *unix_s);
void date_add_imap(struct buf *out, int64_t unix_s);
/* IMAP date: "23-Nov-2026", as days since 1970-01-01. */
bool date_parse_imap_day(struct str s, int64_t *day);

int64_t days_from_civil(int year, int month, int day);          /* proleptic Gregorian, 1970-01-01 = 0 */
void civil_from_days(int64_t days, int *year, int *month, int *day);
