/* message_internal.h - sets of UIDs as the files that change messages give them to PostgreSQL. */
#pragma once
#include "mail/store/message.h"
#include "server/pg/pg.h"

/* Messages of one statement: it takes well under a second. */
#define MESSAGE_PORTION 10000

/* Sorted and without repeats. */
struct uid_set {
    int64_t *v;
    size_t n;
};

struct uid_set uid_set_make(struct arena *a, const uint32_t *uids, size_t count);
/* The portion from there on as ranges: an array of first UIDs and one of last UIDs. */
void uid_set_portion(struct arena *a, const struct uid_set *set, size_t from,
                     struct pg_arg ranges[2]);
