/* imap_fetch_kept.c - a handful of messages, the one used last in front.
 *
 * They go when they were not used for a while, or when newer ones need their place; a message
 * that is being printed then lives on, out of the list, until it is released. */
#include "mail/imap/imap_fetch_kept.h"

#include <stdlib.h>

#include "mail/store/message.h"
#include "server/base/buf.h"
#include "server/base/list.h"
#include "server/base/memory.h"
#include "server/run/loop.h"
#include "server/run/offload.h"

#define KEPT_BYTES_MAX (64 << 20)
#define KEPT_MS        5000
#define OFFLOAD_SIZE   (256 * 1024)

struct kept_message {
    struct list link; /* while it can be found */
    int64_t account_id, message_id, used_ms;
    unsigned refs; /* users, and one for the list */
    struct buf raw;
    struct arena *arena;
    struct mime_part *root;
};

static struct list kept = {&kept, &kept};
static size_t kept_bytes;
static struct timer timer;

static void unref(struct kept_message *k)
{
    if (--k->refs > 0)
        return;
    buf_fini(&k->raw);
    arena_free(&k->arena);
    free(k);
}

static void forget(struct kept_message *k)
{
    list_remove(&k->link);
    kept_bytes -= k->raw.n;
    unref(k);
}

static struct kept_message *oldest(void)
{
    return list_is_empty(&kept) ? NULL : CONTAINER_OF(kept.prev, struct kept_message, link);
}

static void forget_old(struct timer *t)
{
    struct kept_message *k;

    while ((k = oldest()) != NULL && k->used_ms + KEPT_MS <= loop_now_ms())
        forget(k);
    if (k != NULL)
        timer_set(t, k->used_ms + KEPT_MS);
}

static struct kept_message *find(int64_t account_id, int64_t message_id)
{
    LIST_EACH (at, &kept) {
        struct kept_message *k = CONTAINER_OF(at, struct kept_message, link);
        if (k->account_id == account_id && k->message_id == message_id)
            return k;
    }
    return NULL;
}

/* --- reading ---------------------------------------------------------------------------------- */

static PARKS int take_bytes(void *arg, size_t index, const struct message *m, struct error *err)
{
    struct kept_message *k = arg;

    buf_add(&k->raw, m->blob);
    k->message_id = m->message_id;
    return 0;
}

static void parse(void *arg)
{
    struct kept_message *k = arg;

    k->root = mime_parse(k->arena, buf_str(&k->raw));
}

static PARKS int read_message(struct kept_message *k, int64_t message_id, struct error *err)
{
    struct message_reader reader = {.account_id = k->account_id,
                                    .ids = &message_id,
                                    .count = 1,
                                    .columns = MESSAGE_BLOB,
                                    .each = take_bytes,
                                    .arg = k};

    if (message_read(&reader, err) < 0)
        return -1;
    if (k->message_id == 0)
        return fail(err, ERR_NOT_FOUND, "the message was removed");
    if (k->raw.n > OFFLOAD_SIZE)
        offload(parse, k);
    else
        parse(k);
    return 0;
}

static PARKS struct kept_message *load(int64_t account_id, int64_t message_id, struct error *err)
{
    struct kept_message *k = memory_alloc(sizeof *k);

    k->account_id = account_id;
    k->refs = 1;
    k->arena = arena_new();
    buf_init(&k->raw, SIZE_MAX);
    if (read_message(k, message_id, err) < 0) {
        unref(k);
        return NULL;
    }
    return k;
}

/* --- keeping ---------------------------------------------------------------------------------- */

/* Others may have loaded the same message meanwhile: one of it is enough. */
static void keep(struct kept_message *k)
{
    if (k->raw.n > KEPT_BYTES_MAX || find(k->account_id, k->message_id) != NULL)
        return;
    while (kept_bytes + k->raw.n > KEPT_BYTES_MAX)
        forget(oldest());
    kept_bytes += k->raw.n;
    k->refs++;
    list_prepend(&kept, &k->link);
    timer.fire = forget_old;
    if (!timer_is_set(&timer))
        timer_set(&timer, loop_now_ms() + KEPT_MS);
}

struct kept_message *kept_message_take(int64_t account_id, int64_t message_id, struct error *err)
{
    struct kept_message *k = find(account_id, message_id);

    if (k != NULL) {
        k->refs++;
        list_remove(&k->link);
        list_prepend(&kept, &k->link);
    } else {
        k = load(account_id, message_id, err);
        if (k == NULL)
            return NULL;
        keep(k);
    }
    k->used_ms = loop_now_ms();
    return k;
}

void kept_message_release(struct kept_message **k)
{
    if (*k != NULL)
        unref(*k);
    *k = NULL;
}

struct str kept_message_raw(const struct kept_message *k)
{
    return buf_str(&k->raw);
}

struct mime_part *kept_message_root(const struct kept_message *k)
{
    return k->root;
}
