/* authentic_cost.c - what one message costs: every check on arrival, and the signature when it leaves.
 *
 *   authentic_cost COUNT CLIENT HELO SENDER MESSAGE-FILE KEY-FILE DOMAIN SELECTOR SETTING=VALUE ...
 *
 * Each step runs COUNT times after a first round that warms DNS. One line of JSON: CPU microseconds of the process, helper
 * threads included, per message and step. "check" is everything that a stranger's message goes through. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mail/authentic/authentic.h"
#include "server/run/config.h"
#include "server/run/dns.h"
#include "server/run/loop.h"
#include "server/run/offload.h"

#define ARGUMENTS 9

static struct {
    struct authentic_query query;
    struct sockaddr_storage client;
    struct dkim_key *key;
    struct dkim_signer signer;
    struct authentic checked; /* of the first round */
    int count;
} job;

static _Noreturn void give_up(const char *why)
{
    fprintf(stderr, "authentic_cost: %s\n", why);
    exit(2);
}

static struct str read_file(struct arena *a, const char *path)
{
    FILE *f = fopen(path, "rb");
    char *p;
    long size;

    if (f == NULL || fseek(f, 0, SEEK_END) < 0 || (size = ftell(f)) < 0)
        give_up("cannot read a file");
    rewind(f);
    p = arena_alloc(a, (size_t)size + 1);
    if (fread(p, 1, (size_t)size, f) != (size_t)size)
        give_up("cannot read a file");
    fclose(f);
    return str_of(p, (size_t)size);
}

/* ---- the steps ------------------------------------------------------------------------------- */

static void step_iprev(struct arena *a)
{
    struct iprev_answer answer;

    iprev_check(a, &job.client, &answer);
}

static void step_spf(struct arena *a)
{
    struct spf_query q = {&job.client, job.query.helo, job.query.sender, job.query.receiver};
    struct spf_answer answer;

    spf_check(a, &q, &answer);
    q.sender = STR_NULL;
    spf_check(a, &q, &answer);
}

static void step_dkim(struct arena *a)
{
    struct dkim_verdict verdict;

    dkim_verify(a, job.query.message, &verdict);
}

static void step_arc(struct arena *a)
{
    struct arc_verdict verdict;

    arc_verify(a, job.query.message, &verdict);
}

static void step_dmarc(struct arena *a)
{
    struct dmarc_verdict verdict;

    dmarc_check(a, job.checked.from_domain, &job.checked.spf, &job.checked.dkim, &verdict);
}

static void step_check(struct arena *a)
{
    struct dmarc_report policy;
    struct dmarc_report_record record;
    struct authentic v;

    authentic_check(a, &job.query, &v);
    authentic_payload(a, &v, STR_NULL);
    authentic_field(a, job.query.receiver, &v, STR_NULL);
    authentic_report(a, &v, v.dmarc.disposition, &policy, &record);
}

static void step_sign(struct arena *a)
{
    struct error err = {0};
    struct str fields;

    if (dkim_sign(a, job.query.message, &job.signer, 1, 1, &fields, &err) < 0)
        give_up(err.text);
}

static const struct {
    const char *name;
    void (*run)(struct arena *a);
} steps[] = {
    {"iprev", step_iprev}, {"spf", step_spf},     {"dkim", step_dkim}, {"arc", step_arc},
    {"dmarc", step_dmarc}, {"check", step_check}, {"sign", step_sign},
};

/* ---- measuring ------------------------------------------------------------------------------- */

static double cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double measure(void (*run)(struct arena *a))
{
    double begun = cpu_us();

    for (int i = 0; i < job.count; i++) {
        struct arena *a = arena_new();

        run(a);
        arena_free(&a);
    }
    return (cpu_us() - begun) / job.count;
}

static void measure_all(void *arena)
{
    double check = 0, sign = 0;

    authentic_check(arena, &job.query, &job.checked);
    printf("{\"dmarc_result\": \"%s\", \"size\": %zu", dmarc_result_name(job.checked.dmarc.result),
           job.query.message.n);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        double us = measure(steps[i].run);

        check = steps[i].run == step_check ? us : check;
        sign = steps[i].run == step_sign ? us : sign;
        printf(", \"%s\": %.1f", steps[i].name, us);
    }
    printf(", \"all\": %.1f}\n", check + sign);
}

static void read_arguments(struct arena *a, char **argv)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&job.client;
    struct error err = {0};

    in->sin_family = AF_INET;
    job.count = atoi(argv[1]);
    if (job.count <= 0 || inet_pton(AF_INET, argv[2], &in->sin_addr) != 1)
        give_up("the count or the client's address is wrong");
    job.query = (struct authentic_query){.client = &job.client,
                                         .helo = str_c(argv[3]),
                                         .sender = str_c(argv[4]),
                                         .receiver = STR("mx.us.test"),
                                         .message = read_file(a, argv[5])};
    job.key = dkim_key_new(read_file(a, argv[6]), &err);
    if (job.key == NULL)
        give_up(err.text);
    job.signer = (struct dkim_signer){job.key, str_c(argv[7]), str_c(argv[8])};
}

int main(int argc, char **argv)
{
    struct arena *a = arena_new();

    config_defaults();
    for (int i = ARGUMENTS; i < argc; i++) {
        struct error err = {0};
        struct str name, value;

        if (!str_cut(str_c(argv[i]), '=', &name, &value) || config_set(name, value, &err) < 0)
            give_up("write SETTING=VALUE");
    }
    if (argc < ARGUMENTS)
        give_up("arguments are missing");
    read_arguments(a, argv);
    loop_init();
    loop_run_fiber("authentic_cost", measure_all, a);
    dkim_key_free(&job.key);
    arena_free(&a);
    dns_fini();
    offload_fini();
    loop_fini();
    fiber_pool_fini();
    config_fini();
    return 0;
}
