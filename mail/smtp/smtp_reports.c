/* smtp_reports.c - takes reports out of messages to our report addresses. Behind most of them is nobody who could read what
 * else comes, so that is refused: its sender learns that no one will answer. People who are written to beside them get it. */
#include "mail/smtp/smtp_reports.h"

#include "mail/mime/address_path.h"
#include "mail/store/report_address.h"

/* Of our domains: an address elsewhere is somebody else's. */
static bool is_for_reports(struct smtp_session *s, const struct submit_recipient *r)
{
    struct str local, domain;

    address_path_split(s->tx_arena, r->address, &local, &domain);
    return report_address_is(local) && (r->route_count == 0 || r->routes[0].kind == ROUTE_ACCOUNT ||
                                        r->routes[0].through_account_id != 0);
}

static bool is_any_for_reports(struct smtp_session *s, const struct submit *m)
{
    for (size_t i = 0; i < m->rcpt_count; i++)
        if (is_for_reports(s, &m->rcpts[i]))
            return true;
    return false;
}

static struct str refusal(struct smtp_session *s, const struct submit_recipient *r)
{
    return arena_printf(s->tx_arena,
                        "%.*s takes DMARC, TLS and feedback reports alone, and no report can be "
                        "read here; write to postmaster instead",
                        STR_ARG(str_head(r->address, 200)));
}

/* How many have nobody behind them. */
static size_t refuse_nobodys(struct smtp_session *s, struct submit *m)
{
    size_t count = 0;

    for (size_t i = 0; i < m->rcpt_count; i++) {
        if (m->rcpts[i].route_count > 0)
            continue;
        m->rcpts[i].reason = refusal(s, &m->rcpts[i]);
        count++;
    }
    return count;
}

int smtp_reports_keep(struct smtp_session *s, struct submit *m, struct error *err)
{
    bool is_report;

    if (!is_any_for_reports(s, m))
        return 0;
    if (report_address_keep(m->message, &is_report, err) < 0)
        return -1;
    if (is_report || refuse_nobodys(s, m) < m->rcpt_count)
        return 0;
    return fail(err, ERR_SYNTAX, "%.*s", STR_ARG(m->rcpts[0].reason));
}
