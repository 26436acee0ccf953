/* main.c - the roof: wires the protocols to the runtime and starts `merpati serve`.
 *
 * The only file that includes everything. Other commands live in server/cli/. */
#include <assert.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mail/authentic/dkim_ring.h"
#include "mail/filter/filter.h"
#include "mail/filter/filter_scripts.h"
#include "mail/imap/imap.h"
#include "mail/pop3/pop3.h"
#include "mail/queue/guard.h"
#include "mail/queue/queue.h"
#include "mail/queue/remote.h"
#include "mail/queue/report_sender.h"
#include "mail/queue/route_hosts.h"
#include "mail/queue/sts_host.h"
#include "mail/queue/submit.h"
#include "mail/sieve/managesieve.h"
#include "mail/smtp/smtp.h"
#include "mail/smtp/smtp_milter.h"
#include "mail/smtp/smtp_policy.h"
#include "mail/spam/scanner.h"
#include "mail/store/mailbox_index.h"
#include "mail/store/maildrop.h"
#include "mail/store/text_indexer.h"
#include "mail/store/message_keys.h"
#include "mail/store/trace.h"
#include "mail/store/report_store.h"
#include "mail/store/upkeep.h"
#include "server/base/log.h"
#include "server/cli/cli.h"
#include "server/directory/bearer_jwt.h"
#include "server/directory/certificate.h"
#include "server/directory/credential.h"
#include "server/directory/first_account.h"
#include "server/directory/limiter.h"
#include "server/directory/login_watch.h"
#include "server/http/http.h"
#include "server/pg/cluster.h"
#include "server/pg/migrate.h"
#include "server/pg/notify.h"
#include "server/pg/pg.h"
#include "server/run/config.h"
#include "server/run/dns.h"
#include "server/run/geoip.h"
#include "server/run/listener.h"
#include "server/run/loop.h"
#include "server/run/supervisor.h"
#include "server/run/tls.h"

#define HTTP_ROUTES_MAX 100

static const struct endpoint *endpoints(size_t *count)
{
    static struct endpoint v[16];
    size_t n = 0;

    /* clang-format off */
    v[n++] = (struct endpoint){&smtp_service, SMTP_MX, "listen_smtp", config.listen_smtp, 25, TLS_OFFERED};
    v[n++] = (struct endpoint){&smtp_service, SMTP_SUBMISSION, "listen_submission", config.listen_submission, 587, TLS_OFFERED};
    v[n++] = (struct endpoint){&smtp_service, SMTP_SUBMISSION, "listen_submissions", config.listen_submissions, 465, TLS_IMPLICIT};
    v[n++] = (struct endpoint){&smtp_service, SMTP_LMTP, "listen_lmtp", config.listen_lmtp, 24, TLS_OFFERED};
    v[n++] = (struct endpoint){&imap_service, 0, "listen_imap", config.listen_imap, 143, TLS_OFFERED};
    v[n++] = (struct endpoint){&imap_service, 0, "listen_imaps", config.listen_imaps, 993, TLS_IMPLICIT};
    v[n++] = (struct endpoint){&pop3_service, 0, "listen_pop3", config.listen_pop3, 110, TLS_OFFERED};
    v[n++] = (struct endpoint){&pop3_service, 0, "listen_pop3s", config.listen_pop3s, 995, TLS_IMPLICIT};
    v[n++] = (struct endpoint){&managesieve_service, 0, "listen_managesieve", config.listen_managesieve, 4190, TLS_OFFERED};
    v[n++] = (struct endpoint){&http_service, 0, "listen_http", config.listen_http, 80, TLS_NONE};
    v[n++] = (struct endpoint){&http_service, 0, "listen_https", config.listen_https, 443, TLS_IMPLICIT};
    /* clang-format on */
    *count = n;
    return v;
}

static bool wants_first_account;

static void make_first_account(void *status)
{
    struct arena *a = arena_new();
    struct str address, password;
    struct error err = {0};

    if (first_account_make(a, &address, &password, &err) < 0) {
        fprintf(stderr, "merpati: no first account: %s\n", err.text);
        *(int *)status = 1;
    } else if (!str_empty(address))
        printf("\nFirst log-in: %.*s  password: %.*s\n(shown only this once)\n\n", STR_ARG(address),
               STR_ARG(password));
    fflush(stdout);
    arena_free(&a);
    pg_pool_fini();
}

/* In a process of its own: the supervisor has no loop. */
static int first_account(struct error *err)
{
    pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        loop_init();
        pg_pool_init(pg_conninfo(), 2);
        loop_run_fiber("first_account", make_first_account, &status);
        _exit(status);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        return fail(err, ERR_INTERNAL, "the first account could not be made");
    return 0;
}

static int prepare(struct error *err)
{
    if (pg_migrate(pg_conninfo(), err) < 0 || certificate_prepare(err) < 0 ||
        queue_prepare(err) < 0)
        return -1;
    maildrop_prepare();
    return wants_first_account ? first_account(err) : 0;
}

/* Of every room that answers by HTTP. */
static const struct http_route *http_routes(size_t *count)
{
    static const struct {
        const struct http_route *v;
        const size_t *n;
    } rooms[] = {
        {http_builtin_routes, &http_builtin_route_count},
        {sts_host_routes, &sts_host_route_count},
    };
    static struct http_route v[HTTP_ROUTES_MAX];
    size_t n = 0;

    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++)
        for (size_t k = 0; k < *rooms[i].n; k++) {
            assert(n < HTTP_ROUTES_MAX);
            v[n++] = rooms[i].v[k];
        }
    *count = n;
    return v;
}

static int worker_start(unsigned index, struct error *err)
{
    size_t route_count;
    const struct http_route *routes = http_routes(&route_count);

    pg_pool_init(pg_conninfo(), (unsigned)config.database_connections);
    if (certificate_load(err) < 0 || bearer_jwt_start(err) < 0 || smtp_policy_start(err) < 0 ||
        smtp_milter_start(err) < 0 || scanner_start(err) < 0 ||
        http_start(routes, route_count, err) < 0)
        return -1;
    dns_serve();
    bus_start();
    trace_start();
    report_store_start();
    text_indexer_start();
    filter_scripts_start();
    submit_set_filter(&filter_scripts_filter);
    maildrop_keeper_start(index);
    login_watch_keeper_start();
    remote_start();
    remote_set_tls_observer(report_sender_note_session);
    guard_start(index);
    queue_start(&(struct queue_options){.worker = index, .deliver = remote_deliver});
    if (index == 0) {
        certificate_keeper_start();
        store_upkeep_start();
        dkim_ring_keeper_start();
        report_sender_start();
    }
    return 0;
}

static void worker_stop(void)
{
    report_sender_stop();
    queue_stop();
    guard_stop();
    remote_stop();
    dkim_ring_keeper_stop();
    store_upkeep_stop();
    filter_scripts_stop();
    text_indexer_stop();
    maildrop_keeper_stop();
    login_watch_keeper_stop();
    smtp_milter_stop();
    scanner_stop();
    smtp_policy_stop();
    certificate_keeper_stop();
    http_stop();
    report_store_stop();
    trace_stop();
    bus_stop();
    mailbox_index_cache_clear();
    message_keys_cache_clear();
    dkim_ring_fini();
    bearer_jwt_fini();
    credential_fini();
    limiter_fini();
    pg_pool_fini();
}

/* For people who start it by hand; a service manager reads "merpati: ready" only. */
static void on_ready(void)
{
    struct listener_info listener;

    printf("Merpati serves %s from %s\n", config.hostname, config.data_dir);
    for (size_t i = 0; listener_info(i, &listener); i++)
        printf("  %-12s %s\n", listener.endpoint->setting + strlen("listen_"), listener.address);
}

static int serve_usage(void)
{
    fprintf(stderr, "usage: merpati serve [--config FILE] [--data DIR] [--port-offset N] "
                    "[--workers N] [--first-account] [--set NAME=VALUE]...\n");
    return 2;
}

/* An absolute path that need not exist yet. */
static const char *absolute_path(const char *path)
{
    static char absolute[2 * PATH_MAX];
    char cwd[PATH_MAX];

    if (path[0] == '/' || getcwd(cwd, sizeof cwd) == NULL)
        return path;
    snprintf(absolute, sizeof absolute, "%s/%s", cwd, path);
    return absolute;
}

/* --set NAME=VALUE and --workers N: applied after the file, which they override. */
struct overrides {
    struct {
        struct str name, value;
    } v[100];
    size_t n;
};

static bool add_override(struct overrides *o, struct str name, struct str value)
{
    if (o->n == sizeof o->v / sizeof *o->v || str_empty(name))
        return false;
    o->v[o->n].name = name;
    o->v[o->n++].value = value;
    return true;
}

static bool add_set(struct overrides *o, const char *assignment)
{
    struct str name, value;

    return str_cut(str_c(assignment), '=', &name, &value) &&
           add_override(o, str_trim(name), str_trim(value));
}

static bool take_port_offset(const char *text)
{
    uint32_t offset;

    if (!str_to_u32(str_c(text), &offset) || offset > 60000)
        return false;
    config.port_offset = (int)offset;
    return true;
}

static bool take_options(int argc, char **argv, struct overrides *overrides, const char **data)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"data", required_argument, NULL, 'd'},
        {"port-offset", required_argument, NULL, 'p'},
        {"workers", required_argument, NULL, 'w'},
        {"set", required_argument, NULL, 's'},
        {"first-account", no_argument, NULL, 'f'},
        {0},
    };
    bool is_good = true;
    int c;

    while (is_good && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'c':
            config.config_path = optarg;
            break;
        case 'd':
            *data = optarg;
            break;
        case 'f':
            wants_first_account = true;
            break;
        case 'p':
            is_good = take_port_offset(optarg);
            break;
        case 'w':
            is_good = add_override(overrides, STR("workers"), str_c(optarg));
            break;
        case 's':
            is_good = add_set(overrides, optarg);
            break;
        default:
            is_good = false;
        }
    }
    return is_good && optind == argc;
}

static int read_config_file(void)
{
    struct buf errors;
    int status;

    if (config.config_path == NULL)
        return 0;
    buf_init(&errors, 1 << 20);
    status = config_read(config.config_path, &errors);
    if (status < 0)
        fputs(buf_c(&errors), stderr);
    buf_fini(&errors);
    return status;
}

/* Reads the command line and the file it names; returns the exit status, 0 to go on. */
static int settle_config(int argc, char **argv)
{
    struct overrides overrides = {.n = 0};
    const char *data = "var";
    struct error err = {0};

    config_defaults();
    if (!take_options(argc, argv, &overrides, &data))
        return serve_usage();
    config.data_dir = absolute_path(data);
    if (read_config_file() < 0)
        return 2;
    for (size_t i = 0; i < overrides.n; i++)
        if (config_set(overrides.v[i].name, overrides.v[i].value, &err) < 0) {
            fprintf(stderr, "merpati: %s\n", err.text);
            return 2;
        }
    return 0;
}

static void settle_hostname(void)
{
    static char name[HOST_NAME_MAX + 1];

    if (config.hostname[0] == '\0' && gethostname(name, sizeof name) == 0)
        config.hostname = name;
}

static int serve(int argc, char **argv)
{
    struct server_plan plan = {
        .prepare = prepare,
        .worker_start = worker_start,
        .worker_stop = worker_stop,
        .on_ready = on_ready,
    };
    struct error err = {0};
    enum log_level level;
    int status;

    if ((status = settle_config(argc, argv)) != 0)
        return status;
    if (log_parse_level(str_c(config.log_level), &level))
        log_set_level(level);
    if (dns_check_settings(&err) < 0 || route_check_settings(&err) < 0 ||
        sts_host_check_settings(&err) < 0 || geoip_check_settings(&err) < 0) {
        fprintf(stderr, "merpati: %s\n", err.text);
        return 1;
    }
    settle_hostname();
    plan.endpoints = endpoints(&plan.endpoint_count);
    if (config.database[0] == '\0')
        plan.companion = &cluster_companion;
    return supervisor_run(&plan);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "serve") == 0)
        return serve(argc - 1, argv + 1);
    return cli_main(argc, argv);
}
