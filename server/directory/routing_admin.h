/* routing_admin.h - what admins decide about the ways of mail: domains, forwards, groups, sent copies.
 *
 * Addresses are given in any case and kept canonical. A target is an address of ours, kept as the account it leads to,
 * or any address elsewhere; ERR_NOT_FOUND when it is in a domain of ours and nobody has it. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/directory/directory.h"
#include "server/run/fiber.h"

/* Would the address do as a target? */
PARKS int directory_check_target(struct str address, struct error *err);

/* --- domains --------------------------------------------------------------------------------------- */
struct domain_settings {
    struct str alias_of;                                /* each of its addresses is that of this domain; empty: none */
    struct str catch_all;                               /* gets what nobody has an address for; empty: nobody */
    struct str postmaster;                              /* gets postmaster@ and abuse@; empty: the oldest active person */
    bool has_details;                                   /* ani+shop@ is ani@ */
    int64_t quota_bytes, quota_messages;                /* of new accounts: a number, QUOTA_DEFAULT or QUOTA_UNLIMITED */
    int64_t size_max;                                   /* largest message taken, in bytes; 0: the server's setting */
    bool administrators_send_as;                        /* administrators may send as every address in it */
};
enum domain_field {
    DOMAIN_ALIAS_OF = 1, DOMAIN_CATCH_ALL = 2, DOMAIN_POSTMASTER = 4, DOMAIN_DETAILS = 8, DOMAIN_QUOTA_BYTES = 16,
    DOMAIN_QUOTA_MESSAGES = 32, DOMAIN_SIZE_MAX = 64, DOMAIN_ADMINISTRATORS = 128,
};
PARKS int domain_get(struct arena *a, struct str name, struct domain_settings *out, struct error *err);
/* Changes the fields whose bits are set. A domain becomes another's alias while it has no addresses of its own and no
 * domain is its alias: ERR_CONFLICT; settings of an alias are those of its target: ERR_DENIED. */
PARKS int domain_set(struct str name, const struct domain_settings *settings, unsigned fields, struct error *err);

/* --- forwards -------------------------------------------------------------------------------------- */
#define FORWARDS_MAX 20                                 /* targets of one account; more is ERR_LIMIT: make a group */

/* Replaces the targets; none: mail is forwarded no more. The account itself among them means that it keeps a copy. ERR_DENIED: a group. */
PARKS int forward_set(struct str address, const struct str *targets, size_t count, bool keeps_copy, struct error *err);
PARKS int forward_get(struct arena *a, struct str address, struct str **targets, size_t *count, bool *keeps_copy, struct error *err);

/* What is sent goes to Sent on the server: the account's own mail; mail that others send as this account, for shared mailboxes. */
PARKS int account_set_sent_copy(struct str address, bool of_own, bool of_others, struct error *err);
PARKS int account_get_sent_copy(struct str address, bool *of_own, bool *of_others, struct error *err);

/* For so long what the account sends waits and can be called back (undo send); 0: it goes at once. ERR_SYNTAX: out of range. */
#define UNDO_SEND_MAX_MS 86400000
PARKS int account_set_undo_send(struct str address, int64_t duration_ms, struct error *err);
PARKS int account_get_undo_send(struct str address, int64_t *duration_ms, struct error *err);

/* --- groups ---------------------------------------------------------------------------------------- */
/* Who may post. Owners and listed senders may always; the rule says who else. */
enum group_posting { POST_ANYONE, POST_DOMAINS, POST_MEMBERS, POST_OWNERS, POST_LISTED };
const char *group_posting_name(enum group_posting posting);     /* "anyone", "domains" (people of ours), "members", "owners", "listed" */
bool group_posting_parse(struct str name, enum group_posting *out);

struct group_policy {
    enum group_posting posting;
    bool is_hidden;                                     /* not shown in address books */
    struct str *owners, *senders;                       /* addresses; senders also as @domain */
    size_t owner_count, sender_count;
};
PARKS int group_get_policy(struct arena *a, struct str group, struct group_policy *out, struct error *err);
PARKS int group_set_posting(struct str group, enum group_posting posting, struct error *err);
PARKS int group_set_hidden(struct str group, bool hidden, struct error *err);
PARKS int group_add_owner(struct str group, struct str owner, struct error *err);       /* an account of ours */
PARKS int group_remove_owner(struct str group, struct str owner, struct error *err);
PARKS int group_add_sender(struct str group, struct str sender, struct error *err);     /* a target, or @domain for all of it */
PARKS int group_remove_sender(struct str group, struct str sender, struct error *err);
