/* memo.c - a map from digests to entries, and the entries in the order in which they came. */
#include <openssl/crypto.h>
#include <stdlib.h>

#include "server/base/encode.h"
#include "server/base/list.h"
#include "server/base/map.h"
#include "server/base/memory.h"
#include "server/directory/digest.h"
#include "server/directory/memo.h"
#include "server/run/loop.h"

struct entry {
    struct list link;
    uint8_t digest[DIGEST_SIZE];
    int64_t expires_ms;
};

struct memo {
    uint8_t key[DIGEST_SIZE];
    struct map *entries;
    struct list by_age; /* the oldest first */
    size_t count_max;
};

struct memo *memo_new(size_t count_max)
{
    struct memo *m = memory_alloc(sizeof *m);

    random_bytes(m->key, sizeof m->key);
    m->entries = map_new();
    m->count_max = count_max;
    list_init(&m->by_age);
    return m;
}

static void forget(struct memo *m, struct entry *e)
{
    map_remove(m->entries, digest_str(e->digest));
    list_remove(&e->link);
    free(e);
}

void memo_free(struct memo **m)
{
    if (*m == NULL)
        return;
    while (!list_is_empty(&(*m)->by_age))
        forget(*m, CONTAINER_OF((*m)->by_age.next, struct entry, link));
    map_free(&(*m)->entries);
    OPENSSL_cleanse((*m)->key, sizeof(*m)->key);
    free(*m);
    *m = NULL;
}

bool memo_holds(struct memo *m, const struct str *parts, size_t count)
{
    uint8_t digest[DIGEST_SIZE];
    struct entry *e;

    if (map_count(m->entries) == 0)
        return false;
    hmac_sha256_list(digest_str(m->key), parts, count, digest);
    e = map_get(m->entries, digest_str(digest));
    if (e == NULL)
        return false;
    if (e->expires_ms > loop_now_ms())
        return true;
    forget(m, e);
    return false;
}

void memo_add(struct memo *m, const struct str *parts, size_t count, int64_t duration_ms)
{
    struct entry *e, *replaced;

    if (duration_ms <= 0)
        return;
    e = memory_alloc(sizeof *e);
    hmac_sha256_list(digest_str(m->key), parts, count, e->digest);
    e->expires_ms = loop_deadline(duration_ms);
    replaced = map_put(m->entries, digest_str(e->digest), e);
    if (replaced != NULL) {
        list_remove(&replaced->link);
        free(replaced);
    }
    list_append(&m->by_age, &e->link);
    if (map_count(m->entries) > m->count_max)
        forget(m, CONTAINER_OF(m->by_age.next, struct entry, link));
}
