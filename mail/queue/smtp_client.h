/* smtp_client.h - one outgoing SMTP or LMTP session (RFC 5321, 2033), from greeting to QUIT.
 *
 * Each step ends in one of three ways. SMTP_DONE: go on. SMTP_REFUSED: the server said no and the session goes on
 * (smtp_client_answer). SMTP_BROKEN: the connection is of no more use (the error says why; an answer may be there too,
 * such as a 421). All waits are bounded by the delivery_*_timeout settings. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/queue/remote.h"
#include "mail/queue/smtp_answer.h"
#include "server/run/dial.h"

struct smtp_client;

enum smtp_outcome { SMTP_DONE, SMTP_REFUSED, SMTP_BROKEN };

enum {
    SMTP_CAN_PIPELINE = 1,      /* RFC 2920 */
    SMTP_CAN_8BIT = 2,          /* RFC 6152 */
    SMTP_CAN_BINARY = 4,        /* RFC 3030 */
    SMTP_CAN_CHUNK = 8,         /* RFC 3030 */
    SMTP_CAN_UTF8 = 16,         /* RFC 6531 */
    SMTP_CAN_DSN = 32,          /* RFC 3461 */
    SMTP_CAN_REQUIRETLS = 64,   /* RFC 8689 */
    SMTP_CAN_DELIVER_BY = 128,  /* RFC 2852 */
    SMTP_CAN_PRIORITY = 256,    /* RFC 6710 */
    SMTP_CAN_STARTTLS = 512,    /* RFC 3207 */
    SMTP_CAN_SIZE = 1024,       /* RFC 1870 */
};

struct smtp_capabilities {
    unsigned can;
    uint64_t size_max;          /* 0: not said */
    uint64_t deliver_by_min_s;
    uint32_t rcpt_max, mail_max;/* RFC 9422; 0: not said */
    struct str auth;            /* mechanisms, as listed */
};

/* Takes the connection. `traced`: the dialogue goes to the log under `name`, a host. */
struct smtp_client *smtp_client_new(struct dial **d, bool is_lmtp, struct str name, bool is_traced);
/* Closes at once; a session that can still be spoken to gets a QUIT whose answer nobody waits for. */
void smtp_client_free(struct smtp_client **c);

PARKS enum smtp_outcome smtp_client_greet(struct smtp_client *c, struct error *err);      /* greeting, EHLO or HELO */
bool smtp_client_takes_no_mail(const struct smtp_client *c);   /* its greeting was 521 (RFC 7504) or 554 (RFC 5321, 3.1) */
/* STARTTLS, handshake, EHLO anew. A failed handshake is SMTP_BROKEN with dial_tls_result() to look at. */
PARKS enum smtp_outcome smtp_client_start_tls(struct smtp_client *c, const struct dial_tls *tls, struct error *err);
/* SCRAM-SHA-256, PLAIN or LOGIN, the last two under TLS or to this machine only. ERR_UNSUPPORTED when nothing fits. */
PARKS enum smtp_outcome smtp_client_login(struct smtp_client *c, struct str user, struct str password, struct error *err);

/* One transaction. Fills the answer of each recipient; those of SMTP_REFUSED and SMTP_BROKEN too. Recipients beyond
 * smtp_client_rcpt_max() must not be given. */
PARKS enum smtp_outcome smtp_client_send(struct smtp_client *c, struct arena *a, const struct remote_job *job,
                                         struct remote_recipient **rcpts, size_t rcpt_count, struct error *err);
size_t smtp_client_rcpt_max(const struct smtp_client *c);
/* It may carry another message: nothing went wrong, the peer has not hung up, and no limit is reached. */
bool smtp_client_is_reusable(struct smtp_client *c);

const struct smtp_capabilities *smtp_client_capabilities(const struct smtp_client *c);
const struct smtp_answer *smtp_client_answer(const struct smtp_client *c);   /* the last one; borrowed until the next step */
struct dial *smtp_client_dial(struct smtp_client *c);

/* Reads what EHLO answered; lines as in struct smtp_answer. Pure. */
void smtp_capabilities_parse(struct arena *a, const struct smtp_answer *answer, struct smtp_capabilities *out);
