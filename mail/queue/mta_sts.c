/* mta_sts.c - records and policies read, and when to fetch one anew.
 *
 * A domain whose policy cannot be fetched is left alone for a while (RFC 8461, 3.3), which each
 * worker remembers for itself. */
#include "mail/queue/mta_sts.h"

#include <stdlib.h>
#include <time.h>

#include "mail/store/sts_store.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/base/memory.h"
#include "server/run/config.h"
#include "server/run/dns.h"
#include "server/run/loop.h"

#define RETRY_MS     (5 * 60 * 1000)
#define FAILURES_MAX 1000
#define ID_SIZE_MAX  32
#define LINES_MAX    1000
#define TXT_MAX      20
#define US           1000000

/* ---- the record ---------------------------------------------------------------------------- */

static bool is_id(struct str id)
{
    for (size_t i = 0; i < id.n; i++) {
        char c = ascii_lower(id.p[i]);

        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9'))
            return false;
    }
    return id.n > 0 && id.n <= ID_SIZE_MAX;
}

bool sts_record_parse(struct str txt, struct str *id)
{
    struct str version, field;

    str_cut(txt, ';', &version, &txt);
    if (!str_eq(str_trim(version), STR("v=STSv1")))
        return false;
    *id = STR_NULL;
    while (txt.n > 0) {
        str_cut(txt, ';', &field, &txt);
        field = str_trim(field);
        if (str_starts(field, STR("id=")) && id->p == NULL)
            *id = str_from(field, 3);
    }
    return is_id(*id);
}

/* ---- the policy ---------------------------------------------------------------------------- */

static bool is_pattern(struct str mx)
{
    if (str_starts(mx, STR("*.")))
        mx = str_from(mx, 2);
    for (size_t i = 0; i < mx.n; i++) {
        char c = ascii_lower(mx.p[i]);

        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '.' && c != '_')
            return false;
    }
    return mx.n > 0 && mx.n <= 253 && mx.p[0] != '.' && mx.p[mx.n - 1] != '.';
}

static int bad_policy(struct error *err, const char *what)
{
    return fail(err, ERR_SYNTAX, "the MTA-STS policy is malformed: %s", what);
}

static int read_mode(struct str value, struct sts_policy *out, struct error *err)
{
    if (str_eq(value, STR("enforce")))
        out->mode = STS_MODE_ENFORCE;
    else if (str_eq(value, STR("testing")))
        out->mode = STS_MODE_TESTING;
    else if (str_eq(value, STR("none")))
        out->mode = STS_MODE_NONE;
    else
        return bad_policy(err, "its mode is unknown");
    return 0;
}

static int read_mx(struct arena *a, struct str value, struct sts_policy *out, struct error *err)
{
    if (str_ends(value, STR("."))) /* the root's, which some write */
        value.n--;
    if (!is_pattern(value))
        return bad_policy(err, "an mx is no host name");
    if (out->mx_count == STS_MX_MAX)
        return bad_policy(err, "it has too many lines with mx");
    if (out->mx == NULL)
        out->mx = ARENA_ARRAY(a, STS_MX_MAX, struct str);
    out->mx[out->mx_count++] = arena_lower(a, value);
    return 0;
}

struct seen {
    bool version, mode, max_age;
};

/* Of a field that may stand once, the first counts (RFC 8461, 3.2). */
static int read_field(struct arena *a, struct str name, struct str value, struct seen *seen,
                      struct sts_policy *out, struct error *err)
{
    uint64_t number;

    if (str_eq(name, STR("version")) && !seen->version) {
        seen->version = true;
        return str_eq(value, STR("STSv1")) ? 0 : bad_policy(err, "its version is not STSv1");
    }
    if (str_eq(name, STR("mode")) && !seen->mode) {
        seen->mode = true;
        return read_mode(value, out, err);
    }
    if (str_eq(name, STR("max_age")) && !seen->max_age) {
        seen->max_age = true;
        if (value.n > 10 || !str_to_u64(value, &number))
            return bad_policy(err, "its max_age is no number");
        out->max_age_s = number < STS_MAX_AGE_MAX_S ? (int64_t)number : STS_MAX_AGE_MAX_S;
        return 0;
    }
    return str_eq(name, STR("mx")) ? read_mx(a, value, out, err) : 0;
}

int sts_policy_parse(struct arena *a, struct str text, struct sts_policy *out, struct error *err)
{
    struct seen seen = {0};
    struct str line, name, value;
    size_t lines = 0;

    *out = (struct sts_policy){0};
    if (text.n > STS_POLICY_SIZE_MAX)
        return bad_policy(err, "it is longer than 64 KiB");
    while (text.n > 0) {
        str_cut(text, '\n', &line, &text);
        if (++lines > LINES_MAX)
            return bad_policy(err, "it has too many lines");
        if (!str_cut(str_trim(line), ':', &name, &value))
            continue;
        if (read_field(a, str_trim(name), str_trim(value), &seen, out, err) < 0)
            return -1;
    }
    if (!seen.version || !seen.mode || !seen.max_age)
        return bad_policy(err, "version, mode or max_age is missing");
    if (out->mode != STS_MODE_NONE && out->mx_count == 0)
        return bad_policy(err, "it names no mx");
    return 0;
}

static bool matches(struct str pattern, struct str host)
{
    ptrdiff_t dot;

    if (!str_starts(pattern, STR("*.")))
        return str_ieq(pattern, host);
    dot = str_index(host, '.');
    return dot > 0 && str_ieq(str_from(pattern, 2), str_from(host, (size_t)dot + 1));
}

bool sts_mx_matches(const struct sts_policy *policy, struct str host)
{
    if (str_ends(host, STR(".")))
        host.n--;
    for (size_t i = 0; i < policy->mx_count; i++)
        if (matches(policy->mx[i], host))
            return true;
    return false;
}

/* ---- failures of late ---------------------------------------------------------------------- */

struct failure {
    int64_t until_ms;
    const char *problem;
};

static struct map *failures;

static void forget_failures(void)
{
    size_t at = 0;
    struct str key;
    void *value;

    while (failures != NULL && map_each(failures, &at, &key, &value)) {
        map_remove(failures, key);
        free(value);
    }
}

static void note_failure(struct str domain, const char *problem)
{
    struct failure *f = memory_alloc(sizeof *f);

    if (failures == NULL)
        failures = map_new();
    if (map_count(failures) >= FAILURES_MAX)
        forget_failures();
    *f = (struct failure){loop_deadline(RETRY_MS), problem};
    free(map_put(failures, domain, f));
}

static const char *recent_failure(struct str domain)
{
    const struct failure *f = failures == NULL ? NULL : map_get(failures, domain);

    return f != NULL && f->until_ms > loop_now_ms() ? f->problem : NULL;
}

void sts_fini(void)
{
    forget_failures();
    map_free(&failures);
}

/* ---- finding ------------------------------------------------------------------------------- */

/* RFC 8461, 3.1: exactly one record that begins so, or none: *id is empty then. -1: DNS does not say. */
static int current_id(struct arena *a, struct str domain, struct str *current)
{
    struct str name = arena_printf(a, "_mta-sts.%.*s", STR_ARG(domain));
    struct dns_answer answer;
    struct str *txt, id, found = STR_NULL;
    struct error err = {0};
    size_t count, records = 0;

    *current = STR_NULL;
    if (dns_lookup_txt(a, name, &txt, &count, &answer, &err) < 0)
        return err.kind == ERR_SYNTAX ? 0 : -1; /* so long a name has no record */
    for (size_t i = 0; i < count && i < TXT_MAX; i++) {
        if (!str_starts(txt[i], STR("v=STSv1")))
            continue;
        records++;
        if (sts_record_parse(txt[i], &id))
            found = id;
    }
    if (records == 1)
        *current = found;
    return 0;
}

static void use(struct arena *a, struct str text, struct sts_result *out)
{
    out->has_policy = sts_policy_parse(a, text, &out->policy, NULL) == 0;
    out->text = text;
}

static void fail_to_fetch(struct str domain, const char *problem, const char *reason,
                          struct arena *a, struct sts_result *out)
{
    out->problem = problem;
    out->reason = arena_str(a, str_c(reason));
    note_failure(domain, problem);
    log_info(NULL, "sts_policy_unusable", KV("domain", domain), KV("result", problem),
             KV("reason", reason));
}

static void fetch(struct arena *a, struct str domain, struct str id, struct sts_result *out)
{
    struct sts_policy policy;
    struct error err = {0};
    struct str text;
    enum sts_fetch fetched = sts_fetch_policy(a, domain, &text, &err);

    if (fetched != STS_FETCHED) {
        fail_to_fetch(domain,
                      fetched == STS_FETCH_UNTRUSTED ? "sts-webpki-invalid"
                                                     : "sts-policy-fetch-error",
                      err.text, a, out);
        return;
    }
    if (sts_policy_parse(a, text, &policy, &err) < 0) {
        fail_to_fetch(domain, "sts-policy-invalid", err.text, a, out);
        return;
    }
    use(a, text, out);
    if (sts_store_put(domain, id, text, policy.max_age_s, &err) < 0)
        log_warn(NULL, "sts_policy_not_kept", KV("domain", domain), KV_ERR(&err));
}

/* Past half of its life a policy is fetched again even under the same id, so that an attacker who
 * blocks the fetch for a moment does not make it lapse (RFC 8461, 10.2). */
static bool is_ripe(const struct sts_stored *stored)
{
    int64_t half_us = (stored->expires_us - stored->fetched_us) / 2;

    return (int64_t)time(NULL) * US > stored->fetched_us + half_us;
}

PARKS void sts_find(struct arena *a, struct str domain, struct sts_result *out)
{
    struct sts_stored stored = {0};
    struct error err = {0};
    const char *failed;
    struct str id;

    *out = (struct sts_result){0};
    if (sts_store_get(a, domain, &stored, &err) < 0)
        log_warn(NULL, "sts_policy_not_read", KV("domain", domain), KV_ERR(&err));
    if (stored.text.n > 0)
        use(a, stored.text, out);
    out->is_unknown = current_id(a, domain, &id) < 0 && !out->has_policy;
    if (id.n == 0 || (out->has_policy && str_eq(id, stored.id) && !is_ripe(&stored)))
        return;
    failed = recent_failure(domain);
    if (failed == NULL)
        fetch(a, domain, id, out);
    else
        out->problem = failed;
}
