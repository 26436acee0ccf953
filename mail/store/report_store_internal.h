/* report_store_internal.h - what the files of the report store share. */
#pragma once
#include "mail/store/report_store.h"

int32_t report_today(void);                     /* UTC, days since 1970-01-01 */
struct str report_kind_name(enum report_kind kind);           /* "dmarc", "tls", "feedback" */
/* Valid UTF-8 of at most about size_max bytes; control characters but LF become spaces. */
struct str report_clean(struct arena *a, struct str s, size_t size_max);
