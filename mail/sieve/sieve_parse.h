/* sieve_parse.h - a script as the tree of its grammar (RFC 5228, 8.2), before any name is understood. */
#pragma once
#include "mail/sieve/sieve_report.h"

struct sieve_literal {
    struct sieve_literal *next;
    unsigned line, column;
    struct str text;                     /* escapes and dot-stuffing undone */
};

enum sieve_word_kind { SIEVE_WORD_NUMBER, SIEVE_WORD_TAG, SIEVE_WORD_STRINGS };
struct sieve_word {                      /* one argument */
    struct sieve_word *next;
    enum sieve_word_kind kind;
    unsigned line, column;
    uint64_t number;
    struct str tag;                      /* without its colon */
    struct sieve_literal *strings;
    unsigned strings_count;
    bool is_list;                        /* in brackets */
};

struct sieve_node {                      /* a command or a test */
    struct sieve_node *next;
    unsigned line, column;
    struct str name;
    struct sieve_word *words;
    struct sieve_node *tests;
    bool has_test_list;                  /* tests in parentheses */
    struct sieve_node *block;
    bool has_block;
};

/* *out: the commands; NULL when there are none. Nested at most SIEVE_NESTING_MAX deep. text must live as long as the tree. -1 and the fault. */
int sieve_parse(struct arena *a, struct arena *strings, struct str text, struct sieve_report *report, struct sieve_node **out);
