/* smtp_reports.h - messages to addresses of ours that take other servers' reports (mail/store/report_address.h). */
#pragma once
#include "mail/queue/submit.h"
#include "mail/smtp/smtp_internal.h"

/* Keeps the report in a message that came for such an address; the same one is kept once. ERR_TRY_LATER: not now;
 * ERR_SYNTAX: there is no report to be kept, and nobody else to get the message. Where there is, the addresses without people
 * have a reason in the submission. */
PARKS int smtp_reports_keep(struct smtp_session *s, struct submit *m, struct error *err);
