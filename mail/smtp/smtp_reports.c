/* smtp_reports.c - takes reports out of messages to our report addresses. Behind most of them is nobody who could read what
 * else comes, so that is refused: its sender learns that no one will answer. */
#include "mail/smtp/smtp_reports.h"

#include "mail/mime/address_path.h"
#include "mail/store/report_address.h"

/* Of our domains: an address elsewhere is somebody else's. */
static bool is_for_reports(struct smtp_session *s, const struct smtp_recipient *r)
{
    struct str local, domain;

    address_path_split(s->tx_arena, r->path, &local, &domain);
    return report_address_is(local) && (r->route_count == 0 || r->routes[0].kind == ROUTE_ACCOUNT ||
                                        r->routes[0].through_account_id != 0);
}

static const struct smtp_recipient *find_nobodys(struct smtp_session *s)
{
    for (size_t i = 0; i < s->tx.rcpt_count; i++)
        if (s->tx.rcpts[i].route_count == 0)
            return &s->tx.rcpts[i];
    return NULL;
}

static bool is_any_for_reports(struct smtp_session *s)
{
    for (size_t i = 0; i < s->tx.rcpt_count; i++)
        if (is_for_reports(s, &s->tx.rcpts[i]))
            return true;
    return false;
}

int smtp_reports_keep(struct smtp_session *s, const struct submit *m, struct error *err)
{
    const struct smtp_recipient *nobodys = find_nobodys(s);
    bool is_report;

    if (!is_any_for_reports(s))
        return 0;
    if (report_address_keep(m->message, &is_report, err) < 0)
        return -1;
    if (is_report || nobodys == NULL)
        return 0;
    return fail(err, ERR_SYNTAX,
                "%.*s takes DMARC, TLS and feedback reports alone, and no report can be read here; "
                "write to postmaster instead",
                STR_ARG(str_head(nobodys->path, 200)));
}
