/* scanner.h - programs beside this server that look at messages, as the settings name them: ClamAV and Rspamd.
 *
 * Both are optional, and asked at the same time. Neither is trusted to be there: each has a time, a size and a number of
 * messages at once, and one that fails is left alone for a while (scan_breaker.h). What they said are facts; what becomes of
 * the message is decided where it came in (mail/smtp/smtp_scan.h). */
#pragma once
#include "mail/spam/rspamd.h"

enum virus_action { VIRUS_REJECT, VIRUS_HOLD, VIRUS_JUNK, VIRUS_TAG };

enum scan_state {
    SCAN_OFF,                                           /* there is no such scanner */
    SCAN_SAID,
    SCAN_SKIPPED,                                       /* the message is too large for it */
    SCAN_FAILED,                                        /* it could not say */
};

struct scan_result {
    enum scan_state clamav, rspamd;
    struct str clamav_why, rspamd_why;                  /* of SCAN_SKIPPED and SCAN_FAILED: a sentence */
    struct str virus;                                   /* what ClamAV found; empty: nothing */
    struct rspamd_answer spam;                          /* of Rspamd, when it said something */
};

/* Reads the settings; ERR_SYNTAX says what is wrong with them. Per worker. */
int  scanner_start(struct error *err);
void scanner_stop(void);
bool scanner_is_on(void);                               /* there is one at least */
enum virus_action scanner_virus_action(void);
bool scanner_must_say(void);                            /* without all their answers no message is taken */

/* Everything in the arena, or borrowed from the mail. -1: ERR_CANCELLED alone. */
PARKS int scanner_scan(struct arena *a, const struct rspamd_mail *mail, struct scan_result *out, struct error *err);

/* For the log and the trace: "clamav: clean; rspamd: add header, 7.70 of 15.00 (TEST_PILLS 7.50, TEST_USER 0.10)". */
struct str scan_result_text(struct arena *a, const struct scan_result *r);
