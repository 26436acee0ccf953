/* imap_search_options.h - what stands before the keys of SEARCH, SORT and THREAD: RETURN (...), sort
 * criteria, the algorithm (RFC 4731, 5182, 5256, 5267, 5957, 6203, 9394). */
#pragma once
#include "mail/imap/imap_search_parse.h"

#define SORT_CRITERIA_MAX 20

enum sort_key {
    SORT_KEY_ARRIVAL,
    SORT_KEY_CC,
    SORT_KEY_DATE,
    SORT_KEY_DISPLAY_FROM,
    SORT_KEY_DISPLAY_TO,
    SORT_KEY_FROM,
    SORT_KEY_RELEVANCY, /* the best first (RFC 6203, 6) */
    SORT_KEY_SIZE,
    SORT_KEY_SUBJECT,
    SORT_KEY_TO,
    SORT_KEY_COUNT
};

struct sort_criterion {
    enum sort_key key;
    bool is_reversed;
};

/* A key that was named before decides nothing and is left out: at most SORT_KEY_COUNT. */
struct sort_program {
    struct sort_criterion v[SORT_KEY_COUNT];
    unsigned n;
};

bool sort_program_has(const struct sort_program *program, enum sort_key key);

enum thread_algorithm { THREAD_ORDEREDSUBJECT, THREAD_REFERENCES };

/* "RETURN (MIN COUNT) ", or nothing. */
int imap_parse_search_return(struct imap_parser *p, struct search_request *out, struct error *err);
int imap_parse_sort_program(struct imap_parser *p, struct sort_program *out, struct error *err);
/* c.refusal is the caller's: ERR_UNSUPPORTED is an unknown algorithm. */
int imap_parse_thread_algorithm(struct imap_parser *p, enum thread_algorithm *out,
                                struct error *err);

/* Whole argument lists, for the commands and the fuzzer. */
int imap_parse_sort(struct imap_parser *p, struct arena *a, struct sort_program *program,
                    struct search_request *out, struct error *err);
int imap_parse_thread(struct imap_parser *p, struct arena *a, enum thread_algorithm *algorithm,
                      struct search_request *out, struct error *err);
