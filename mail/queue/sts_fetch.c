/* sts_fetch.c - the policy of a domain from its web server (RFC 8461, 3.3): status 200 and text/plain, or nothing. */
#include "mail/queue/mta_sts.h"
#include "server/run/config.h"
#include "server/run/http_fetch.h"

static int check(const struct http_fetch *f, struct error *err)
{
    if (f->status != 200) /* a redirect is none either */
        return fail(err, ERR_NOT_FOUND, "the policy's web server answered with status %d",
                    f->status);
    if (!str_eq(f->type, STR("text/plain")))
        return fail(err, ERR_SYNTAX, "the policy's web server did not call the policy text/plain");
    return 0;
}

PARKS enum sts_fetch sts_fetch_policy(struct arena *a, struct str domain, struct str *text,
                                      struct error *err)
{
    struct http_fetch f = {
        .host = arena_printf(a, "mta-sts.%.*s", STR_ARG(domain)),
        .port = (uint16_t)config.mta_sts_port,
        .target = STR("/.well-known/mta-sts.txt"),
        .accept = "text/plain",
        .verify = DIAL_TLS_PKIX,
        .refused_networks = str_c(config.fetch_refused_networks),
        .timeout_ms = config.mta_sts_timeout,
        .size_max = STS_POLICY_SIZE_MAX,
    };

    if (http_fetch(a, &f, err) < 0)
        return f.is_untrusted ? STS_FETCH_UNTRUSTED : STS_FETCH_FAILED;
    if (check(&f, err) < 0)
        return STS_FETCH_FAILED;
    *text = f.body;
    return STS_FETCHED;
}
