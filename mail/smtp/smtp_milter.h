/* smtp_milter.h - milters in an SMTP session: which of them hear of it, and what their word means here.
 *
 * Hooks stand where the commands are handled: 0: go on; 1: the refusal is written already (and perhaps the phase is CLOSING).
 * LMTP goes past milters (a neighbour has filtered), and so do milter_networks_skipped and, with milter_submission = no,
 * whoever logged in. With no milter in the settings nothing here costs anything. */
#pragma once
#include "mail/queue/submit.h"
#include "mail/smtp/smtp_internal.h"

/* Reads the setting; ERR_SYNTAX says what is wrong with it. Per worker. */
int smtp_milter_start(struct error *err);
void smtp_milter_stop(void);

/* --- hooks ------------------------------------------------------------------------------------- */
PARKS int smtp_milter_connect(struct smtp_session *s);                       /* before the greeting */
PARKS int smtp_milter_helo(struct smtp_session *s);                          /* s->helo is set; refused: the phase is START */
/* args as the client gave them, "FROM:<...> ..." and "TO:<...> ...", in an arena. s->tx.sender is set. */
PARKS int smtp_milter_mail(struct smtp_session *s, struct str args);
PARKS int smtp_milter_rcpt(struct smtp_session *s, struct str args);         /* of a recipient that we would take */
PARKS int smtp_milter_unknown(struct smtp_session *s, struct str line);
void smtp_milter_forget(struct smtp_session *s);        /* STARTTLS: what was said does not count; the connections stay */
void smtp_milter_close(struct smtp_session *s);         /* the session ends, or another client begins one (XCLIENT) */

/* --- the end of the message ---------------------------------------------------------------------- */
struct smtp_milter_result {
    struct str message;                 /* given: as received, or with our own changes; answer: as changed, in the transaction's arena */
    size_t room_size;                   /* bytes before it that may be overwritten; kept, or that of the changed message */
    bool is_sender_changed;
    struct str sender;                  /* empty: the null path */
    struct str *added, *removed;        /* recipients: plain addresses; those removed are paths of s->tx.rcpts */
    size_t added_count, removed_count;
    struct str quarantine;              /* to be held, and why; empty: not */
    bool is_discarded;                  /* to be answered with 250 and thrown away */
    int code;                           /* refused with this code and the next two; 0: not */
    struct str enhanced, text;
};

/* ERR_CANCELLED: the server is stopping; ERR_TOO_BIG: the header. A refusal with 421 has set the phase to CLOSING. */
PARKS int smtp_milter_message(struct smtp_session *s, struct smtp_milter_result *out, struct error *err);

/* The same for a submission: 0: m is as the milters want it; 1: refused or discarded, and the client was told; -1: err. */
PARKS int smtp_milter_submit(struct smtp_session *s, struct submit *m, struct error *err);
