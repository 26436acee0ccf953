/* cli_output.h - an answer as a table for people or as JSON for programs.
 *
 *   out = cli_output_new(arena, is_json);
 *   cli_row(out); cli_text(out, "address", a); cli_bytes(out, "used", n); ...
 *   cli_print_list(out) or cli_print_record(out)
 *
 * The first row settles the columns; every row has the same. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

struct cli_output;

/* As a terminal may show it: what would move its cursor or turn its writing around is a question mark. */
struct str cli_safe_text(struct arena *a, struct str text);

struct cli_output *cli_output_new(struct arena *a, bool is_json);
void cli_row(struct cli_output *out);
void cli_text(struct cli_output *out, const char *name, struct str value);
void cli_number(struct cli_output *out, const char *name, int64_t value);
void cli_bytes(struct cli_output *out, const char *name, int64_t value);      /* "1.5G" for people */
void cli_limit(struct cli_output *out, const char *name, int64_t value, bool is_bytes);   /* 0: null, "none" */
void cli_flag(struct cli_output *out, const char *name, bool value);
void cli_time(struct cli_output *out, const char *name, int64_t unix_us);     /* 0: null, "never" */
void cli_texts(struct cli_output *out, const char *name, const struct str *values, size_t count);

void cli_print_list(struct cli_output *out);            /* aligned columns; an array of objects */
/* Of a list that is too long to be kept: prints the rows so far and forgets them; the next ones go into `next`. Columns are as
 * wide as they have had to be until now. cli_print_list() ends it. */
void cli_print_part(struct cli_output *out, struct arena *next);
void cli_print_record(struct cli_output *out);          /* name: value lines; one object */
/* A command that has nothing to tell: a sentence for people, the record for programs. */
void cli_print_done(struct cli_output *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cli_print_error(const struct error *err, bool is_json);
