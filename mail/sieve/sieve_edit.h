/* sieve_edit.h - the message as a run has made it so far: header fields changed (RFC 5293), parts replaced, enclosed (RFC 5703).
 *
 * Nothing is copied until something is changed. Fields are read and changed in a header_edit; the parts lie in `base`,
 * whose bytes stay where they are while somebody may look at them. Protected fields are left alone without a word, as
 * RFC 5293, 6 wants. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/mime/header_edit.h"
#include "mail/mime/part.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define SIEVE_EDITS_MAX    500                          /* fields added, parts replaced, enclosures, in one run */
#define SIEVE_COPIED_MAX   ((size_t)256 << 20)          /* bytes of all forms of the message that one run makes */

struct sieve_message {
    struct arena *arena;                                /* what is made lives here */
    struct str base;                                    /* header not yet edited, body as it is */
    struct header_edit edit;
    struct header_field *fields;                        /* those that tests see */
    size_t fields_count;
    bool is_readable;                                   /* false: the header is beyond its limits and cannot be edited */
    bool is_edited;
    unsigned header_version, body_version;              /* grow with every change */
    struct mime_part *root;                             /* of base; NULL: not yet asked for */
    struct str written;                                 /* header and body put together; n 0: to be done */
    bool is_enclosed;
    struct str unenclosed;                              /* what redirect sends: enclose does not change it (RFC 5703, 6) */
    bool has_original_subject, has_original_from;       /* added by replace: never to be removed */
    unsigned edits;
    size_t copied;
};

/* What a run has decided, for `enclose` and `replace`. All UTF-8; p NULL: not given. */
struct sieve_new_text {
    struct str text, subject, from;
    const struct str *headers;                          /* names of fields that enclose takes along */
    size_t headers_count;
    bool is_mime;                                       /* text is a MIME entity */
};

void sieve_message_init(struct sieve_message *m, struct arena *a, struct str message);

/* The fields as they are now; borrowed until the next change. */
const struct header_field *sieve_message_fields(const struct sieve_message *m, size_t *count);
struct mime_part *sieve_message_root(struct sieve_message *m);

/* Header and body. ERR_LIMIT when actions have filed too many forms of it already. */
int sieve_message_write(struct sieve_message *m, struct str *out, struct error *err);
/* The form that redirect sends. */
int sieve_message_write_unenclosed(struct sieve_message *m, struct str *out, struct error *err);

bool sieve_header_may_add(struct str name);
bool sieve_header_may_delete(const struct sieve_message *m, struct str name);
/* The value is UTF-8 text. */
int sieve_message_add_field(struct sieve_message *m, struct str name, struct str value, bool at_end, struct error *err);
/* Those that are marked, by their place among all; whoever calls asked sieve_header_may_delete(). */
void sieve_message_delete_fields(struct sieve_message *m, const bool *goes);

/* Replaces the part that is at `part` in sieve_message_root(), the whole message when it is the root. */
int sieve_message_replace(struct sieve_message *m, const struct mime_part *part, const struct sieve_new_text *text, struct error *err);
/* The message becomes an attachment of a new one, byte for byte. */
int sieve_message_enclose(struct sieve_message *m, const struct sieve_new_text *text, struct str from, int64_t now_s, struct error *err);
