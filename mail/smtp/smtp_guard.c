/* smtp_guard.c - counts for the guard what an account submits: everybody it leads to, groups expanded. */
#include "mail/smtp/smtp_guard.h"

#include "mail/queue/guard.h"

static void count_recipients(const struct submit *m, struct guard_submission *in)
{
    for (size_t i = 0; i < m->rcpt_count; i++) {
        in->recipients += m->rcpts[i].route_count;
        for (size_t k = 0; k < m->rcpts[i].route_count; k++)
            in->recipients_away += m->rcpts[i].routes[k].kind == ROUTE_REMOTE;
    }
}

int smtp_guard_submit(struct smtp_session *s, struct submit *m, struct error *err)
{
    struct guard_submission in = {.account_id = m->account_id,
                                  .client = conn_peer(s->conn),
                                  .language = arena_c(s->tx_arena, m->language)};
    struct guard_answer answer;

    count_recipients(m, &in);
    if (guard_admit(&in, &answer, err) < 0)
        return -1;
    if (!answer.is_held)
        return 0;
    log_info(&s->log, "message_held", KV("id", s->tx.trace_text), KV("why", answer.reason));
    if (str_empty(m->held))
        m->held = arena_str(s->tx_arena, str_c(answer.reason));
    return 0;
}
