/* spam_lookalike.h - senders and hosts that are made to be taken for others.
 *
 * The caller tells who is known: domains of ours, domains of people that the account wrote to, colleagues with their
 * names. Pure. Names of one short word are too common to say anything, and so are domains of fewer than
 * SPAM_IMITATED_SIZE_MIN letters before the dot. */
#pragma once
#include <stdbool.h>
#include "mail/spam/spam_finding.h"

#define SPAM_KNOWN_DOMAINS_MAX 2000      /* those behind are not looked at */
#define SPAM_KNOWN_PEOPLE_MAX  5000
#define SPAM_IMITATED_SIZE_MIN 5

struct spam_known;

struct spam_known *spam_known_new(struct arena *a);
/* Each domain once, as UTF-8 or in punycode. */
void spam_known_add_domain(struct spam_known *k, struct str domain, bool is_ours);
void spam_known_add_person(struct spam_known *k, struct str name, struct str address);

bool spam_is_ours(const struct spam_known *k, struct str domain);           /* or below one of ours */

enum spam_likeness { SPAM_UNLIKE, SPAM_ONE_EDIT, SPAM_HOMOGRAPH };
/* A domain that is known is like no other. */
enum spam_likeness spam_likeness(struct arena *a, const struct spam_known *k, struct str domain);

/* name: decoded to UTF-8. */
void spam_find_lookalikes(struct arena *a, const struct spam_known *k, struct str name, struct str local, struct str domain,
                          struct spam_findings *out);

struct str spam_domain_utf8(struct arena *a, struct str domain);            /* punycode decoded where it can be; small letters */
