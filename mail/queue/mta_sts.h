/* mta_sts.h - what a domain demands of mail sent to it (RFC 8461): record, policy, and how both are got.
 *
 * A policy is fetched from https://mta-sts.DOMAIN/.well-known/mta-sts.txt when the TXT record at _mta-sts.DOMAIN names
 * an id that we do not have, and kept for its max_age (mail/store/sts_store.h). What is kept stays valid while DNS or
 * the web server are away: that is the point of it. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

#define STS_POLICY_SIZE_MAX (64u << 10)                 /* RFC 8461, 3.3 */
#define STS_MX_MAX          100
#define STS_MAX_AGE_MAX_S   31557600                    /* RFC 8461, 3.2: a year */

enum sts_mode { STS_MODE_NONE, STS_MODE_TESTING, STS_MODE_ENFORCE };

struct sts_policy {
    enum sts_mode mode;
    int64_t max_age_s;
    struct str *mx;                                     /* "mail.example.com", "*.example.net" */
    size_t mx_count;
};

/* "v=STSv1; id=20160831085700Z;" False: it is none, or malformed. */
bool sts_record_parse(struct str txt, struct str *id);
int sts_policy_parse(struct arena *a, struct str text, struct sts_policy *out, struct error *err);
/* RFC 8461, 4.1: a wildcard stands for exactly one label. */
bool sts_mx_matches(const struct sts_policy *policy, struct str host);

struct sts_result {
    bool has_policy;
    bool is_unknown;                                    /* none is kept, and DNS does not say whether there is one */
    struct sts_policy policy;
    struct str text;                                    /* of the policy, as fetched */
    const char *problem;                                /* a word of RFC 8460, 4.3 when fetching failed; else NULL */
    struct str reason;                                  /* of the problem */
};
PARKS void sts_find(struct arena *a, struct str domain, struct sts_result *out);
void sts_fini(void);

/* One GET by HTTPS: no redirects, limited in size and time, of a name that must prove itself. */
enum sts_fetch { STS_FETCHED, STS_FETCH_FAILED, STS_FETCH_UNTRUSTED };
PARKS enum sts_fetch sts_fetch_policy(struct arena *a, struct str domain, struct str *text, struct error *err);
