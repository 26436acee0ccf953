/* config.h - the settings, one table for all of them.
 *
 * config.def lists every setting once. A file holds `name = value` lines; `#` and `;` begin comments
 * (behind a value only after a space), [section] lines are allowed and mean nothing. A value that
 * needs spaces at its ends or " #" inside stands in double quotes, with \" and \\ inside. Read once at
 * start by the supervisor and inherited by the workers. All errors of a file are reported at once,
 * each with file:line and what to write instead.
 *
 * Texts belong to this module and live until they are set again or config_fini(). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "server/base/buf.h"
#include "server/base/error.h"

#define CONFIG_TYPE_TEXT     const char *
#define CONFIG_TYPE_PATH     const char *
#define CONFIG_TYPE_BOOL     bool
#define CONFIG_TYPE_COUNT    int64_t
#define CONFIG_TYPE_BYTES    int64_t
#define CONFIG_TYPE_DURATION int64_t                    /* milliseconds */

struct config {
#define SECTION(title)
#define OPTION(name, type, default_text, min, max, meaning) CONFIG_TYPE_##type name;
#include "server/run/config.def"
#undef OPTION
#undef SECTION
    /* From the command line, not from a file; borrowed: */
    const char *data_dir;                               /* absolute */
    const char *config_path;                            /* NULL: none */
    int port_offset;
};

extern struct config config;

void config_defaults(void);
/* Reads a file over what is set. Each error becomes one line in `errors` ("merpati.conf:12: ..."); -1 when there was any. */
int config_read(const char *path, struct buf *errors);
/* Sets one by name: `--set name=value`. The value is taken as it is, without quotes and comments. */
int config_set(struct str name, struct str value, struct error *err);
/* "500ms", "30s", "10m", "4h", "7d"; false when it is none. */
bool config_parse_duration(struct str text, int64_t *ms);
void config_print(FILE *to, bool with_meanings);        /* every setting with its value, as a file that can be read back */
void config_print_json(FILE *to);                       /* BYTES in bytes, DURATION in milliseconds */
void config_print_docs(FILE *to);                       /* docs/configuration.md */
void config_fini(void);
