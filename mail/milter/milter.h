/* milter.h - the conversation with one milter about one SMTP session (Sendmail's protocol, version 6; older ones understood).
 *
 *   m = milter_open(target, macros, &err);                 connects and agrees on what is told
 *   milter_connect, milter_helo                            once, helo perhaps again
 *   milter_mail, milter_rcpt ..., milter_message           for each message; one that came to nothing is aborted with the next
 *   milter_close
 *
 * Steps that the milter does not want are not told and count as MILTER_CONTINUE. Each wait has a deadline: settings
 * milter_connect_timeout, milter_command_timeout, milter_content_timeout. When a call fails (ERR_TRY_LATER: nobody there,
 * ERR_TIMED_OUT, ERR_CLOSED, ERR_SYNTAX: it talks nonsense, ERR_CANCELLED: this server is stopping) the conversation is
 * over and only milter_close remains. One fiber at a time. */
#pragma once
#include <sys/socket.h>
#include "mail/milter/milter_list.h"
#include "mail/milter/milter_mail.h"
#include "server/run/fiber.h"

struct milter;

/* The value of a macro such as "j" or "{client_addr}", as it is now; empty: not known, and not told. */
struct milter_macros {
    struct str (*value)(void *arg, struct str name);
    void *arg;
};

enum milter_decision {
    MILTER_CONTINUE,
    MILTER_ACCEPT,                                      /* nothing more need be told: of the message, or before MAIL of the session */
    MILTER_DISCARD,                                     /* take the message and throw it away */
    MILTER_REFUSE,                                      /* of RCPT: this recipient alone */
};

struct milter_verdict {
    enum milter_decision decision;
    struct milter_refusal refusal;                      /* of MILTER_REFUSE; its text is empty when the milter gave none */
};

/* target is borrowed for as long as the milter lives. */
PARKS struct milter *milter_open(const struct milter_target *target, const struct milter_macros *macros, struct error *err);
void milter_close(struct milter **m);                   /* says QUIT if that needs no wait */
bool milter_is_fresh(struct milter *m);                 /* at rest, and it has not hung up */

/* peer_name: the client's confirmed name, or its address in brackets. */
PARKS int milter_connect(struct milter *m, struct str peer_name, const struct sockaddr_storage *peer, struct str peer_address,
                         struct milter_verdict *out, struct error *err);
PARKS int milter_helo(struct milter *m, struct str name, struct milter_verdict *out, struct error *err);
/* args: the path in angle brackets, then the parameters as they came. */
PARKS int milter_mail(struct milter *m, const struct str *args, size_t count, struct milter_verdict *out, struct error *err);
PARKS int milter_rcpt(struct milter *m, const struct str *args, size_t count, struct milter_verdict *out, struct error *err);
PARKS int milter_unknown(struct milter *m, struct str line, struct milter_verdict *out, struct error *err);
/* DATA, the header, the body, the end. When it agrees, what it changes has been done to the mail. */
PARKS int milter_message(struct milter *m, struct milter_mail *mail, struct milter_verdict *out, struct error *err);
