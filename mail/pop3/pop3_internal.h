/* pop3_internal.h - the session and its maildrop, shared by the files of this folder.
 *
 * AUTHORIZATION --PASS, AUTH--> TRANSACTION --QUIT--> UPDATE (RFC 1939, 3)
 *
 * The maildrop is the INBOX as it was at log-in: a view that is never told of changes. Message
 * numbers are the view's sequence numbers. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/mime/lines.h"
#include "mail/pop3/pop3.h"
#include "mail/store/mailbox_index.h"
#include "mail/store/maildrop.h"
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/error.h"
#include "server/base/list.h"
#include "server/directory/login_watch.h"
#include "server/run/conn.h"

enum pop3_phase { POP3_AUTHORIZATION, POP3_TRANSACTION, POP3_CLOSING };

/* Messages, or their beginnings, read in one go since a client that asks for one asks for the next. */
struct pop3_ahead {
    struct list link; /* all of the worker's that hold something, the least used first; unlinked while in use */
    struct buf bytes;
    struct pop3_held *v; /* ascending by number, without gaps but for what is gone */
    size_t n;
    uint32_t from, to; /* numbers asked for: from .. to - 1 */
    size_t window;     /* bytes to read next time */
};

struct pop3_maildrop {
    struct maildrop_claim claim;
    struct mailbox_key mailbox;
    struct mailbox_view *view; /* NULL: none is open */
    uint32_t count;
    uint32_t deleted_count;
    uint32_t *sizes; /* as sent, 0: gone since; NULL until somebody asks */
    uint8_t *marks;  /* enum pop3_mark of each message; NULL: none is marked */
    struct pop3_ahead ahead;
};

enum pop3_mark { POP3_DELETED = 1, POP3_RETRIEVED = 2 };

struct pop3_session {
    unsigned magic;
    enum pop3_phase phase;
    struct conn *conn;
    struct arena *arena; /* of the command; NULL at rest */
    int64_t opened_ms;
    int64_t account_id;
    struct login_watch login; /* for as long as they may */
    char *user; /* as USER said; NULL: none */
    uint32_t error_count;
    bool is_utf8;
    struct pop3_maildrop drop;
};

/* A handler answers +OK itself and returns 0, or -1 with the error that becomes -ERR. */
typedef PARKS int pop3_run(struct pop3_session *s, struct str args, struct error *err);

/* --- pop3_session.c ---------------------------------------------------------------------------- */
PARKS void pop3_reply_error(struct pop3_session *s, const struct error *err);
/* -ERR with a response code (RFC 2449, 8); always 0, for handlers to return. */
PARKS int pop3_refuse(struct pop3_session *s, const char *code, const char *text);
PARKS void pop3_write_buf(struct pop3_session *s, struct buf *out); /* and empties it */

/* --- pop3_auth.c ------------------------------------------------------------------------------- */
pop3_run pop3_cmd_user, pop3_cmd_pass, pop3_cmd_auth, pop3_cmd_stls;

/* --- pop3_list.c ------------------------------------------------------------------------------- */
pop3_run pop3_cmd_stat, pop3_cmd_list, pop3_cmd_uidl, pop3_cmd_dele, pop3_cmd_rset;
/* "3" as the number of a message that exists and is not deleted. */
int pop3_parse_number(struct pop3_session *s, struct str text, uint32_t *number, struct error *err);

/* --- pop3_retr.c ------------------------------------------------------------------------------- */
pop3_run pop3_cmd_retr, pop3_cmd_top;
void pop3_ahead_drop(struct pop3_ahead *ahead);

/* --- pop3_maildrop.c --------------------------------------------------------------------------- */
/* ERR_CONFLICT: another session has it. */
PARKS int pop3_maildrop_open(struct pop3_maildrop *d, int64_t account_id, struct error *err);
/* Removes what is marked, as QUIT does. */
PARKS int pop3_maildrop_update(struct pop3_maildrop *d, struct arena *a, struct error *err);
PARKS void pop3_maildrop_close(struct pop3_maildrop *d); /* harmless when it is not open */
PARKS int pop3_maildrop_load_sizes(struct pop3_maildrop *d, struct error *err);
void pop3_mark(struct pop3_maildrop *d, uint32_t number, enum pop3_mark mark);
void pop3_unmark_deleted(struct pop3_maildrop *d);

static inline bool pop3_has_mark(const struct pop3_maildrop *d, uint32_t number, enum pop3_mark mark)
{
    return d->marks != NULL && (d->marks[number - 1] & mark) != 0;
}
