/* smtp_policy.c - the questions of smtp_policy.h, each with its settings.
 *
 * Refusals of strangers wait until RCPT where they can, so that the log names sender and recipient, postmaster stays
 * reachable (RFC 5321, 4.5.1), and people who log in on port 25 from a listed address are let in. */
#include "mail/smtp/smtp_policy.h"

#include <arpa/inet.h>

#include "mail/smtp/smtp_greylist.h"
#include "mail/smtp/smtp_lists.h"
#include "mail/smtp/smtp_rate.h"
#include "server/base/net.h"
#include "server/directory/directory.h"
#include "server/directory/memo.h"
#include "server/run/config.h"
#include "server/run/dns.h"
#include "server/run/metrics.h"

#define NETWORKS_REMEMBERED   20000
#define SILENCE_REMEMBERED_MS (24 * 60 * 60 * 1000)
#define UNKNOWN_FREE          2 /* misspelled recipients that cost no time */

static struct memo *silent; /* networks that waited for the greeting */

void smtp_policy_meet(struct smtp_session *s)
{
    const struct sockaddr_storage *peer = conn_peer(s->conn);

    s->is_trusted = net_list_contains(str_c(config.smtp_trusted_networks), peer);
    s->is_exempt = s->role != SMTP_MX || s->is_trusted || conn_is_loopback(s->conn);
    s->marks = 0;
    s->is_listed_known = s->is_allow_listed = s->passed_greylist = false;
    s->listed = STR_NULL;
}

static bool is_stranger(const struct smtp_session *s)
{
    return !s->is_exempt && !s->is_logged_in;
}

/* Writes the refusal after which there is nothing more to say. */
static int end_with(struct smtp_session *s, int code, const char *enhanced, const char *text)
{
    log_info(&s->log, "client_refused", KV("reason", text));
    metric_inc(METRIC_smtp_clients_refused);
    smtp_reply(s, code, enhanced, "%s", text);
    s->phase = SMTP_CLOSING;
    return 1;
}

/* ---- rates ----------------------------------------------------------------------------------------- */

struct scope {
    const char *who; /* as the refusal says it */
    struct str key;
    int64_t limit;
};

#define SCOPES_MAX 2

static struct str network_key(struct smtp_session *s)
{
    struct str network = net_text(s->command_arena, conn_peer(s->conn), 32, 64);

    return arena_printf(s->command_arena, "network %.*s", STR_ARG(network));
}

static struct scope account_scope(struct smtp_session *s, enum smtp_rate_what what)
{
    return (struct scope){"this account",
                          arena_printf(s->command_arena, "account %lld", (long long)s->account_id),
                          what == SMTP_RATE_MESSAGES ? config.smtp_rate_account_messages
                                                     : config.smtp_rate_account_recipients};
}

static struct scope domain_scope(struct smtp_session *s, enum smtp_rate_what what)
{
    struct str local, domain;

    str_rcut(s->account_address, '@', &local, &domain);
    return (struct scope){"this domain",
                          arena_printf(s->command_arena, "domain %.*s", STR_ARG(domain)),
                          what == SMTP_RATE_MESSAGES ? config.smtp_rate_domain_messages
                                                     : config.smtp_rate_domain_recipients};
}

static struct scope network_scope(struct smtp_session *s, enum smtp_rate_what what)
{
    const int64_t limits[] = {config.smtp_rate_network_connections,
                              config.smtp_rate_network_messages,
                              config.smtp_rate_network_recipients};

    return (struct scope){"your network", network_key(s), limits[what]};
}

static size_t find_scopes(struct smtp_session *s, enum smtp_rate_what what, struct scope *v)
{
    size_t n = 0;

    if (s->is_logged_in) {
        v[n++] = account_scope(s, what);
        v[n++] = domain_scope(s, what);
    } else if (!s->is_exempt)
        v[n++] = network_scope(s, what);
    return n;
}

/* Counts one, or says who has had too many. */
static const char *take_scopes(struct smtp_session *s, enum smtp_rate_what what,
                               const struct scope *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (smtp_rate_take(v[i].key, what, v[i].limit))
            continue;
        for (size_t k = 0; k < i; k++)
            smtp_rate_return(v[k].key, what);
        metric_inc(METRIC_smtp_rate_limited);
        log_info(&s->log, "rate_limited", KV("key", v[i].key), KV("limit", v[i].limit));
        return v[i].who;
    }
    return NULL;
}

static const char *take_rate(struct smtp_session *s, enum smtp_rate_what what)
{
    struct scope v[SCOPES_MAX];

    return take_scopes(s, what, v, find_scopes(s, what, v));
}

/* ---- before the greeting ---------------------------------------------------------------------------- */

static bool was_silent(struct smtp_session *s, bool remember)
{
    struct str network = net_text(s->command_arena, conn_peer(s->conn), 32, 64);

    if (silent == NULL)
        silent = memo_new(NETWORKS_REMEMBERED);
    if (!remember)
        return memo_holds(silent, &network, 1);
    memo_add(silent, &network, 1, SILENCE_REMEMBERED_MS);
    return true;
}

static int early_talk(struct smtp_session *s, enum smtp_mark mark, const char *text)
{
    s->marks |= mark;
    if (config.smtp_early_talk_refused)
        return end_with(s, 554, "5.5.1", text);
    log_info(&s->log, "client_marked", KV("reason", text));
    return 0;
}

/* Programs that only push mail out do not wait for the greeting. Who once did need not again. */
static int await_silence(struct smtp_session *s)
{
    struct error err = {0};
    int status;

    if (config.smtp_greeting_delay == 0 || was_silent(s, false))
        return 0;
    conn_set_deadline(s->conn, config.smtp_greeting_delay);
    status = conn_fill(s->conn, &err);
    conn_set_deadline(s->conn, config.smtp_timeout);
    if (status == 0)
        return early_talk(s, SMTP_MARK_EARLY_TALK, "you spoke before the greeting, goodbye");
    if (err.kind == ERR_TIMED_OUT)
        was_silent(s, true);
    else
        s->phase = SMTP_CLOSING; /* it is gone already */
    return s->phase == SMTP_CLOSING;
}

int smtp_policy_connect(struct smtp_session *s)
{
    if (s->is_exempt)
        return 0;
    if (take_rate(s, SMTP_RATE_CONNECTIONS) != NULL)
        return end_with(s, 421, "4.7.0",
                        "too many connections from your network lately, try again later");
    return await_silence(s);
}

int smtp_policy_sent_ahead(struct smtp_session *s, bool ends_group)
{
    bool may_pipeline = s->is_esmtp && s->phase != SMTP_START && !ends_group;

    if (may_pipeline || !is_stranger(s) || str_empty(conn_peek(s->conn)) ||
        (s->marks & SMTP_MARK_AHEAD))
        return 0;
    return early_talk(s, SMTP_MARK_AHEAD,
                      "you did not wait for the answer to a command (RFC 2920), goodbye");
}

/* ---- MAIL ------------------------------------------------------------------------------------------ */

static bool is_full_name(struct str helo)
{
    ptrdiff_t dot = str_index(helo, '.');

    return str_starts(helo, STR("[")) || (dot > 0 && (size_t)dot + 1 < helo.n);
}

static int check_helo(struct smtp_session *s)
{
    if (!config.smtp_helo_full_name || !is_stranger(s) || is_full_name(s->helo))
        return 0;
    smtp_reply(s, 550, "5.7.1", "EHLO gave no full host name: \"%.*s\"", STR_ARG(s->helo));
    return 1;
}

static int domain_refused(struct smtp_session *s, const char *enhanced, struct str domain,
                          const char *why)
{
    log_info(&s->log, "sender_refused", KV("domain", domain), KV("reason", why));
    smtp_reply(s, 550, enhanced, "the sender's domain %.*s %s", STR_ARG(domain), why);
    return 1;
}

/* A domain of ours may be known to nobody but us. */
static int domain_unknown(struct smtp_session *s, struct str domain, struct error *err)
{
    bool is_ours;

    if (directory_has_domain(domain, &is_ours, err) < 0)
        return -1;
    return is_ours ? 0
                   : domain_refused(s, "5.1.8", domain, "does not exist, so nobody could answer");
}

static int domain_not_looked_up(struct smtp_session *s, struct str domain, const struct error *why)
{
    log_info(&s->log, "sender_not_checked", KV("domain", domain), KV_ERR(why));
    smtp_reply(s, 451, "4.1.8", "the sender's domain %.*s cannot be looked up now, try again later",
               STR_ARG(domain));
    return 1;
}

static int look_up_domain(struct smtp_session *s, struct str domain, struct error *err)
{
    struct sockaddr_storage *addresses;
    struct dns_answer answer;
    struct error why = {0};
    struct dns_mx *mx;
    size_t count;

    if (dns_lookup_mx(s->command_arena, domain, &mx, &count, &answer, &why) < 0)
        return domain_not_looked_up(s, domain, &why);
    if (count == 1 && str_empty(mx[0].host)) /* RFC 7505, 4.2 */
        return domain_refused(s, "5.7.27", domain, "says that it takes no mail");
    if (count > 0)
        return 0;
    if (answer.status == DNS_NO_NAME)
        return domain_unknown(s, domain, err);
    if (dns_lookup_addresses(s->command_arena, domain, &addresses, &count, &answer, &why) < 0)
        return domain_not_looked_up(s, domain, &why);
    return count > 0 ? 0 : domain_unknown(s, domain, err);
}

static int check_sender_domain(struct smtp_session *s, const struct smtp_path *path,
                               struct error *err)
{
    struct str domain;

    if (!config.smtp_sender_domain_exists || !is_stranger(s) || path->is_null ||
        str_empty(path->domain) || path->domain.p[0] == '[')
        return 0;
    if (domain_canonical(s->command_arena, path->domain, &domain, err) < 0)
        return -1;
    return look_up_domain(s, domain, err);
}

int smtp_policy_mail(struct smtp_session *s, const struct smtp_path *path, struct error *err)
{
    int status;

    if (s->role != SMTP_LMTP && s->mail_count >= (unsigned)config.smtp_messages_max)
        return end_with(s, 421, "4.7.0",
                        "enough messages for one session; send the rest in another");
    if ((status = check_helo(s)) != 0 || (status = check_sender_domain(s, path, err)) != 0)
        return status;
    s->tx.over_rate = take_rate(s, SMTP_RATE_MESSAGES); /* the recipients hear of it */
    s->mail_count++;
    return 0;
}

/* ---- RCPT ------------------------------------------------------------------------------------------ */

bool smtp_policy_is_role(const struct smtp_path *path)
{
    return str_ieq(path->local, STR("postmaster")) || str_ieq(path->local, STR("abuse"));
}

static int check_lists(struct smtp_session *s)
{
    smtp_lists_ask(s);
    if (str_empty(s->listed))
        return 0;
    smtp_reply(s, 554, "5.7.1", "your address %.*s is listed by %.*s",
               STR_ARG(conn_peer_text(s->conn)), STR_ARG(s->listed));
    return 1;
}

static int check_stranger(struct smtp_session *s, const struct smtp_path *path, struct error *err)
{
    int status;

    if (!is_stranger(s) || smtp_policy_is_role(path))
        return 0;
    return (status = check_lists(s)) != 0 ? status : smtp_greylist(s, path, err);
}

static int over_rate(struct smtp_session *s, const char *what, const char *who)
{
    smtp_reply(s, 451, "4.7.1", "too many %s from %s lately, try again later", what, who);
    return 1;
}

/* Who has had too many of everything can still ask why. */
static int check_role_rate(struct smtp_session *s)
{
    struct scope v[SCOPES_MAX];
    size_t n = find_scopes(s, SMTP_RATE_RECIPIENTS, v);
    const char *who;

    for (size_t i = 0; i < n; i++) {
        v[i].key = arena_printf(s->command_arena, "postmaster %.*s", STR_ARG(v[i].key));
        v[i].limit = config.smtp_rate_postmaster;
    }
    who = take_scopes(s, SMTP_RATE_RECIPIENTS, v, n);
    return who == NULL ? 0 : over_rate(s, "messages to postmaster", who);
}

int smtp_policy_rcpt(struct smtp_session *s, const struct smtp_path *path, struct error *err)
{
    const char *who;
    int status;

    if ((status = check_stranger(s, path, err)) != 0)
        return status;
    if (smtp_policy_is_role(path))
        return check_role_rate(s);
    if (s->tx.over_rate != NULL)
        return over_rate(s, "messages", s->tx.over_rate);
    if ((who = take_rate(s, SMTP_RATE_RECIPIENTS)) != NULL)
        return over_rate(s, "recipients", who);
    return 0;
}

void smtp_policy_unknown_rcpt(struct smtp_session *s)
{
    if (!is_stranger(s))
        return;
    s->unknown_count++;
    if (config.smtp_unknown_rcpt_max > 0 && s->unknown_count > config.smtp_unknown_rcpt_max)
        end_with(s, 421, "4.7.0", "too many recipients that do not exist, goodbye");
    else if (s->unknown_count > UNKNOWN_FREE)
        fiber_sleep(config.smtp_unknown_rcpt_delay);
}

void smtp_policy_accepted(struct smtp_session *s)
{
    if (s->passed_greylist)
        smtp_greylist_passed(s);
}

/* ---- life ------------------------------------------------------------------------------------------ */

int smtp_policy_start(struct error *err)
{
    smtp_rate_start();
    return smtp_lists_start(err);
}

void smtp_policy_stop(void)
{
    smtp_rate_stop();
    smtp_greylist_fini();
    smtp_lists_fini();
    memo_free(&silent);
}
