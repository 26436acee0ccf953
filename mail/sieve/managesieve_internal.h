/* managesieve_internal.h - the session, shared by the files of ManageSieve.
 *
 * NEW --AUTHENTICATE--> READY --UNAUTHENTICATE--> NEW; LOGOUT ends either (RFC 5804, 1.3). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/sieve/managesieve.h"
#include "mail/sieve/managesieve_parse.h"
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/error.h"
#include "server/directory/login_watch.h"
#include "server/run/conn.h"

enum managesieve_phase { MANAGESIEVE_NEW, MANAGESIEVE_READY, MANAGESIEVE_CLOSING };

struct managesieve_session {
    unsigned magic;
    enum managesieve_phase phase;
    struct conn *conn;
    struct arena *arena; /* of the command; NULL at rest */
    int64_t opened_ms;
    int64_t account_id; /* whose scripts they are */
    char *owner;        /* its address */
    struct login_watch login;
    uint32_t error_count;
};

/* A handler answers OK itself and returns 0, or -1 with the error that becomes NO. */
typedef PARKS int managesieve_run(struct managesieve_session *s, const struct managesieve_command *c, struct error *err);

/* --- managesieve_session.c ----------------------------------------------------------------------- */
PARKS void managesieve_ok(struct managesieve_session *s, const char *text);
/* NO or BYE with a response code ("QUOTA/MAXSIZE"; NULL: none) and a text of one line or more. */
PARKS void managesieve_refuse(struct managesieve_session *s, const char *word, const char *code, struct str text);
PARKS void managesieve_say_capabilities(struct managesieve_session *s);
/* Appends it quoted where that can be, otherwise as a literal. */
void managesieve_add_string(struct buf *out, struct str text);
/* A line and what literals it announces. -1: the end of the connection, or what is wrong with the line. */
PARKS int managesieve_read(struct managesieve_session *s, bool is_answer, struct managesieve_command *out, struct error *err);

/* --- managesieve_auth.c -------------------------------------------------------------------------- */
managesieve_run managesieve_cmd_authenticate, managesieve_cmd_starttls, managesieve_cmd_unauthenticate;

/* --- managesieve_scripts.c ----------------------------------------------------------------------- */
managesieve_run managesieve_cmd_havespace, managesieve_cmd_putscript, managesieve_cmd_checkscript,
    managesieve_cmd_listscripts, managesieve_cmd_setactive, managesieve_cmd_getscript, managesieve_cmd_deletescript,
    managesieve_cmd_renamescript;
