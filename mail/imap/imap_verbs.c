/* imap_verbs.c - every command, once: what runs it, where it is legal, what is special about it. */
#include "mail/imap/imap_command.h"
#include "mail/imap/imap_reply.h"

#define IN(phase) (1u << IMAP_##phase)
#define ANY_PHASE (IN(NEW) | IN(AUTHENTICATED) | IN(SELECTED))
#define LOGGED_IN (IN(AUTHENTICATED) | IN(SELECTED))

static PARKS int cmd_noop(struct imap_session *s, struct imap_command *c, struct error *err)
{
    return imap_parse_end(&c->args, err);
}

static PARKS int cmd_logout(struct imap_session *s, struct imap_command *c, struct error *err)
{
    if (imap_parse_end(&c->args, err) < 0)
        return -1;
    imap_bye(s, "Logging out");
    return 0;
}

/* clang-format off */
static const struct imap_verb verbs[] = {
    /* name           run                    legal in         flags */
    {"NOOP",          cmd_noop,              ANY_PHASE,       0},
    {"FETCH",         imap_cmd_fetch,        IN(SELECTED),    VERB_HAS_UID_FORM | VERB_BY_NUMBER},
    {"STORE",         imap_cmd_store,        IN(SELECTED),    VERB_HAS_UID_FORM | VERB_BY_NUMBER},
    {"SEARCH",        imap_cmd_search,       IN(SELECTED),    VERB_HAS_UID_FORM | VERB_BY_NUMBER},
    {"SORT",          imap_cmd_sort,         IN(SELECTED),    VERB_HAS_UID_FORM | VERB_BY_NUMBER},
    {"THREAD",        imap_cmd_thread,       IN(SELECTED),    VERB_HAS_UID_FORM | VERB_BY_NUMBER},
    {"ESEARCH",       imap_cmd_esearch,      LOGGED_IN,       0},
    {"CANCELUPDATE",  imap_cmd_cancelupdate, IN(SELECTED),    0},
    {"COPY",          imap_cmd_copy,         IN(SELECTED),    VERB_HAS_UID_FORM | VERB_TRYCREATE},
    {"MOVE",          imap_cmd_move,         IN(SELECTED),    VERB_HAS_UID_FORM | VERB_TRYCREATE},
    {"EXPUNGE",       imap_cmd_expunge,      IN(SELECTED),    0},
    {"EXPUNGE",       imap_cmd_uid_expunge,  IN(SELECTED),    VERB_UID_FORM_ONLY},
    {"IDLE",          imap_cmd_idle,         LOGGED_IN,       VERB_READS},
    {"CHECK",         cmd_noop,              IN(SELECTED),    0},
    {"CLOSE",         imap_cmd_close,        IN(SELECTED),    VERB_NO_UPDATES},
    {"UNSELECT",      imap_cmd_unselect,     IN(SELECTED),    VERB_NO_UPDATES},
    {"SELECT",        imap_cmd_select,       LOGGED_IN,       VERB_NO_UPDATES},
    {"EXAMINE",       imap_cmd_examine,      LOGGED_IN,       VERB_NO_UPDATES},
    {"LIST",          imap_cmd_list,         LOGGED_IN,       0},
    {"LSUB",          imap_cmd_lsub,         LOGGED_IN,       0},
    {"STATUS",        imap_cmd_status,       LOGGED_IN,       0},
    {"APPEND",        imap_cmd_append,       LOGGED_IN,       VERB_READS | VERB_TRYCREATE},
    {"REPLACE",       imap_cmd_replace,      IN(SELECTED),    VERB_HAS_UID_FORM | VERB_READS | VERB_TRYCREATE},
    {"CREATE",        imap_cmd_create,       LOGGED_IN,       0},
    {"DELETE",        imap_cmd_delete,       LOGGED_IN,       0},
    {"RENAME",        imap_cmd_rename,       LOGGED_IN,       0},
    {"SUBSCRIBE",     imap_cmd_subscribe,    LOGGED_IN,       0},
    {"UNSUBSCRIBE",   imap_cmd_unsubscribe,  LOGGED_IN,       0},
    {"GETACL",        imap_cmd_getacl,       LOGGED_IN,       0},
    {"SETACL",        imap_cmd_setacl,       LOGGED_IN,       0},
    {"DELETEACL",     imap_cmd_deleteacl,    LOGGED_IN,       0},
    {"LISTRIGHTS",    imap_cmd_listrights,   LOGGED_IN,       0},
    {"MYRIGHTS",      imap_cmd_myrights,     LOGGED_IN,       0},
    {"NAMESPACE",     imap_cmd_namespace,    LOGGED_IN,       0},
    {"NOTIFY",        imap_cmd_notify,       LOGGED_IN,       0},
    {"GETMETADATA",   imap_cmd_getmetadata,  LOGGED_IN,       0},
    {"SETMETADATA",   imap_cmd_setmetadata,  LOGGED_IN,       0},
    {"GETQUOTA",      imap_cmd_getquota,     LOGGED_IN,       0},
    {"GETQUOTAROOT",  imap_cmd_getquotaroot, LOGGED_IN,       0},
    {"SETQUOTA",      imap_cmd_setquota,     LOGGED_IN,       0},
    {"ENABLE",        imap_cmd_enable,       LOGGED_IN,       0},
    {"UIDBATCHES",    imap_cmd_uidbatches,   IN(SELECTED),    0},
    {"GETJMAPACCESS", imap_cmd_jmapaccess,   LOGGED_IN,       0},
    {"LANGUAGE",      imap_cmd_language,     ANY_PHASE,       0},
    {"UNAUTHENTICATE",imap_cmd_unauthenticate, LOGGED_IN,     VERB_READS | VERB_NO_UPDATES},
    {"CAPABILITY",    imap_cmd_capability,   ANY_PHASE,       0},
    {"ID",            imap_cmd_id,           ANY_PHASE,       0},
    {"COMPRESS",      imap_cmd_compress,     LOGGED_IN,       VERB_READS | VERB_NO_UPDATES},
    {"LOGIN",         imap_cmd_login,        IN(NEW),         VERB_NO_UPDATES},
    {"AUTHENTICATE",  imap_cmd_authenticate, IN(NEW),         VERB_READS | VERB_NO_UPDATES},
    {"STARTTLS",      imap_cmd_starttls,     IN(NEW),         VERB_READS | VERB_NO_UPDATES},
    {"LOGOUT",        cmd_logout,            ANY_PHASE,       VERB_NO_UPDATES},
};
/* clang-format on */

const struct imap_verb *imap_verb_find(struct str name, bool after_uid)
{
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        const struct imap_verb *v = &verbs[i];
        bool fits = after_uid ? (v->flags & (VERB_HAS_UID_FORM | VERB_UID_FORM_ONLY)) != 0
                              : (v->flags & VERB_UID_FORM_ONLY) == 0;
        if (fits && str_ieq(name, str_c(v->name)))
            return v;
    }
    return NULL;
}
