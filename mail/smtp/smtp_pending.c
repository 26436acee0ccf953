/* smtp_pending.c - to be replaced by smtp_verdict.c, smtp_author.c and submit_report.c. */
#include "mail/queue/submit_report.h"
#include "mail/smtp/smtp_author.h"
#include "mail/smtp/smtp_verdict.h"

int smtp_verdict_make(struct smtp_session *s, struct str message, size_t room_size, struct smtp_verdict *out,
                      struct error *err)
{
    *out = (struct smtp_verdict){.message = message, .room_size = room_size};
    return 0;
}

int smtp_author_prepare(struct smtp_session *s, struct str message, size_t room_size, struct submit *m,
                        struct error *err)
{
    m->is_ours = true;
    return 0;
}

void submit_report_taken(const struct submit *s)
{
}
