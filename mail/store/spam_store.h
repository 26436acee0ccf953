/* spam_store.h - what people called spam or not, and the models made of it, as the database has them.
 *
 * A message counts once for an account, by its key; learning it as the other kind replaces what was learnt. Examples are
 * bytes of spam_model.h's numbers: nothing here looks into them. The latest SPAM_EXAMPLES_KEPT of an account are kept. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

#define SPAM_EXAMPLES_KEPT 500              /* of one account */
#define SPAM_SAMPLE_SHARE  200              /* of one account and kind, in the model of all */
#define SPAM_SAMPLE_MAX    8000             /* examples of the model of all: some 60 MB while it is made */

struct spam_stored_example {
    bool is_spam;
    struct str features;
};
struct spam_generation {
    int64_t number, stamp;      /* 0: there is none. The stamp is drawn anew for each: both name a model for ever */
};
struct spam_changed_account {
    int64_t account_id, changed_us;
};

PARKS int spam_store_put(int64_t account_id, struct str message_key, bool is_spam, int32_t version, struct str features,
                         struct error *err);
PARKS int spam_store_remove(int64_t account_id, struct str message_key, struct error *err);     /* no matter whether it is there */

/* --- an account's own model ----------------------------------------------------------------------- */
/* The topic of the bus (server/pg/notify.h) when an account has another one. */
static inline uint64_t spam_own_topic(int64_t account_id) { return (uint64_t)account_id ^ UINT64_C(0x7370616d00000000); }
/* Accounts whose examples changed since their model was made; at most count_max. */
PARKS int spam_store_changed(struct arena *a, size_t count_max, struct spam_changed_account **out, size_t *count,
                             struct error *err);
PARKS int spam_store_examples(struct arena *a, int64_t account_id, int32_t version, struct spam_stored_example **out,
                              size_t *count, struct error *err);
/* Tells the topic of the account. */
PARKS int spam_store_put_own(int64_t account_id, struct str model, int64_t changed_us, struct error *err);
PARKS int spam_store_get_own(struct arena *a, int64_t account_id, struct str *model, struct error *err);    /* empty: none */

/* --- the model of all ----------------------------------------------------------------------------- */
/* 1: something was learnt since the last one, and it is for the caller to make the next; claimed_us says of which moment.
 * 0: nothing is due. Nobody else gets it for interval_s. */
PARKS int spam_store_claim(int64_t interval_s, int64_t *claimed_us, struct error *err);
PARKS int spam_store_sample(struct arena *a, int32_t version, struct spam_stored_example **out, size_t *count, struct error *err);
PARKS int spam_store_publish(struct str model, int64_t claimed_us, struct error *err);
PARKS int spam_store_generation(struct spam_generation *out, struct error *err);
/* Both of the same moment. Empty when there is none. */
PARKS int spam_store_read(struct arena *a, struct spam_generation *generation, struct str *model, struct error *err);
