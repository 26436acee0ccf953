/* remote_session.c - a session with one address: connect, greet, TLS as its policy has it, log in.
 *
 * Where TLS is opportunistic and the handshake fails, a second connection to the same address goes
 * without, in the same attempt: mail that today's broken servers would never get is worse than mail
 * that travels as it did for thirty years. Where a policy asks for TLS there is no such way. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mail/queue/remote_internal.h"
#include "server/base/encode.h"
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/directory/digest.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

#define CREDENTIALS_SIZE_MAX (1u << 20)

static void (*observer)(const struct remote_tls_event *event);

void remote_set_tls_observer(void (*observe)(const struct remote_tls_event *event))
{
    observer = observe;
}

/* ---- reports ------------------------------------------------------------------------------- */

static struct str address_text(struct arena *a, const struct sockaddr_storage *address)
{
    char text[INET6_ADDRSTRLEN] = "";

    if (address->ss_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text, sizeof text);
    else if (address->ss_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, text, sizeof text);
    return arena_str(a, str_c(text));
}

static struct str patterns(struct arena *a, const struct sts_policy *policy)
{
    struct buf b;
    struct str out;

    buf_init(&b, STS_POLICY_SIZE_MAX);
    for (size_t i = 0; i < policy->mx_count; i++) {
        if (i > 0)
            buf_addc(&b, '\n');
        buf_add(&b, policy->mx[i]);
    }
    out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

void remote_report(struct arena *a, const struct tls_domain *domain,
                   const struct route_hosts *hosts, const struct route_host *host,
                   const struct tls_host *tls, struct dial *d, const char *result,
                   struct str reason)
{
    struct remote_tls_event event = {
        .domain = hosts->domain,
        .policy_type = REMOTE_POLICY_NONE,
        .policy_domain = hosts->domain,
        .result_type = result,
        .host = host == NULL ? STR_NULL : host->name,
        .reason = reason,
    };

    if (observer == NULL || !hosts->is_mx)
        return;
    if (tls != NULL && tls->base.n > 0) {
        event.policy_type = REMOTE_POLICY_TLSA;
        event.policy_domain = tls->base;
        event.policy_text = tls_tlsa_text(a, tls->dial.tlsa, tls->dial.tlsa_count);
    } else if (domain->sts.has_policy && domain->sts.policy.mode != STS_MODE_NONE) {
        event.policy_type = REMOTE_POLICY_STS;
        event.policy_text = domain->sts.text;
        event.mx_patterns = patterns(a, &domain->sts.policy);
    } else if (domain->sts.problem != NULL) {
        event.policy_type = REMOTE_POLICY_STS;
    }
    if (d != NULL) {
        event.ip = dial_peer_text(d);
        event.local_ip = address_text(a, dial_local(d));
    }
    observer(&event);
}

static void report(const struct remote_target *t, struct dial *d, const char *result,
                   struct str reason)
{
    if (t->job->tls_optional)
        return; /* TLS reports are sent so, and are not reported (RFC 8460, 5.3) */
    remote_report(t->arena, t->domain, t->hosts, t->host, t->tls, d, result, reason);
}

/* ---- credentials --------------------------------------------------------------------------- */

static bool is_for(struct str name, const struct route_hosts *hosts, struct arena *a)
{
    return str_ieq(name, hosts->way.host) ||
           str_ieq(name, arena_printf(a, "%.*s:%u", STR_ARG(hosts->way.host), hosts->way.port));
}

static bool read_credential(struct arena *a, struct str line, const struct route_hosts *hosts,
                            struct str *user, struct str *password)
{
    struct str name;

    line = str_trim(line);
    if (line.n == 0 || line.p[0] == '#' || !str_next_token(&line, ' ', &name) ||
        !is_for(name, hosts, a) || !str_next_token(&line, ' ', user))
        return false;
    *user = arena_str(a, *user);
    *password = arena_str(a, str_trim(line));
    return true;
}

/* A small local file, read for each new session, so that a changed password needs no restart. */
void remote_credentials(struct arena *a, const struct route_hosts *hosts, struct str *user,
                        struct str *password)
{
    struct str rest, line;
    char *text;
    size_t n;
    FILE *file;

    *user = *password = STR_NULL;
    if (config.delivery_credentials[0] == '\0' || hosts->way.host.n == 0 || hosts->way.is_lmtp)
        return;
    file = fopen(config.delivery_credentials, "re");
    if (file == NULL) {
        log_error(NULL, "delivery_credentials_unreadable", KV("file", config.delivery_credentials));
        return;
    }
    text = memory_alloc(CREDENTIALS_SIZE_MAX);
    n = fread(text, 1, CREDENTIALS_SIZE_MAX, file);
    fclose(file);
    rest = str_of(text, n);
    while (rest.n > 0) {
        str_cut(rest, '\n', &line, &rest);
        if (read_credential(a, line, hosts, user, password))
            break;
    }
    explicit_bzero(text, n);
    free(text);
}

/* ---- what a session is known by -------------------------------------------------------------- */

/* Two jobs share a session only when both would have made it by the same rules. What a relay must prove is the same for all
 * domains behind it. */
static struct str session_key(const struct remote_target *t)
{
    struct str parts[] = {
        t->text,
        t->user,
        t->tls->level >= TLS_LEVEL_VERIFY && t->hosts->is_mx ? t->hosts->domain : STR_NULL,
        tls_tlsa_text(t->arena, t->tls->dial.tlsa, t->tls->dial.tlsa_count),
        arena_printf(t->arena, "%d %d %d", (int)t->tls->level, t->hosts->way.is_lmtp,
                     t->hosts->way.is_tls),
    };
    uint8_t digest[DIGEST_SIZE];
    struct buf b;
    struct str key;

    hmac_sha256_list(STR("session"), parts, sizeof parts / sizeof parts[0], digest);
    buf_init(&b, 2 * DIGEST_SIZE);
    hex_encode(&b, digest_str(digest));
    key = arena_str(t->arena, buf_str(&b));
    buf_fini(&b);
    return key;
}

static bool is_listed_peer(struct str list, struct str name)
{
    struct str one;

    while (list.n > 0) {
        str_cut(list, ',', &one, &list);
        one = str_trim(one);
        if (one.n > 0 && str_ieq(one, name))
            return true;
    }
    return false;
}

static bool is_traced(const struct remote_target *t)
{
    struct str peers = str_c(config.smtp_trace_peers);

    return peers.n > 0 &&
           (is_listed_peer(peers, t->hosts->domain) || is_listed_peer(peers, t->host->name) ||
            is_listed_peer(peers, address_text(t->arena, t->address)));
}

/* ---- refusals ------------------------------------------------------------------------------ */

static void refuse(const struct remote_target *t, struct route_refusal *why, int code,
                   const char *enhanced, struct str text)
{
    *why = (struct route_refusal){
        false, code, enhanced,
        arena_printf(t->arena, "%.*s: %.*s", STR_ARG(t->text), STR_ARG(text))};
}

static void refuse_connection(const struct remote_target *t, struct route_refusal *why,
                              const struct error *err)
{
    refuse(t, why, 0, err->kind == ERR_TRY_LATER ? "4.4.1" : "4.4.2",
           arena_str(t->arena, str_c(err->text)));
}

/* A server that does not want to talk to us today is asked again, whatever the first digit; one that says that it takes no mail
 * at all is believed (RFC 7504, 3; RFC 5321, 3.1), unless it is the relay that the administrator named. */
static void refuse_by_answer(const struct remote_target *t, struct route_refusal *why,
                             struct smtp_client *c, const struct error *err)
{
    const struct smtp_answer *answer = smtp_client_answer(c);

    if (answer->code == 0) {
        refuse_connection(t, why, err);
        return;
    }
    refuse(t, why, answer->code, "4.3.2",
           arena_printf(t->arena, "it refused the session: %d %.*s", answer->code,
                        STR_ARG(answer->text)));
    if (smtp_client_takes_no_mail(c) && t->hosts->way.host.n == 0) {
        why->is_permanent = true;
        why->enhanced = "5.3.2";
    }
}

/* TLS is a must here. For REQUIRETLS that is final once all hosts have been asked (RFC 8689, 4.2.1). */
static void refuse_tls(const struct remote_target *t, struct route_refusal *why, const char *text)
{
    bool is_required = t->job->requires_tls && t->job->sender.n > 0;

    refuse(t, why, is_required ? 550 : 451, is_required ? "5.7.10" : "4.7.5",
           arena_str(t->arena, str_c(text)));
    why->is_permanent = is_required;
}

/* ---- TLS ----------------------------------------------------------------------------------- */

static struct str describe_tls(const struct remote_target *t, struct dial *d)
{
    enum dial_tls_result result = dial_tls_result(d);
    struct str description = dial_tls_description(d);
    const char *proof = t->tls->level == TLS_LEVEL_DANE ? "verified by DANE"
                        : result == DIAL_TLS_OK         ? "verified"
                                                        : "not verified";

    if (t->tls->level == TLS_LEVEL_VERIFY && t->tls->is_sts)
        proof = "verified by MTA-STS";
    return arena_printf(t->arena, "%.*s, %s", STR_ARG(description), proof);
}

/* A policy in testing mode, or one that could not be used, has something to tell although mail goes. */
static void report_tls(const struct remote_target *t, struct dial *d)
{
    const char *result = t->tls->warning;

    if (result == NULL && t->tls->is_testing)
        result =
            t->tls->is_mx_mismatch ? "validation-failure" : tls_result_word(dial_tls_result(d));
    report(t, d, result, result == NULL ? STR_NULL : STR("the policy would have refused this"));
}

static void note_tls(const struct remote_target *t, struct remote_session *s, struct dial *d)
{
    struct str text = describe_tls(t, d);

    s->tls = str_of(memory_copy_str(text), text.n);
    report_tls(t, d);
}

static void tls_failed(const struct remote_target *t, struct dial *d, const struct error *err)
{
    const char *word = tls_result_word(dial_tls_result(d));

    metric_inc(METRIC_delivery_tls_failed);
    log_info(NULL, "delivery_tls_failed", KV("trace", t->job->trace_id), KV("host", t->text),
             KV_ERR(err));
    report(t, d, word == NULL ? "validation-failure" : word, str_c(err->text));
}

enum attempt { ATTEMPT_DONE, ATTEMPT_FAILED, ATTEMPT_WITHOUT_TLS };

static enum attempt no_starttls(const struct remote_target *t, struct remote_session *s,
                                struct route_refusal *why)
{
    bool has_policy = t->tls->is_testing || t->tls->level > TLS_LEVEL_MAY;

    if (has_policy)
        report(t, smtp_client_dial(s->client), "starttls-not-supported",
               STR("the server does not offer STARTTLS"));
    if (t->tls->level <= TLS_LEVEL_MAY)
        return ATTEMPT_DONE;
    refuse_tls(t, why, "it does not offer STARTTLS, and mail may not go there without");
    return ATTEMPT_FAILED;
}

static enum attempt start_tls(const struct remote_target *t, struct remote_session *s,
                              struct route_refusal *why)
{
    struct smtp_client *c = s->client;
    struct error err = {0};

    if ((smtp_client_capabilities(c)->can & SMTP_CAN_STARTTLS) == 0)
        return no_starttls(t, s, why);
    switch (smtp_client_start_tls(c, &t->tls->dial, &err)) {
    case SMTP_DONE:
        note_tls(t, s, smtp_client_dial(c));
        return ATTEMPT_DONE;
    case SMTP_REFUSED:
        if (dial_is_tls(smtp_client_dial(c))) {
            refuse_by_answer(t, why, c, &err); /* the second EHLO */
            return ATTEMPT_FAILED;
        }
        return no_starttls(t, s, why); /* offered, but "454 not now" */
    case SMTP_BROKEN:
        break;
    }
    tls_failed(t, smtp_client_dial(c), &err);
    if (t->tls->level <= TLS_LEVEL_MAY)
        return ATTEMPT_WITHOUT_TLS;
    refuse_tls(t, why, err.text);
    return ATTEMPT_FAILED;
}

/* ---- making one ----------------------------------------------------------------------------- */

static const struct sockaddr_storage *source_of(const struct sockaddr_storage *to,
                                                struct sockaddr_storage *storage)
{
    struct sockaddr_in *in = (struct sockaddr_in *)storage;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)storage;

    memset(storage, 0, sizeof *storage);
    storage->ss_family = to->ss_family;
    if (to->ss_family == AF_INET)
        return inet_pton(AF_INET, config.delivery_source_ipv4, &in->sin_addr) == 1 ? storage : NULL;
    if (to->ss_family == AF_INET6)
        return inet_pton(AF_INET6, config.delivery_source_ipv6, &in6->sin6_addr) == 1 ? storage
                                                                                      : NULL;
    return NULL;
}

static struct dial *connect_to(const struct remote_target *t, struct route_refusal *why)
{
    struct sockaddr_storage storage;
    struct error err = {0};
    struct dial *d = dial_open(t->address, source_of(t->address, &storage),
                               config.delivery_connect_timeout, &err);

    if (d == NULL) {
        refuse_connection(t, why, &err);
        return NULL;
    }
    metric_inc(METRIC_delivery_connections);
    dial_set_end(d, config.delivery_message_timeout);
    if (t->hosts->way.is_tls && dial_start_tls(d, &t->tls->dial, &err) < 0) {
        tls_failed(t, d, &err);
        refuse_tls(t, why, err.text);
        dial_close(&d);
    }
    return d;
}

static enum attempt log_in(const struct remote_target *t, struct remote_session *s,
                           struct route_refusal *why)
{
    struct error err = {0};
    enum smtp_outcome outcome;

    if (t->user.n == 0)
        return ATTEMPT_DONE;
    outcome = smtp_client_login(s->client, t->user, t->password, &err);
    if (outcome == SMTP_DONE)
        return ATTEMPT_DONE;
    /* A wrong password is put right by the administrator; no mail is returned for it. */
    refuse(t, why, smtp_client_answer(s->client)->code, "4.7.8",
           outcome == SMTP_REFUSED ? arena_printf(t->arena, "it refused our log-in: %.*s",
                                                  STR_ARG(smtp_client_answer(s->client)->text))
                                   : arena_str(t->arena, str_c(err.text)));
    log_error(NULL, "delivery_login_failed", KV("host", t->text), KV("reason", why->text));
    return ATTEMPT_FAILED;
}

static enum attempt set_up(const struct remote_target *t, struct remote_session *s, bool with_tls,
                           struct route_refusal *why)
{
    struct error err = {0};
    enum attempt attempt = ATTEMPT_DONE;

    if (t->hosts->way.is_tls)
        note_tls(t, s, smtp_client_dial(s->client));
    if (smtp_client_greet(s->client, &err) != SMTP_DONE) {
        refuse_by_answer(t, why, s->client, &err);
        return ATTEMPT_FAILED;
    }
    if (with_tls && !t->hosts->way.is_tls && t->tls->level != TLS_LEVEL_OFF)
        attempt = start_tls(t, s, why);
    return attempt == ATTEMPT_DONE ? log_in(t, s, why) : attempt;
}

static enum attempt make_session(const struct remote_target *t, struct str key, bool with_tls,
                                 struct remote_session **out, struct route_refusal *why)
{
    struct dial *d = connect_to(t, why);
    enum attempt attempt;

    *out = NULL;
    if (d == NULL)
        return ATTEMPT_FAILED;
    *out = remote_session_new(key);
    (*out)->client = smtp_client_new(&d, t->hosts->way.is_lmtp, t->text, is_traced(t));
    attempt = set_up(t, *out, with_tls, why);
    if (attempt != ATTEMPT_DONE)
        remote_session_free(out);
    else
        dial_set_end(smtp_client_dial((*out)->client), 0);
    return attempt;
}

PARKS struct remote_session *remote_session_open(const struct remote_target *t, bool may_reuse,
                                                 struct route_refusal *why)
{
    struct str key = session_key(t);
    struct remote_session *s = may_reuse ? remote_pool_take(key) : NULL;
    enum attempt attempt;

    if (s != NULL) {
        metric_inc(METRIC_delivery_connections_reused);
        return s;
    }
    attempt = make_session(t, key, true, &s, why);
    if (attempt == ATTEMPT_WITHOUT_TLS)
        attempt = make_session(t, key, false, &s, why);
    if (attempt == ATTEMPT_DONE)
        return s;
    metric_inc(METRIC_delivery_connections_failed);
    log_info(NULL, "delivery_session_failed", KV("trace", t->job->trace_id), KV("host", t->text),
             KV("reason", why->text));
    return NULL;
}
