/* sieve_compile_internal.h - what the files of the compiler share. Every function returns 0, or -1 with the fault reported. */
#pragma once
#include "mail/sieve/sieve_parse.h"
#include "mail/sieve/sieve_program.h"
#include "mail/sieve/sieve_words.h"

struct map;

/* The arguments of the command or test at hand, sorted. */
struct sieve_args {
    const struct sieve_node *node;
    const struct sieve_verb *verb;
    const struct sieve_word *tags[SIEVE_TAG_COUNT_ALL];      /* NULL: not given */
    const struct sieve_word *values[SIEVE_TAG_COUNT_ALL];    /* what stands behind a tag that takes something */
    const struct sieve_word *given[SIEVE_POSITIONAL_MAX];    /* in the order of verb->takes; NULL: missing */
    uint64_t needs;                      /* extensions that an ihave test must have given */
};

struct sieve_loop {                      /* an open foreverypart */
    struct str name;
    const struct sieve_loop *outer;
};

struct sieve_slot {
    struct sieve_variable variable;
    bool is_set;                         /* by `set` and its kin, so far */
};

struct sieve_compiler {
    struct arena *out;                   /* of the script */
    struct arena *work;                  /* ends with the compiling */
    struct sieve_report *report;
    uint64_t required, by_ihave;         /* extensions */
    bool is_unknown;                     /* what failed is a word nobody knows: under ihave that is left to the run (RFC 5463, 4) */
    bool has_begun;                      /* require is over */
    struct sieve_args args;
    const struct sieve_loop *loops;
    unsigned regexes_count;
    size_t size_max;                     /* of `out` */
    struct map *names;                   /* header field name -> its number + 1 */
    struct map *slots;                   /* variable name -> its number + 1 */
    struct sieve_slot *variables;
    unsigned variables_count;
    struct str *name_texts;
    unsigned names_count, names_max;
};

static inline bool sieve_has(const struct sieve_compiler *c, uint64_t extension)
{
    return (c->required & extension) == extension;
}

/* --- sieve_compile_args.c ------------------------------------------------------------------------- */

/* Sorts the words of a node by what its verb takes, and checks types, extensions and what excludes each other. Into c->args. */
int sieve_read_args(struct sieve_compiler *c, const struct sieve_node *node, const struct sieve_verb *verb);
/* `what` is used here and needs all of the extensions. */
int sieve_use(struct sieve_compiler *c, unsigned line, unsigned column, const char *what, uint64_t extensions);
int sieve_fail_word(struct sieve_compiler *c, const struct sieve_word *word, const char *format, ...) __attribute__((format(printf, 3, 4)));
int sieve_fail_node(struct sieve_compiler *c, const char *format, ...) __attribute__((format(printf, 2, 3)));     /* at the command's name */

/* --- sieve_compile_string.c ----------------------------------------------------------------------- */

/* A word of one string. NULL gives "not given". */
int sieve_make_string(struct sieve_compiler *c, const struct sieve_word *word, struct sieve_string *out);
int sieve_make_strings(struct sieve_compiler *c, const struct sieve_word *word, struct sieve_strings *out);
/* One that must not have variables (RFC 5229, 3). */
int sieve_make_constant(struct sieve_compiler *c, const struct sieve_word *word, struct str *out);
/* Header field names, in lower case. */
int sieve_make_name(struct sieve_compiler *c, const struct sieve_word *word, struct sieve_name *out);
int sieve_make_names(struct sieve_compiler *c, const struct sieve_word *word, struct sieve_names *out);
/* Constants become lower case. */
void sieve_lower_string(struct sieve_compiler *c, struct sieve_string *string);
/* Match tags of c->args and the keys. */
int sieve_make_match(struct sieve_compiler *c, const struct sieve_word *keys, struct sieve_match *out);
/* The variable that a constant string names, made when it is new. is_set: it gets a value here. */
int sieve_make_variable(struct sieve_compiler *c, const struct sieve_word *word, struct str name, bool is_set, unsigned *out);
int sieve_make_global(struct sieve_compiler *c, const struct sieve_word *word, struct str name);
/* Checks every constant of a list. */
int sieve_check_strings(struct sieve_compiler *c, const struct sieve_word *word, const struct sieve_strings *strings, bool (*is_valid)(struct str), const char *wanted);
int sieve_check_string(struct sieve_compiler *c, const struct sieve_word *word, const struct sieve_string *string, bool (*is_valid)(struct str), const char *wanted);

/* --- sieve_compile_action.c ----------------------------------------------------------------------- */

int sieve_compile_keep(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_fileinto(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_redirect(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_text(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_vacation(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_notify(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_set(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_flag(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_addheader(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_deleteheader(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_include(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_global(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_foreverypart(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_break(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_replace(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_extracttext(struct sieve_compiler *c, struct sieve_command *command);
int sieve_compile_processcalendar(struct sieve_compiler *c, struct sieve_command *command);

/* --- sieve_compile_test.c ------------------------------------------------------------------------- */

int sieve_compile_address(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_header(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_exists(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_size(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_envelope(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_body(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_date(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_currentdate(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_string_test(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_hasflag(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_environment(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_ihave(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_duplicate(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_spamtest(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_strings_test(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_specialuse_exists(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_metadata(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_servermetadata(struct sieve_compiler *c, struct sieve_test *test);
int sieve_compile_notify_capability(struct sieve_compiler *c, struct sieve_test *test);
