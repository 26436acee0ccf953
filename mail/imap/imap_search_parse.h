/* imap_search_parse.h - the keys of a SEARCH as a tree (RFC 9051, 6.4.4; RFC 4731, 5032, 5182,
 * 7162, 8474, 8514). What stands before them is in imap_search_options.h. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/imap/imap_parse.h"
#include "mail/imap/imap_partial.h"
#include "mail/imap/imap_sequence.h"

#define SEARCH_DEPTH_MAX     50
#define SEARCH_KEYS_MAX      2000
#define SEARCH_TEXT_SIZE_MAX 1024

enum search_kind {
    KEY_ALL, /* negated: nothing                        */
    KEY_SEQUENCE,
    KEY_UID,     /* set                                     */
    KEY_FLAG,    /* flag                                    */
    KEY_KEYWORD, /* text                                    */
    KEY_MODSEQ,  /* from                                    */
    KEY_SIZE,    /* from <= size < to                       */
    KEY_RECEIVED,
    KEY_SAVED,
    KEY_SENT,        /* from <= day since 1970 < to             */
    KEY_RECEIVED_US, /* from <= microseconds since 1970 < to    */
    KEY_HEADER,      /* name, text                              */
    KEY_BODY,
    KEY_TEXT,      /* text                                    */
    KEY_EMAIL_ID,  /* object                                  */
    KEY_THREAD_ID, /* object                                  */
    KEY_AND,
    KEY_OR, /* first_child, its next, ...              */
};

struct fuzzy_text;
struct text_candidates;

/* An id of RFC 8474, "M1-9"; account_id 0: the text can be no id of ours and names nothing. */
struct object_id {
    int64_t account_id, id;
};

struct search_key {
    enum search_kind kind;
    bool is_negated;
    uint32_t flag;
    int64_t from, to;
    struct imap_set set;
    struct object_id object;
    struct str name, text; /* of texts sought: folded (mail/mime/text_fold.h), the name, too */
    struct fuzzy_text *fuzzy;            /* the text of a FUZZY key (RFC 6203) */
    struct text_candidates *candidates; /* messages that can have the text; NULL: any */
    struct search_key *first_child, *next;
};

struct search_request {
    struct search_key *root;
    bool is_extended; /* RETURN (...) was there */
    bool wants_min, wants_max, wants_all, wants_count, wants_save;
    bool wants_update;           /* RFC 5267 */
    bool wants_relevancy;        /* RFC 6203 */
    bool wants_scores;           /* for RELEVANCY here or in a sort program */
    struct imap_partial partial; /* RFC 9394 */
    bool uses_modseq;
    bool has_charset;
    bool has_bad_charset; /* set on failure: [BADCHARSET] */
    unsigned key_count;
    unsigned text_count; /* keys that look for a text */
    bool has_fuzzy;       /* RFC 6203 */
};

/* So many of the first and of the last messages found are enough; both 0: all are wanted. */
struct search_ends {
    uint32_t first_count, last_count;
};

/* "CHARSET UTF-8" may stand before the keys of SEARCH; SORT and THREAD name one always, without
 * the word. The result is added to `out`, which has the options already. */
enum search_charset_form { SEARCH_CHARSET_WORD, SEARCH_CHARSET_FIRST };
int imap_parse_search_program(struct imap_parser *p, struct arena *a, enum search_charset_form form,
                              struct search_request *out, struct error *err);
/* The arguments of SEARCH. */
int imap_parse_search(struct imap_parser *p, struct arena *a, struct search_request *out,
                      struct error *err);
