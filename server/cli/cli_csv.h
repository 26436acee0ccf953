/* cli_csv.h - comma-separated values (RFC 4180): quoted fields may hold commas, quotes doubled and line ends. */
#pragma once
#include <stdbool.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define CSV_FIELDS_MAX 64

struct csv {
    struct str rest;
    size_t line;                                        /* of the row read last, from 1 */
    size_t next_line;
};

struct csv_row { struct str fields[CSV_FIELDS_MAX]; size_t count; };

void csv_open(struct csv *csv, struct str text);        /* a byte order mark is dropped */
/* 1: a row; 0: the end; -1: ERR_SYNTAX with the line's number. Lines without any character are skipped. Fields live in the arena. */
int csv_next(struct csv *csv, struct arena *a, struct csv_row *row, struct error *err);
