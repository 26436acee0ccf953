/* dsn_print.c - prints a delivery report about the message on standard input, for tests that read it with other eyes.
 *
 *   dsn_print LANGUAGE utf8|7bit|8bit ACTION ADDRESS ORCPT STATUS HOST CODE TEXT [ACTION ADDRESS ...] <message */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mail/queue/dsn.h"
#include "server/base/buf.h"

#define FIELDS 7

static enum dsn_action parse_action(const char *name)
{
    static const char *const names[] = {"failed", "delayed", "delivered", "relayed", "expanded"};

    for (int i = 0; i < 5; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum dsn_action)i;
    fprintf(stderr, "no action: %s\n", name);
    exit(2);
}

static struct str read_all(struct arena *a)
{
    struct buf all;
    struct str out;
    char block[4096];
    size_t n;

    buf_init(&all, SIZE_MAX);
    while ((n = fread(block, 1, sizeof block, stdin)) > 0)
        buf_add_bytes(&all, block, n);
    out = arena_str(a, buf_str(&all));
    buf_fini(&all);
    return out;
}

int main(int argc, char **argv)
{
    struct arena *a = arena_new();
    size_t count = argc < 3 + FIELDS ? 0 : (size_t)(argc - 3) / FIELDS;
    struct dsn_recipient *v = ARENA_ARRAY(a, count + 1, struct dsn_recipient);
    struct str report;

    if (count == 0)
        return 2;
    for (size_t i = 0; i < count; i++) {
        char **at = argv + 3 + i * FIELDS;
        v[i] = (struct dsn_recipient){.action = parse_action(at[0]),
                                      .address = str_c(at[1]),
                                      .orcpt = str_c(at[2]),
                                      .status = str_c(at[3]),
                                      .remote_host = str_c(at[4]),
                                      .code = atoi(at[5]),
                                      .text = str_c(at[6]),
                                      .last_attempt_us = INT64_C(1795428000000000)};
    }
    report = dsn_build(a, &(struct dsn){.reporting_host = STR("mail.example.test"),
                                        .recipient = STR("ani@example.test"),
                                        .envid = STR("QQ314159"),
                                        .arrival_us = INT64_C(1795424400000000),
                                        .now_us = INT64_C(1795428000000000),
                                        .language = argv[1],
                                        .v = v,
                                        .count = count,
                                        .original = read_all(a),
                                        .is_utf8 = strcmp(argv[2], "utf8") == 0,
                                        .is_7bit = strcmp(argv[2], "7bit") == 0});
    fwrite(report.p, 1, report.n, stdout);
    arena_free(&a);
    return 0;
}
