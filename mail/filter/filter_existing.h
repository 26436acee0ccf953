/* filter_existing.h - a script run over mail that is here already, and over one message to see what it would do.
 *
 * On existing mail a script files, puts flags on, and throws into Trash; nothing is gone, and nothing leaves the account: what
 * would be sent, refused or answered is told and not done, and leaves its message where it is. Messages are never rewritten.
 * What a script does with a mailbox may be run again: what was moved is not there any more, what was copied is not
 * copied again for a month. `duplicate` sees every message for the first time, and marks none. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/filter/filter_scripts.h"
#include "mail/sieve/sieve.h"
#include "mail/store/mailbox.h"
#include "mail/store/message.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/run/fiber.h"

enum filter_step_kind {
    FILTER_STAYS,                                       /* object: why, or empty */
    FILTER_FLAGS,                                       /* object: what is put on */
    FILTER_COPIES, FILTER_MOVES,                        /* object: the mailbox */
    FILTER_NOT_DONE,                                    /* object: what the script wanted */
    FILTER_FAILED,                                      /* object: the fault of the script, or why the store refused */
};
const char *filter_step_name(enum filter_step_kind kind);    /* "stays", "flags", "copies", "moves", "not done", "failed" */

struct filter_step {
    enum filter_step_kind kind;
    unsigned line;                                      /* of the script; 0: none said it */
    struct str included;                                /* the included script whose line it is, or empty */
    struct str object;                                  /* UTF-8 */
    const struct sieve_action *action;                  /* whose target it is */
    bool makes;                                         /* the mailbox is not there yet */
};

struct filter_existing_message {
    uint32_t uid;
    int64_t received_us;
    struct str subject;                                 /* decoded */
    const struct filter_step *steps;                    /* never none */
    size_t step_count;
    bool is_changed, has_failed;                        /* a dry run: would be */
};

struct filter_existing {
    struct mailbox_key mailbox;                         /* of a person's or shared account */
    struct sieve_script *script;
    bool is_dry_run;
    uint32_t from_uid;                                  /* 0: all; what arrives meanwhile is left alone */
    /* Of each message once it is done; borrowed until it returns. -1 ends the run; so does cancelling the fiber. */
    PARKS int (*each)(void *arg, const struct filter_existing_message *m, struct error *err);
    void *arg;
    /* Answer, also of a run that ended early: */
    uint64_t seen, changed, failed;
};

/* -1: the database is away, the mailbox is gone, or each() said so; what was done stands. */
PARKS int filter_existing_run(struct filter_existing *r, struct error *err);

/* The script of that name, or the active one with an empty name, compiled. ERR_NOT_FOUND; ERR_SYNTAX with the fault. */
PARKS int filter_existing_script(struct arena *a, int64_t account_id, struct str name, struct sieve_script **out, struct error *err);

/* What the script would decide if the message came now, for an account (0: for nobody in particular). The envelope is that of
 * Return-Path and Delivered-To. Does nothing. */
PARKS int filter_try(struct arena *a, int64_t account_id, struct sieve_script *script, struct str message,
                     struct sieve_outcome *out, struct error *err);
