/* access.h - what a user may do in a mailbox (RFC 4314).
 *
 * The owner of an account may do everything in it. Everyone else has the rights that were granted
 * to them, to a group they are in, or to anyone, minus those taken away ("-user"). */
#pragma once
#include <stdint.h>

enum mailbox_right {
    RIGHT_LOOKUP = 1,            /* l: it is listed */
    RIGHT_READ = 2,              /* r: SELECT, FETCH, SEARCH, COPY from it */
    RIGHT_SEEN = 4,              /* s: \Seen is kept */
    RIGHT_WRITE = 8,             /* w: flags and keywords other than \Seen and \Deleted */
    RIGHT_INSERT = 16,           /* i: APPEND, COPY into it */
    RIGHT_POST = 32,             /* p: send mail to its address */
    RIGHT_CREATE = 64,           /* k: mailboxes below it */
    RIGHT_DELETE_MAILBOX = 128,  /* x */
    RIGHT_DELETE_MESSAGES = 256, /* t: \Deleted */
    RIGHT_EXPUNGE = 512,         /* e */
    RIGHT_ADMINISTER = 1024,     /* a: GETACL, SETACL */
    RIGHTS_ALL = 2047,
};
