/* certificate.c - which names the self-signed certificate must hold, and who makes it anew.
 *
 * Making a key and a certificate takes milliseconds and file writes, so it happens on a helper
 * thread. The files themselves are server/run/tls.c's. */
#include "server/directory/certificate.h"

#include "server/base/arena.h"
#include "server/base/encode.h"
#include "server/base/log.h"
#include "server/directory/directory.h"
#include "server/run/channel.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/offload.h"
#include "server/run/tls.h"

#define FIXED_NAMES      4
#define LOOK_INTERVAL_MS (12 * 60 * 60 * 1000)

static const char *const domain_prefixes[] = {"", "mail.", "autoconfig.", "autodiscover.",
                                              "mta-sts."};
#define PREFIX_COUNT (sizeof domain_prefixes / sizeof *domain_prefixes)

struct name_list {
    struct str *v;
    size_t n;
    int status;
    struct error error;
};

static struct {
    struct fiber *fiber;
    struct wait_queue ended;
    uint64_t covered;   /* a hash of the domains that were covered when we last looked */
    int64_t look_at_ms; /* even without a new domain: it may be about to expire */
} keeper;

static bool is_self_signed(void)
{
    return config.tls_cert[0] == '\0';
}

static const char *tls_file(struct arena *a, const char *name)
{
    return arena_printf(a, "%s/tls/%s", config.data_dir, name).p;
}

static void list_names(struct arena *a, const struct str *domains, size_t count,
                       struct name_list *out)
{
    out->v = ARENA_ARRAY(a, FIXED_NAMES + count * PREFIX_COUNT, struct str);
    out->n = 0;
    out->v[out->n++] = STR("localhost");
    out->v[out->n++] = STR("127.0.0.1");
    out->v[out->n++] = STR("::1");
    out->v[out->n++] = str_c(config.hostname);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < PREFIX_COUNT; k++)
            out->v[out->n++] = arena_printf(a, "%s%.*s", domain_prefixes[k], STR_ARG(domains[i]));
}

int certificate_prepare(struct error *err)
{
    struct arena *a;
    struct name_list names = {0};
    int status;

    if (!is_self_signed())
        return 0;
    a = arena_new();
    list_names(a, NULL, 0, &names);
    status = tls_prepare_self_signed(config.data_dir, names.v, names.n, err);
    arena_free(&a);
    return status;
}

int certificate_load(struct error *err)
{
    struct arena *a = arena_new();
    int status = is_self_signed() ? tls_load(tls_file(a, "cert.pem"), tls_file(a, "key.pem"), err)
                                  : tls_load(config.tls_cert, config.tls_key, err);

    arena_free(&a);
    return status;
}

static void make_on_thread(void *arg)
{
    struct name_list *names = arg;

    names->status = tls_prepare_self_signed(config.data_dir, names->v, names->n, &names->error);
}

static uint64_t hash_of(const struct name_list *names)
{
    uint64_t hash = names->n;

    for (size_t i = 0; i < names->n; i++)
        hash = hash * 31 + fnv1a_64(names->v[i]);
    return hash;
}

static void cover_domains(struct arena *a)
{
    struct name_list names = {0};
    struct error err = {0};
    struct str *domains;
    size_t count;

    if (domain_list(a, &domains, &count, &err) < 0)
        return; /* the database is away: the next round looks again */
    list_names(a, domains, count, &names);
    if (hash_of(&names) == keeper.covered && loop_now_ms() < keeper.look_at_ms)
        return;
    offload(make_on_thread, &names);
    if (names.status < 0) {
        log_warn(NULL, "certificate_not_made", KV_ERR(&names.error));
        return;
    }
    keeper.covered = hash_of(&names);
    keeper.look_at_ms = loop_deadline(LOOK_INTERVAL_MS);
    tls_reload_if_changed();
}

static void keep(void *unused)
{
    struct arena *a = arena_new();

    do {
        cover_domains(a);
        arena_reset(a);
    } while (fiber_sleep(config.tls_reload_interval) != WAKE_CANCELLED);
    arena_free(&a);
    keeper.fiber = NULL;
    wait_queue_wake_all(&keeper.ended);
}

void certificate_keeper_start(void)
{
    if (!is_self_signed())
        return;
    wait_queue_init(&keeper.ended);
    keeper.fiber = fiber_start("certificate_keeper", keep, NULL);
}

void certificate_keeper_stop(void)
{
    if (keeper.fiber == NULL)
        return;
    fiber_cancel(keeper.fiber);
    while (keeper.fiber != NULL && wait_queue_wait(&keeper.ended, NO_DEADLINE) == WAKE_READY)
        ;
}
