/* managesieve_parse.h - a command of ManageSieve: its verb, and strings and numbers behind it (RFC 5804, 4). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define MANAGESIEVE_ARGS_MAX 3
#define MANAGESIEVE_QUOTED_MAX 1024                     /* bytes between quotes (RFC 5804, 4: quoted) */

struct managesieve_arg {
    bool is_number;
    uint64_t number;
    struct str text;
};

struct managesieve_command {
    struct str verb;                                    /* as written */
    struct managesieve_arg v[MANAGESIEVE_ARGS_MAX];
    size_t n;
    bool wants_literal;                                 /* parsing stopped at {size+}: give its bytes, then the next line */
    uint64_t literal_size;
};

/* A line without its end. Texts are copied into the arena. ERR_SYNTAX. */
int managesieve_parse_start(struct arena *a, struct str line, struct managesieve_command *out, struct error *err);
/* The literal's bytes (borrowed: they stay where they are) and the line behind it. */
int managesieve_parse_more(struct arena *a, struct str literal, struct str line, struct managesieve_command *c,
                           struct error *err);
/* A line that is one string or begins a literal: what a client answers to a challenge. */
int managesieve_parse_answer(struct arena *a, struct str line, struct managesieve_command *out, struct error *err);
