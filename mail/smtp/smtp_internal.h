/* smtp_internal.h - the session and the mail transaction, shared by the files of this folder. */
#pragma once
#include "mail/smtp/smtp.h"
#include "mail/smtp/smtp_parse.h"
#include "mail/store/trace.h"
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/log.h"
#include "server/directory/login_watch.h"
#include "server/run/conn.h"

#define SMTP_SESSION_MAGIC 0x536d7470u
#define SMTP_LINE_MAX 12288             /* AUTH needs the most (RFC 4954, 4) */

/*   START --EHLO--> READY --MAIL--> MAIL --RCPT--> RCPT --DATA, BDAT LAST--> READY
 *   RCPT may repeat; BDAT without LAST leads to CHUNKS. EHLO leads to READY from anywhere but START's TLS
 *   demands; RSET from MAIL, RCPT and CHUNKS (RFC 5321, 4.1.4; RFC 3030, 2). */
enum smtp_phase { SMTP_START, SMTP_READY, SMTP_MAIL, SMTP_RCPT, SMTP_CHUNKS, SMTP_CLOSING };
#define IN(phase) (1u << SMTP_##phase)

/* One accepted RCPT: the accounts it led to are accounts[first .. first + count - 1] of the transaction. */
struct smtp_recipient {
    struct str path;                    /* as the client wrote it */
    size_t first, count;
};

/* Why a message that is being read will be refused once it has ended. */
enum smtp_fault { FAULT_NONE, FAULT_TOO_BIG, FAULT_BARE_LF, FAULT_MEMORY };

struct smtp_tx {
    struct str sender;                  /* as it goes into Return-Path; empty: the null path */
    bool is_utf8;                       /* SMTPUTF8 was asked for */
    int64_t size_declared;              /* by SIZE; 0: not */
    struct smtp_recipient *rcpts;
    size_t rcpt_count, rcpt_room;
    int64_t *accounts;                  /* recipients that lead to the same ones share them */
    size_t account_count, account_room;
    struct buf message;                 /* trace fields, then what the client sent */
    size_t message_charged;             /* bytes counted in the worker's message memory */
    size_t trace_size;
    int64_t end_ms;                     /* by when all chunks must have come */
    enum smtp_fault fault;
    int64_t trace_id;                   /* of the message; 0: none has begun */
    char trace_text[TRACE_ID_TEXT_SIZE];/* the same for people: Received, answers, the log */
    struct str client_name;             /* as Received has it */
};

struct smtp_session {
    unsigned magic;
    enum smtp_role role;
    enum smtp_phase phase;
    struct conn *conn;
    struct log log;
    struct arena *arena;                /* the session's: account */
    struct arena *tx_arena;
    struct arena *command_arena;
    struct str helo;                    /* in helo_text: a client may say EHLO as often as it likes */
    char helo_text[SMTP_DOMAIN_SIZE_MAX];
    bool is_esmtp;
    bool is_logged_in;
    int64_t account_id;
    struct login_watch login;           /* for as long as they may */
    struct str account_address;
    unsigned error_count;
    struct smtp_tx tx;
};

/* --- smtp_reply.c ------------------------------------------------------------------------------ */
/* One line, "250 2.1.0 text"; enhanced may be NULL. Counts 4xx and 5xx as errors. Always 0, so that handlers can return it. */
PARKS int smtp_reply(struct smtp_session *s, int code, const char *enhanced, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
PARKS int smtp_reply_error(struct smtp_session *s, const struct error *err);

/* --- smtp_transaction.c ------------------------------------------------------------------------ */
PARKS int smtp_cmd_mail(struct smtp_session *s, struct str args, struct error *err);
PARKS int smtp_cmd_rcpt(struct smtp_session *s, struct str args, struct error *err);
PARKS int smtp_cmd_rset(struct smtp_session *s, struct str args, struct error *err);
void smtp_tx_reset(struct smtp_session *s);

/* --- smtp_data.c ------------------------------------------------------------------------------- */
PARKS int smtp_cmd_data(struct smtp_session *s, struct str args, struct error *err);
PARKS int smtp_cmd_bdat(struct smtp_session *s, struct str args, struct error *err);
void smtp_message_discard(struct smtp_tx *tx);

/* --- smtp_deliver.c ---------------------------------------------------------------------------- */
PARKS void smtp_trace_begin(struct smtp_session *s);    /* Return-Path and Received into the message */
PARKS int smtp_deliver(struct smtp_session *s, struct error *err);

/* --- smtp_auth.c ------------------------------------------------------------------------------- */
bool smtp_auth_is_offered(const struct smtp_session *s);
PARKS int smtp_cmd_auth(struct smtp_session *s, struct str args, struct error *err);
