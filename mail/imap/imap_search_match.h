/* imap_search_match.h - does a message fit the keys, as far as is known of it?
 *
 * A search is answered in rounds: first from the index alone, then, for those still open, with
 * the columns that the keys need, last with whole messages. Each round asks the same tree and
 * may answer "not known yet". */
#pragma once
#include "mail/imap/imap_search_parse.h"
#include "mail/store/mailbox_index.h"

enum search_answer { SEARCH_NO, SEARCH_YES, SEARCH_OPEN };

struct search_subject {
    int64_t account_id; /* whose message it is */
    uint32_t seq;
    struct index_entry entry;
    const struct message *message; /* NULL in the first round */
    unsigned columns;              /* enum message_columns that message has */
    struct search_text *text;      /* the message's, decoded when needed; NULL before */
    unsigned score;                /* of what was sought FUZZY: 1 to 100; 0: nothing was */
    struct arena *a;               /* for decoding; reset by the caller */
    struct arena *scratch;         /* of one key, however many there are */
};

unsigned search_columns(const struct search_key *key); /* what its answer can need */
enum search_answer search_matches(const struct search_key *key, struct search_subject *subject);
