/* report_sender.c - claims reports one after the other and sees to it that each gets to whoever asked for it.
 *
 *   claimed -> whom does it go to? -> nobody: ended
 *                                  -> mail: written, signed, queued and ended in one transaction
 *                                  -> HTTPS: posted, then ended; put back when every web server failed
 *
 * A report's name (report-id, Message-ID) is made of day, kind and domain, so that it is the same on every attempt: one that
 * is posted twice, because a crash came between the web server's answer and our commit, is known for the same. */
#include "mail/queue/report_sender.h"

#include <time.h>

#include "mail/authentic/dmarc.h"
#include "mail/mime/address_path.h"
#include "mail/mime/mailto.h"
#include "mail/queue/submit.h"
#include "mail/store/report_address.h"
#include "mail/store/report_store.h"
#include "mail/store/trace.h"
#include "server/base/date.h"
#include "server/base/log.h"
#include "server/directory/directory.h"
#include "server/pg/notify.h"
#include "server/run/channel.h"
#include "server/run/config.h"
#include "server/run/dns.h"
#include "server/run/http_fetch.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"
#include "server/run/offload.h"

#define LOOK_INTERVAL_MS 60000
#define POST_TIMEOUT_MS  30000
#define URLS_MAX         3
#define FIBERS           4 /* so that one slow web server or DNS does not hold up all reports */
#define TXT_MAX          20
#define GENERATOR        "Merpati"

static struct {
    struct fiber *fibers[FIBERS];
    struct bus_subscription asked;
    struct wait_queue wake, stopped;
    unsigned asked_count;
} sender;

/* Who reports. */
struct author {
    struct str address, domain, organization;
};

/* One report on its way. */
struct errand {
    struct arena *arena;
    struct report_claim *claim;
    struct author author;
    struct str report_id;
    struct str mail; /* written when somebody gets it by mail */
    struct str gzip; /* written when somebody gets it by HTTPS */
    struct dmarc_report dmarc;
    struct tls_report tls;
    const struct str *to;
    size_t to_count; /* addresses */
    const struct str *urls;
    size_t url_count;
};

/* ---- who reports ----------------------------------------------------------------------------- */

/* The server's name is the domain, or a name in it. */
static bool is_at_home(struct str host, struct str domain)
{
    return str_ieq(host, domain) ||
           (host.n > domain.n && str_iends(host, domain) && host.p[host.n - domain.n - 1] == '.');
}

static struct str home_domain(const struct str *domains, size_t count)
{
    struct str home = count > 0 ? domains[0] : STR("");
    bool is_found = false;

    for (size_t i = 0; i < count; i++)
        if (is_at_home(str_c(config.hostname), domains[i]) &&
            (!is_found || domains[i].n > home.n)) {
            home = domains[i];
            is_found = true;
        }
    return home;
}

static int find_author(struct arena *a, struct author *out, struct error *err)
{
    struct str local = str_c(config.report_sender), *domains;
    size_t count;

    if (!str_rcut(str_c(config.report_sender), '@', &local, &out->domain)) {
        if (domain_list(a, &domains, &count, err) < 0)
            return -1;
        local = str_c(config.report_sender);
        out->domain = home_domain(domains, count);
    }
    if (str_empty(out->domain))
        return fail(err, ERR_NOT_FOUND,
                    "the server has no domain to report from: \"merpati domain add\" one");
    out->address = address_path_of(a, local, out->domain);
    out->organization =
        config.report_organization[0] != '\0' ? str_c(config.report_organization) : out->domain;
    return 0;
}

/* "20261122.dmarc.example.org@us.example" */
static struct str name_report(struct arena *a, const struct report_claim *c, struct str domain)
{
    time_t begin = (time_t)c->day * 86400;
    struct tm tm;
    char day[16];

    gmtime_r(&begin, &tm);
    strftime(day, sizeof day, "%Y%m%d", &tm);
    return arena_printf(a, "%s.%s.%.*s@%.*s", day, c->kind == REPORT_DMARC ? "dmarc" : "tls",
                        STR_ARG(c->domain), STR_ARG(domain));
}

/* ---- what it says, and to whom ----------------------------------------------------------------- */

static int64_t now_s(void)
{
    return time_now_us() / 1000000;
}

static struct str join(struct arena *a, const struct str *v, size_t count)
{
    struct str all = STR("");

    for (size_t i = 0; i < count; i++)
        all = arena_printf(a, "%.*s%s%.*s", STR_ARG(all), i > 0 ? ", " : "", STR_ARG(v[i]));
    return all;
}

/* On a helper thread: reads the errand, and uses its arena while nobody else does. */
static void write_dmarc(void *arg)
{
    struct errand *e = arg;
    struct dmarc_report_mail mail = {
        .from = e->author.address,
        .submitter = e->author.domain,
        .to = e->to,
        .to_count = e->to_count,
        .message_id = e->report_id,
        .date_s = now_s(),
    };

    e->mail = dmarc_report_message(e->arena, &e->dmarc, &mail);
}

static int prepare_dmarc(struct errand *e, struct error *err)
{
    struct report_claim *c = e->claim;
    struct str *to;

    if (dmarc_report_addresses(e->arena, c->domain, c->rua, c->rua_count, &to, &e->to_count, err) <
            0 ||
        report_store_fill_dmarc(e->arena, c, &e->dmarc, err) < 0)
        return -1;
    e->to = to;
    e->dmarc.org_name = e->author.organization;
    e->dmarc.email = e->author.address;
    e->dmarc.report_id = e->report_id;
    e->dmarc.generator = STR(GENERATOR);
    if (e->to_count > 0)
        offload(write_dmarc, e);
    else
        c->note = STR("not sent: none of the addresses in the domain's record wants it");
    return 0;
}

static void write_tls(void *arg)
{
    struct errand *e = arg;
    struct tls_report_mail mail = {
        .from = e->author.address,
        .to = join(e->arena, e->to, e->to_count),
        .domain = e->claim->domain,
        .submitter = e->author.domain,
        .message_id = e->report_id,
        .date_s = now_s(),
    };

    if (e->to_count > 0)
        e->mail = tls_report_message(e->arena, &e->tls, &mail);
    if (e->url_count > 0)
        e->gzip = tls_report_gzip(e->arena, &e->tls);
}

/* RFC 8460, 3: exactly one record, or none. */
static int find_uris(struct errand *e, struct tls_report_uris *out, struct error *err)
{
    struct str name = arena_printf(e->arena, "_smtp._tls.%.*s", STR_ARG(e->claim->domain));
    struct tls_report_uris found;
    struct dns_answer answer;
    struct str *txt;
    size_t count, records = 0;

    *out = (struct tls_report_uris){.n = 0};
    if (dns_lookup_txt(e->arena, name, &txt, &count, &answer, err) < 0)
        return err->kind == ERR_SYNTAX ? 0 : -1;
    for (size_t i = 0; i < count && i < TXT_MAX; i++)
        if (str_starts(txt[i], STR("v=TLSRPTv1"))) {
            records++;
            if (tls_report_record_parse(txt[i], &found))
                *out = found;
        }
    if (records != 1)
        out->n = 0;
    return 0;
}

static void sort_uris(struct errand *e, const struct tls_report_uris *uris)
{
    struct str *to = ARENA_ARRAY(e->arena, uris->n + 1, struct str);
    struct str *urls = ARENA_ARRAY(e->arena, uris->n + 1, struct str);
    struct str host, target;
    uint16_t port;

    for (size_t i = 0; i < uris->n; i++) {
        if (mailto_parse(e->arena, uris->v[i], &to[e->to_count]))
            e->to_count++;
        else if (e->url_count < URLS_MAX && http_url_parse(uris->v[i], &host, &port, &target))
            urls[e->url_count++] = uris->v[i];
    }
    e->to = to;
    e->urls = urls;
}

static int prepare_tls(struct errand *e, struct error *err)
{
    struct tls_report_uris uris;

    if (find_uris(e, &uris, err) < 0)
        return -1;
    sort_uris(e, &uris);
    if (e->to_count + e->url_count == 0) {
        e->claim->note = STR("not sent: the domain asks for no TLS reports");
        return 0;
    }
    if (report_store_fill_tls(e->arena, e->claim, &e->tls, err) < 0)
        return -1;
    e->tls.organization_name = e->author.organization;
    e->tls.contact_info = e->author.address;
    e->tls.report_id = e->report_id;
    offload(write_tls, e);
    return 0;
}

/* ---- by mail ----------------------------------------------------------------------------------- */

/* 1: it leads somewhere, 0: nowhere, -1: that cannot be told now. is_kept: to a report address of ours. */
static int find_routes(struct errand *e, struct str address, struct submit_recipient *out,
                       bool *is_kept, struct error *err)
{
    struct routing_sender from = {.address = e->author.address, .is_trusted = true};
    struct str local, domain;
    struct error cause = {0};
    struct routes routes;

    *out = (struct submit_recipient){.address = address_path(e->arena, address),
                                     .notify = OUTBOUND_NOTIFY_NEVER};
    str_rcut(address, '@', &local, &domain);
    if (directory_route(e->arena, local, domain, &from, &routes, &cause) == 0) {
        out->routes = routes.v;
        out->route_count = routes.n;
        out->is_group = routes.n > 1;
        return 1;
    }
    if (cause.kind == ERR_UNSUPPORTED) {
        out->routes = submit_route_away(e->arena, address);
        out->route_count = 1;
        return 1;
    }
    *is_kept |= cause.kind == ERR_NOT_FOUND && report_address_is(local);
    if (cause.kind == ERR_TRY_LATER || cause.kind == ERR_CANCELLED)
        return fail(err, cause.kind, "%s", cause.text);
    return 0;
}

static void trace_report(const struct errand *e, int64_t trace_id)
{
    struct trace_facts facts = {.direction = TRACE_SYSTEM,
                                .sender = e->author.address,
                                .recipients = e->to,
                                .recipient_count = e->to_count,
                                .size = e->mail.n};

    trace_header_facts(e->mail, &facts);
    trace_received(trace_id, &facts);
}

static int submit(struct errand *e, struct submit_recipient *rcpts, size_t count, struct error *err)
{
    struct outbound_ends ends = {.report = e->claim};
    struct submit s = {
        .trace_id = trace_id_new(),
        .sender = e->author.address,
        .envid = STR(""),
        .language = STR("en"),
        .head = STR(""),
        .ret = OUTBOUND_RET_HDRS,
        .body = OUTBOUND_BODY_7BIT,
        .may_exceed_quota = true,
        .is_ours = true,
        .return_path =
            arena_printf(e->arena, "Return-Path: <%.*s>\r\n", STR_ARG(e->author.address)),
        .message = e->mail,
        .rcpts = rcpts,
        .rcpt_count = count,
        .ends = &ends,
    };

    trace_report(e, s.trace_id);
    return submit_message(&s, err);
}

static int send_mail(struct errand *e, struct error *err)
{
    struct submit_recipient *rcpts = ARENA_ARRAY(e->arena, e->to_count, struct submit_recipient);
    bool is_report, is_kept = false;
    size_t count = 0;
    int rc;

    for (size_t i = 0; i < e->to_count; i++) {
        int found = find_routes(e, e->to[i], &rcpts[count], &is_kept, err);

        if (found < 0)
            return -1;
        count += (size_t)found;
    }
    e->claim->note =
        arena_printf(e->arena, "sent to %.*s", STR_ARG(join(e->arena, e->to, e->to_count)));
    rc = count > 0 ? submit(e, rcpts, count, err) : report_store_end(e->claim, err);
    if (rc == 0 && is_kept)
        report_address_keep(e->mail, &is_report, NULL); /* for it has been sent */
    return rc;
}

/* ---- by HTTPS ---------------------------------------------------------------------------------- */

/* Certificates are not looked at: what is reported may be that they are broken (RFC 8460, 3). */
static int post(struct errand *e, struct str url, struct error *err)
{
    struct http_fetch f = {
        .content_type = "application/tlsrpt+gzip",
        .content = e->gzip,
        .verify = DIAL_TLS_ANY,
        .refused_networks = str_c(config.fetch_refused_networks),
        .timeout_ms = POST_TIMEOUT_MS,
    };

    http_url_parse(url, &f.host, &f.port, &f.target);
    if (http_fetch(e->arena, &f, err) < 0)
        return -1;
    if (f.status / 100 != 2)
        return fail(err, ERR_TRY_LATER, "%.*s answered with status %d", STR_ARG(f.host), f.status);
    return 0;
}

/* One that takes it is enough, for who has it has it. */
static int post_to_all(struct errand *e, struct error *err)
{
    size_t taken = 0;

    for (size_t i = 0; i < e->url_count; i++) {
        struct error own = {0};

        if (post(e, e->urls[i], &own) == 0) {
            taken++;
            continue;
        }
        log_info(NULL, "report_not_posted", KV("domain", e->claim->domain), KV("url", e->urls[i]),
                 KV_ERR(&own));
        *err = own;
    }
    return taken > 0 ? 0 : -1;
}

static int send_posts(struct errand *e, struct error *err)
{
    e->claim->note =
        arena_printf(e->arena, "posted to %.*s", STR_ARG(join(e->arena, e->urls, e->url_count)));
    return post_to_all(e, err) < 0 ? -1 : report_store_end(e->claim, err);
}

/* ---- one report ---------------------------------------------------------------------------------- */

static int prepare(struct errand *e, struct error *err)
{
    bool is_wanted = e->claim->kind == REPORT_DMARC ? config.report_dmarc : config.report_tls;

    if (find_author(e->arena, &e->author, err) < 0)
        return -1;
    e->report_id = name_report(e->arena, e->claim, e->author.domain);
    if (is_wanted)
        return e->claim->kind == REPORT_DMARC ? prepare_dmarc(e, err) : prepare_tls(e, err);
    e->claim->note = STR("not sent: these reports are switched off");
    return 0;
}

static int send_report(struct errand *e, struct error *err)
{
    struct error unheard = {0};

    if (prepare(e, err) < 0)
        return -1;
    if (e->to_count + e->url_count == 0)
        return report_store_end(e->claim, err);
    if (e->to_count > 0 && send_mail(e, err) < 0)
        return -1;
    if (e->url_count > 0 && e->to_count > 0)
        post_to_all(e, &unheard); /* beside the mail, which has it */
    else if (e->url_count > 0 && send_posts(e, err) < 0)
        return -1;
    metric_inc(METRIC_reports_sent);
    return 0;
}

static void put_back(struct errand *e, const struct error *err)
{
    struct error own = {0};

    metric_inc(METRIC_reports_put_off);
    e->claim->note = arena_printf(e->arena, "not yet: %s", err->text);
    if (report_store_put_back(e->claim, &own) < 0 && own.kind != ERR_CANCELLED)
        log_warn(NULL, "report_not_put_back", KV("domain", e->claim->domain), KV_ERR(&own));
}

/* A claim that was lost is somebody else's to finish. */
static void work_on(struct errand *e)
{
    struct report_claim *c = e->claim;
    struct error err = {0};

    if (send_report(e, &err) == 0)
        log_info(NULL, "report_done", KV("kind", c->kind == REPORT_DMARC ? "dmarc" : "tls"),
                 KV("domain", c->domain), KV("report", e->report_id), KV("what", c->note));
    else if (err.kind != ERR_CONFLICT && err.kind != ERR_CANCELLED) {
        log_info(NULL, "report_put_off", KV("domain", c->domain), KV_ERR(&err));
        put_back(e, &err);
    }
}

/* 1: there was one, 0: none is due, -1: nobody knows. */
static int take_one(struct error *err)
{
    struct arena *a = arena_new();
    struct report_claim claim;
    struct errand e = {.arena = a, .claim = &claim};
    int rc = report_store_claim(a, &claim, err);

    if (rc == 1)
        work_on(&e);
    arena_free(&a);
    return rc;
}

/* ---- life ---------------------------------------------------------------------------------------- */

static void on_asked(struct bus_subscription *s)
{
    (void)s;
    sender.asked_count++;
    wait_queue_wake_all(&sender.wake);
}

static void take_all(void)
{
    struct error err = {0};
    int rc = 1;

    while (rc == 1 && !fiber_cancelled())
        rc = take_one(&err);
    if (rc < 0 && err.kind != ERR_CANCELLED)
        log_warn(NULL, "reports_wait", KV_ERR(&err));
}

static void run(void *slot)
{
    while (!fiber_cancelled()) {
        unsigned asked_count = sender.asked_count;

        take_all();
        if (asked_count == sender.asked_count)
            wait_queue_wait(&sender.wake, loop_deadline(LOOK_INTERVAL_MS));
    }
    *(struct fiber **)slot = NULL;
    wait_queue_wake_all(&sender.stopped);
}

void report_sender_start(void)
{
    wait_queue_init(&sender.wake);
    wait_queue_init(&sender.stopped);
    bus_subscribe(&sender.asked, REPORT_TOPIC, on_asked);
    for (size_t i = 0; i < FIBERS; i++)
        sender.fibers[i] = fiber_start("report_sender", run, &sender.fibers[i]);
}

PARKS void report_sender_stop(void)
{
    if (sender.asked.changed != NULL)
        bus_unsubscribe(&sender.asked);
    for (size_t i = 0; i < FIBERS; i++) {
        if (sender.fibers[i] != NULL)
            fiber_cancel(sender.fibers[i]);
        while (sender.fibers[i] != NULL &&
               wait_queue_wait(&sender.stopped, NO_DEADLINE) == WAKE_READY)
            ;
    }
}

/* ---- what is reported ------------------------------------------------------------------------------ */

void report_sender_note_session(const struct remote_tls_event *event)
{
    static const char *const types[] = {
        [REMOTE_POLICY_NONE] = "no-policy-found",
        [REMOTE_POLICY_TLSA] = "tlsa",
        [REMOTE_POLICY_STS] = "sts",
    };
    struct report_tls_session session = {
        .domain = event->domain,
        .policy_type = str_c(types[event->policy_type]),
        .policy_domain = event->policy_domain,
        .policy_strings = event->policy_text,
        .mx_hosts = event->mx_patterns,
        .result_type = str_c(event->result_type),
        .sending_ip = event->local_ip,
        .mx_hostname = event->host,
        .receiving_ip = event->ip,
        .reason = event->reason,
    };

    report_store_add_tls(&session);
}
