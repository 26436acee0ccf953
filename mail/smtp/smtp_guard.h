/* smtp_guard.h - what an account submits passes the guard (mail/queue/guard.h). */
#pragma once
#include "mail/queue/submit.h"
#include "mail/smtp/smtp_internal.h"

/* Sets m->held when the account seems to be misused, unless it is held for another reason already. */
PARKS int smtp_guard_submit(struct smtp_session *s, struct submit *m, struct error *err);
