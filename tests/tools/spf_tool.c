/* spf_tool.c - mail authentication that asks DNS, for tests: one question a line, in fibers, all at once.
 *
 *   usage: spf_tool [name=value ...] < questions        settings as in merpati.conf
 *   spf<TAB>client<TAB>helo<TAB>sender<TAB>receiver     -> result, mechanism, explanation, problem
 *   iprev<TAB>client                                    -> result, name
 *   dnsbl<TAB>client<TAB>list                           -> weight, failed, then zone, code and reason of each match
 *   dns<TAB>name<TAB>type number                        -> status or "error", secure or not, records
 *
 * Each answer is a line that begins with the number of its question (from 0), fields parted by tabs. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "mail/authentic/dnsbl.h"
#include "mail/authentic/iprev.h"
#include "mail/authentic/spf.h"
#include "server/base/buf.h"
#include "server/run/config.h"
#include "server/run/dns.h"
#include "server/run/loop.h"
#include "server/run/offload.h"

#define FIELDS_MAX  5
#define AT_ONCE_MAX 64

struct line {
    unsigned index;
    char *text;
};

static unsigned running;

static bool read_client(struct str text, struct sockaddr_storage *out)
{
    char c[INET6_ADDRSTRLEN] = "";

    memset(out, 0, sizeof *out);
    memcpy(c, text.p, text.n < sizeof c ? text.n : 0);
    if (inet_pton(AF_INET, c, &((struct sockaddr_in *)out)->sin_addr) == 1)
        out->ss_family = AF_INET;
    else if (inet_pton(AF_INET6, c, &((struct sockaddr_in6 *)out)->sin6_addr) == 1)
        out->ss_family = AF_INET6;
    return out->ss_family != 0;
}

static void answer_spf(struct arena *a, const struct str *field, struct buf *out)
{
    struct sockaddr_storage client;
    struct spf_query q = {&client, field[2], field[3], field[4]};
    struct spf_answer answer;

    if (!read_client(field[1], &client)) {
        buf_adds(out, "no address");
        return;
    }
    spf_check(a, &q, &answer);
    buf_addf(out, "%s\t%.*s\t%.*s\t%.*s", spf_result_name(answer.result), STR_ARG(answer.mechanism),
             STR_ARG(answer.explanation), STR_ARG(answer.problem));
}

static void answer_iprev(struct arena *a, const struct str *field, struct buf *out)
{
    struct sockaddr_storage client;
    struct iprev_answer answer;

    read_client(field[1], &client);
    iprev_check(a, &client, &answer);
    buf_addf(out, "%s\t%.*s", iprev_result_name(answer.result), STR_ARG(answer.name));
}

static void answer_dnsbl(struct arena *a, const struct str *field, struct buf *out)
{
    struct sockaddr_storage client;
    struct dnsbl_answer answer;
    struct dnsbl_list list;
    struct error err = {0};

    read_client(field[1], &client);
    if (dnsbl_parse(a, field[2], &list, &err) < 0) {
        buf_addf(out, "error\t%s", err.text);
        return;
    }
    dnsbl_check(a, &list, &client, config.dns_timeout, &answer);
    buf_addf(out, "%d\t%zu", answer.weight, answer.failed_count);
    for (size_t i = 0; i < answer.count; i++)
        buf_addf(out, "\t%.*s\t%u.%u.%u.%u\t%.*s", STR_ARG(answer.matches[i].zone->name),
                 answer.matches[i].code >> 24, answer.matches[i].code >> 16 & 255,
                 answer.matches[i].code >> 8 & 255, answer.matches[i].code & 255,
                 STR_ARG(answer.matches[i].reason));
}

static void answer_dns(struct arena *a, const struct str *field, struct buf *out)
{
    static const char *const status[] = {
        [DNS_FOUND] = "found", [DNS_NO_DATA] = "no data", [DNS_NO_NAME] = "no name"};
    struct dns_answer answer;
    struct error err = {0};
    uint32_t type = 0;

    str_to_u32(field[2], &type);
    if (dns_lookup(a, field[1], (enum dns_type)type, &answer, &err) < 0)
        buf_addf(out, "error\t%s\t%s", answer.is_bogus ? "bogus" : "", err.text);
    else
        buf_addf(out, "%s\t%s\t%zu", status[answer.status],
                 answer.is_secure ? "secure" : "insecure", answer.count);
}

static void answer(struct arena *a, struct str text, struct buf *out)
{
    struct str field[FIELDS_MAX] = {{0}};

    for (size_t i = 0; i < FIELDS_MAX; i++)
        str_cut(text, '\t', &field[i], &text);
    if (str_eq(field[0], STR("spf")))
        answer_spf(a, field, out);
    else if (str_eq(field[0], STR("iprev")))
        answer_iprev(a, field, out);
    else if (str_eq(field[0], STR("dnsbl")))
        answer_dnsbl(a, field, out);
    else if (str_eq(field[0], STR("dns")))
        answer_dns(a, field, out);
    else
        buf_adds(out, "unknown question");
}

static void run_line(void *arg)
{
    struct line *line = arg;
    struct arena *a = arena_new();
    struct buf out;

    buf_init(&out, 1 << 20);
    answer(a, str_c(line->text), &out);
    printf("%u\t%.*s\n", line->index, STR_ARG(buf_str(&out)));
    fflush(stdout);
    buf_fini(&out);
    arena_free(&a);
    free(line->text);
    free(line);
    running--;
}

static void run_all(void *unused)
{
    char *text = NULL;
    size_t cap = 0;
    ssize_t n;

    for (unsigned index = 0; (n = getline(&text, &cap, stdin)) > 0; index++) {
        struct line *line = malloc(sizeof *line);

        if (text[n - 1] == '\n')
            text[n - 1] = '\0';
        *line = (struct line){index, strdup(text)};
        running++;
        fiber_start("question", run_line, line);
        while (running >= AT_ONCE_MAX)
            fiber_sleep(1);
    }
    while (running > 0)
        fiber_sleep(1);
    free(text);
}

int main(int argc, char **argv)
{
    struct error err = {0};
    struct str name, value;

    config_defaults();
    for (int i = 1; i < argc; i++) {
        if (!str_cut(str_c(argv[i]), '=', &name, &value) || config_set(name, value, &err) < 0) {
            fprintf(stderr, "spf_tool: %s: %s\n", argv[i], err.text);
            return 2;
        }
    }
    loop_init();
    dns_serve();
    loop_run_fiber("questions", run_all, NULL);
    dns_fini();
    offload_fini();
    loop_fini();
    fiber_pool_fini();
    config_fini();
    return 0;
}
