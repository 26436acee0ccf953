/* filter_reply.h - what a filter writes to people: vacation answers (RFC 5230, 3834) and notices (RFC 5435, 5436). */
#pragma once
#include "mail/sieve/sieve.h"
#include "server/base/arena.h"
#include "server/base/str.h"

struct filter_author {
    struct str address;                                 /* of the account */
    struct str name;                                    /* may be empty */
    const struct str *own_addresses;                    /* what :from may be */
    size_t own_count;
};

/* The whole message, with CRLF. original: what is answered. */
struct str filter_vacation_message(struct arena *a, const struct filter_author *author, const struct sieve_action *action,
                                   struct str original);

/* A notice by mailto. False: the URI names nobody. */
struct filter_notice { struct str to, message; };
bool filter_notice_message(struct arena *a, const struct filter_author *author, const struct sieve_action *action,
                           struct str original, struct filter_notice *out);

/* Who sent it may be a filter's notice: it is not told of by another (RFC 5436, 2.7.1). */
bool filter_is_notice(struct str message);
