/* map.c - entries in the order of their coming, and an index of slots over them.
 *
 * Removing an entry leaves a hole in the entries until the next growth, so a walk with map_each
 * may remove what it visits. The index is probed linearly; keys of up to 16 bytes, which is
 * nearly all of them, live in the entry itself. */
#include "server/base/map.h"
#include <assert.h>
#include <stdlib.h>
#include "server/base/encode.h"
#include "server/base/memory.h"

#define NEAR_KEY_SIZE  16
#define SLOT_COUNT_MIN 16
#define SLOT_FREE      UINT32_MAX       /* ends a probe         */
#define SLOT_REMOVED   (UINT32_MAX - 1) /* a probe goes past it */

struct entry {
    uint64_t hash;
    void *value;
    size_t key_size;
    union {
        char near[NEAR_KEY_SIZE];
        char *far;
    } key;
    bool is_live;
};

struct map {
    struct entry *entries; /* room for half as many as slots */
    uint32_t *slots;       /* positions in entries           */
    size_t slot_count;     /* a power of two; 0 at first     */
    size_t used;           /* entries, holes included        */
    size_t count;
};

static uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

static void sip_absorb(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
}

static const uint64_t *sip_key(void)
{
    static uint64_t key[2];
    static bool is_drawn;

    if (!is_drawn) {
        random_bytes(key, sizeof key);
        is_drawn = true;
    }
    return key;
}

/* SipHash-1-3 (Aumasson and Bernstein): the strength that hash tables of other languages use. */
uint64_t siphash(struct str s)
{
    const uint64_t *key = sip_key();
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
                     key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    uint64_t word, last = (uint64_t)s.n << 56;
    size_t at;

    for (at = 0; s.n - at >= sizeof word; at += sizeof word) {
        memcpy(&word, s.p + at, sizeof word);
        sip_absorb(v, word);
    }
    for (unsigned i = 0; at + i < s.n; i++)
        last |= (uint64_t)(unsigned char)s.p[at + i] << (8 * i);
    sip_absorb(v, last);
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static struct str entry_key(const struct entry *e)
{
    return str_of(e->key_size <= NEAR_KEY_SIZE ? e->key.near : e->key.far, e->key_size);
}

static void entry_set_key(struct entry *e, struct str key)
{
    e->key_size = key.n;
    if (key.n > NEAR_KEY_SIZE)
        e->key.far = memory_copy_str(key);
    else if (key.n > 0)
        memcpy(e->key.near, key.p, key.n);
}

static void entry_drop_key(struct entry *e)
{
    if (e->is_live && e->key_size > NEAR_KEY_SIZE)
        free(e->key.far);
    e->is_live = false;
}

struct map *map_new(void)
{
    return memory_alloc(sizeof(struct map));
}

void map_free(struct map **m)
{
    if (*m == NULL)
        return;
    for (size_t i = 0; i < (*m)->used; i++)
        entry_drop_key(&(*m)->entries[i]);
    free((*m)->entries);
    free((*m)->slots);
    free(*m);
    *m = NULL;
}

size_t map_count(const struct map *m)
{
    return m->count;
}

/* The slot that holds the key, or NULL. A free slot always exists: half of them stay empty. */
static uint32_t *find_slot(const struct map *m, struct str key, uint64_t hash)
{
    if (m->slot_count == 0)
        return NULL;
    for (size_t i = hash & (m->slot_count - 1);; i = (i + 1) & (m->slot_count - 1)) {
        uint32_t slot = m->slots[i];

        if (slot == SLOT_FREE)
            return NULL;
        if (slot != SLOT_REMOVED && m->entries[slot].hash == hash &&
            str_eq(entry_key(&m->entries[slot]), key))
            return &m->slots[i];
    }
}

static void index_entry(struct map *m, size_t position)
{
    size_t i = m->entries[position].hash & (m->slot_count - 1);

    while (m->slots[i] != SLOT_FREE)
        i = (i + 1) & (m->slot_count - 1);
    m->slots[i] = (uint32_t)position;
}

/* Closes the holes and makes room for as many entries again; shrinks when most were removed. */
static void rebuild(struct map *m)
{
    size_t slot_count = SLOT_COUNT_MIN, live = 0;
    struct entry *entries;

    while (slot_count / 4 <= m->count)
        slot_count *= 2;
    assert(slot_count < SLOT_REMOVED);
    entries = memory_array(slot_count / 2, sizeof *entries);
    for (size_t i = 0; i < m->used; i++)
        if (m->entries[i].is_live)
            entries[live++] = m->entries[i];
    free(m->entries);
    m->entries = entries;
    m->used = live;
    m->slot_count = slot_count;
    m->slots = memory_resize(m->slots, slot_count * sizeof m->slots[0]);
    memset(m->slots, 0xff, slot_count * sizeof m->slots[0]);
    for (size_t i = 0; i < m->used; i++)
        index_entry(m, i);
}

void *map_get(const struct map *m, struct str key)
{
    uint32_t *slot = find_slot(m, key, siphash(key));

    return slot != NULL ? m->entries[*slot].value : NULL;
}

static void append_entry(struct map *m, struct str key, uint64_t hash, void *value)
{
    struct entry *e;

    if (m->used == m->slot_count / 2)
        rebuild(m);
    e = &m->entries[m->used];
    *e = (struct entry){.hash = hash, .value = value, .is_live = true};
    entry_set_key(e, key);
    index_entry(m, m->used++);
    m->count++;
}

void *map_put(struct map *m, struct str key, void *value)
{
    uint64_t hash = siphash(key);
    uint32_t *slot = find_slot(m, key, hash);
    void *replaced;

    if (slot == NULL) {
        append_entry(m, key, hash, value);
        return NULL;
    }
    replaced = m->entries[*slot].value;
    m->entries[*slot].value = value;
    return replaced;
}

void *map_remove(struct map *m, struct str key)
{
    uint32_t *slot = find_slot(m, key, siphash(key));
    struct entry *e;

    if (slot == NULL)
        return NULL;
    e = &m->entries[*slot];
    *slot = SLOT_REMOVED;
    entry_drop_key(e);
    m->count--;
    return e->value;
}

bool map_each(const struct map *m, size_t *at, struct str *key, void **value)
{
    while (*at < m->used) {
        const struct entry *e = &m->entries[(*at)++];

        if (!e->is_live)
            continue;
        if (key != NULL)
            *key = entry_key(e);
        if (value != NULL)
            *value = e->value;
        return true;
    }
    return false;
}
