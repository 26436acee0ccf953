/* access.h - what a user may do in a mailbox (RFC 4314).
 *
 * The owner of an account may do everything in it, always. Everyone else has the rights that were
 * granted to them, to a group they are in (also by way of other groups), or to anyone, minus those
 * taken away from any of these ("-user"). A new mailbox begins with the grants of the one above
 * it; at the top of a shared account, with those of INBOX.
 *
 * Mailboxes of others are named "Other Users/address/path", those of shared accounts and rooms
 * "Shared/address/path". No mailbox of one's own may begin so. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/store/mailbox.h"
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

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

/* Who has any of these knows that the mailbox is there (RFC 4314, 4: MYRIGHTS). */
#define RIGHTS_KNOWING                                                                             \
    (RIGHT_LOOKUP | RIGHT_READ | RIGHT_INSERT | RIGHT_CREATE | RIGHT_DELETE_MAILBOX |              \
     RIGHT_ADMINISTER)
/* Any of these makes a selected mailbox more than something to look at. */
#define RIGHTS_CHANGING                                                                            \
    (RIGHT_SEEN | RIGHT_WRITE | RIGHT_INSERT | RIGHT_DELETE_MESSAGES | RIGHT_EXPUNGE)

#define GRANTS_PER_MAILBOX_MAX 500
#define SHARED_MAILBOXES_MAX   10000 /* of others, seen by one user */

/* --- rights as text --------------------------------------------------------------------------- */
/* "lrswi"; the "c" and "d" of RFC 2086 mean "kx" and "te". ERR_SYNTAX names what is no right. */
int rights_parse(struct str text, unsigned *out, struct error *err);
/* "lrswipkxtecda": all that are there, and "c" and "d" when a member of theirs is. */
void rights_add(struct buf *out, unsigned rights);
/* The flags that they allow to change, as a mask of message.h: FLAG_ALL for all rights. */
uint32_t rights_flags(unsigned rights);

/* --- names ------------------------------------------------------------------------------------ */
#define ACCESS_OTHERS_PREFIX "Other Users"
#define ACCESS_SHARED_PREFIX "Shared"

/* Is it, or is it below, "Other Users" or "Shared"? */
bool access_is_foreign_name(struct str name);
/* "Shared/support@example.test/INBOX". Characters of the address that cannot stand in a level of
 * a name ('/', '*', '%', '=') are written as "=2F". An empty path names the account. */
struct str access_name(struct arena *a, bool is_shared, struct str address, struct str path);
/* The same of a mailbox that the user knows already. ERR_NOT_FOUND when it is gone. */
PARKS int access_name_of(struct arena *a, struct mailbox_key mailbox, struct str *out,
                         struct error *err);
/* The name in canonical form, of an own mailbox or a foreign one that need not exist. */
int access_canonical_name(struct arena *a, struct str name, struct str *out, struct error *err);

/* What a name leads to. */
struct access_place {
    int64_t account_id;
    bool is_shared;     /* not a person's: below "Shared" */
    struct str address; /* primary */
    struct str path;    /* canonical, within that account */
    struct str name;    /* the whole, as access_name makes it */
};
/* ERR_NOT_FOUND unless something of that account is granted to the user: nobody can find out
 * which accounts exist. ERR_SYNTAX: no mailbox can have that path. */
PARKS int access_parse_name(struct arena *a, int64_t user_id, struct str name,
                            struct access_place *out, struct error *err);

/* --- asking ----------------------------------------------------------------------------------- */
/* Rights of a user in a mailbox; 0 when it is gone. Costs nothing in one's own account. */
PARKS int access_rights(int64_t user_id, struct mailbox_key mailbox, unsigned *out,
                        struct error *err);
/* The mailbox and, in out->rights, what the user may do there. ERR_NOT_FOUND when it does not
 * exist, and for others than its owner also when they have none of RIGHTS_KNOWING. */
PARKS int access_find(struct arena *a, int64_t user_id, int64_t account_id, struct str path,
                      struct mailbox *out, struct error *err);
/* Rights of a user in what a new mailbox at this path would be made in. */
PARKS int access_parent_rights(int64_t user_id, int64_t account_id, struct str path, unsigned *out,
                               struct error *err);

struct shared_mailbox {
    int64_t account_id;
    struct str name;         /* the whole, as access_name makes it */
    struct mailbox *mailbox; /* with the user's rights; those of all follow one another in memory */
};
/* Every mailbox of others in which the user has RIGHT_LOOKUP, account by account, INBOX first and
 * what is below a mailbox right behind it; SHARED_MAILBOXES_MAX at most. */
PARKS int access_list(struct arena *a, int64_t user_id, struct shared_mailbox **out, size_t *count,
                      struct error *err);
/* The same and mailbox_list of the user's own account, in one round trip. */
PARKS int access_list_all(struct arena *a, int64_t user_id, struct mailbox **own, size_t *own_count,
                          struct shared_mailbox **foreign, size_t *foreign_count,
                          struct error *err);

/* Sets unseen_count, which is the owner's, to the user's own in all of v[], which are of one
 * account. */
PARKS int access_count_unseen(int64_t user_id, int64_t account_id, struct mailbox *v, size_t count,
                              struct error *err);

/* --- granting --------------------------------------------------------------------------------- */
struct grantee {
    int64_t account_id; /* 0: anyone */
    bool is_negative;   /* the rights are taken away */
};
/* "bob@example.test" (any of its addresses, or the local part alone when the server has one
 * domain), "anyone" or "authenticated", each possibly with "-" before it. ERR_SYNTAX: no
 * identifier at all; ERR_UNSUPPORTED: nobody has it. */
PARKS int grantee_parse(struct arena *a, struct str identifier, struct grantee *out,
                        struct error *err);

struct mailbox_grant {
    struct str name; /* as grantee_parse reads it */
    unsigned rights;
};
/* The owner first, with RIGHTS_ALL. */
PARKS int access_list_grants(struct arena *a, struct mailbox_key mailbox,
                             struct mailbox_grant **out, size_t *count, struct error *err);

enum rights_change { RIGHTS_ADD, RIGHTS_REMOVE, RIGHTS_REPLACE };
/* Whether the caller may is the caller's question. ERR_UNSUPPORTED for the owner, who cannot be
 * locked out; ERR_LIMIT. Sessions of the owner and the grantee hear of it. */
PARKS int access_set(struct mailbox_key mailbox, struct grantee grantee, enum rights_change change,
                     unsigned rights, struct error *err);
/* In every mailbox the account has now; *count says how many. */
PARKS int access_set_all(int64_t account_id, struct grantee grantee, enum rights_change change,
                         unsigned rights, int *count, struct error *err);
