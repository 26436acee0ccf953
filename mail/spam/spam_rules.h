/* spam_rules.h - rules over header, parts and what the server found out about the sender.
 *
 * Pure and bounded: the first SPAM_PARTS_MAX parts, of an archive the first 64 KB. Nothing is unpacked. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/mime/part.h"
#include "mail/spam/spam_finding.h"
#include "mail/spam/spam_lookalike.h"

enum spam_result { SPAM_NO_RESULT, SPAM_PASS, SPAM_FAIL, SPAM_SOFTFAIL };    /* none, neutral, errors: no result */

/* What the caller knows. All of it may be empty: then the rules that need it find nothing. */
struct spam_circumstances {
    int64_t now_us;
    enum spam_result spf, dkim, dmarc;
    struct str helo;                                 /* as the client greeted */
    const struct str *own_hosts;                     /* names of this server and its kin */
    size_t own_host_count;
    unsigned own_received_count;                     /* Received fields on top that this server and its kin wrote */
    const struct str *address_lists, *host_lists;    /* DNS lists that name the client; hosts of links that lists name */
    size_t address_list_count, host_list_count;
    bool is_correspondent;                           /* the recipient wrote to the author before */
    const struct spam_known *known;                  /* NULL: nobody */
};

void spam_find_by_rules(struct arena *a, const struct mime_part *root, struct str message,
                        const struct spam_circumstances *facts, struct spam_findings *out);

/* The pieces, for it and for tests. */
void spam_find_in_header(struct arena *a, struct str header, const struct spam_circumstances *facts, struct spam_findings *out);
void spam_find_in_parts(struct arena *a, const struct mime_part *root, struct str message, struct spam_findings *out);
