/* system_mail.h - a message of the server's own to one person: reports, answers of filters, notices.
 *
 * Its sender is the null path, so that nothing answers it. Whom it is for may be here, elsewhere, or behind an address of ours
 * under which mail was passed on (SRS). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/queue/submit.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

/* Where an address leads. */
struct system_mail_target {
    struct str address;                                 /* for an envelope */
    struct routes routes;
};
/* ERR_DENIED: nowhere, for ever, and why; anything else: try again. */
PARKS int system_mail_find(struct arena *a, struct str address, struct system_mail_target *out, struct error *err);

struct system_mail {
    const struct system_mail_target *to;
    struct str message;                                 /* header and body, CRLF */
    struct str language;                                /* of a report about it; may be empty */
    bool is_utf8, requires_tls;
    bool waits_for_queue;                               /* as submit.h has it */
    const struct submit_copy *copies;                   /* beside that of whom it is for */
    size_t copy_count;
    const struct outbound_ends *ends;                   /* what the same transaction ends; NULL: nothing */
};
PARKS int system_mail_send(const struct system_mail *m, struct error *err);
