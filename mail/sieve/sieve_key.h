/* sieve_key.h - keys of Sieve tests, prepared for comparing (RFC 5228, 2.7; RFC 5231; regex draft).
 *
 * A key is prepared once, when the script is compiled, or at run time when it has variables. Values are folded by the
 * run with the same comparator, once per value, and compared with any number of keys. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/str.h"

enum sieve_comparator { SIEVE_ASCII_CASEMAP /* the default */, SIEVE_OCTET, SIEVE_ASCII_NUMERIC, SIEVE_UNICODE_CASEMAP };
enum sieve_match_type { SIEVE_IS, SIEVE_CONTAINS, SIEVE_MATCHES, SIEVE_REGEX, SIEVE_VALUE, SIEVE_COUNT_OF /* :count */, SIEVE_LIST /* :list */ };
enum sieve_relation { SIEVE_GT, SIEVE_GE, SIEVE_LT, SIEVE_LE, SIEVE_EQ, SIEVE_NE };

struct sieve_match_how {
    enum sieve_comparator comparator;
    enum sieve_match_type type;
    enum sieve_relation relation;            /* VALUE, COUNT_OF */
};

/* :matches: a pattern is runs of text between wildcards. */
enum sieve_glob_kind { SIEVE_GLOB_TEXT, SIEVE_GLOB_ONE /* ? : one character */, SIEVE_GLOB_ANY /* * */ };
struct sieve_glob {
    enum sieve_glob_kind kind;
    struct str text;                         /* folded */
};

struct sieve_regex;                          /* pcre2_code: cast; lives in the arena, nothing to free */

struct sieve_key {
    struct str text;                         /* as written, variables put in */
    struct str folded;                       /* by the comparator: IS, CONTAINS, VALUE and COUNT_OF */
    uint64_t number;                         /* i;ascii-numeric: leading digits, saturated at UINT64_MAX */
    bool is_number;                          /* begins with a digit; else positive infinity (RFC 4790, 9.1) */
    const struct sieve_glob *globs;          /* MATCHES */
    unsigned globs_count;
    const struct sieve_regex *regex;         /* REGEX */
};

/* One sentence in *why and -1 when it is no valid key for this match (a regex that does not compile or is too long). The text is borrowed. */
int sieve_key_prepare(struct arena *a, struct sieve_match_how how, struct str text, struct sieve_key *out, struct str *why);

/* A text in the form in which the comparator compares: ASCII lower case, the text itself, or i;unicode-casemap. i;ascii-numeric: the text itself. */
struct str sieve_fold(struct arena *a, enum sieve_comparator comparator, struct str text);
/* i;ascii-numeric: false when it begins with no digit. */
bool sieve_number(struct str text, uint64_t *number);
