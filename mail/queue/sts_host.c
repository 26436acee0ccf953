/* sts_host.c - writes our MTA-STS policy and answers who asks for it.
 *
 * The name that was asked for must be mta-sts. and a domain of ours; the TLS layer has the certificate for it. That of
 * plain HTTP is answered too, for proxies that do TLS themselves; senders ask by HTTPS alone. */
#include "mail/queue/sts_host.h"

#include <inttypes.h>

#include "server/base/buf.h"
#include "server/base/encode.h"
#include "server/directory/directory.h"
#include "server/run/config.h"

#define POLICY_SIZE_MAX (32 << 10)

static const struct {
    const char *name;
    enum sts_mode mode;
} modes[] = {{"none", STS_MODE_NONE}, {"testing", STS_MODE_TESTING}, {"enforce", STS_MODE_ENFORCE}};
#define MODE_COUNT (sizeof modes / sizeof *modes)

/* ---- the policy ---------------------------------------------------------------------------- */

static bool find_mode(enum sts_mode *out)
{
    for (size_t i = 0; i < MODE_COUNT; i++) {
        if (!str_ieq(str_c(config.mta_sts_mode), str_c(modes[i].name)))
            continue;
        *out = modes[i].mode;
        return true;
    }
    return false;
}

enum sts_mode sts_host_mode(void)
{
    enum sts_mode mode = STS_MODE_NONE;

    find_mode(&mode);
    return mode;
}

void sts_host_names(struct arena *a, struct str **names, size_t *count)
{
    struct str rest = str_c(config.mx_hosts), name;

    *names = ARENA_ARRAY(a, STS_MX_MAX, struct str);
    *count = 0;
    while (*count < STS_MX_MAX && str_next_token(&rest, ',', &name))
        if (!str_empty(str_trim(name)))
            (*names)[(*count)++] = arena_lower(a, str_trim(name));
    if (*count == 0)
        (*names)[(*count)++] = arena_lower(a, str_c(config.hostname));
}

struct str sts_host_policy(struct arena *a)
{
    struct str *names, text;
    struct buf out;
    size_t count;

    sts_host_names(a, &names, &count);
    buf_init(&out, POLICY_SIZE_MAX);
    buf_addf(&out, "version: STSv1\r\nmode: %s\r\n", modes[sts_host_mode()].name);
    for (size_t i = 0; i < count; i++)
        buf_addf(&out, "mx: %.*s\r\n", STR_ARG(names[i]));
    buf_addf(&out, "max_age: %" PRId64 "\r\n", config.mta_sts_max_age / 1000);
    text = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return text;
}

struct str sts_host_id(struct arena *a)
{
    return arena_printf(a, "%016" PRIx64, fnv1a_64(sts_host_policy(a)));
}

int sts_host_check_settings(struct error *err)
{
    struct arena *a = arena_new();
    struct sts_policy policy;
    struct error cause = {0};
    enum sts_mode mode;
    int rc = 0;

    if (!find_mode(&mode))
        rc =
            fail(err, ERR_SYNTAX, "mta_sts_mode: \"%s\" is no mode; write none, testing or enforce",
                 config.mta_sts_mode);
    else if (config.mx_hosts[0] != '\0' &&
             sts_policy_parse(a, sts_host_policy(a), &policy, &cause) < 0)
        rc = fail(err, ERR_SYNTAX,
                  "mx_hosts: \"%.80s\" is no list of host names; write \"mx1.example.org, "
                  "mx2.example.org\"",
                  config.mx_hosts);
    arena_free(&a);
    return rc;
}

/* ---- answering ----------------------------------------------------------------------------- */

/* "mta-sts.example.org:443" -> "example.org" */
static bool domain_of_host(struct arena *a, struct str host, struct str *domain)
{
    struct str port;

    str_cut(host, ':', &host, &port);
    if (str_ends(host, STR(".")))
        host.n--;
    return str_skip_prefix(&host, STR("mta-sts.")) && domain_canonical(a, host, domain, NULL) == 0;
}

static PARKS void handle_policy(struct http_request *r)
{
    struct arena *a = http_arena(r);
    struct error err = {0};
    struct str domain;
    bool is_ours = false;

    if (domain_of_host(a, http_header(r, "Host"), &domain) &&
        directory_has_domain(domain, &is_ours, &err) < 0) {
        http_answer_error(r, &err);
        return;
    }
    if (!is_ours) {
        fail(&err, ERR_NOT_FOUND, "policies are at mta-sts. and a domain that has its mail here");
        http_answer_error(r, &err);
        return;
    }
    http_answer(r, 200, "text/plain", sts_host_policy(a));
}

const struct http_route sts_host_routes[] = {
    {"GET", "/.well-known/mta-sts.txt", handle_policy, 0},
};
const size_t sts_host_route_count = sizeof sts_host_routes / sizeof *sts_host_routes;
