/* rspamd.h - asks Rspamd about one message: its HTTP check (/checkv2), and the answer as facts.
 *
 * What it says is advice; what is done with it is not decided here. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/dial_target.h"
#include "server/run/fiber.h"

#define RSPAMD_ANSWER_SIZE_MAX (256u << 10)
#define RSPAMD_SYMBOLS_MAX     1000
#define RSPAMD_RCPTS_TOLD      100                      /* it weighs them, and no more make a difference */

enum rspamd_action {
    RSPAMD_NO_ACTION,
    RSPAMD_GREYLIST,            /* it would greylist such mail; when it does, it says "soft reject" */
    RSPAMD_ADD_HEADER,          /* probably spam */
    RSPAMD_REWRITE_SUBJECT,     /* the same, to be shown in the subject */
    RSPAMD_SOFT_REJECT,         /* try again later */
    RSPAMD_REJECT,
    RSPAMD_QUARANTINE,
    RSPAMD_DISCARD,
    RSPAMD_OTHER,               /* of the administrator's own */
};

struct rspamd_symbol { struct str name; double score; };

struct rspamd_answer {
    enum rspamd_action action;
    struct str action_name;
    bool is_skipped;                                    /* it did not look at everything: what was clear needed no more */
    double score, required_score;                       /* required_score: from there on it says reject; 0: it does not say */
    struct rspamd_symbol *symbols;                      /* the heaviest first, whichever way they pull */
    size_t symbol_count;
    struct str message;                                 /* for the sender; printable ASCII; may be empty */
};

struct rspamd_mail {
    struct str message;
    struct str client_ip, client_name, helo;            /* empty where unknown, as the next two */
    struct str user;                                    /* who logged in */
    struct str queue_id;
    struct str sender;                                  /* of the envelope; empty: the null path */
    const struct str *rcpts;
    size_t rcpt_count;
};

/* -1: it could not say: ERR_TRY_LATER (nobody there), ERR_TIMED_OUT, ERR_CLOSED, ERR_CANCELLED, ERR_SYNTAX (that is no
 * Rspamd), ERR_TOO_BIG (its answer), ERR_UNSUPPORTED (it says that it cannot). */
PARKS int rspamd_check(struct arena *a, const struct dial_target *target, const struct rspamd_mail *mail, int64_t timeout_ms,
                       struct rspamd_answer *out, struct error *err);

/* The same of the JSON that it answered. */
int rspamd_answer_read(struct arena *a, struct str json, struct rspamd_answer *out, struct error *err);
