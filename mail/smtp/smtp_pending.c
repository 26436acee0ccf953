/* smtp_pending.c - to be replaced by submit_report.c. */
#include "mail/queue/submit_report.h"

void submit_report_taken(const struct submit *s)
{
}
