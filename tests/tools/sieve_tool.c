/* sieve_tool.c - runs a script over messages and prints what it decided, for comparing with others.
 *
 *   sieve_tool SCRIPT FROM TO MESSAGE...     one line per message */
#include <stdio.h>
#include <stdlib.h>

#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/offload.h"
#include "tests/unit/sieve_fixture.h"

static char **args;
static int exit_code;

static struct str read_whole(struct arena *a, const char *path)
{
    FILE *f = fopen(path, "rb");
    struct buf b;
    struct str out;
    static char block[65536];
    size_t n;

    buf_init(&b, SIZE_MAX);
    while (f != NULL && (n = fread(block, 1, sizeof block, f)) > 0)
        buf_add_bytes(&b, block, n);
    if (f != NULL)
        fclose(f);
    out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

static void run_one(struct arena *a, struct sieve_script *script, const char *path)
{
    struct sieve_mail mail = {.now_us = time_now_us(), .spam_percent = -1};
    struct sieve_outcome out;
    struct buf b;

    mail.message = read_whole(a, path);
    mail.sender = str_c(args[2]);
    mail.recipient = mail.account_address = str_c(args[3]);
    mail.own_addresses = &mail.recipient;
    mail.own_addresses_count = 1;
    sieve_run(a, &script, 1, &mail, NULL, &out);
    buf_init(&b, SIZE_MAX);
    describe_outcome(&b, &out);
    printf("%s\t%s\n", path, buf_c(&b));
    buf_fini(&b);
}

static void run(void *arg)
{
    struct arena *a = arena_new();
    struct sieve_script *script;
    struct sieve_fault fault = {0};

    if (sieve_compile(read_whole(a, args[1]), &script, a, &fault) < 0) {
        printf("%u:%u: %.*s\n", fault.line, fault.column, STR_ARG(fault.text));
        exit_code = 1;
    } else {
        for (char **path = args + 4; *path != NULL; path++) {
            struct arena *one = arena_new();
            run_one(one, script, *path);
            arena_free(&one);
        }
        sieve_script_free(&script);
    }
    arena_free(&a);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: sieve_tool SCRIPT FROM TO MESSAGE...\n");
        return 2;
    }
    args = argv;
    config_defaults();
    loop_init();
    loop_run_fiber("sieve", run, NULL);
    offload_fini();
    fiber_pool_fini();
    loop_fini();
    config_fini();
    return exit_code;
}
