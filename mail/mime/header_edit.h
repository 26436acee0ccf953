/* header_edit.h - changes to a header block: fields taken out, put in, replaced; all others stay byte for byte.
 *
 *   header_edit_open(&e, arena, message);
 *   header_edit_remove(&e, STR("Bcc"));
 *   header_edit_append(&e, STR("Date"), date);
 *   new_header = header_edit_header(&e);    body = e.body;
 *
 * The body is never copied. A line that is no field ends the header as an empty line does, and belongs to the body: what
 * a client forgot to separate is not lost, and nothing hides in a header. Names are compared without regard to case. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "mail/mime/header.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define HEADER_EDIT_SIZE_MAX   (1 << 20)
#define HEADER_EDIT_FIELDS_MAX 10000

struct header_edit {
    struct arena *arena;
    struct header_field *fields;
    size_t count, room;
    struct str block;                                   /* as it came, with its empty line; borrowed */
    struct str body;                                    /* behind the empty line; borrowed */
    bool had_empty_line;
    bool is_changed;
};

/* ERR_TOO_BIG beyond the limits. The slices borrow from the message. */
int header_edit_open(struct header_edit *e, struct arena *a, struct str message, struct error *err);

size_t header_edit_count(const struct header_edit *e, struct str name);
/* The nth (from 1) of that name, NULL when there is none; 0: the last. */
const struct header_field *header_edit_find(const struct header_edit *e, struct str name, size_t nth);

size_t header_edit_remove(struct header_edit *e, struct str name);                   /* all; how many there were */
size_t header_edit_remove_if(struct header_edit *e, bool (*is_unwanted)(void *arg, const struct header_field *f), void *arg);
bool header_edit_remove_nth(struct header_edit *e, struct str name, size_t nth);
/* Values are written as given behind "Name: ", folded by the caller; line ends that do not continue become blanks, so that no
 * value can begin a field or end the header. */
void header_edit_insert(struct header_edit *e, size_t index, struct str name, struct str value);
void header_edit_append(struct header_edit *e, struct str name, struct str value);
bool header_edit_replace(struct header_edit *e, struct str name, size_t nth, struct str value);

/* The block with its empty line, every line end CR LF where it was missing; borrowed from the message when nothing changed. */
struct str header_edit_header(const struct header_edit *e);

/* Unstructured UTF-8 text as a field body: RFC 2047 words where it is not ASCII, folded below 78 columns. */
struct str header_encode_text(struct arena *a, size_t name_size, struct str utf8);
/* The same of a name before an address: a quoted string where it is ASCII. */
struct str header_encode_phrase(struct arena *a, struct str utf8);
