/* MTA-STS records and policies, and ways of delivery_routes: any text; what is taken keeps its bounds. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/queue/mta_sts.h"
#include "mail/queue/route_hosts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_policy(const struct sts_policy *policy)
{
    assert(policy->mx_count <= STS_MX_MAX);
    assert(policy->max_age_s >= 0 && policy->max_age_s <= STS_MAX_AGE_MAX_S);
    assert(policy->mode == STS_MODE_NONE || policy->mx_count > 0);
    for (size_t i = 0; i < policy->mx_count; i++)
        assert(policy->mx[i].p[0] == '*' || sts_mx_matches(policy, policy->mx[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_of((const char *)data, size), id;
    struct arena *a = arena_new();
    struct sts_policy policy;
    struct route_way way;

    if (sts_policy_parse(a, input, &policy, NULL) == 0)
        check_policy(&policy);
    if (sts_record_parse(input, &id))
        assert(id.n > 0 && id.n <= 32);
    if (route_way_parse(input, &way, NULL) == 0)
        assert(way.host.n > 0 && (way.is_unix || way.port > 0));
    arena_free(&a);
    return 0;
}
