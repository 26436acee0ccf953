/* sieve_program.h - a compiled script: a typed tree that a run walks without looking at a name again.
 *
 * Everything that is constant in the script was checked and prepared when it was compiled: names are numbers,
 * keys are folded, wildcards taken apart, regular expressions compiled. What holds variables is checked by the run.
 * All of it lies in the script's arena and never changes. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/sieve/sieve.h"
#include "mail/sieve/sieve_key.h"
#include "server/base/arena.h"
#include "server/base/str.h"

/* In the order of sieve_extensions[]: the index is the number. */
enum sieve_extension {
    SIEVE_EXT_BODY, SIEVE_EXT_ASCII_CASEMAP, SIEVE_EXT_ASCII_NUMERIC, SIEVE_EXT_OCTET, SIEVE_EXT_UNICODE_CASEMAP,
    SIEVE_EXT_COPY, SIEVE_EXT_DATE, SIEVE_EXT_DUPLICATE, SIEVE_EXT_EDITHEADER, SIEVE_EXT_ENCLOSE,
    SIEVE_EXT_ENCODED_CHARACTER, SIEVE_EXT_ENOTIFY, SIEVE_EXT_ENVELOPE, SIEVE_EXT_ENVELOPE_DELIVERBY, SIEVE_EXT_ENVELOPE_DSN,
    SIEVE_EXT_ENVIRONMENT, SIEVE_EXT_EREJECT, SIEVE_EXT_EXTLISTS, SIEVE_EXT_EXTRACTTEXT, SIEVE_EXT_FCC, SIEVE_EXT_FILEINTO,
    SIEVE_EXT_FOREVERYPART, SIEVE_EXT_IHAVE, SIEVE_EXT_IMAP4FLAGS, SIEVE_EXT_IMAPSIEVE, SIEVE_EXT_INCLUDE, SIEVE_EXT_INDEX,
    SIEVE_EXT_MAILBOX, SIEVE_EXT_MAILBOXID, SIEVE_EXT_MBOXMETADATA, SIEVE_EXT_MIME, SIEVE_EXT_PROCESSCALENDAR,
    SIEVE_EXT_REDIRECT_DELIVERBY, SIEVE_EXT_REDIRECT_DSN, SIEVE_EXT_REGEX, SIEVE_EXT_REJECT, SIEVE_EXT_RELATIONAL,
    SIEVE_EXT_REPLACE, SIEVE_EXT_SERVERMETADATA, SIEVE_EXT_SPAMTEST, SIEVE_EXT_SPAMTESTPLUS, SIEVE_EXT_SPECIAL_USE,
    SIEVE_EXT_SUBADDRESS, SIEVE_EXT_VACATION, SIEVE_EXT_VACATION_SECONDS, SIEVE_EXT_VARIABLES, SIEVE_EXT_VIRUSTEST,
    SIEVE_EXT_COUNT
};
#define SIEVE_EXT(name) (UINT64_C(1) << SIEVE_EXT_##name)     /* a set of extensions is a uint64_t */

/* --- strings -------------------------------------------------------------------------------------- */

enum sieve_piece_kind {
    SIEVE_PIECE_TEXT,
    SIEVE_PIECE_VARIABLE,                    /* index: into program->variables */
    SIEVE_PIECE_MATCH,                       /* index: ${0} to ${31}; beyond: always empty */
};
struct sieve_piece {
    enum sieve_piece_kind kind;
    unsigned index;
    struct str text;
};
/* A constant (pieces_count 0: text is all) or pieces to be joined at run time; their result is cut at SIEVE_VARIABLE_SIZE_MAX
 * only when it goes into a variable. */
struct sieve_string {
    struct str text;
    const struct sieve_piece *pieces;
    unsigned pieces_count;
    unsigned line;
};
struct sieve_strings {
    const struct sieve_string *v;
    unsigned n;
    bool is_constant;                        /* none has pieces */
};
static inline bool sieve_string_is_constant(const struct sieve_string *s) { return s->pieces_count == 0; }
static inline bool sieve_string_is_given(const struct sieve_string *s) { return s->text.p != NULL || s->pieces_count > 0; }   /* optional ones: p is never NULL when given */

/* Header field names. A constant one is in lower case and has a number within the script, for the run's cache of values. */
struct sieve_name {
    struct sieve_string string;
    int id;                                  /* index into program->names, -1: has variables */
};
struct sieve_names {
    const struct sieve_name *v;
    unsigned n;
};

/* --- matching ------------------------------------------------------------------------------------- */

struct sieve_key_slot {
    struct sieve_string string;
    struct sieve_key key;                    /* prepared when string is constant; sieve_key_prepare() does others at run time */
};
struct sieve_match {
    struct sieve_match_how how;              /* comparator, match type, relation */
    const struct sieve_key_slot *keys;
    unsigned keys_count;
};

enum sieve_address_part { SIEVE_ALL, SIEVE_LOCALPART, SIEVE_DOMAIN, SIEVE_USER, SIEVE_DETAIL };

/* :index, :last (RFC 5260, 6): number 0: every field of that name. */
struct sieve_index {
    uint32_t number;
    bool from_last;
};

/* :mime, :anychild and what of the field (RFC 5703, 4). */
enum sieve_mime_option { SIEVE_MIME_NONE, SIEVE_MIME_WHOLE /* :mime alone */, SIEVE_MIME_TYPE, SIEVE_MIME_SUBTYPE, SIEVE_MIME_CONTENTTYPE, SIEVE_MIME_PARAM };
struct sieve_mime {
    enum sieve_mime_option option;
    bool any_child;
    struct sieve_strings params;             /* names, lower case when constant */
};

/* --- tests ---------------------------------------------------------------------------------------- */

enum sieve_test_kind {
    SIEVE_TEST_TRUE, SIEVE_TEST_FALSE,
    SIEVE_TEST_NOT,                          /* tests: one */
    SIEVE_TEST_ALLOF, SIEVE_TEST_ANYOF,      /* tests; left to right, no more than needed (RFC 5463, 4) */
    SIEVE_TEST_ADDRESS, SIEVE_TEST_HEADER, SIEVE_TEST_EXISTS, SIEVE_TEST_ENVELOPE, SIEVE_TEST_SIZE,
    SIEVE_TEST_BODY, SIEVE_TEST_DATE, SIEVE_TEST_CURRENTDATE, SIEVE_TEST_STRING, SIEVE_TEST_HASFLAG,
    SIEVE_TEST_ENVIRONMENT, SIEVE_TEST_IHAVE, SIEVE_TEST_DUPLICATE, SIEVE_TEST_SPAMTEST, SIEVE_TEST_VIRUSTEST,
    SIEVE_TEST_MAILBOXEXISTS, SIEVE_TEST_MAILBOXIDEXISTS, SIEVE_TEST_SPECIALUSE_EXISTS,
    SIEVE_TEST_METADATA, SIEVE_TEST_METADATAEXISTS, SIEVE_TEST_SERVERMETADATA, SIEVE_TEST_SERVERMETADATAEXISTS,
    SIEVE_TEST_VALID_NOTIFY_METHOD, SIEVE_TEST_NOTIFY_METHOD_CAPABILITY, SIEVE_TEST_VALID_EXT_LIST,
    SIEVE_TEST_FAULT,                        /* only under ihave: reached, it is a run-time error */
};

enum sieve_envelope_part {
    SIEVE_ENVELOPE_FROM, SIEVE_ENVELOPE_TO,
    SIEVE_ENVELOPE_NOTIFY, SIEVE_ENVELOPE_ORCPT, SIEVE_ENVELOPE_RET, SIEVE_ENVELOPE_ENVID,
    SIEVE_ENVELOPE_BYTIMEABSOLUTE, SIEVE_ENVELOPE_BYTIMERELATIVE, SIEVE_ENVELOPE_BYMODE, SIEVE_ENVELOPE_BYTRACE,
    SIEVE_ENVELOPE_UNKNOWN,                  /* no such part: has no value (only possible with variables at run time) */
};

enum sieve_date_part {
    SIEVE_DATE_YEAR, SIEVE_DATE_MONTH, SIEVE_DATE_DAY, SIEVE_DATE_DATE, SIEVE_DATE_JULIAN, SIEVE_DATE_HOUR, SIEVE_DATE_MINUTE,
    SIEVE_DATE_SECOND, SIEVE_DATE_TIME, SIEVE_DATE_ISO8601, SIEVE_DATE_STD11, SIEVE_DATE_ZONE, SIEVE_DATE_WEEKDAY,
    SIEVE_DATE_UNKNOWN,                      /* its value is empty: never matches anything but "" (not possible with a constant) */
};
/* Which zone the parts are in (RFC 5260, 4.1): the account's, the one written in the field, or a given one. */
enum sieve_zone { SIEVE_ZONE_LOCAL, SIEVE_ZONE_ORIGINAL, SIEVE_ZONE_GIVEN, SIEVE_ZONE_STRING /* zone has variables */ };

enum sieve_body_transform { SIEVE_BODY_TEXT, SIEVE_BODY_RAW, SIEVE_BODY_CONTENT };

struct sieve_test {
    enum sieve_test_kind kind;
    unsigned line, column;
    uint64_t needs;                          /* extensions used that only an ihave test gives: enabled by then, or a run-time error */
    struct sieve_test *next;                 /* in the list of allof and anyof */
    struct sieve_match match;                /* tests with keys */
    union {
        struct sieve_test *tests;            /* NOT, ALLOF, ANYOF */
        struct {
            struct sieve_names names;
            enum sieve_address_part part;    /* ADDRESS */
            struct sieve_index index;        /* ADDRESS, HEADER */
            struct sieve_mime mime;          /* EXISTS too: WHOLE and any_child only */
        } header;                            /* ADDRESS, HEADER, EXISTS */
        struct {
            const enum sieve_envelope_part *parts;   /* of strings: UNKNOWN where the string has variables */
            struct sieve_strings strings;
            enum sieve_address_part part;
        } envelope;
        struct { bool is_over; uint64_t size; } size;
        struct {
            enum sieve_body_transform transform;
            struct sieve_strings types;      /* CONTENT: "text", "text/html", "" (every part); lower case when constant */
        } body;
        struct {
            struct sieve_name header;        /* DATE */
            struct sieve_string part_string; /* given when part is UNKNOWN: it has variables */
            enum sieve_date_part part;
            enum sieve_zone zone;
            int zone_min;                    /* GIVEN */
            struct sieve_string zone_string; /* STRING */
            struct sieve_index index;
        } date;                              /* DATE, CURRENTDATE */
        struct sieve_strings strings;        /* STRING: sources; MAILBOXEXISTS; MAILBOXIDEXISTS; VALID_NOTIFY_METHOD; VALID_EXT_LIST */
        struct {
            const unsigned *variables;       /* indexes into program->variables; none: the internal variable */
            unsigned n;
        } hasflag;
        struct sieve_string name;            /* ENVIRONMENT: lower case when constant */
        struct {
            uint64_t extensions;             /* that a true answer enables */
            bool is_true;                    /* all are known here */
        } ihave;
        struct {
            struct sieve_string handle;      /* maybe not given */
            struct sieve_name header;        /* given: its value is the id; else unique_id when given; else Message-ID */
            bool has_header;
            struct sieve_string unique_id;
            uint64_t seconds;                /* default 7 days */
            bool last;
        } duplicate;
        bool is_percent;                     /* SPAMTEST */
        struct {
            struct sieve_string mailbox;     /* METADATA, METADATAEXISTS, SPECIALUSE_EXISTS (maybe not given) */
            struct sieve_strings names;      /* annotation names, or special-use attributes */
        } metadata;                          /* METADATA.., SERVERMETADATA.., SPECIALUSE_EXISTS; METADATA and SERVERMETADATA have one name */
        struct {
            struct sieve_string uri, capability;   /* capability in lower case when constant */
        } notify;                            /* NOTIFY_METHOD_CAPABILITY */
        struct str fault;
    } u;
};

/* --- commands ------------------------------------------------------------------------------------- */

enum sieve_command_kind {
    SIEVE_COMMAND_IF, SIEVE_COMMAND_STOP, SIEVE_COMMAND_KEEP, SIEVE_COMMAND_FILEINTO, SIEVE_COMMAND_REDIRECT,
    SIEVE_COMMAND_DISCARD, SIEVE_COMMAND_REJECT, SIEVE_COMMAND_EREJECT, SIEVE_COMMAND_VACATION, SIEVE_COMMAND_NOTIFY,
    SIEVE_COMMAND_SET, SIEVE_COMMAND_SETFLAG, SIEVE_COMMAND_ADDFLAG, SIEVE_COMMAND_REMOVEFLAG,
    SIEVE_COMMAND_ADDHEADER, SIEVE_COMMAND_DELETEHEADER,
    SIEVE_COMMAND_INCLUDE, SIEVE_COMMAND_RETURN,
    SIEVE_COMMAND_GLOBAL,                    /* nothing to do: names were resolved */
    SIEVE_COMMAND_FOREVERYPART, SIEVE_COMMAND_BREAK, SIEVE_COMMAND_REPLACE, SIEVE_COMMAND_ENCLOSE, SIEVE_COMMAND_EXTRACTTEXT,
    SIEVE_COMMAND_ERROR,                     /* text: run-time error (RFC 5463, 5) */
    SIEVE_COMMAND_PROCESSCALENDAR,
    SIEVE_COMMAND_FAULT,                     /* only under ihave: reached, it is a run-time error */
};

/* if, elsif ... else: the last branch of an else has no test. */
struct sieve_branch {
    struct sieve_branch *next;
    struct sieve_test *test;
    struct sieve_command *block;             /* NULL: empty */
    unsigned line;
};

/* Modifiers of set and extracttext, applied in the order of the bits (RFC 5229, 4.1: 40 before 30 ... before 10). */
enum sieve_modifier {
    SIEVE_LOWER = 1, SIEVE_UPPER = 2,        /* 40 */
    SIEVE_LOWERFIRST = 4, SIEVE_UPPERFIRST = 8,   /* 30 */
    SIEVE_QUOTEWILDCARD = 16, SIEVE_QUOTEREGEX = 32,   /* 20 */
    SIEVE_ENCODEURL = 64,                    /* 15 (RFC 5435, 6) */
    SIEVE_LENGTH = 128,                      /* 10 */
};

/* Where a copy goes: keep (flags only), fileinto and :fcc. */
struct sieve_place {
    struct sieve_string mailbox;
    struct sieve_string mailbox_id, special_use;   /* maybe not given */
    struct sieve_strings flags;
    bool has_flags;                          /* :flags given; else the internal variable's */
    bool creates;
};

#define SIEVE_NO_VARIABLE UINT32_MAX

struct sieve_command {
    enum sieve_command_kind kind;
    unsigned line, column;
    uint64_t needs;                          /* as in a test */
    struct sieve_command *next;
    union {
        struct sieve_branch *branches;       /* IF */
        struct { struct sieve_place place; bool is_copy; } file;   /* KEEP, FILEINTO */
        struct {
            struct sieve_string address;     /* addr-spec when constant (else sieve_address_take()); with is_list a list's name */
            bool is_copy, is_list;
            struct sieve_string dsn_notify, dsn_ret;   /* maybe not given */
            bool has_by, by_is_absolute, by_trace;
            int64_t by_seconds;              /* relative, or absolute when the string is constant: Unix time */
            struct sieve_string by_absolute; /* RFC 3339 (section 5.6 of it); has variables when by_seconds is 0 */
            struct sieve_string by_mode;     /* "notify" (default) or "return" */
        } redirect;
        struct sieve_string text;            /* REJECT, EREJECT: reason; ERROR: message */
        struct {
            struct sieve_string reason, subject, from, handle;   /* all but reason: maybe not given */
            struct sieve_strings addresses;
            uint64_t seconds;                /* within the limits already; 0 only with :seconds 0 */
            bool is_mime, has_fcc;
            struct sieve_place fcc;
            struct str default_handle;       /* when no handle is given: differs when reason, subject, from or :mime do */
        } vacation;
        struct {
            struct sieve_string method, from, message, importance;   /* all but method: maybe not given */
            struct sieve_strings options;
            struct sieve_place fcc;
            bool has_fcc;
        } notify;
        struct {
            unsigned variable;               /* index into program->variables */
            unsigned modifiers;              /* enum sieve_modifier */
            struct sieve_string value;
        } set;
        struct {
            unsigned variable;               /* SIEVE_NO_VARIABLE: the internal one */
            struct sieve_strings flags;
        } flag;                              /* SETFLAG, ADDFLAG, REMOVEFLAG */
        struct {
            struct sieve_name name;          /* name.string.text in lower case; written: as the script wrote it */
            struct sieve_string written;
            struct sieve_string value;       /* ADDHEADER */
            bool at_end;                     /* ADDHEADER :last */
            struct sieve_index index;        /* DELETEHEADER; from_last only with a number */
            struct sieve_match match;        /* DELETEHEADER: keys_count 0: any value */
        } edit;
        struct {
            enum sieve_location location;
            bool once, optional;
            struct sieve_string name;
        } include;
        struct {
            struct str name;                 /* constant; n 0: none */
            struct sieve_command *block;
        } loop;                              /* FOREVERYPART */
        struct { unsigned levels; } brk;     /* BREAK: loops to leave, 1: the innermost */
        struct {
            struct sieve_string text, subject, from;   /* REPLACE; ENCLOSE has no from; all but text: maybe not given */
            struct sieve_strings headers;    /* ENCLOSE :headers */
            bool is_mime;
        } body;                              /* REPLACE, ENCLOSE */
        struct {
            unsigned variable, modifiers;
            uint64_t first;                  /* characters; UINT64_MAX: all */
        } extract;
        struct {
            bool allow_public, updates_only, delete_cancelled;
            struct sieve_strings addresses;
            struct sieve_string calendar_id, organizers;   /* maybe not given */
            unsigned outcome, reason;        /* variables, or SIEVE_NO_VARIABLE */
        } calendar;
        struct str fault;                    /* FAULT */
    } u;
};

/* --- the whole ------------------------------------------------------------------------------------ */

struct sieve_variable {
    struct str name;                         /* lower case, without "global." */
    bool is_global;                          /* shared by name among the scripts of a run (RFC 6609, 3.4) */
};

struct sieve_program {
    struct sieve_command *first;             /* NULL: empty script */
    uint64_t required;                       /* by `require` */
    bool has_ihave;
    const struct sieve_variable *variables;
    unsigned variables_count;
    const struct str *names;                 /* constant header field names, lower case, each once */
    unsigned names_count;
};

const struct sieve_program *sieve_script_program(const struct sieve_script *);

/* What the run checks when a string had variables: the same checks as for constants. */
bool sieve_header_name_valid(struct str name);                           /* RFC 5322, 2.2 */
bool sieve_address_valid(struct str address);                            /* addr-spec with a domain */
/* "a@b" or "Name <a@b>" (RFC 5228, 2.4.2.3): its addr-spec, in `a`. False when it is no valid address. */
bool sieve_address_take(struct arena *a, struct str text, struct str *address);
bool sieve_from_valid(struct arena *a, struct str text);                 /* a mailbox-list (RFC 5230, 4.3) */
bool sieve_mailbox_name_valid(struct str path);                          /* not empty, UTF-8, no controls, at most 1000 bytes */
bool sieve_flag_valid(struct str flag);                                  /* system flag or keyword (RFC 5232, 2) */
bool sieve_zone_parse(struct str zone, int *minutes);                    /* "+0700" */
enum sieve_date_part sieve_date_part_of(struct str name);                /* UNKNOWN when there is none */
enum sieve_envelope_part sieve_envelope_part_of(struct str name);
bool sieve_metadata_name_valid(struct str name);                         /* "/private/..." or "/shared/..." (RFC 5464, 4.1) */
bool sieve_notify_uri_valid(struct arena *a, struct str uri);            /* a mailto: URI (RFC 6068) with a recipient */
bool sieve_dsn_notify_valid(struct str value);                           /* "NEVER" or a list of SUCCESS, FAILURE, DELAY (RFC 3461, 4.1) */
