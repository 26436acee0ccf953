/* report_address.c - is it for a report address, and is there a report in it? */
#include "mail/store/report_address.h"

#include "mail/store/report_store.h"
#include "server/base/log.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

static struct str without_detail(struct str local)
{
    struct str head, detail;

    if (config.recipient_delimiter[0] == '\0')
        return local;
    str_cut(local, config.recipient_delimiter[0], &head, &detail);
    return head;
}

static bool is_listed(struct str list, struct str local)
{
    struct str one;

    while (list.n > 0) {
        str_cut(list, ',', &one, &list);
        one = str_trim(one);
        if (one.n > 0 && str_ieq(one, local))
            return true;
    }
    return false;
}

bool report_address_has_no_people(struct str local)
{
    return is_listed(str_c(config.report_addresses), without_detail(local));
}

bool report_address_is(struct str local)
{
    struct str plain = without_detail(local);

    return str_ieq(plain, STR("postmaster")) || str_ieq(plain, STR("abuse")) ||
           report_address_has_no_people(local);
}

static bool is_worth_another_try(const struct error *err)
{
    return err->kind == ERR_TRY_LATER || err->kind == ERR_TIMED_OUT || err->kind == ERR_CANCELLED;
}

PARKS int report_address_keep(struct str message, bool *is_report, struct error *err)
{
    struct error own = {0};
    int kept = report_store_keep_message(message, &own);

    *is_report = kept >= 0;
    if (kept > 0)
        metric_inc(METRIC_reports_received);
    if (own.kind == ERR_LIMIT) {
        *is_report = true;
        metric_inc(METRIC_reports_left_out);
    }
    if (kept >= 0 || own.kind == ERR_NOT_FOUND)
        return 0;
    if (is_worth_another_try(&own))
        return fail(err, ERR_TRY_LATER, "the report cannot be kept now, try again");
    log_info(NULL, "report_not_kept", KV("size", (uint64_t)message.n), KV_ERR(&own));
    return 0;
}
