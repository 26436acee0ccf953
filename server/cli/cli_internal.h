/* cli_internal.h - what the commands share: how they are described, what they are given, how they answer.
 *
 * A command has two parts. `prepare` may read files and the terminal: it runs first, as the user who called and
 * without a database. `run` runs in a fiber with the database open, as the owner of the data directory. */
#pragma once
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/cli/cli_output.h"
#include "server/directory/directory.h"
#include "server/run/fiber.h"

enum cli_option {
    OPTION_JSON, OPTION_DATA, OPTION_CONFIG, OPTION_SET,                       /* every command takes these */
    OPTION_NAME, OPTION_KIND, OPTION_PASSWORD_STDIN, OPTION_PASSWORD_HASH, OPTION_QUOTA, OPTION_MESSAGES,
    OPTION_FROM_CSV, OPTION_AS, OPTION_DOMAIN, OPTION_REMOVED, OPTION_EQUIPMENT, OPTION_ADMINISTRATOR,
    OPTION_MAILBOX, OPTION_WITH, OPTION_RIGHTS, OPTION_LIST,
    OPTION_ID, OPTION_MESSAGE_ID, OPTION_SENDER, OPTION_RECIPIENT, OPTION_SUBJECT, OPTION_ACCOUNT, OPTION_SINCE,
    OPTION_UNTIL, OPTION_LIMIT, OPTION_BEFORE,
    OPTION_ALIAS_OF, OPTION_CATCH_ALL, OPTION_POSTMASTER, OPTION_SUBADDRESS, OPTION_SIZE_MAX, OPTION_ADMINS_SEND_AS,
    OPTION_NO_COPY, OPTION_ON_BEHALF,
    OPTION_DESTINATION, OPTION_HELD, OPTION_ALL, OPTION_REASON, OPTION_TO, OPTION_BOUNCE,
    OPTION_ZONE, OPTION_ADDRESS, OPTION_BLOCK_LISTS,
    OPTION_ACTIVE, OPTION_PLACE, OPTION_DRY_RUN,
    OPTION_COUNT
};

#define TAKES(option) (UINT64_C(1) << OPTION_##option)
#define CLI_ARGS_MAX 1000

struct cli {
    struct arena *arena;
    const struct cli_command *command;
    struct str args[CLI_ARGS_MAX];                      /* behind the verb */
    size_t arg_count;
    const char *options[OPTION_COUNT];                  /* NULL: not given; "" for those without a value */
    bool is_json;
    void *prepared;                                     /* what prepare left for run */
};

struct cli_command {
    const char *verb;                                   /* may be two words: "app-password add"; "": the noun says it all */
    const char *arguments;                              /* for the usage line */
    unsigned args_min, args_max;
    uint64_t options;                                   /* TAKES() of what it takes beside the common ones */
    int (*prepare)(struct cli *c, struct error *err);   /* may be NULL */
    /* -1: refused, with an error. 1: done, and what was found is not well: the exit status is 1, and run has said why. */
    PARKS int (*run)(struct cli *c, struct error *err);
    bool needs_no_database;
    const char *meaning;
};

/* One array per noun, ended by a row without a verb. */
extern const struct cli_command cli_domain_commands[];
extern const struct cli_command cli_account_commands[];
extern const struct cli_command cli_alias_commands[];
extern const struct cli_command cli_group_commands[];
extern const struct cli_command cli_room_commands[];
extern const struct cli_command cli_queue_commands[];
extern const struct cli_command cli_config_commands[];
extern const struct cli_command cli_trace_commands[];
extern const struct cli_command cli_dkim_commands[];
extern const struct cli_command cli_report_commands[];
extern const struct cli_command cli_doctor_commands[];
extern const struct cli_command cli_sieve_commands[];

static inline bool cli_has(const struct cli *c, enum cli_option option) { return c->options[option] != NULL; }
static inline struct str cli_value(const struct cli *c, enum cli_option option) { return str_c(c->options[option]); }

/* "5G", "none" or "default" as a QUOTA_ value. ERR_SYNTAX is a usage error: the exit status is 2. */
int cli_parse_quota(struct str text, int64_t *out, struct error *err);

/* Of --since and the like: an age, a day ("2026-11-23") or a moment ("2026-11-23T10:00:00Z"); left alone when it was not given. */
int cli_parse_time(struct cli *c, enum cli_option option, int64_t *unix_us, struct error *err);
/* cli_report_sources.c: report sources. */
PARKS int cli_report_sources(struct cli *c, struct error *err);

/* cli_share.c: account share, unshare. */
int cli_prepare_share(struct cli *c, struct error *err);
int cli_prepare_unshare(struct cli *c, struct error *err);
PARKS int cli_share(struct cli *c, struct error *err);
PARKS int cli_unshare(struct cli *c, struct error *err);

/* "yes" or "no"; name is for the complaint. */
int cli_parse_yes_no(struct str text, const char *name, bool *out, struct error *err);
/* "none" as an empty text. */
static inline struct str cli_none(struct str text) { return str_ieq(text, STR("none")) ? STR_NULL : text; }

/* cli_forward.c: account forward, sent-copy, undo-send, grants. */
int cli_prepare_sent_copy(struct cli *c, struct error *err);
int cli_prepare_undo_send(struct cli *c, struct error *err);
PARKS int cli_forward_set(struct cli *c, struct error *err);
PARKS int cli_forward_off(struct cli *c, struct error *err);
PARKS int cli_forward_show(struct cli *c, struct error *err);
PARKS int cli_sent_copy(struct cli *c, struct error *err);
PARKS int cli_undo_send(struct cli *c, struct error *err);
PARKS int cli_grants_add(struct cli *c, struct error *err);
PARKS int cli_grants_remove(struct cli *c, struct error *err);
PARKS int cli_grants_list(struct cli *c, struct error *err);

/* cli_sieve_run.c: sieve run, test. */
int cli_prepare_sieve_run(struct cli *c, struct error *err);
int cli_prepare_sieve_test(struct cli *c, struct error *err);
PARKS int cli_sieve_run(struct cli *c, struct error *err);
PARKS int cli_sieve_test(struct cli *c, struct error *err);

/* cli_guard.c: account held, release, purge, guard. */
int cli_prepare_guard_switch(struct cli *c, struct error *err);
PARKS int cli_guard_held(struct cli *c, struct error *err);
PARKS int cli_guard_release(struct cli *c, struct error *err);
PARKS int cli_guard_purge(struct cli *c, struct error *err);
PARKS int cli_guard_switch(struct cli *c, struct error *err);

/* The password of --password-stdin, or one typed twice at the terminal; empty when there is neither. */
int cli_read_password(struct cli *c, struct str *out, struct error *err);

/* Lists the accounts of a domain (--domain) or of all, of the kinds whose bits are set. */
PARKS int cli_list_accounts(struct cli *c, unsigned kinds, struct error *err);
/* Removes the account at the address if it is of one of the kinds. */
PARKS int cli_remove_account(struct cli *c, struct str address, unsigned kinds, const char *what, struct error *err);
#define KIND_BIT(kind) (1u << (kind))
#define ALL_KINDS      (~0u)
