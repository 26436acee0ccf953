/* dsn_text.h - the sentences of delivery reports, for people who have never heard of SMTP: what happened, and what
 * they can do. English and Indonesian. Plain ASCII, so that they need no encoding. */
#pragma once
#include "mail/queue/dsn.h"

struct dsn_words {
    const char *language;                               /* RFC 5646 */
    const char *subject[5]; /* by enum dsn_action; also the first words of the text */
    const char *greeting;                               /* %.*s: our name */
    const char *heading[5]; /* by enum dsn_action: above the recipients it concerns */
    const char *label_subject, *label_date;
    const char *remote_said, *we_said;                  /* %.*s: the server that said it */
    const char *retry_until;                            /* %s: a date */
    const char *not_listed;                             /* %zu: how many recipients are only counted */
    const char *whole_attached, *header_attached;
    const char *trace_id;                               /* %.*s */
};

const struct dsn_words *dsn_words(const char *language);
/* Why, and what to do, for an enhanced status code (RFC 3463 and its registry) of what failed. "" where there is nothing to do. */
const char *dsn_advice(const char *language, enum dsn_action action, struct str status);
