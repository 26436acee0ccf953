/* smtp_internal.h - the session and the mail transaction, shared by the files of this folder. */
#pragma once
#include "mail/smtp/smtp.h"
#include "mail/smtp/smtp_params.h"
#include "mail/store/trace.h"
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/log.h"
#include "server/directory/directory.h"
#include "server/directory/login_watch.h"
#include "server/directory/routing.h"
#include "server/run/conn.h"

#define SMTP_SESSION_MAGIC 0x536d7470u
#define SMTP_LINE_MAX 12288             /* AUTH needs the most (RFC 4954, 4) */
#define SMTP_ROOM_SIZE 8192             /* trace fields, verdicts and signatures of nearly every message fit */
#define SMTP_REFUSAL_SIZE 256           /* of what is remembered of a refusal */
#define SMTP_ROUTES_MAX 100000          /* of one message: groups of groups */

/*   START --EHLO--> READY --MAIL--> MAIL --RCPT--> RCPT --DATA, BDAT LAST--> READY
 *   RCPT may repeat; BDAT without LAST leads to CHUNKS. EHLO leads to READY from anywhere but START's TLS
 *   demands; RSET from MAIL, RCPT and CHUNKS (RFC 5321, 4.1.4; RFC 3030, 2). */
enum smtp_phase { SMTP_START, SMTP_READY, SMTP_MAIL, SMTP_RCPT, SMTP_CHUNKS, SMTP_CLOSING };
#define IN(phase) (1u << SMTP_##phase)

/* One accepted RCPT. */
struct smtp_recipient {
    struct str path;                    /* as the client wrote it */
    const struct route *routes;         /* recipients that lead to the same ones share them */
    size_t route_count;
    bool is_group;                      /* as in struct routes */
    unsigned notify;                    /* enum smtp_notify; 0: not said */
    struct str orcpt;                   /* as in smtp_params.h */
};

/* Why a message that is being read will be refused once it has ended. */
enum smtp_fault { FAULT_NONE, FAULT_TOO_BIG, FAULT_LINE_END, FAULT_MEMORY };

struct smtp_tx {
    struct str sender;                  /* as it goes into Return-Path; empty: the null path */
    bool is_utf8;                       /* SMTPUTF8 was asked for */
    struct smtp_mail_params params;     /* what else was asked for */
    const char *over_rate;              /* who sends too many messages: only postmaster takes this one; NULL: nobody */
    int64_t size_max;                   /* smallest limit of the recipients' domains; 0: the server's alone */
    struct smtp_recipient *rcpts;
    size_t rcpt_count, rcpt_room;
    size_t route_count;                 /* of all recipients, shared ones once */
    struct buf message;                 /* SMTP_ROOM_SIZE bytes for fields in front, then what the client sent */
    size_t message_charged;             /* bytes counted in the worker's message memory */
    int64_t end_ms;                     /* by when all chunks must have come */
    bool is_in_body;                    /* of a binary message in chunks */
    enum smtp_fault fault;
    int64_t trace_id;                   /* of the message; 0: none has begun */
    bool is_traced;                     /* the trace knows where it came from */
    struct str *refused;                /* recipients whose refusals are in the trace: the first few */
    size_t refused_count;
    char trace_text[TRACE_ID_TEXT_SIZE];/* the same for people: Received, answers, the log */
    struct str client_name;             /* as Received has it */
};

struct smtp_milters;                    /* smtp_milter.c */

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
    char auth_mechanism[24];            /* of their log-in; empty when a proxy vouches */
    unsigned error_count;
    unsigned mail_count;                /* transactions begun */
    unsigned idle_count;                /* commands since the last message that brought none nearer */
    unsigned unknown_count;             /* recipients that there are not */
    unsigned refusals_traced, refusals_untraced;        /* recipients of the session; untraced: of the transaction */
    char refusal[SMTP_REFUSAL_SIZE];    /* the first since it was emptied: the text of a reply above 399 */
    unsigned marks;                     /* enum smtp_mark */
    bool is_trusted;                    /* of smtp_trusted_networks: may relay, is believed */
    bool is_exempt;                     /* from policies against strangers */
    bool may_xclient;
    bool is_listed_known;               /* the DNS lists were asked */
    bool is_allow_listed;
    bool passed_greylist;               /* by coming again: to be remembered when a message is taken */
    struct str client_name;             /* as XCLIENT gave it, in client_name_text; empty: not */
    char client_name_text[SMTP_DOMAIN_SIZE_MAX];
    struct str listed;                  /* why a block list has the client, in the session's arena; empty: none has */
    struct smtp_milters *milters;       /* NULL: none was told of the session */
    struct smtp_tx tx;
};

/* What was odd about a client that was let in all the same: for filters behind. */
enum smtp_mark {
    SMTP_MARK_EARLY_TALK = 1,           /* it spoke before the greeting */
    SMTP_MARK_AHEAD = 2,                /* it sent commands ahead without being told that it may */
};

/* --- smtp_reply.c ------------------------------------------------------------------------------ */
/* One line, "250 2.1.0 text"; enhanced may be NULL. Counts 4xx and 5xx as errors. Always 0, so that handlers can return it. */
PARKS int smtp_reply(struct smtp_session *s, int code, const char *enhanced, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
PARKS int smtp_reply_error(struct smtp_session *s, const struct error *err);
/* The answer to a whole message, where a bad argument is none (RFC 5321, 4.3.2). */
PARKS int smtp_reply_message_error(struct smtp_session *s, const struct error *err);

/* --- smtp_session.c ------------------------------------------------------------------------------ */
PARKS void smtp_greet(struct smtp_session *s);          /* 220 */
/* Whoever it was, and what they said, is forgotten: after STARTTLS and XCLIENT. */
void smtp_session_forget(struct smtp_session *s);

/* --- smtp_transaction.c ------------------------------------------------------------------------ */
PARKS int smtp_cmd_mail(struct smtp_session *s, struct str args, struct error *err);
PARKS int smtp_cmd_rcpt(struct smtp_session *s, struct str args, struct error *err);
PARKS int smtp_cmd_rset(struct smtp_session *s, struct str args, struct error *err);
void smtp_tx_reset(struct smtp_session *s);
/* May they send to domains that are not ours? Who logged in, and the networks that the operator trusts. */
bool smtp_may_relay(const struct smtp_session *s);

/* --- smtp_data.c ------------------------------------------------------------------------------- */
PARKS int smtp_cmd_data(struct smtp_session *s, struct str args, struct error *err);
PARKS int smtp_cmd_bdat(struct smtp_session *s, struct str args, struct error *err);
void smtp_message_discard(struct smtp_tx *tx);
static inline struct str smtp_message_of(const struct smtp_tx *tx) { return str_from(buf_str(&tx->message), SMTP_ROOM_SIZE); }

/* --- smtp_deliver.c ---------------------------------------------------------------------------- */
PARKS int smtp_deliver(struct smtp_session *s, struct error *err);     /* 1: refused, and said so */

/* --- smtp_trace.c -------------------------------------------------------------------------------- */
void smtp_trace_name(struct smtp_tx *tx);                /* gives it its trace id, once */
PARKS struct str smtp_received_field(struct smtp_session *s);
void smtp_trace_received(struct smtp_session *s, struct str message);
/* That nobody gets it: with what is known of it, or when that was told before. */
void smtp_trace_refused(struct smtp_session *s, struct str message, struct str why);
void smtp_trace_recipients_refused(struct smtp_session *s, struct str why);
/* The transaction's sender was not taken at MAIL, a recipient not at RCPT. Bounded for the session and for the worker: beyond, they are counted. */
void smtp_trace_sender_refused(struct smtp_session *s, struct str why);
void smtp_trace_rcpt_refused(struct smtp_session *s, struct str rcpt, struct str why);
/* The transaction ends. When nothing came of it but refusals, they still have one timeline. */
void smtp_trace_end(struct smtp_session *s);

/* --- smtp_auth.c ------------------------------------------------------------------------------- */
bool smtp_auth_is_offered(const struct smtp_session *s);
void smtp_set_login(struct smtp_session *s, const struct account *account);
PARKS int smtp_cmd_auth(struct smtp_session *s, struct str args, struct error *err);

/* --- smtp_xclient.c ------------------------------------------------------------------------------ */
PARKS int smtp_cmd_xclient(struct smtp_session *s, struct str args, struct error *err);
