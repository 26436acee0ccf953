/* report_file.h - the file inside a report's mail: unpacked with limits, or packed with a mail around it.
 *
 * Reports come as gzip, zip (DMARC) or bare; what they are is told by their first bytes, since what mail programs
 * call them cannot be relied on. Pure: safe on a helper thread. */
#pragma once
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define REPORT_MESSAGE_MAX (32 << 20) /* bytes of the mail */
#define REPORT_FILE_MAX    (32 << 20) /* bytes unpacked, of all files of a mail together */
#define REPORT_PARTS_MAX   100        /* parts of the mail that are looked at */

/* The content of gzip (RFC 1952) or of the first file in a zip archive; other bytes are given back as they are.
 * ERR_TOO_BIG beyond size_max, ERR_SYNTAX on what is broken, encrypted or packed in another way. */
int report_unpack(struct arena *a, struct str packed, size_t size_max, struct str *out, struct error *err);

/* Calls `parse` with the content of each part of the mail that may be a file with a report, until it returns 0.
 * ERR_NOT_FOUND when there is no such part; else the error of the first that was refused. */
struct report_parser {
    int (*parse)(struct arena *a, struct str file, void *out, struct error *err);
    void *out;
};
int report_find(struct arena *a, struct str message, const struct report_parser *parser, struct error *err);

struct str report_gzip(struct arena *a, struct str content);

/* A mail with a sentence for people and the packed file, CRLF line ends. */
struct report_mail {
    struct str from, to, subject;     /* addresses without brackets; `to` may be several with commas */
    struct str message_id;            /* without brackets */
    int64_t date_s;
    struct str extra_fields;          /* whole fields with CRLF, or empty */
    const char *report_type;          /* of multipart/report; NULL: multipart/mixed */
    struct str text;                  /* ASCII, LF line ends */
    const char *content_type;         /* of the file */
    struct str filename, file;
};
struct str report_mail_build(struct arena *a, const struct report_mail *m);
