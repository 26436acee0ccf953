/* sieve_run_internal.h - a run: its state, and what its files ask of each other.
 *
 * What can fail returns -1 with the fault set in the run: everything unwinds, and sieve_run() decides what stands. Texts
 * made on the way lie in `scratch`, which is emptied before each command and each test; what lasts as long as the run in
 * `kept`; what the outcome holds in `out`. `kept` and `scratch` belong to this run alone, so a helper thread may use them
 * while the fiber waits; `out` may not be used there. */
#pragma once
#include "mail/mime/address.h"
#include "mail/sieve/sieve.h"
#include "mail/sieve/sieve_edit.h"
#include "mail/sieve/sieve_match.h"
#include "mail/sieve/sieve_program.h"
#include "server/base/map.h"

#define SIEVE_RUN_NESTING_MAX 64                        /* blocks within each other, those of including scripts counted */
#define SIEVE_RUN_MEMORY_MAX  ((size_t)128 << 20)       /* beside the forms of the message */
#define SIEVE_STRING_SIZE_MAX ((size_t)256 << 10)       /* of a string with its variables put in; the rest is cut off */
#define SIEVE_BODY_SIZE_MAX   ((size_t)16 << 20)        /* of text that a body test looks at; the rest is not looked at */
#define SIEVE_HELPER_SIZE_MIN ((size_t)64 << 10)        /* more than this is worth a helper thread */
#define SIEVE_FLAGS_MAX       128                       /* in a set of flags */
#define SIEVE_GLOBALS_MAX     256

/* --- values --------------------------------------------------------------------------------------- */

/* One field of the header, taken apart as far as somebody asked. */
struct sieve_field {
    struct sieve_value text;                            /* decoded, trimmed */
    struct str raw;
    bool is_split;
    struct addresses addresses;
    struct sieve_value *parts[SIEVE_DETAIL + 1];        /* one for each of addresses, p NULL: no such part; NULL: not yet asked for */
};
/* All fields of one name, in order. */
struct sieve_fields {
    struct sieve_field *v;
    size_t n;
    unsigned version;                                   /* of the header they were read from */
};

/* Texts that a test compares. */
struct sieve_values {
    struct sieve_value **v;
    size_t n, room;
};

/* --- state ---------------------------------------------------------------------------------------- */

/* A flag set (RFC 5232): words, without regard to case each once. */
struct sieve_flags {
    struct str v[SIEVE_FLAGS_MAX];
    unsigned n;
};

struct sieve_text { char *p; size_t n, room; };         /* a variable: memory is used again */

/* A script at work. */
struct sieve_frame {
    const struct sieve_program *program;
    struct str included;                                /* its name; empty: not included */
    struct sieve_frame *parent;
    struct sieve_text **variables;                      /* by index; global ones are shared */
    struct sieve_fields **fields;                       /* by number of the name; NULL: not yet asked for */
    uint64_t enabled;                                   /* by require and by ihave */
    struct sieve_captures captures;                     /* their texts lie in captured */
    struct buf captured;
};

/* A foreverypart at work. The tree may be made anew while it runs: a part is found again by where its header begins. */
struct sieve_loop {
    struct sieve_loop *outer;
    uint64_t part_at;                                   /* the part that is current */
    uint64_t next_at;                                   /* where the next one begins at the earliest */
};

enum sieve_flow { SIEVE_FLOW_ON, SIEVE_FLOW_STOP, SIEVE_FLOW_RETURN, SIEVE_FLOW_BREAK, SIEVE_FLOW_FAILED = -1 };

struct sieve_seen { struct sieve_seen *next; struct str handle, id; bool is_seen; };
struct sieve_global { struct str name; struct sieve_text text; };
struct sieve_included { struct sieve_included *next; enum sieve_location location; struct str name; struct sieve_script *script; unsigned runs; bool is_open; };

struct sieve_body_text { struct sieve_body_text *next; struct str key; struct sieve_value *v; size_t n; unsigned version; };

struct sieve_run {
    struct arena *out, *kept, *scratch;
    const struct sieve_mail *mail;
    const struct sieve_hooks *hooks;
    struct sieve_outcome *outcome;
    unsigned script;                                    /* index of the one that runs */
    struct sieve_frame *frame;
    struct sieve_loop *loop;
    struct sieve_message message;
    struct map *fields;                                 /* name -> struct sieve_fields */
    struct sieve_body_text *bodies;
    struct sieve_flags flags;                           /* the internal variable */
    bool cancels_keep;
    bool has_vacation, has_reject, has_delivery;        /* actions that exclude each other */
    unsigned redirects, includes, nesting, breaks;      /* breaks: loops still to be left */
    uint64_t steps;
    struct sieve_seen *seen;
    struct sieve_global *globals[SIEVE_GLOBALS_MAX];
    unsigned globals_count;
    struct sieve_included *included;
    struct str note_test, note_value, note_key;         /* of the last comparison that was true */
    bool is_try_later;
};

/* sieve_run.c */
int sieve_run_fault(struct sieve_run *r, unsigned line, unsigned column, const char *format, ...) __attribute__((format(printf, 4, 5)));
void sieve_run_note(struct sieve_run *r, unsigned line, bool is_true, struct str test, struct str value, struct str key);
/* A hook that could not answer. */
int sieve_run_try_later(struct sieve_run *r);
/* Counts work and lets others run. -1: too much. */
PARKS int sieve_run_step(struct sieve_run *r, unsigned line, uint64_t steps);
enum sieve_flow sieve_run_block(struct sieve_run *r, const struct sieve_command *first);

/* sieve_run_string.c */
/* In scratch or constant; never with p NULL when given. */
struct str sieve_run_string(struct sieve_run *r, const struct sieve_string *s);
struct str *sieve_run_strings(struct sieve_run *r, const struct sieve_strings *s);
struct str sieve_run_variable(const struct sieve_run *r, unsigned index);
void sieve_run_set(struct sieve_run *r, unsigned index, struct str value, unsigned modifiers);
void sieve_run_keep_captures(struct sieve_run *r, const struct sieve_captures *c);

/* sieve_run_flags.c */
void sieve_flags_add(struct sieve_flags *set, struct str words);         /* borrows them */
void sieve_flags_remove(struct sieve_flags *set, struct str words);
void sieve_flags_of_variable(const struct sieve_run *r, unsigned index, struct sieve_flags *out);
void sieve_run_change_flags(struct sieve_run *r, const struct sieve_command *c);

/* sieve_run_match.c */
/* 1, 0, or -1 and a fault. sets_captures false: a body test. */
PARKS int sieve_run_match(struct sieve_run *r, const struct sieve_match *m, unsigned line, struct sieve_values *values, bool sets_captures);
PARKS int sieve_run_match_count(struct sieve_run *r, const struct sieve_match *m, unsigned line, size_t count);
void sieve_values_add(struct sieve_run *r, struct sieve_values *values, struct sieve_value *v);
void sieve_values_add_text(struct sieve_run *r, struct sieve_values *values, struct str text);

/* sieve_values.c */
/* Of the message's header as it is now; never NULL. */
struct sieve_fields *sieve_fields_of(struct sieve_run *r, const struct sieve_name *name);
struct sieve_fields *sieve_fields_named(struct sieve_run *r, struct str name);
bool sieve_index_range(const struct sieve_index *index, size_t count, size_t *from, size_t *to);
PARKS int sieve_header_values(struct sieve_run *r, const struct sieve_test *t, struct sieve_values *out);
PARKS int sieve_address_values(struct sieve_run *r, const struct sieve_test *t, struct sieve_values *out);
PARKS int sieve_exists(struct sieve_run *r, const struct sieve_test *t);
void sieve_envelope_values(struct sieve_run *r, const struct sieve_test *t, struct sieve_values *out);
struct str sieve_address_of_part(struct arena *a, struct str local, struct str domain, enum sieve_address_part part);   /* p NULL: there is none */

/* sieve_values_body.c */
PARKS int sieve_body_values(struct sieve_run *r, const struct sieve_test *t, struct sieve_values *out);
/* The text of one part, at most chars_max characters; empty when its encoding or charset cannot be read. */
PARKS struct str sieve_part_text(struct sieve_run *r, const struct mime_part *part, uint64_t chars_max);

/* sieve_values_date.c */
void sieve_date_values(struct sieve_run *r, const struct sieve_test *t, struct sieve_values *out);
bool sieve_date_text(struct arena *a, enum sieve_date_part part, int64_t unix_s, int zone_min, struct str *out);

/* sieve_values_environment.c */
void sieve_environment_values(struct sieve_run *r, struct str name, struct sieve_values *out);

/* sieve_run_test.c */
PARKS int sieve_run_test(struct sieve_run *r, const struct sieve_test *t);   /* 1, 0 or -1 */

/* sieve_run_mime.c */
struct mime_part *sieve_current_part(struct sieve_run *r);               /* of the innermost loop; NULL outside */
PARKS enum sieve_flow sieve_run_loop(struct sieve_run *r, const struct sieve_command *c);
PARKS enum sieve_flow sieve_run_replace(struct sieve_run *r, const struct sieve_command *c);
PARKS enum sieve_flow sieve_run_enclose(struct sieve_run *r, const struct sieve_command *c);
PARKS enum sieve_flow sieve_run_extract(struct sieve_run *r, const struct sieve_command *c);

/* sieve_run_include.c */
PARKS enum sieve_flow sieve_run_include(struct sieve_run *r, const struct sieve_command *c);
struct sieve_frame *sieve_frame_new(struct sieve_run *r, const struct sieve_program *program, struct str included);
void sieve_run_close_included(struct sieve_run *r);

/* sieve_run_action.c */
enum sieve_flow sieve_run_keep(struct sieve_run *r, const struct sieve_command *c);
enum sieve_flow sieve_run_fileinto(struct sieve_run *r, const struct sieve_command *c);
PARKS enum sieve_flow sieve_run_redirect(struct sieve_run *r, const struct sieve_command *c);
enum sieve_flow sieve_run_discard(struct sieve_run *r, const struct sieve_command *c);
enum sieve_flow sieve_run_reject(struct sieve_run *r, const struct sieve_command *c);
enum sieve_flow sieve_run_vacation(struct sieve_run *r, const struct sieve_command *c);
enum sieve_flow sieve_run_notify(struct sieve_run *r, const struct sieve_command *c);
enum sieve_flow sieve_run_edit(struct sieve_run *r, const struct sieve_command *c);
PARKS enum sieve_flow sieve_run_calendar(struct sieve_run *r, const struct sieve_command *c);
int sieve_add_duplicate_mark(struct sieve_run *r, const struct sieve_test *t, struct str handle, struct str id);
void sieve_add_implicit_keep(struct sieve_run *r);
void sieve_add_changed_flags(struct sieve_run *r);
