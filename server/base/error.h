/* error.h - one vocabulary of failure for every layer and every protocol.
 *
 * What can fail returns 0 or -1 (or NULL) and fills its last argument. The kind becomes a protocol
 * answer in one table per protocol; the text is one sentence for the client, without secrets,
 * errno or SQL. Pass NULL where the failure does not matter (clean-up after another one). */
#pragma once
#include <stdarg.h>

#undef fail             /* cmocka, which the unit tests include first, has a macro of this name */

enum error_kind {
    ERR_NONE,
    ERR_SYNTAX,        /* we cannot parse what the client sent            */
    ERR_DENIED,        /* understood, and not allowed                     */
    ERR_AUTH,          /* wrong name or password, or not logged in        */
    ERR_NOT_FOUND,
    ERR_EXISTS,        /* to be created, and there already                */
    ERR_TOO_BIG,
    ERR_OVER_QUOTA,
    ERR_CONFLICT,      /* If-Match, UNCHANGEDSINCE, ifInState             */
    ERR_LIMIT,         /* a rate or a count was passed                    */
    ERR_UNSUPPORTED,   /* known to the protocol, not offered here         */
    ERR_TRY_LATER,     /* the database, DNS or a peer is away             */
    ERR_CLOSED,        /* the peer closed the connection, or it broke     */
    ERR_TIMED_OUT,     /* the deadline passed                             */
    ERR_CANCELLED,     /* the server is shutting down, or the work was called off */
    ERR_INTERNAL,      /* our fault: the detail went to the log           */
    ERR_KIND_COUNT
};

struct error {
    enum error_kind kind;
    char text[240];
};

/* Sets *err (if not NULL; the first cause is kept when one is set already) and returns -1. */
int fail(struct error *err, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for functions that return pointers. */
#define fail_null(...) ((void)fail(__VA_ARGS__), NULL)

void error_clear(struct error *err);
const char *error_kind_name(enum error_kind kind);      /* "over_quota", for logs and --json */
