/* sieve_report.h - the first fault of a script: where it is and the sentence that says what to do. */
#pragma once
#include "mail/sieve/sieve.h"

struct sieve_report {
    struct arena *a;                     /* of the text */
    struct sieve_fault *fault;           /* line 0: none yet */
};

/* Returns -1. The first one stays. */
int sieve_fail(struct sieve_report *r, unsigned line, unsigned column, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* A text of the script as it is shown in a fault: control characters as '?', long ones cut. "%s". */
const char *sieve_shown(struct sieve_report *r, struct str text);
