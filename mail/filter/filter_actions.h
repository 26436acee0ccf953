/* filter_actions.h - the actions of a run: filings, refusals, redirects, answers. */
#pragma once
#include "mail/filter/filter_hooks.h"
#include "mail/filter/filter_reply.h"
#include "mail/queue/submit.h"
#include "mail/sieve/sieve.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/directory/routing.h"

struct filter_redirect;

/* A run of one account's scripts over one message. */
struct filter_run {
    struct arena *arena;
    const struct submit *s;
    const struct submit_filtered *f;
    struct submit_decision *decision;
    struct filter_author author;
    const struct filter_scripts *scripts;               /* while it runs */
    struct sieve_outcome outcome;
    struct filter_redirect *redirects;                  /* those that lead somewhere */
    size_t redirect_count;
};

/* Fills the decision from the outcome. A redirect that leads nowhere, or back here, keeps the message instead. */
PARKS int filter_actions_plan(struct filter_run *r, struct filter_place *place, struct error *err);
/* Redirected mail, answers and notices. */
PARKS int filter_actions_send(struct filter_run *r, struct error *err);
/* What later runs will be asked (RFC 7352). */
PARKS void filter_actions_remember(struct filter_run *r);
