/* smtp_greylist.c - one query for a recipient of a network that is not known, none for the others. */
#include "mail/smtp/smtp_greylist.h"
#include "mail/mime/address_path.h"

#include "mail/store/smtp_policy_store.h"
#include "server/base/net.h"
#include "server/directory/memo.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"

#define NETWORKS_REMEMBERED 20000
#define REMEMBERED_MS       (30 * 60 * 1000) /* then the database hears that it is still in use */
#define FORGET_INTERVAL_MS  (10 * 60 * 1000)

static struct {
    struct memo *known;
    int64_t forget_at_ms;
} greylist;

static struct greylist_terms terms(void)
{
    return (struct greylist_terms){config.smtp_greylist_delay / 1000,
                                   config.smtp_greylist_retry_max / 1000,
                                   config.smtp_greylist_keep / 1000};
}

static struct str network_of(struct smtp_session *s)
{
    return net_text(s->command_arena, conn_peer(s->conn), 24, 64);
}

static bool is_known(struct str network)
{
    if (greylist.known == NULL)
        greylist.known = memo_new(NETWORKS_REMEMBERED);
    return memo_holds(greylist.known, &network, 1);
}

/* Once in a while, by whoever asks. */
static void forget_old(void)
{
    struct greylist_terms t = terms();

    if (loop_now_ms() < greylist.forget_at_ms)
        return;
    greylist.forget_at_ms = loop_deadline(FORGET_INTERVAL_MS);
    greylist_forget(&t, NULL);
}

static int put_off(struct smtp_session *s, struct str recipient, int64_t wait_s)
{
    metric_inc(METRIC_smtp_greylisted);
    log_info(&s->log, "greylisted", KV("rcpt", recipient), KV("wait_s", wait_s));
    smtp_reply(s, 451, "4.7.1", "we do not know your network yet: try again in %lld seconds",
               (long long)wait_s);
    return 1;
}

int smtp_greylist(struct smtp_session *s, const struct smtp_path *rcpt, struct error *err)
{
    struct greylist_terms t = terms();
    struct arena *a = s->command_arena;
    struct str network, recipient;
    bool was_known;
    int64_t wait_s;

    if (!config.smtp_greylist || s->is_allow_listed || is_known(network = network_of(s)))
        return 0;
    recipient = arena_lower(a, address_path_of(a, rcpt->local, rcpt->domain));
    if (greylist_try(network, arena_lower(a, s->tx.sender), recipient, &t, &wait_s, &was_known,
                     err) < 0)
        return -1;
    forget_old();
    if (wait_s > 0)
        return put_off(s, recipient, wait_s);
    s->passed_greylist = true; /* known ones too: what is written then keeps them known */
    return 0;
}

void smtp_greylist_passed(struct smtp_session *s)
{
    struct str network = network_of(s);

    s->passed_greylist = false;
    if (greylist_pass(network, NULL) == 0)
        memo_add(greylist.known, &network, 1, REMEMBERED_MS);
}

void smtp_greylist_fini(void)
{
    memo_free(&greylist.known);
}
