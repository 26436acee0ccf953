/* imap_search_run.h - runs a tree of search keys over a view: the selected mailbox or any other.
 *
 * SEARCH, SORT, THREAD, ESEARCH and the contexts of RFC 5267 are its users. The result is one bit
 * per message of the view, so its size is known before the search begins. */
#pragma once
#include "mail/imap/imap_search_parse.h"
#include "mail/imap/imap_session.h"

struct search_run {
    /* What is asked. */
    struct imap_session *s;
    struct imap_command *c;    /* hears of progress; NULL: nobody */
    struct mailbox_view *view; /* sequence numbers are its */
    struct mailbox_key mailbox;
    const struct search_request *request; /* as parsed; not changed, so that it can be run again */
    struct arena *a;                      /* for the result */
    const struct imap_set *among;         /* only these sequence numbers, resolved; NULL: all */
    struct search_ends ends;              /* what lies between is not looked at */
    bool is_limited;                      /* of the selected mailbox's: see imap_target_limit() */

    /* The answer. */
    uint64_t *hits; /* bit seq - 1 */
    uint32_t hit_count;
    uint64_t modseq_max; /* of the messages found */
    uint64_t modseq_before; /* of the whole view, before the first was looked at; with UPDATE only */
    uint8_t *scores;     /* at seq - 1: relevancy, 1 to 100; NULL when it was not asked for */
};

PARKS int imap_search_run(struct search_run *run, struct error *err);

static inline bool search_run_has(const struct search_run *run, uint32_t seq)
{
    return (run->hits[(seq - 1) / 64] >> ((seq - 1) % 64) & 1) != 0;
}
/* The sequence numbers found, ascending; run->hit_count of them. */
uint32_t *search_run_seqs(const struct search_run *run, struct arena *a);

/* A copy of the keys as they stand for this view: sets are resolved, "*" and "$" have their
 * meaning. With as_uids, sequence numbers have become UIDs, so that the copy keeps its meaning
 * when messages go. */
struct search_key *search_keys_resolve(const struct imap_session *s, struct mailbox_view *view,
                                       const struct search_key *key, bool as_uids, struct arena *a);
