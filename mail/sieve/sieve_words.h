/* sieve_words.h - the vocabulary: extensions, commands, tests and tags, and what each takes and needs. */
#pragma once
#include "mail/sieve/sieve_program.h"

struct sieve_compiler;

/* --- extensions ----------------------------------------------------------------------------------- */

/* The extension of that name and those it brings along, as a set; 0 when it is unknown. */
uint64_t sieve_extension_set(struct str name);
const char *sieve_extension_name(enum sieve_extension extension);

/* --- tags ----------------------------------------------------------------------------------------- */

/*    name              word                takes  excludes each other */
#define SIEVE_TAGS(TAG) \
    TAG(COMPARATOR,       "comparator",       's', 0) \
    TAG(IS,               "is",               0,   1) \
    TAG(CONTAINS,         "contains",         0,   1) \
    TAG(MATCHES,          "matches",          0,   1) \
    TAG(REGEX,            "regex",            0,   1) \
    TAG(VALUE,            "value",            's', 1) \
    TAG(COUNT,            "count",            's', 1) \
    TAG(LIST,             "list",             0,   1) \
    TAG(ALL,              "all",              0,   2) \
    TAG(LOCALPART,        "localpart",        0,   2) \
    TAG(DOMAIN,           "domain",           0,   2) \
    TAG(USER,             "user",             0,   2) \
    TAG(DETAIL,           "detail",           0,   2) \
    TAG(INDEX,            "index",            'n', 0) \
    TAG(LAST,             "last",             0,   0) \
    TAG(MIME,             "mime",             0,   0) \
    TAG(ANYCHILD,         "anychild",         0,   0) \
    TAG(TYPE,             "type",             0,   3) \
    TAG(SUBTYPE,          "subtype",          0,   3) \
    TAG(CONTENTTYPE,      "contenttype",      0,   3) \
    TAG(PARAM,            "param",            'S', 3) \
    TAG(OVER,             "over",             0,   4) \
    TAG(UNDER,            "under",            0,   4) \
    TAG(RAW,              "raw",              0,   5) \
    TAG(TEXT,             "text",             0,   5) \
    TAG(CONTENT,          "content",          'S', 5) \
    TAG(ZONE,             "zone",             's', 6) \
    TAG(ORIGINALZONE,     "originalzone",     0,   6) \
    TAG(PERCENT,          "percent",          0,   0) \
    TAG(COPY,             "copy",             0,   0) \
    TAG(CREATE,           "create",           0,   0) \
    TAG(FLAGS,            "flags",            'S', 0) \
    TAG(SPECIALUSE,       "specialuse",       's', 7) \
    TAG(MAILBOXID,        "mailboxid",        's', 7) \
    TAG(FCC,              "fcc",              's', 0) \
    TAG(DAYS,             "days",             'n', 8) \
    TAG(SECONDS,          "seconds",          'n', 8) \
    TAG(SUBJECT,          "subject",          's', 0) \
    TAG(FROM,             "from",             's', 0) \
    TAG(ADDRESSES,        "addresses",        'S', 0) \
    TAG(HANDLE,           "handle",           's', 0) \
    TAG(IMPORTANCE,       "importance",       's', 0) \
    TAG(OPTIONS,          "options",          'S', 0) \
    TAG(MESSAGE,          "message",          's', 0) \
    TAG(LOWER,            "lower",            0,   9) \
    TAG(UPPER,            "upper",            0,   9) \
    TAG(LOWERFIRST,       "lowerfirst",       0,   10) \
    TAG(UPPERFIRST,       "upperfirst",       0,   10) \
    TAG(QUOTEWILDCARD,    "quotewildcard",    0,   11) \
    TAG(QUOTEREGEX,       "quoteregex",       0,   11) \
    TAG(ENCODEURL,        "encodeurl",        0,   0) \
    TAG(LENGTH,           "length",           0,   0) \
    TAG(PERSONAL,         "personal",         0,   12) \
    TAG(GLOBAL,           "global",           0,   12) \
    TAG(ONCE,             "once",             0,   0) \
    TAG(OPTIONAL,         "optional",         0,   0) \
    TAG(HEADER,           "header",           's', 13) \
    TAG(UNIQUEID,         "uniqueid",         's', 13) \
    TAG(NAME,             "name",             's', 0) \
    TAG(HEADERS,          "headers",          'S', 0) \
    TAG(FIRST,            "first",            'n', 0) \
    TAG(NOTIFY,           "notify",           's', 0) \
    TAG(RET,              "ret",              's', 0) \
    TAG(BYTIMERELATIVE,   "bytimerelative",   'n', 14) \
    TAG(BYTIMEABSOLUTE,   "bytimeabsolute",   's', 14) \
    TAG(BYMODE,           "bymode",           's', 0) \
    TAG(BYTRACE,          "bytrace",          0,   0) \
    TAG(ALLOWPUBLIC,      "allowpublic",      0,   0) \
    TAG(UPDATESONLY,      "updatesonly",      0,   15) \
    TAG(CALENDARID,       "calendarid",       's', 15) \
    TAG(DELETECANCELLED,  "deletecancelled",  0,   16) \
    TAG(DELETECANCELED,   "deletecanceled",   0,   16) /* how Americans write it */ \
    TAG(ORGANIZERS,       "organizers",       's', 0) \
    TAG(OUTCOME,          "outcome",          's', 0) \
    TAG(REASON,           "reason",           's', 0)

enum sieve_tag {
#define TAG(name, word, takes, group) SIEVE_TAG_##name,
    SIEVE_TAGS(TAG)
#undef TAG
    SIEVE_TAG_COUNT_ALL
};

struct sieve_tag_info {
    const char *word;
    char takes;                          /* 's' a string, 'S' a list of strings, 'n' a number, 0 nothing */
    unsigned char group;                 /* of tags that exclude each other; 0: none */
};
extern const struct sieve_tag_info sieve_tags[SIEVE_TAG_COUNT_ALL];

/* A tag that a command takes, and the extensions that it needs there. */
struct sieve_tag_use {
    enum sieve_tag tag;
    uint64_t needs;
};
struct sieve_tag_uses {
    const struct sieve_tag_use *v;
    unsigned n;
};

/* --- commands and tests --------------------------------------------------------------------------- */

#define SIEVE_POSITIONAL_MAX 3
#define SIEVE_TAG_USES_MAX 5

struct sieve_verb {
    const char *name;
    uint64_t needs;
    const char *takes;                   /* arguments without tag: letters as in a tag; '?' before one that may be missing */
    struct sieve_tag_uses tags[SIEVE_TAG_USES_MAX];
    bool has_block;
    int kind;                            /* enum sieve_command_kind or sieve_test_kind */
    int (*command)(struct sieve_compiler *, struct sieve_command *);   /* NULL: nothing beside the kind */
    int (*test)(struct sieve_compiler *, struct sieve_test *);
};

/* NULL when there is none. The compiler itself knows require, if, elsif, else and not, allof, anyof. */
const struct sieve_verb *sieve_find_command(struct str name);
const struct sieve_verb *sieve_find_test(struct str name);
