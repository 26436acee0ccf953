/* sieve.h - the mail filtering language Sieve (RFC 5228 and its extensions): compile once, run often.
 *
 * A script is compiled into an immutable program that any number of runs share. A run looks at one message and
 * decides; it does nothing itself: what is to be done comes back as a list of actions. The room knows no database:
 * what only the store knows (mailboxes, lists, other scripts) is asked through hooks.
 * docs/sieve.md lists the extensions and the limits. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

/* Limits. Each refusal names the limit in one sentence. */
#define SIEVE_SIZE_MAX (1 << 20)             /* of a script's text, bytes */
#define SIEVE_NESTING_MAX 32                 /* blocks and tests within each other */
#define SIEVE_COMMANDS_MAX 50000             /* commands and tests in a script */
#define SIEVE_STRINGS_MAX 60000              /* strings in a script */
#define SIEVE_WILDCARDS_MAX 200              /* "*", "?" and "\\" in one pattern of :matches */
#define SIEVE_REGEXES_MAX 500                /* regular expressions in a script */
#define SIEVE_REGEX_SIZE_MAX 2000            /* bytes of one regular expression */
#define SIEVE_VARIABLES_MAX 256              /* names in a script (RFC 5229, 6 wants 128) */
#define SIEVE_VARIABLE_NAME_MAX 64           /* bytes of a name */
#define SIEVE_VARIABLE_SIZE_MAX 8192         /* bytes of a value (RFC 5229, 6 wants 4000) */
#define SIEVE_MATCH_VARIABLES_MAX 32         /* ${0} to ${31} (RFC 5229, 6 wants 9) */
#define SIEVE_STEPS_MAX 1000000              /* commands, tests and comparisons of a run */
#define SIEVE_ACTIONS_MAX 64                 /* of a run */
#define SIEVE_REDIRECTS_MAX 8                /* of a run */
#define SIEVE_INCLUDES_MAX 50                /* scripts that a run includes */
#define SIEVE_INCLUDE_DEPTH_MAX 10           /* within each other (RFC 6609, 3 wants 3) */
#define SIEVE_HEADER_SIZE_MAX 2048           /* bytes of a header field's value that editheader adds (RFC 5293, 4) */
#define SIEVE_REGEX_STEPS_MAX 100000         /* of one regex on one value (PCRE2's match limit) */
#define SIEVE_VACATION_DAYS_MAX 90           /* longer periods become this (RFC 5230, 4.1) */
#define SIEVE_DUPLICATE_SECONDS_MAX (90 * 86400)

/* --- compiling ------------------------------------------------------------------------------------ */

struct sieve_script;                         /* compiled: immutable, reference counted, any number of runs at once */

struct sieve_fault {
    unsigned line, column;                   /* of the script's text, from 1; column counts characters */
    struct str text;                         /* one sentence: what is wrong and what to do */
};

/* Returns 0 and a script with one reference, or -1 and the first fault (its text in `a`). Linear time and a small
 * multiple of the text as memory; pure, so a big script may go to offload(). */
int sieve_compile(struct str text, struct sieve_script **out, struct arena *a, struct sieve_fault *fault);
struct sieve_script *sieve_script_ref(struct sieve_script *);
void sieve_script_free(struct sieve_script **);          /* gives the reference back */
size_t sieve_script_size(const struct sieve_script *);   /* bytes it holds, for caches */

extern const char *const sieve_extensions[];             /* every capability `require` takes, NULL at the end */
/* "mailto": methods of notify (RFC 5804, 1.7 NOTIFY), NULL at the end. */
extern const char *const sieve_notify_methods[];

/* --- running -------------------------------------------------------------------------------------- */

/* Why an imapsieve script runs (RFC 6785). */
struct sieve_imap {
    struct str user, email;                  /* imap.user, imap.email */
    struct str cause;                        /* "APPEND", "COPY" or "FLAG" */
    struct str mailbox;                      /* UTF-8 path of the mailbox it happened in */
    const struct str *changed_flags;         /* imap.changedflags: with cause FLAG */
    size_t changed_flags_count;
    const struct str *flags;                 /* that the message has now: the start of the internal variable */
    size_t flags_count;
};

struct sieve_mail {
    struct str message;                      /* as it will be stored, header fields added on the way included */
    struct str sender;                       /* MAIL FROM without brackets; empty: <> */
    struct str recipient;                    /* RCPT TO that led here, detail kept */
    struct str original_recipient;           /* ORCPT decoded, or empty */
    struct str account_address;              /* the account's own address: sender of redirects, vacation, notices */
    const struct str *own_addresses;         /* every address of the account, for vacation (RFC 5230, 4.5) */
    size_t own_addresses_count;
    int64_t now_us;
    int zone_min;                            /* the account's time zone, minutes east of UTC */
    int spam_percent;                        /* 0 to 100; -1: not checked (RFC 5235, 2.1) */
    int virus_value;                         /* RFC 5235, 2.2: 0 not checked, 1 clean ... 5 infected */
    /* DSN and DELIVERBY parameters of the envelope (RFC 6009); empty and 0 when not given */
    struct str dsn_notify, dsn_orcpt, dsn_ret, dsn_envid;
    bool has_deliver_by;
    int64_t deliver_by_us;                   /* absolute time */
    struct str deliver_by_mode;              /* "notify" or "return" */
    bool deliver_by_trace;
    /* environment (RFC 5183, 4.1); an empty one is unknown */
    struct str env_domain, env_host, env_location, env_phase, env_remote_host, env_remote_ip;
    const struct sieve_imap *imap;           /* NULL on delivery */
};

enum sieve_location { SIEVE_PERSONAL, SIEVE_GLOBAL };

/* processcalendar's arguments. */
struct sieve_calendar_request {
    struct str message;
    bool allow_public, updates_only, delete_cancelled;
    const struct str *addresses;             /* beside the account's own */
    size_t addresses_count;
    struct str calendar_id;                  /* empty: the default calendar */
    struct str organizers;                   /* list name, or empty: anybody */
};

/* What the store is asked. Each may be NULL: then there is no such thing. Answers live in `a`. A hook that cannot
 * answer now (database away) returns -1: the run ends with SIEVE_TRY_LATER, and delivery is tried again later. */
struct sieve_hooks {
    void *context;
    /* A script that `include` names, with a reference of its own: *out NULL when there is none. fault is filled and 1
     * returned when it does not compile. */
    PARKS int (*include)(void *context, enum sieve_location, struct str name, struct arena *a, struct sieve_script **out, struct sieve_fault *fault);
    PARKS int (*mailbox_exists)(void *context, struct str path, bool *exists);              /* and may be delivered to */
    PARKS int (*mailbox_by_id)(void *context, struct arena *a, struct str id, struct str *path);      /* empty: none */
    /* With an empty path: whether any mailbox has the attribute; *found is its path. */
    PARKS int (*special_use)(void *context, struct arena *a, struct str path, struct str attribute, struct str *found);
    /* Annotations (RFC 5464): an empty path asks for the server's. *exists false when there is none. */
    PARKS int (*metadata)(void *context, struct arena *a, struct str path, struct str entry, bool *exists, struct str *value);
    PARKS int (*list_exists)(void *context, struct str list, bool *exists);                 /* extlists */
    PARKS int (*list_has)(void *context, struct str list, struct str value, bool *has);
    PARKS int (*list_members)(void *context, struct arena *a, struct str list, struct str **out, size_t *count);   /* redirect :list */
    /* duplicate (RFC 7352): whether (handle, id) was marked and has not expired. The new mark is an action. */
    PARKS int (*was_seen)(void *context, struct str handle, struct str id, bool *seen);
    /* processcalendar (RFC 9671) happens in the middle of a run, for its outcome is tested. */
    PARKS int (*process_calendar)(void *context, struct arena *a, const struct sieve_calendar_request *, struct str *outcome, struct str *reason);
};

/* Where a copy goes. Exactly as the script said; whoever delivers resolves it: mailbox_id first, then special_use, then mailbox. */
struct sieve_target {
    struct str mailbox;                      /* UTF-8 path; empty with keep: INBOX */
    struct str mailbox_id;                   /* RFC 9042: empty when none */
    struct str special_use;                  /* RFC 8579: "\\Junk", or empty */
    bool creates;                            /* :create */
    const struct str *flags;                 /* system flags and keywords */
    size_t flags_count;
};

enum sieve_action_kind {
    SIEVE_KEEP,                              /* target: flags; the mailbox is INBOX, with imapsieve where it is */
    SIEVE_FILEINTO,                          /* target */
    SIEVE_REDIRECT,                          /* address or list, dsn_*, by_* */
    SIEVE_REJECT, SIEVE_EREJECT,             /* text: the reason, one or more lines, UTF-8 */
    SIEVE_DISCARD,
    SIEVE_VACATION,                          /* text, subject, from, handle, seconds, is_mime, fcc; address: whom to tell */
    SIEVE_NOTIFY,                            /* method, from, importance, options, text, fcc */
    SIEVE_DUPLICATE_MARK,                    /* handle, id, seconds: to be remembered when the run's actions are done */
    SIEVE_SET_FLAGS,                         /* imapsieve: the flags that the message has at the end */
};

struct sieve_action {
    enum sieve_action_kind kind;
    unsigned line;                           /* of the script below; 0: implicit */
    unsigned script;                         /* index into sieve_run's scripts */
    struct str included;                     /* name of the included script that said it; empty: the script itself */
    struct str message;                      /* KEEP, FILEINTO, REDIRECT: as edited so far; the original's bytes when unedited */
    bool is_edited;
    bool is_copy;                            /* :copy */
    struct sieve_target target;              /* KEEP, FILEINTO, SET_FLAGS */
    struct sieve_target fcc;                 /* VACATION, NOTIFY: where a copy of what is sent goes */
    bool has_fcc;
    struct str address;                      /* REDIRECT, VACATION: addr-spec */
    struct str text, subject, from, handle, id, method;
    const struct str *options;               /* NOTIFY :options */
    size_t options_count;
    int importance;                          /* 1 high, 2 normal, 3 low */
    uint64_t seconds;                        /* VACATION: how long not to tell the same person again (0: tell always); DUPLICATE_MARK */
    bool is_mime;                            /* VACATION: text is a MIME entity */
    bool marks_anew;                         /* DUPLICATE_MARK: :last, the period starts again */
    struct str dsn_notify, dsn_ret;          /* REDIRECT (RFC 6009): empty when not given */
    bool has_by, by_trace, by_returns;       /* :bytimerelative or :bytimeabsolute given; :bymode "return" */
    int64_t by_us;                           /* absolute time */
};

/* The condition of one if or elsif that was evaluated, for "why is this here?" and dry runs. */
struct sieve_note {
    unsigned script, line;
    struct str included;
    bool is_true;
    struct str test, value, key;             /* when true: the last test in it that compared and was true, as "header", and of what */
};

enum sieve_end {
    SIEVE_DONE,
    SIEVE_FAILED,                            /* run-time error: fault says which; nothing of that script stands but the implicit keep; what
                                                scripts before it decided does, those behind it do not run */
    SIEVE_TRY_LATER,                         /* a hook could not answer: nothing is decided */
};

#define SIEVE_NOTES_MAX 500                  /* the first so many; half of them kept for true ones */

struct sieve_outcome {
    enum sieve_end end;
    struct sieve_action *v;                  /* in the order of the script; without the implicit keep */
    size_t n;
    bool keeps_implicitly;                   /* nothing cancelled it: whoever delivers keeps, too */
    struct sieve_action implicit;            /* that keep: message and flags as they are at the end */
    struct sieve_fault fault;
    unsigned fault_script;
    struct str fault_included;
    struct sieve_note *notes;
    size_t notes_count;
};

/* Runs the scripts one behind the other (a domain's before, the account's, the domain's after): the next runs only while the
 * implicit keep stands. What it returns lives in `a` and borrows from mail. 0, or -1 on SIEVE_TRY_LATER. */
PARKS int sieve_run(struct arena *a, struct sieve_script *const *scripts, size_t count, const struct sieve_mail *mail, const struct sieve_hooks *hooks,
                    struct sieve_outcome *out);
