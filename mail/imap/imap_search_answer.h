/* imap_search_answer.h - what was found, told: SEARCH, SORT and ESEARCH responses, and "$" (RFC
 * 9051, 7.3; RFC 4731, 5182, 5256, 5267, 7162, 9394). */
#pragma once
#include "mail/imap/imap_search_parse.h"
#include "mail/imap/imap_session.h"

struct search_found {
    struct mailbox_view *view;
    const uint32_t *seqs; /* in the order of the answer */
    size_t n;
    uint64_t modseq_max;
    uint64_t modseq_before; /* of struct search_run */
    const uint8_t *scores; /* by sequence number, from 1; NULL: not asked for */
};

/* How many messages the answer needs. */
struct search_ends search_ends_wanted(const struct search_request *r);

/* Is there anything to tell? SAVE alone is silent (RFC 5182, 1). */
bool imap_search_has_answer(const struct search_request *r);
/* The untagged answer; also sets "$" when it was asked for. word: "SEARCH" or "SORT". */
PARKS void imap_answer_search(struct imap_session *s, struct imap_command *c,
                              const struct search_request *r, const struct search_found *found,
                              const char *word);
/* The same for one mailbox of many. correlator: "(TAG ...)" with what belongs to it. */
PARKS void imap_add_esearch(struct buf *out, struct str correlator, bool by_uid,
                      const struct search_request *r, const struct search_found *found,
                      struct arena *a);
void imap_add_tag_correlator(struct buf *out, struct str tag); /* "TAG "t1"" */

void imap_save_result(struct imap_session *s, const struct search_request *r,
                      const struct search_found *found);
void imap_forget_saved(struct imap_session *s);
