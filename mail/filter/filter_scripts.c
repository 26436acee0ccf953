/* filter_scripts.c - the cache of compiled scripts of this worker.
 *
 * A set listens for changes of its account from before its scripts are read, so that it cannot be
 * older than it believes. A change of a domain's scripts drops every set: they change seldom. The
 * sets used last stay, within a number and a size. */
#include "mail/filter/filter_scripts.h"

#include <assert.h>
#include <stdlib.h>

#include "mail/sieve/sieve_aside.h"
#include "mail/store/sieve_store.h"
#include "server/base/list.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/base/memory.h"
#include "server/pg/notify.h"

#define SETS_MAX      20000
#define SETS_SIZE_MAX ((size_t)64 << 20)

/* A script that others include. */
struct included {
    struct list link;
    enum sieve_location location;
    struct sieve_script *script;
    char *name;
};

struct set {
    struct filter_scripts scripts; /* what users see: first */
    struct list link;              /* among all that are kept, the least used first */
    struct bus_subscription subscription;
    uint64_t account_id;
    struct list included;
    size_t size;
    unsigned refs;           /* of users and, while it is kept, of the cache */
    unsigned domain_changes; /* when its scripts were asked for */
    bool is_stale;           /* its scripts have changed since */
};

static struct {
    struct map *sets;
    struct list used;
    struct bus_subscription domains;
    size_t size;
    unsigned domain_changes; /* so far */
} cache;

/* ---- sets ------------------------------------------------------------------------------------ */

static void free_set(struct set *s)
{
    struct list *link;

    bus_unsubscribe(&s->subscription);
    for (size_t i = 0; i < s->scripts.count; i++) {
        sieve_script_free(&s->scripts.v[i]);
        free((char *)s->scripts.names[i].p);
    }
    while ((link = list_take_first(&s->included)) != NULL) {
        struct included *in = CONTAINER_OF(link, struct included, link);

        sieve_script_free(&in->script);
        free(in->name);
        free(in);
    }
    free(s);
}

static void unref(struct set *s)
{
    assert(s->refs > 0);
    if (--s->refs == 0)
        free_set(s);
}

static void drop(struct set *s)
{
    s->is_stale = true;
    if (!list_is_linked(&s->link))
        return;
    list_remove(&s->link);
    map_remove(cache.sets, map_key_u64(&s->account_id));
    cache.size -= s->size;
    unref(s);
}

static void account_changed(struct bus_subscription *subscription)
{
    drop(CONTAINER_OF(subscription, struct set, subscription));
}

static void domains_changed(struct bus_subscription *subscription)
{
    cache.domain_changes++;
    LIST_EACH_SAFE (link, &cache.used)
        drop(CONTAINER_OF(link, struct set, link));
}

static struct set *set_new(int64_t account_id)
{
    struct set *s = memory_alloc(sizeof *s);

    s->account_id = (uint64_t)account_id;
    s->refs = 1;
    s->size = sizeof *s;
    s->domain_changes = cache.domain_changes;
    list_init(&s->included);
    bus_subscribe(&s->subscription, SIEVE_TOPIC(account_id), account_changed);
    return s;
}

static void keep(struct set *s)
{
    if (s->is_stale || s->domain_changes != cache.domain_changes || cache.sets == NULL ||
        map_get(cache.sets, map_key_u64(&s->account_id)) != NULL)
        return;
    map_put(cache.sets, map_key_u64(&s->account_id), s);
    list_append(&cache.used, &s->link);
    cache.size += s->size;
    s->refs++;
    while (map_count(cache.sets) > SETS_MAX || cache.size > SETS_SIZE_MAX)
        drop(CONTAINER_OF(cache.used.next, struct set, link));
}

/* ---- compiling ------------------------------------------------------------------------------- */

static void add_script(struct set *s, struct arena *a, const struct sieve_running *r)
{
    struct sieve_fault fault = {0};
    struct sieve_script *script;
    struct str name =
        r->turn == SIEVE_TURN_OWN ? r->name : arena_printf(a, "domain: %.*s", STR_ARG(r->name));

    if (sieve_compile_aside(r->content, &script, a, &fault) < 0) {
        log_warn(NULL, "script_left_out", KV("account", (int64_t)s->account_id), KV("script", name),
                 KV("line", fault.line), KV("error", fault.text));
        return;
    }
    s->scripts.names[s->scripts.count] = str_c(memory_copy_str(name));
    s->scripts.v[s->scripts.count++] = script;
    s->size += sieve_script_size(script);
}

static int load(struct set *s, struct error *err)
{
    struct arena *a = arena_new();
    struct sieve_running *v;
    size_t count;
    int rc = sieve_store_running(a, (int64_t)s->account_id, &v, &count, err);

    for (size_t i = 0; rc == 0 && i < count && s->scripts.count < FILTER_SCRIPTS_MAX; i++)
        add_script(s, a, &v[i]);
    arena_free(&a);
    return rc;
}

/* ---- for runs -------------------------------------------------------------------------------- */

int filter_scripts_hold(int64_t account_id, const struct filter_scripts **out, struct error *err)
{
    uint64_t key = (uint64_t)account_id;
    struct set *s = cache.sets != NULL ? map_get(cache.sets, map_key_u64(&key)) : NULL;

    if (s != NULL) {
        list_remove(&s->link);
        list_append(&cache.used, &s->link);
        s->refs++;
        *out = &s->scripts;
        return 0;
    }
    s = set_new(account_id);
    if (load(s, err) < 0) {
        unref(s);
        return -1;
    }
    keep(s);
    *out = &s->scripts;
    return 0;
}

void filter_scripts_release(const struct filter_scripts **held)
{
    if (*held != NULL)
        unref(CONTAINER_OF((struct filter_scripts *)*held, struct set, scripts));
    *held = NULL;
}

static struct included *find_included(struct set *s, enum sieve_location location, struct str name)
{
    LIST_EACH (link, &s->included) {
        struct included *in = CONTAINER_OF(link, struct included, link);

        if (in->location == location && str_eq(str_c(in->name), name))
            return in;
    }
    return NULL;
}

static void remember_included(struct set *s, enum sieve_location location, struct str name,
                              struct sieve_script *script)
{
    struct included *in;

    if (find_included(s, location, name) != NULL) /* somebody else was faster */
        return;
    in = memory_alloc(sizeof *in);
    in->location = location;
    in->name = memory_copy_str(name);
    in->script = sieve_script_ref(script);
    list_append(&s->included, &in->link);
    s->size += sieve_script_size(script);
    if (list_is_linked(&s->link))
        cache.size += sieve_script_size(script);
}

static int read_included(struct set *s, enum sieve_location location, struct str name,
                         struct arena *a, struct str *content, struct error *err)
{
    return location == SIEVE_PERSONAL
               ? sieve_store_get(a, (int64_t)s->account_id, name, content, err)
               : sieve_store_get_global(a, (int64_t)s->account_id, name, content, err);
}

int filter_scripts_include(const struct filter_scripts *held, enum sieve_location location,
                           struct str name, struct arena *a, struct sieve_script **out,
                           struct sieve_fault *fault, struct error *err)
{
    struct set *s = CONTAINER_OF((struct filter_scripts *)held, struct set, scripts);
    struct included *in = find_included(s, location, name);
    struct error cause = {0};
    struct str content;

    *out = in != NULL ? sieve_script_ref(in->script) : NULL;
    if (in != NULL)
        return 0;
    if (read_included(s, location, name, a, &content, &cause) < 0)
        return cause.kind == ERR_NOT_FOUND || cause.kind == ERR_SYNTAX
                   ? 0
                   : fail(err, cause.kind, "%s", cause.text);
    if (sieve_compile_aside(content, out, a, fault) < 0) {
        *out = NULL;
        return 1;
    }
    remember_included(s, location, name, *out);
    return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

void filter_scripts_start(void)
{
    cache.sets = map_new();
    list_init(&cache.used);
    bus_subscribe(&cache.domains, SIEVE_DOMAINS_TOPIC, domains_changed);
}

void filter_scripts_stop(void)
{
    if (cache.sets == NULL)
        return;
    bus_unsubscribe(&cache.domains);
    domains_changed(NULL);
    map_free(&cache.sets);
}
