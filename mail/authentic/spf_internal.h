/* spf_internal.h - an SPF record understood, and macros (RFC 7208, 4.6 and 7): pure, shared by the files of SPF. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/authentic/spf.h"
#include "server/base/error.h"

enum spf_mechanism { SPF_ALL, SPF_INCLUDE, SPF_A, SPF_MX, SPF_PTR, SPF_IP4, SPF_IP6, SPF_EXISTS };

struct spf_directive {
    enum spf_mechanism mechanism;
    enum spf_result result;                             /* when it matches */
    struct str text;                                    /* as the record writes it */
    struct str domain_spec;                             /* empty: the current domain */
    uint8_t network[16];                                /* of ip4 (the first four bytes) and ip6 */
    unsigned bits4, bits6;
};

struct spf_record {
    struct spf_directive *directives;
    size_t count;
    bool has_all;                                       /* then there is no redirect */
    struct str redirect, exp;                           /* domain-specs; empty: none */
};

/* Begins with the version of SPF, and so is not another text of that domain. */
bool spf_is_record(struct str txt);
/* ERR_SYNTAX: with the term that is wrong. The record borrows from text. */
int spf_parse_record(struct arena *a, struct str text, struct spf_record *out, struct error *err);

struct spf_macros {
    struct str sender, local, sender_domain;            /* s, l, o */
    struct str domain, helo, receiver;                  /* d, h, r */
    struct str validated_name;                          /* p */
    bool is_ipv4;                                       /* i, c and v */
    uint8_t address[16];                                /* IPv4: the first four bytes */
    int64_t now_s;                                      /* t */
};

enum spf_macro_place { SPF_IN_TERM, SPF_IN_MODIFIER, SPF_IN_EXPLANATION };

/* Only in an explanation may there be spaces; c, r and t not in a term. */
bool spf_macro_is_valid(struct str s, enum spf_macro_place place);
bool spf_domain_spec_is_valid(struct str s);
bool spf_macro_uses(struct str s, char letter);         /* of a valid one; the letter in lower case */
/* Of a valid one. ERR_TOO_BIG beyond SPF_EXPANSION_SIZE_MAX. */
int spf_macro_expand(struct arena *a, struct str s, const struct spf_macros *m, struct str *out, struct error *err);

#define SPF_EXPANSION_SIZE_MAX 4096
