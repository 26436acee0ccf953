/* smtp_reports.h - messages to addresses of ours that take other servers' reports (mail/store/report_address.h). */
#pragma once
#include "mail/queue/submit.h"
#include "mail/smtp/smtp_internal.h"

/* Keeps the report in a message that came for such an address; the same one is kept once. ERR_TRY_LATER: not now;
 * ERR_SYNTAX: one of them has nobody behind it, and there is no report to be kept. */
PARKS int smtp_reports_keep(struct smtp_session *s, const struct submit *m, struct error *err);
