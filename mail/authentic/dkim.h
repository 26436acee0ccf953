/* dkim.h - DKIM signatures: verified on arrival, made on the way out (RFC 6376, 8301, 8463, 8616).
 *
 * A message is its raw bytes. Bare line feeds count as line ends, so that what is signed or verified is
 * the message as SMTP carries it. What is heavy in it runs on a helper thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/authentic/dkim_key.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

#define DKIM_SIGNATURES_MAX 10                          /* of a message, from the top; the others are not looked at */

/* The results of RFC 8601, 2.7.1. */
enum dkim_result {
    DKIM_NONE,
    DKIM_PASS,
    DKIM_FAIL,                                          /* the body or the header was changed, or it is a forgery */
    DKIM_POLICY,                                        /* well made, but expired, or what could be added to it was: see docs */
    DKIM_NEUTRAL,                                       /* not a signature by its syntax; or its key is only being tested */
    DKIM_TEMPERROR,                                     /* DNS did not answer */
    DKIM_PERMERROR,                                     /* no such key, a key too weak, a signature without From, ... */
};

struct dkim_signature {
    enum dkim_result result;
    struct str domain;                                  /* d=, in lower case, as written (maybe U-labels) */
    struct str selector;                                /* s= */
    struct str identity;                                /* i=, or "@" and the domain */
    struct str algorithm;                               /* a= */
    struct str b_start;                                 /* the first 8 characters of b= (header.b of RFC 8601, 6008) */
    unsigned key_bits;                                  /* 0: the key was not seen */
    bool is_testing;                                    /* the key's t=y */
    bool has_length;                                    /* l= is there ... */
    uint64_t unsigned_size;                             /* ... and leaves that much of the body unsigned */
    struct str problem;                                 /* why not pass; a clause without a final dot */
};

struct dkim_verdict {
    struct dkim_signature *v;                           /* in the order of the message */
    size_t n;                                           /* 0: not signed */
};

const char *dkim_result_name(enum dkim_result result); /* "pass", as in Authentication-Results */

PARKS void dkim_verify(struct arena *a, struct str message, struct dkim_verdict *out);

struct dkim_signer {
    const struct dkim_key *key;
    struct str domain, selector;                        /* ASCII */
};

/* The DKIM-Signature fields with their line ends, one per signer and in their order, to be put in front of the
 * message. Relaxed canonicalization; signs what readers see and oversigns From, Subject and the type of the
 * content, so that none can be added. ERR_SYNTAX: no From; ERR_TOO_BIG: a header past 512 KB or 10,000 fields. */
PARKS int dkim_sign(struct arena *a, struct str message, const struct dkim_signer *v, size_t count, int64_t now_s,
                    struct str *fields, struct error *err);
