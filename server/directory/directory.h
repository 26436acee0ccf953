/* directory.h - domains, accounts and the addresses that lead to them.
 *
 * An account's identity is a number, never its address. Every address (primary or alias) is one row that
 * leads to an account, or elsewhere; a group leads on to its members (routing.h). Addresses are kept in canonical form:
 * lower case, domain as A-label, local part NFC. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

enum account_kind { ACCOUNT_PERSON, ACCOUNT_SHARED, ACCOUNT_GROUP, ACCOUNT_ROOM, ACCOUNT_EQUIPMENT };

struct account {
    int64_t account_id;
    enum account_kind kind;
    bool is_active;                                     /* false: may not log in; mail still arrives */
    bool is_administrator;                              /* may change other accounts */
    struct str address;                                 /* primary, canonical */
    struct str name;                                    /* display name, may be empty */
    int64_t quota_bytes;                                /* 0: without limit; settings already applied */
    int64_t quota_messages;
    /* Of a log-in alone: the password it was proven with, and since when that is what it is; 0: by something else. */
    int64_t credential_id, credential_us;
};

const char *account_kind_name(enum account_kind kind);  /* "person", "shared", "group", "room", "equipment" */
bool account_kind_parse(struct str name, enum account_kind *out);

/* --- addresses ----------------------------------------------------------------------------------- */
/* Canonical form of "Ani.Putri@BÜRO.example"; ERR_SYNTAX says what is wrong. No quotes are removed here: pass the parsed local part. */
int address_canonical(struct arena *a, struct str local, struct str domain, struct str *out, struct error *err);
int domain_canonical(struct arena *a, struct str domain, struct str *out, struct error *err);

/* --- looking up ------------------------------------------------------------------------------------ */
PARKS int directory_find_account(struct arena *a, struct str address, struct account *out, struct error *err);   /* by any of its addresses */
/* By what one may type to log in: an address, or a local part alone when the server has one domain. */
PARKS int directory_find_login(struct arena *a, struct str typed, struct account *out, struct error *err);
PARKS int directory_get_account(struct arena *a, int64_t account_id, struct account *out, struct error *err);
/* Is the domain ours? */
PARKS int directory_has_domain(struct str domain, bool *out, struct error *err);

/* --- managing -------------------------------------------------------------------------------------- */
PARKS int domain_add(struct str name, struct error *err);
PARKS int domain_remove(struct str name, struct error *err);                /* ERR_CONFLICT while accounts, aliases or alias domains use it */
PARKS int domain_list(struct arena *a, struct str **names, size_t *count, struct error *err);

#define QUOTA_DEFAULT   0                               /* the server's setting */
#define QUOTA_UNLIMITED (-1)
#define QUOTA_KEEP      (-2)                            /* of account_set_quota's messages: as it was */

struct account_new {
    enum account_kind kind;
    struct str address;
    struct str name;
    struct str password;                                /* empty: none */
    struct str password_hash;                           /* instead: a crypt(3) string from another server, {SCHEME} before it or not */
    bool is_administrator;
    int64_t quota_bytes, quota_messages;                /* a number, QUOTA_DEFAULT or QUOTA_UNLIMITED */
};
/* Creates the account with its default mailboxes, in one transaction. account_id may be NULL. */
PARKS int account_add(const struct account_new *n, int64_t *account_id, struct error *err);
/* Many at once, for imports: hashes on the helper threads, transactions of 100. Stops at the first refusal, whose index is *done. */
PARKS int account_add_many(const struct account_new *v, size_t count, size_t *done, struct error *err);
PARKS int account_remove(struct str address, struct error *err);            /* its data stays restorable under account_id */
/* Accounts that are administrators, at most 1000. */
PARKS int directory_list_administrators(struct arena *a, int64_t **account_ids, size_t *count, struct error *err);
/* address empty: the one it had. Its aliases are not made again. ERR_EXISTS when the address leads elsewhere by now. */
PARKS int account_restore(int64_t account_id, struct str address, struct error *err);
struct account_removed { int64_t account_id; enum account_kind kind; struct str address, name; int64_t removed_us; };
PARKS int account_list_removed(struct arena *a, struct account_removed **out, size_t *count, struct error *err);
PARKS int account_set_active(struct str address, bool active, struct error *err);
PARKS int account_set_administrator(struct str address, bool administrator, struct error *err);
PARKS int account_set_name(struct str address, struct str name, struct error *err);
PARKS int account_set_quota(struct str address, int64_t bytes, int64_t messages, struct error *err);   /* as in account_new */
struct account_usage { int64_t bytes, messages; };
PARKS int account_get_usage(int64_t account_id, struct account_usage *out, struct error *err);
/* All addresses of an account, the primary first. */
PARKS int account_list_addresses(struct arena *a, int64_t account_id, struct str **out, size_t *count, struct error *err);
/* Ordered by address, after `after` (empty: from the start), at most `count_max`. domain empty: all. */
PARKS int account_list(struct arena *a, struct str domain, struct str after, size_t count_max,
                       struct account **out, struct account_usage **usage, size_t *count, struct error *err);

/* target: any address of an account, or one elsewhere. */
PARKS int alias_add(struct str alias, struct str target, struct error *err);
PARKS int alias_remove(struct str alias, struct error *err);
struct alias { struct str alias, target; };
PARKS int alias_list(struct arena *a, struct str domain, struct alias **out, size_t *count, struct error *err);

/* A member is an account, a group among them, or an address elsewhere. */
PARKS int group_add_member(struct str group, struct str member, struct error *err);
PARKS int group_remove_member(struct str group, struct str member, struct error *err);
PARKS int group_list_members(struct arena *a, struct str group, struct str **out, size_t *count, struct error *err);
