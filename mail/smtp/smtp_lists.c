/* smtp_lists.c - allow lists go before block lists; the weights of block lists add up. */
#include "mail/smtp/smtp_lists.h"

#include "mail/authentic/dnsbl.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

static struct {
    struct arena *arena;
    struct dnsbl_list block, allow;
} lists;

static void remember_listed(struct smtp_session *s, const struct dnsbl_answer *answer)
{
    const struct dnsbl_match *m = &answer->matches[0];

    for (size_t i = 1; i < answer->count; i++)
        if (answer->matches[i].zone->weight > m->zone->weight)
            m = &answer->matches[i];
    s->listed = arena_printf(s->arena, "%.*s%s%.*s", STR_ARG(m->zone->name),
                             m->reason.n > 0 ? ": " : "", STR_ARG(m->reason));
    metric_inc(METRIC_smtp_clients_listed);
    log_info(&s->log, "client_listed", KV("list", s->listed), KV("weight", answer->weight));
}

void smtp_lists_ask(struct smtp_session *s)
{
    struct dnsbl_answer answer;

    if (s->is_listed_known)
        return;
    s->is_listed_known = true;
    dnsbl_check(s->command_arena, &lists.allow, conn_peer(s->conn), SMTP_LISTS_TIMEOUT_MS, &answer);
    s->is_allow_listed = answer.weight > 0;
    if (s->is_allow_listed)
        return;
    dnsbl_check(s->command_arena, &lists.block, conn_peer(s->conn), SMTP_LISTS_TIMEOUT_MS, &answer);
    if (answer.count > 0 && answer.weight >= config.smtp_block_weight)
        remember_listed(s, &answer);
}

static int read_setting(const char *name, const char *value, struct dnsbl_list *out,
                        struct error *err)
{
    struct error why = {0};

    if (dnsbl_parse(lists.arena, str_c(value), out, &why) == 0)
        return 0;
    return fail(err, ERR_SYNTAX, "%s: %s", name, why.text);
}

int smtp_lists_start(struct error *err)
{
    lists.arena = arena_new();
    if (read_setting("smtp_block_lists", config.smtp_block_lists, &lists.block, err) < 0)
        return -1;
    return read_setting("smtp_allow_lists", config.smtp_allow_lists, &lists.allow, err);
}

void smtp_lists_fini(void)
{
    arena_free(&lists.arena);
    lists.block = lists.allow = (struct dnsbl_list){0};
}
