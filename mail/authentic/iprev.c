/* iprev.c - turns what DNS says about an address into a result of RFC 8601. */
#include "mail/authentic/iprev.h"

#include "server/run/dns.h"

static enum iprev_result judge(const struct dns_reverse *reverse)
{
    if (reverse->count > 0)
        return IPREV_PASS;
    if (reverse->is_incomplete)
        return IPREV_TEMPERROR;
    return reverse->ptr_count > 0 ? IPREV_FAIL : IPREV_PERMERROR;
}

PARKS void iprev_check(struct arena *a, const struct sockaddr_storage *client,
                       struct iprev_answer *out)
{
    struct dns_reverse reverse;

    *out = (struct iprev_answer){.result = IPREV_TEMPERROR};
    if (dns_lookup_reverse(a, client, &reverse, NULL) < 0)
        return;
    out->result = judge(&reverse);
    if (reverse.count > 0)
        out->name = reverse.names[0];
}

const char *iprev_result_name(enum iprev_result r)
{
    static const char *const names[] = {
        [IPREV_PASS] = "pass",
        [IPREV_FAIL] = "fail",
        [IPREV_TEMPERROR] = "temperror",
        [IPREV_PERMERROR] = "permerror",
    };

    return names[r];
}
