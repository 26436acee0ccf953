/* cli_input.h - what a command reads before it begins: files, standard input, the terminal. */
#pragma once
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

/* A whole file, or standard input for "-", into the arena. */
int cli_read_file(struct arena *a, const char *path, struct str *out, struct error *err);
/* The first line of standard input. */
int cli_read_stdin_line(struct arena *a, struct str *out, struct error *err);
/* A line typed without echo. ERR_CANCELLED on Ctrl-C. Standard input must be a terminal. */
int cli_read_hidden(struct arena *a, const char *prompt, struct str *out, struct error *err);
