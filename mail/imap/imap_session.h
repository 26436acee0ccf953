/* imap_session.h - one client's IMAP session, and the command it is at.
 *
 * NEW --LOGIN, AUTHENTICATE--> AUTHENTICATED <--SELECT, CLOSE--> SELECTED      LOGOUT ends it
 * from anywhere.
 *
 * A session at rest is this struct and its view of the mailbox; the arena and everything of
 * struct imap_command live as long as one command. A handler returns 0 when the command
 * succeeded (the tagged OK follows, after what the client must hear first) or -1 with the error
 * that becomes NO or BAD. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/imap/imap_parse.h"
#include "mail/store/mailbox_index.h"
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/error.h"
#include "server/directory/login_watch.h"
#include "server/run/conn.h"
#include "server/run/fiber.h"

#define IMAP_NEW_OUTPUT_MAX 16384 /* answers that may pend before log-in */

enum imap_phase { IMAP_NEW, IMAP_AUTHENTICATED, IMAP_SELECTED, IMAP_LOGOUT };

enum imap_enabled { /* by ENABLE or by using it (RFC 5161, 7162) */
                    IMAP_ENABLED_REV2 = 1,
                    IMAP_ENABLED_CONDSTORE = 2,
                    IMAP_ENABLED_QRESYNC = 4,
                    IMAP_ENABLED_UTF8 = 8,     /* RFC 6855 */
                    IMAP_ENABLED_UIDONLY = 16, /* RFC 9586 */
                    IMAP_ENABLED_METADATA = 256, /* RFC 5464, 4.1 */
};

struct imap_session {
    unsigned magic;
    enum imap_phase phase;
    struct conn *conn;
    struct arena *arena; /* of the command; NULL at rest */
    int64_t opened_ms;
    int64_t account_id;          /* who is logged in */
    struct login_watch login;    /* for as long as they may */
    struct mailbox_key selected; /* whose mailbox the view shows may differ */
    struct mailbox_view *view; /* NULL: nothing selected */
    struct imap_notify *notify; /* NULL: neither NOTIFY nor ENABLE METADATA */
    char *idle_tag;            /* of the IDLE command that runs; NULL: none */
    uint32_t *saved_uids;      /* "$", ascending (RFC 5182) */
    uint32_t saved_count;
    uint64_t rights_modseq;    /* changes of grants up to here are in `rights` */
    int64_t rights_read_ms;
    struct imap_contexts *contexts; /* searches kept up to date; NULL: none */
    uint32_t keyword_count; /* told in FLAGS */
    uint32_t keyword_generation;
    uint32_t bad_count;
    uint8_t listener;    /* enum imap_listener */
    uint8_t language;    /* enum imap_language */
    uint16_t enabled;    /* enum imap_enabled */
    uint16_t rights;     /* in the selected mailbox; see imap_rights.h */
    bool is_examined;    /* selected by EXAMINE */
    bool is_read_only;   /* EXAMINE, or no right to change anything */
    bool has_quota;      /* the account had a limit when it logged in */
    bool is_over_quota;  /* and the client was told that it is exceeded */
    bool is_modseq_held; /* an older HIGHESTMODSEQ was told, as removals were held back */
};

struct imap_command;

enum imap_verb_flag {
    VERB_HAS_UID_FORM = 1,  /* "UID FETCH" */
    VERB_UID_FORM_ONLY = 2, /* a word of its own behind UID: "UID EXPUNGE" */
    VERB_BY_NUMBER = 4,     /* without UID, sequence numbers must not move (RFC 9051, 7.5.1) */
    VERB_READS = 8,         /* reads from the client while it runs */
    VERB_TRYCREATE = 16,    /* a missing mailbox is the target */
    VERB_NO_UPDATES = 32,   /* nothing untagged is due at its end */
};

struct imap_verb {
    const char *name;
    PARKS int (*run)(struct imap_session *, struct imap_command *, struct error *);
    unsigned phases; /* bits: 1 << enum imap_phase */
    unsigned flags;
};

struct imap_command {
    struct str tag;
    const struct imap_verb *verb; /* NULL: unknown */
    bool by_uid;
    bool is_answered;  /* the handler wrote the tagged answer itself */
    bool has_message;  /* APPEND: `message` waits to be read */
    bool tells_modseq; /* messages were removed: HIGHESTMODSEQ with the OK (RFC 7162, 3.2.5) */
    struct imap_literal message;
    struct imap_parser args; /* behind the verb and its space */
    struct buf text;         /* the command, when it had literals */
    struct str code;         /* response code of the OK, without brackets; or empty */
    const char *done;        /* text of the OK; NULL: "VERB completed" */
    int64_t progress_due_ms; /* of imap_tell_progress; 0: not asked yet */
    const char *refusal;     /* response code of the NO, where it is better than the error kind's */
    const char *complaint;   /* response code of the BAD; NULL: none */
};

/* Quoted strings and mailbox names are UTF-8. */
static inline bool imap_has_utf8(const struct imap_session *s)
{
    return (s->enabled & (IMAP_ENABLED_REV2 | IMAP_ENABLED_UTF8)) != 0;
}

/* Sequence numbers are neither told nor taken. */
static inline bool imap_is_uidonly(const struct imap_session *s)
{
    return (s->enabled & IMAP_ENABLED_UIDONLY) != 0;
}

/* --- commands, one function each, in the file of their subject -------------------------------- */
/* clang-format off */
typedef PARKS int imap_run(struct imap_session *s, struct imap_command *c, struct error *err);
imap_run imap_cmd_capability, imap_cmd_id;                                    /* imap_capability.c */
imap_run imap_cmd_enable, imap_cmd_namespace;                                 /* imap_capability.c */
imap_run imap_cmd_jmapaccess;                                                 /* imap_capability.c */
imap_run imap_cmd_language;                                                   /* imap_language.c */
imap_run imap_cmd_starttls, imap_cmd_login, imap_cmd_authenticate;            /* imap_auth.c */
imap_run imap_cmd_unauthenticate;                                             /* imap_auth.c */
imap_run imap_cmd_uidbatches;                                                 /* imap_batches.c */
imap_run imap_cmd_compress;                                                   /* imap_compress.c */
imap_run imap_cmd_select, imap_cmd_examine, imap_cmd_close, imap_cmd_unselect;/* imap_select.c */
imap_run imap_cmd_create, imap_cmd_delete, imap_cmd_rename;                   /* imap_mailbox.c */
imap_run imap_cmd_subscribe, imap_cmd_unsubscribe;                            /* imap_mailbox.c */
imap_run imap_cmd_list, imap_cmd_lsub;                                        /* imap_list.c */
imap_run imap_cmd_status;                                                     /* imap_status.c */
imap_run imap_cmd_getacl, imap_cmd_setacl, imap_cmd_deleteacl;                /* imap_acl.c */
imap_run imap_cmd_listrights, imap_cmd_myrights;                              /* imap_acl.c */
imap_run imap_cmd_append, imap_cmd_replace;                                   /* imap_append.c */
imap_run imap_cmd_idle;                                                       /* imap_idle.c */
imap_run imap_cmd_fetch;                                                      /* imap_fetch.c */
imap_run imap_cmd_store;                                                      /* imap_store.c */
imap_run imap_cmd_copy, imap_cmd_move;                                        /* imap_copy.c */
imap_run imap_cmd_expunge, imap_cmd_uid_expunge;                              /* imap_expunge.c */
imap_run imap_cmd_search;                                                     /* imap_search.c */
imap_run imap_cmd_notify;                                                     /* imap_notify.c */
imap_run imap_cmd_getmetadata, imap_cmd_setmetadata;                          /* imap_metadata.c */
imap_run imap_cmd_getquota, imap_cmd_getquotaroot, imap_cmd_setquota;         /* imap_quota.c */
imap_run imap_cmd_sort, imap_cmd_thread;                                      /* imap_sort.c, imap_thread.c */
imap_run imap_cmd_esearch;                                                    /* imap_multisearch.c */
imap_run imap_cmd_cancelupdate;                                               /* imap_context.c */
/* clang-format on */
