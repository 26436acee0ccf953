/* sieve_lex.h - the tokens of a Sieve script (RFC 5228, 8.1), each with its line and column. */
#pragma once
#include "mail/sieve/sieve_report.h"

enum sieve_token_kind {
    SIEVE_TOKEN_END,
    SIEVE_TOKEN_IDENTIFIER,
    SIEVE_TOKEN_TAG,                     /* text: without its colon */
    SIEVE_TOKEN_NUMBER,
    SIEVE_TOKEN_STRING,                  /* quoted or multi-line: text is what it says, line ends as CRLF */
    SIEVE_TOKEN_SIGN,                    /* one of ; , [ ] ( ) { } : text */
};

struct sieve_token {
    enum sieve_token_kind kind;
    unsigned line, column;
    struct str text;
    uint64_t number;
};

struct sieve_lexer {
    struct arena *a;                     /* of strings that are not in the text as they are */
    struct sieve_report *report;
    const char *at, *end;
    unsigned line, column;               /* of `at` */
};

/* The text must live as long as the tokens. -1 when it is not UTF-8 or has NULs. */
int sieve_lex_init(struct sieve_lexer *l, struct arena *a, struct sieve_report *report, struct str text);
/* The next token; -1 and a fault when there is none to be made out. Behind the end: END for ever. */
int sieve_lex_next(struct sieve_lexer *l, struct sieve_token *token);
