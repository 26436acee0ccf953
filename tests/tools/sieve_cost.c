/* sieve_cost.c - what a script of many rules costs a message.
 *
 *   sieve_cost [RULES [RUNS]]      header :contains, address :is, envelope and :matches rules, none of them true, before a 5 KB message */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/offload.h"
#include "tests/unit/sieve_fixture.h"

static size_t rules = 1000, runs = 1000;

static double cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static struct str make_script(struct arena *a)
{
    struct buf b;
    struct str out;

    buf_init(&b, SIZE_MAX);
    buf_adds(&b, "require [\"fileinto\", \"envelope\", \"variables\"];\n");
    for (size_t i = 0; i < rules; i++) {
        static const char *const tests[] = {
            "header :contains \"Subject\" \"offer number %zu\"",
            "address :is [\"From\", \"To\"] \"person%zu@example.org\"",
            "header :contains [\"List-Id\", \"X-Mailer\", \"Received\"] \"host%zu.example.net\"",
            "address :domain :is \"From\" \"domain%zu.example\"",
            "header :matches \"Subject\" \"[ticket %zu] *\"",
            "envelope :is \"from\" \"sender%zu@example.com\"",
        };
        buf_adds(&b, "if ");
        char test[200];
        snprintf(test, sizeof test, tests[i % 6], i);
        buf_adds(&b, test);
        buf_addf(&b, " { fileinto \"Box%zu\"; stop; }\n", i);
    }
    out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

static struct str make_message(struct arena *a)
{
    struct buf b;
    struct str out;

    buf_init(&b, SIZE_MAX);
    for (int i = 0; i < 6; i++)
        buf_addf(&b,
                 "Received: from relay%d.example.com (relay%d.example.com [192.0.2.%d])\r\n\tby "
                 "mx.example.org with ESMTPS id %d\r\n\tfor <budi@example.org>; Mon, 9 Nov 2026 "
                 "22:15:07 -0500\r\n",
                 i, i, i, i);
    buf_adds(&b, "From: Someone Else <someone@example.com>\r\nTo: Budi <budi@example.org>, Citra "
                 "<citra@example.org>\r\n"
                 "Subject: =?utf-8?q?The_report_you_asked_for_=E2=80=93_third_quarter?=\r\nDate: "
                 "Mon, 9 Nov 2026 22:15:07 -0500\r\n"
                 "Message-ID: <1234@example.com>\r\nX-Mailer: Something 1.0\r\nMIME-Version: "
                 "1.0\r\nContent-Type: text/plain\r\n\r\n");
    while (b.n < 5000)
        buf_adds(&b, "A line of text as people write them, neither short nor long.\r\n");
    out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

static void measure(struct arena *a, struct sieve_script *script, struct sieve_mail *mail)
{
    double before = cpu_us();

    for (size_t i = 0; i < runs; i++) {
        struct arena *one = arena_new();
        struct sieve_outcome out;
        sieve_run(one, &script, 1, mail, NULL, &out);
        if (i == 0 && (out.end != SIEVE_DONE || !out.keeps_implicitly))
            printf("fault: %.*s\n", STR_ARG(out.fault.text));
        arena_free(&one);
    }
    printf("%zu rules over a message of %zu bytes: %.0f us CPU a message (%zu runs)\n", rules,
           mail->message.n, (cpu_us() - before) / (double)runs, runs);
}

static void run(void *arg)
{
    struct arena *a = arena_new();
    struct sieve_script *script;
    struct sieve_fault fault = {0};
    struct str own = STR("budi@example.org"), text = make_script(a);
    struct sieve_mail mail = {.sender = STR("someone@example.com"),
                              .recipient = own,
                              .account_address = own,
                              .own_addresses = &own,
                              .own_addresses_count = 1,
                              .spam_percent = -1};
    double before = cpu_us();

    mail.message = make_message(a);
    if (sieve_compile(text, &script, a, &fault) < 0) {
        printf("%u: %.*s\n", fault.line, STR_ARG(fault.text));
    } else {
        printf("%zu bytes of script compiled in %.0f us CPU, %zu bytes kept\n", text.n,
               cpu_us() - before, sieve_script_size(script));
        measure(a, script, &mail);
        sieve_script_free(&script);
    }
    arena_free(&a);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        rules = strtoul(argv[1], NULL, 10);
    if (argc > 2)
        runs = strtoul(argv[2], NULL, 10);
    config_defaults();
    loop_init();
    loop_run_fiber("sieve", run, NULL);
    offload_fini();
    fiber_pool_fini();
    loop_fini();
    config_fini();
    return 0;
}
