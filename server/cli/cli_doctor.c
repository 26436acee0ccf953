/* cli_doctor.c - merpati doctor: is all as it should be around this server?
 *
 * Gathers what the server knows of itself, has it compared with DNS (mail/authentic/dns_advice.h), and prints. */
#include <arpa/inet.h>
#include <limits.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mail/authentic/dns_advice.h"
#include "mail/queue/sts_host.h"
#include "server/base/net.h"
#include "server/cli/cli_internal.h"
#include "server/run/config.h"

#define ADDRESSES_MAX    16
#define CERTIFICATES_MAX 10
#define DNS_TIMEOUT_MS   5000 /* somebody waits */
#define NAMED_MAX        5
#define BLOCK_LISTS                                                                                \
    "zen.spamhaus.org, bl.spamcop.net, b.barracudacentral.org, psbl.surriel.com, "                 \
    "dnsbl.dronebl.org"

struct doctor {
    struct cli *c;
    struct advice_facts facts;
    struct cli_output *out; /* with --json */
    size_t wrong_count;
    struct str wrong; /* the first few, by name */
};

/* ---- facts: addresses ---------------------------------------------------------------------- */

static bool parse_address(struct str text, struct sockaddr_storage *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    char c_text[INET6_ADDRSTRLEN];

    if (text.n >= sizeof c_text)
        return false;
    snprintf(c_text, sizeof c_text, "%.*s", STR_ARG(text));
    *out = (struct sockaddr_storage){.ss_family = AF_INET};
    if (inet_pton(AF_INET, c_text, &v4->sin_addr) == 1)
        return true;
    *out = (struct sockaddr_storage){.ss_family = AF_INET6};
    return inet_pton(AF_INET6, c_text, &v6->sin6_addr) == 1;
}

static bool add_address(struct advice_facts *facts, struct str text)
{
    if (facts->address_count == ADDRESSES_MAX ||
        !parse_address(str_trim(text), &facts->addresses[facts->address_count]))
        return false;
    facts->address_count++;
    return true;
}

/* Of private networks DNS knows nothing: behind NAT the host has another address outside. */
static bool is_public(const struct sockaddr_storage *address)
{
    static const struct str others = STR("0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, "
                                         "169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, "
                                         "::/127, fc00::/7, fe80::/10");

    return !net_list_contains(others, address);
}

/* The address that the system would send from: the one it puts on a socket that is connected outwards. Of a datagram
 * socket that sends nothing (RFC 5737 and 3849: nobody is there). */
static void add_system_address(struct advice_facts *facts, const char *outside)
{
    struct sockaddr_storage to, *own = &facts->addresses[facts->address_count];
    socklen_t size = sizeof *own;
    int fd;

    if (!parse_address(str_c(outside), &to))
        return;
    ((struct sockaddr_in *)&to)->sin_port = htons(25); /* where IPv6 has it, too */
    fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
        getsockname(fd, (struct sockaddr *)own, &size) == 0 && is_public(own))
        facts->address_count++;
    close(fd);
}

static void find_addresses(struct advice_facts *facts)
{
    if (config.delivery_source_ipv4[0] != '\0')
        add_address(facts, str_c(config.delivery_source_ipv4));
    else
        add_system_address(facts, "192.0.2.1");
    if (config.delivery_source_ipv6[0] != '\0')
        add_address(facts, str_c(config.delivery_source_ipv6));
    else if (config.delivery_ipv6)
        add_system_address(facts, "2001:db8::1");
}

static int read_addresses(struct cli *c, struct advice_facts *facts, struct error *err)
{
    struct str rest, one;

    facts->addresses = ARENA_ARRAY(c->arena, ADDRESSES_MAX + 2, struct sockaddr_storage);
    if (!cli_has(c, OPTION_ADDRESS)) {
        find_addresses(facts);
        return 0;
    }
    rest = cli_value(c, OPTION_ADDRESS);
    while (str_next_token(&rest, ',', &one))
        if (!add_address(facts, one))
            return fail(err, ERR_SYNTAX,
                        "\"%.*s\" is no address: write --address 192.0.2.1,2001:db8::1",
                        STR_ARG(str_head(one, 80)));
    return 0;
}

/* ---- facts: certificate and services ------------------------------------------------------- */

static void add_certificate(struct arena *a, struct advice_facts *facts, X509 *x)
{
    unsigned char *der = NULL;
    int size = i2d_X509(x, &der);

    if (size > 0)
        facts->certificates[facts->certificate_count++] =
            str_of(arena_copy(a, der, (size_t)size), (size_t)size);
    OPENSSL_free(der);
}

/* Without it what depends on it is left out: the server itself says why it cannot read it. */
static void read_certificates(struct arena *a, struct advice_facts *facts)
{
    const char *path = config.tls_cert[0] != '\0'
                           ? config.tls_cert
                           : arena_printf(a, "%s/tls/cert.pem", config.data_dir).p;
    FILE *file = fopen(path, "re");
    X509 *x;

    facts->is_self_signed = config.tls_cert[0] == '\0';
    facts->certificates = ARENA_ARRAY(a, CERTIFICATES_MAX, struct str);
    if (file == NULL)
        return;
    while (facts->certificate_count < CERTIFICATES_MAX &&
           (x = PEM_read_X509(file, NULL, NULL, NULL)) != NULL) {
        add_certificate(a, facts, x);
        X509_free(x);
    }
    fclose(file);
}

/* What is switched off needs no name. */
static void list_services(struct arena *a, struct advice_facts *facts)
{
    const struct {
        struct advice_service service;
        const char *listen;
    } all[] = {
        {{"_submissions._tcp", 465}, config.listen_submissions},
        {{"_submission._tcp", 587}, config.listen_submission},
        {{"_imaps._tcp", 993}, config.listen_imaps},
        {{"_imap._tcp", 143}, config.listen_imap},
        {{"_pop3s._tcp", 995}, config.listen_pop3s},
        {{"_jmap._tcp", 443}, config.listen_https},
        {{"_caldavs._tcp", 443}, config.listen_https},
        {{"_carddavs._tcp", 443}, config.listen_https},
    };
    struct advice_service *services =
        ARENA_ARRAY(a, sizeof all / sizeof *all, struct advice_service);

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].listen[0] != '\0')
            services[facts->service_count++] = all[i].service;
    facts->services = services;
}

static void settle_hostname(void)
{
    static char name[HOST_NAME_MAX + 1];

    if (config.hostname[0] == '\0' && gethostname(name, sizeof name - 1) == 0)
        config.hostname = name;
}

/* Where reports of others are taken without an account; else they are for people. */
static struct str report_address(const char *wanted)
{
    struct str rest = str_c(config.report_addresses), local;

    while (str_next_token(&rest, ',', &local))
        if (str_ieq(str_trim(local), str_c(wanted)))
            return str_c(wanted);
    return STR("postmaster");
}

static int gather(struct cli *c, struct advice_facts *facts, struct error *err)
{
    settle_hostname();
    if (sts_host_check_settings(err) < 0 || read_addresses(c, facts, err) < 0)
        return -1;
    facts->hostname = arena_lower(c->arena, str_c(config.hostname));
    sts_host_names(c->arena, &facts->mx_hosts, &facts->mx_count);
    read_certificates(c->arena, facts);
    list_services(c->arena, facts);
    facts->sts_mode = sts_host_mode();
    facts->sts_id = sts_host_id(c->arena);
    facts->sts_policy = sts_host_policy(c->arena);
    facts->dmarc_reports = report_address("dmarc-reports");
    facts->tls_reports = report_address("tls-reports");
    if (cli_has(c, OPTION_BLOCK_LISTS))
        facts->block_lists = STR(BLOCK_LISTS);
    if (config.dns_timeout > DNS_TIMEOUT_MS)
        config.dns_timeout = DNS_TIMEOUT_MS;
    return 0;
}

/* ---- printing ------------------------------------------------------------------------------ */

/* What DNS says may hold anything. */
static struct str printable(struct arena *a, struct str text)
{
    struct str out = STR(""), line;
    bool has_more;

    do {
        has_more = str_cut(text, '\n', &line, &text);
        out = arena_printf(a, "%.*s%.*s%s", STR_ARG(out), STR_ARG(cli_safe_text(a, line)),
                           has_more ? "\n" : "");
    } while (has_more);
    return out;
}

static void print_line(struct cli *c, const char *title, struct str text)
{
    if (!str_empty(text))
        printf("             %s%.*s\n", title, STR_ARG(printable(c->arena, text)));
}

static void print_for_people(struct cli *c, const struct advice *v)
{
    printf("%c %-10s %s %.*s\n", advice_is_wrong(v) ? '!' : ' ', advice_state_name(v->state),
           v->subject, STR_ARG(v->name));
    print_line(c, "found: ", v->found);
    if (v->state != ADVICE_OK)
        print_line(c, "should be: ", v->wanted);
    print_line(c, "", v->remark);
}

static void print_json(struct doctor *d, struct str domain, const struct advice *v)
{
    struct arena *a = d->c->arena;

    cli_row(d->out);
    cli_text(d->out, "domain", domain);
    cli_text(d->out, "subject", str_c(v->subject));
    cli_text(d->out, "name", v->name);
    cli_text(d->out, "state", str_c(advice_state_name(v->state)));
    cli_flag(d->out, "wrong", advice_is_wrong(v));
    cli_text(d->out, "found", printable(a, v->found));
    cli_text(d->out, "wanted", v->wanted);
    cli_text(d->out, "remark", printable(a, v->remark));
    cli_text(d->out, "zone", v->zone);
}

static void count_wrong(struct doctor *d, const struct advice *v)
{
    struct arena *a = d->c->arena;

    if (!advice_is_wrong(v))
        return;
    if (d->wrong_count++ < NAMED_MAX)
        d->wrong = arena_printf(a, "%.*s%s%s of %.*s", STR_ARG(d->wrong),
                                d->wrong_count > 1 ? ", " : "", v->subject, STR_ARG(v->name));
}

static void print(struct doctor *d, struct str title, struct str domain,
                  const struct advice_list *list)
{
    bool is_zone = cli_has(d->c, OPTION_ZONE);

    if (!d->c->is_json)
        printf("%s%.*s\n", is_zone ? "; " : "", STR_ARG(title));
    for (const struct advice *v = list->first; v != NULL; v = v->next) {
        if (d->c->is_json)
            print_json(d, domain, v);
        else if (!is_zone)
            print_for_people(d->c, v);
        else if (!str_empty(v->zone))
            printf("%.*s\n", STR_ARG(v->zone));
        count_wrong(d, v);
    }
    fflush(stdout);
}

/* ---- the command --------------------------------------------------------------------------- */

static int examine_domain(struct doctor *d, struct str name, struct error *err)
{
    struct arena *a = d->c->arena;
    struct dkim_key_row *keys;
    struct advice_list list;
    struct str domain;
    size_t count;

    if (domain_canonical(a, name, &domain, err) < 0 ||
        dkim_key_store_of(a, domain, &keys, &count, err) < 0)
        return -1;
    advice_list_init(&list);
    advice_of_domain(a, &d->facts, domain, keys, count, &list);
    print(d, domain, domain, &list);
    return 0;
}

static int list_domains(struct cli *c, struct str **names, size_t *count, struct error *err)
{
    if (c->arg_count == 0)
        return domain_list(c->arena, names, count, err);
    *names = c->args;
    *count = c->arg_count;
    return 0;
}

static int conclude(struct doctor *d)
{
    if (d->c->is_json)
        cli_print_list(d->out);
    if (d->wrong_count == 0 || cli_has(d->c, OPTION_ZONE))
        return 0;
    fprintf(stderr, "merpati: to be mended: %.*s%s\n", STR_ARG(d->wrong),
            d->wrong_count > NAMED_MAX ? " and more" : "");
    return 1;
}

static int dns(struct cli *c, struct error *err)
{
    struct doctor *d = ARENA_NEW(c->arena, struct doctor);
    struct advice_list host;
    struct str *names;
    size_t count;

    d->c = c;
    d->out = cli_output_new(c->arena, c->is_json);
    if (gather(c, &d->facts, err) < 0 || list_domains(c, &names, &count, err) < 0)
        return -1;
    advice_list_init(&host);
    advice_of_host(c->arena, &d->facts, &host);
    print(d, d->facts.hostname, STR(""), &host);
    for (size_t i = 0; i < count; i++)
        if (examine_domain(d, names[i], err) < 0)
            return -1;
    return conclude(d);
}

const struct cli_command cli_doctor_commands[] = {
    {"dns", "[DOMAIN...]", 0, CLI_ARGS_MAX, TAKES(ZONE) | TAKES(ADDRESS) | TAKES(BLOCK_LISTS), NULL,
     dns, false,
     "what DNS says of this server and its domains, and what it should say; exit status 1 when "
     "something is wrong"},
    {0},
};
