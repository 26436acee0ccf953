/* dmarc_record.h - what a domain publishes at _dmarc: its policy record (RFC 9989, 4.7; RFC 7489, 6.3).
 *
 * Read kindly: unknown tags are ignored, optional tags that cannot be read have their default, the first of a
 * doubled tag counts. Of the tags that RFC 9989 took away, pct=0 means t=y, as it did; rf, ri and the size limits
 * behind report addresses mean nothing. Pure; texts are in the arena or borrowed from the record's text. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/str.h"

#define DMARC_URIS_MAX 10             /* of one tag; the rest is not looked at */

enum dmarc_policy { DMARC_POLICY_NONE, DMARC_POLICY_QUARANTINE, DMARC_POLICY_REJECT };
enum dmarc_alignment { DMARC_RELAXED, DMARC_STRICT };
enum dmarc_psd { DMARC_PSD_UNKNOWN, DMARC_PSD_YES, DMARC_PSD_NO };

struct dmarc_record {
    enum dmarc_policy p, sp, np;      /* sp and np are what holds when they are not given: sp is p, np is sp */
    bool has_sp, has_np;
    enum dmarc_alignment adkim, aspf;
    enum dmarc_psd psd;
    bool is_test;                     /* t=y: apply one step less than the policy says */
    struct str fo;                    /* as written, checked; "0" when not given */
    struct str rua[DMARC_URIS_MAX], ruf[DMARC_URIS_MAX];    /* addresses of their mailto: URIs, decoded */
    size_t rua_count, ruf_count;
    struct str problem;               /* not empty: the record cannot be applied, and why */
};

/* False when the text is no DMARC record at all: it does not begin with v=DMARC1. */
bool dmarc_record_parse(struct arena *a, struct str text, struct dmarc_record *out);

const char *dmarc_policy_name(enum dmarc_policy p);         /* "none", "quarantine", "reject" */
