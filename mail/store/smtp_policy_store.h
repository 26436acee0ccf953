/* smtp_policy_store.h - what SMTP policies remember in the database: counts of windows, and the greylist. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

#define SMTP_COUNTS 3                                   /* connections, messages, recipients */
#define SMTP_COUNTS_BATCH_MAX 1000                      /* of one call */

/* What was counted under a key in a window (a number: time divided by the window's length). */
struct smtp_counts {
    struct str key;
    int64_t window;
    int64_t add[SMTP_COUNTS];
    /* Answer: the sums of everybody, in this window and the one before. */
    int64_t current[SMTP_COUNTS], previous[SMTP_COUNTS];
};
/* One round trip, one transaction. Keys must differ. */
PARKS int smtp_counts_add(struct smtp_counts *v, size_t count, struct error *err);
/* Drops windows before that one, and those that are far from having come. */
PARKS int smtp_counts_forget(int64_t before_window, struct error *err);

/* The greylist: a stranger's first message is put off; whoever comes again after the delay is let in, and its network is
 * known from then on. sender and recipient in lower case; an empty sender is the null path. */
struct greylist_terms { int64_t delay_s, retry_max_s, keep_s; };
/* *wait_s: 0 when it may pass; *is_known: the network was known already. */
PARKS int greylist_try(struct str network, struct str sender, struct str recipient, const struct greylist_terms *terms,
                       int64_t *wait_s, bool *is_known, struct error *err);
/* A message came through: the network is known for keep_s from now. */
PARKS int greylist_pass(struct str network, struct error *err);
PARKS int greylist_forget(const struct greylist_terms *terms, struct error *err);
