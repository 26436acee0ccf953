/* metadata.h - annotations of mailboxes and of the server (RFC 5464).
 *
 * An annotation is an entry, a name such as "/shared/comment", with bytes. "/private/..." is each
 * user's own, "/shared/..." one for everybody. The mailbox number 0 is the server, of which the
 * account number counts for private entries only. Entries are given in canonical form. Who may do
 * what is the caller's question. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/store/mailbox.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

#define METADATA_ENTRY_SIZE_MAX 250
#define METADATA_VALUE_SIZE_MAX 65536
#define METADATA_COUNT_MAX      100     /* private entries of a user in a mailbox; shared ones */
#define METADATA_BYTES_MAX      1048576 /* private of a user in an account; shared in an account */
#define METADATA_DEPTH_ANY      (-1)

/* Lower case; false when it is no entry's name. A prefix ("/private", "/shared/vendor/x") names
 * what is below it, and may be asked for but not set. */
bool metadata_entry_canonical(struct arena *a, struct str name, bool may_be_prefix,
                              struct str *out);
/* Is `entry` the name, or at most `depth` levels below it? */
bool metadata_entry_matches(struct str entry, struct str name, int depth);

struct metadata_query {
    const struct str *names;
    size_t name_count;
    int depth;         /* levels below the names; METADATA_DEPTH_ANY */
    uint64_t size_max; /* longer values are counted, not read */
};
struct annotation {
    int64_t mailbox_id;
    struct str entry;
    struct str value; /* p NULL: longer than size_max */
    uint64_t size;
    uint64_t modseq; /* set by metadata_changed only */
};
/* Of mailboxes of one account, as user_id sees them, ordered by mailbox number and entry. */
PARKS int metadata_find(struct arena *a, int64_t account_id, const int64_t *mailbox_ids,
                        size_t mailbox_count, int64_t user_id, const struct metadata_query *query,
                        struct annotation **out, size_t *count, struct error *err);
/* Of the server, private ones first. */
PARKS int metadata_find_server(struct arena *a, int64_t user_id, const struct metadata_query *query,
                               struct annotation **out, size_t *count, struct error *err);

struct metadata_change {
    const struct annotation *v; /* entry and value; p NULL removes it; each entry once */
    size_t count;
    bool sets_role;
    struct str role; /* the mailbox's new role; empty: none; another that has it loses it */
    /* Answer: */
    struct str loser; /* path of that other mailbox, or empty */
    uint64_t modseq, role_modseq, server_modseq; /* of this change, 0: nothing changed;
                                                    server: of shared entries of the server */
};
/* All or nothing. ERR_TOO_BIG: a value is longer than METADATA_VALUE_SIZE_MAX; ERR_LIMIT: too
 * many; ERR_OVER_QUOTA: too many bytes in the account; ERR_DENIED: INBOX keeps its role. */
PARKS int metadata_set(struct arena *a, struct mailbox_key mailbox, int64_t user_id,
                       struct metadata_change *change, struct error *err);

/* --- hearing of changes ----------------------------------------------------------------------- */
#define METADATA_SERVER_ACCOUNT 0 /* of shared entries of the server; the topic on the bus, too */
#define METADATA_CHANGES_MAX    1000

/* Entries visible to the user that changed after `since` up to `until`, without values. */
PARKS int metadata_changed(struct arena *a, int64_t account_id, int64_t user_id, uint64_t since,
                           uint64_t until, struct annotation **out, size_t *count,
                           struct error *err);
/* Of the last change in the account. */
PARKS int metadata_modseq(int64_t account_id, uint64_t *out, struct error *err);
