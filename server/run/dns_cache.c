/* dns_cache.c - a map from "name/type" to answers, and the answers in the order in which they came. */
#include "server/run/dns_cache.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/base/list.h"
#include "server/base/map.h"
#include "server/base/memory.h"
#include "server/run/loop.h"

#define NAME_SIZE_MAX 300 /* a few names of odd bytes, written \DDD, are longer */
#define KEY_SIZE      (NAME_SIZE_MAX + 16)

struct entry {
    struct list link;
    int64_t expires_ms;
    size_t size;
    struct dns_answer answer; /* its texts are in one block with it */
    char key_text[KEY_SIZE];
    struct str key;
    struct str rdata[];
};

static struct {
    struct map *entries;
    struct list by_age; /* the oldest first */
    size_t bytes;
} cache;

/* Case means nothing in a name, nor does a final dot. */
static bool make_key(struct str name, enum dns_type type, char text[KEY_SIZE], struct str *key)
{
    int n;

    if (str_ends(name, STR(".")))
        name = str_head(name, name.n - 1);
    if (name.n > NAME_SIZE_MAX)
        return false;
    for (size_t i = 0; i < name.n; i++)
        text[i] = ascii_lower(name.p[i]);
    n = snprintf(text + name.n, KEY_SIZE - name.n, "/%d", (int)type);
    *key = str_of(text, name.n + (size_t)n);
    return true;
}

static void forget(struct entry *e)
{
    map_remove(cache.entries, e->key);
    list_remove(&e->link);
    cache.bytes -= e->size;
    free(e);
}

static struct entry *oldest(void)
{
    return CONTAINER_OF(cache.by_age.next, struct entry, link);
}

bool dns_cache_find(struct arena *a, struct str name, enum dns_type type, struct dns_answer *out)
{
    char text[KEY_SIZE];
    struct entry *e;
    struct str key;

    if (cache.entries == NULL || !make_key(name, type, text, &key))
        return false;
    e = map_get(cache.entries, key);
    if (e == NULL)
        return false;
    if (e->expires_ms <= loop_now_ms()) {
        forget(e);
        return false;
    }
    *out = e->answer;
    out->ttl_s = (uint32_t)((e->expires_ms - loop_now_ms()) / 1000);
    out->canonical_name = arena_str(a, e->answer.canonical_name);
    out->rdata = ARENA_ARRAY(a, out->count + 1, struct str);
    for (size_t i = 0; i < out->count; i++)
        out->rdata[i] = arena_str(a, e->rdata[i]);
    return true;
}

static size_t text_size(const struct dns_answer *answer)
{
    size_t size = answer->canonical_name.n;

    for (size_t i = 0; i < answer->count; i++)
        size += sizeof(struct str) + answer->rdata[i].n;
    return size;
}

static struct str keep(char **at, struct str s)
{
    char *p = *at;

    if (s.n > 0)
        memcpy(p, s.p, s.n);
    *at += s.n;
    return str_of(p, s.n);
}

static struct entry *entry_new(const struct dns_answer *answer, size_t size)
{
    struct entry *e = memory_alloc(size);
    char *at = (char *)(e->rdata + answer->count);

    e->size = size;
    e->answer = *answer;
    e->answer.rdata = NULL;
    for (size_t i = 0; i < answer->count; i++)
        e->rdata[i] = keep(&at, answer->rdata[i]);
    e->answer.canonical_name = keep(&at, answer->canonical_name);
    return e;
}

static void make_room(size_t size)
{
    while (!list_is_empty(&cache.by_age) && (map_count(cache.entries) >= DNS_CACHE_COUNT_MAX ||
                                             cache.bytes + size > DNS_CACHE_BYTES_MAX))
        forget(oldest());
}

void dns_cache_add(struct str name, enum dns_type type, const struct dns_answer *answer)
{
    uint32_t ttl_s = answer->ttl_s < DNS_CACHE_TIME_MAX_S ? answer->ttl_s : DNS_CACHE_TIME_MAX_S;
    size_t size = sizeof(struct entry) + text_size(answer);
    struct entry *e, *old;

    if (ttl_s == 0 || size > DNS_CACHE_ANSWER_MAX)
        return;
    if (cache.entries == NULL) {
        cache.entries = map_new();
        list_init(&cache.by_age);
    }
    e = entry_new(answer, size);
    if (!make_key(name, type, e->key_text, &e->key)) {
        free(e);
        return;
    }
    if ((old = map_get(cache.entries, e->key)) != NULL)
        forget(old);
    make_room(size);
    e->expires_ms = loop_deadline((int64_t)ttl_s * 1000);
    map_put(cache.entries, e->key, e);
    list_append(&cache.by_age, &e->link);
    cache.bytes += size;
}

void dns_cache_clear(void)
{
    if (cache.entries == NULL)
        return;
    while (!list_is_empty(&cache.by_age))
        forget(oldest());
    map_free(&cache.entries);
}
