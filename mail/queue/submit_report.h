/* submit_report.h - senders are told of what a submission came to where they asked for it, or must know (RFC 3461, 5.2). */
#pragma once
#include "mail/queue/submit.h"

/* After submit_message() took it: "delivered" and "expanded" where NOTIFY has SUCCESS, "failed" for whom it did not take while
 * others were. */
PARKS void submit_report_taken(const struct submit *s);
