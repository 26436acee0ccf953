/* queue_put.c - puts messages into the outbound queue of a data directory whose server runs: for tests that need a queue
 * without a submission.
 *
 *   queue_put DATA SENDER FIRST:COUNT RECIPIENT... <message
 *
 * Each of the COUNT messages has all recipients and "X-Number: N" in front, N from FIRST on. Prints the id of each when
 * it is committed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mail/store/delivery.h"
#include "mail/store/outbound.h"
#include "mail/store/trace.h"
#include "server/pg/pg.h"
#include "server/run/config.h"
#include "server/run/fiber.h"
#include "server/run/loop.h"
#include "server/run/offload.h"

static char message[1 << 20];
static size_t message_size;
static int arg_count;
static char **args;
static int status;

static int put(struct arena *a, int number, struct error *err)
{
    int rcpt_count = arg_count - 4;
    struct outbound o = {.trace_id = trace_id_new(),
                         .sender = str_c(args[2]),
                         .language = STR("en"),
                         .rcpt_count = (size_t)rcpt_count,
                         .arena = a};
    struct message_prepared m;

    o.rcpts = ARENA_ARRAY(a, (size_t)rcpt_count, struct outbound_recipient);
    for (int i = 0; i < rcpt_count; i++)
        o.rcpts[i].address = str_c(args[4 + i]);
    message_prepare(a, arena_printf(a, "X-Number: %d\r\n%.*s", number, (int)message_size, message),
                    &m);
    if (mail_deliver(&m, NULL, 0, &o, err) < 0)
        return -1;
    printf("%lld\n", (long long)o.queue_id);
    for (int i = 0; i < rcpt_count; i++) {
        struct str hop = outbound_hop(&o.rcpts[i]);
        if (outbound_note_due(&hop, 1, err) < 0)
            return -1;
    }
    return 0;
}

static void run(void *unused)
{
    struct error err = {0};
    int first = 0, count = 0;

    if (sscanf(args[3], "%d:%d", &first, &count) != 2)
        status = 2;
    pg_pool_init(pg_conninfo(), 2);
    for (int i = 0; i < count && status == 0; i++) {
        struct arena *a = arena_new();

        if (put(a, first + i, &err) < 0) {
            fprintf(stderr, "%s\n", err.text);
            status = 1;
        }
        arena_free(&a);
    }
    pg_pool_fini();
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: queue_put DATA SENDER FIRST:COUNT RECIPIENT...\n");
        return 2;
    }
    config_defaults();
    config.data_dir = argv[1];
    arg_count = argc;
    args = argv;
    message_size = fread(message, 1, sizeof message, stdin);
    loop_init();
    loop_run_fiber("queue_put", run, NULL);
    offload_fini();
    loop_fini();
    fiber_pool_fini();
    return status;
}
