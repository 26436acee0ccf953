/* spam_classifier.c - keeps the models new and asks them.
 *
 * The model of all is 2 MB. A worker looks every REFRESH_INTERVAL_MS whether there is another
 * generation; the first of a host to see it writes it to a file named after it and its stamp, and
 * all map that file: one copy in memory for the host. Accounts' own models are read when they are
 * asked and kept for a while, until a notice says that there is another one. Models are made on a helper thread. */
#include "mail/spam/spam_classifier.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mail/spam/spam_model.h"
#include "mail/store/spam_store.h"
#include "server/base/list.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/base/memory.h"
#include "server/directory/digest.h"
#include "server/pg/notify.h"
#include "server/run/config.h"
#include "server/run/offload.h"

#define REFRESH_INTERVAL_MS 5000
#define MAKE_INTERVAL_S     120
#define ACCOUNTS_AT_ONCE    50
#define KEY_SIZE            16
#define OWN_KEPT_MAX        256                 /* 4 MB of a worker */
#define DIGEST_HERE_MAX     ((size_t)512 << 10) /* larger ones would hold up the worker */

static struct {
    struct fiber *fiber;
    const struct spam_model *model; /* mapped; NULL: none */
    struct spam_generation generation;
} classifier;

/* ---- keys ------------------------------------------------------------------------------------ */

struct key {
    struct str message;
    uint8_t digest[DIGEST_SIZE];
};

static void digest_message(void *arg)
{
    struct key *key = arg;

    sha256(key->message, key->digest);
}

/* Borrowed from *key. */
static struct str message_key(struct str message, struct key *key)
{
    key->message = message;
    if (message.n > DIGEST_HERE_MAX)
        offload(digest_message, key);
    else
        digest_message(key);
    return str_of((const char *)key->digest, KEY_SIZE);
}

/* ---- the mapped model ------------------------------------------------------------------------ */

static struct str model_path(struct arena *a, struct spam_generation generation)
{
    return arena_printf(a, "%s/spam-model-%lld-%016llx", config.data_dir,
                        (long long)generation.number, (unsigned long long)generation.stamp);
}

static const struct spam_model *map_file(struct str path)
{
    int fd = open(path.p, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    void *p = MAP_FAILED;

    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) == 0 && (size_t)st.st_size == sizeof(struct spam_model))
        p = mmap(NULL, sizeof(struct spam_model), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        return NULL;
    if (spam_model_is_valid(str_of(p, sizeof(struct spam_model))))
        return p;
    munmap(p, sizeof(struct spam_model));
    return NULL;
}

static int write_all(int fd, struct str bytes)
{
    while (bytes.n > 0) {
        ssize_t n = write(fd, bytes.p, bytes.n);
        if (n <= 0)
            return -1;
        bytes = str_from(bytes, (size_t)n);
    }
    return 0;
}

/* Whole under its name, or not there. */
static int write_file(struct arena *a, struct str path, struct str bytes, struct error *err)
{
    struct str draft = arena_printf(a, "%s.%d", path.p, (int)getpid());
    int fd = open(draft.p, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool is_done = fd >= 0 && write_all(fd, bytes) == 0;

    if (fd >= 0)
        close(fd);
    if (is_done && rename(draft.p, path.p) == 0)
        return 0;
    unlink(draft.p);
    return fail(err, ERR_INTERNAL, "the model of the spam filter cannot be written to %s", path.p);
}

static void forget_model(struct arena *a)
{
    if (classifier.model == NULL)
        return;
    munmap((void *)classifier.model, sizeof(struct spam_model));
    unlink(model_path(a, classifier.generation).p);
    classifier.model = NULL;
}

static int fetch_model(struct arena *a, struct error *err)
{
    const struct spam_model *model;
    struct spam_generation generation;
    struct str bytes, path;

    if (spam_store_read(a, &generation, &bytes, err) < 0)
        return -1;
    if (!spam_model_is_valid(bytes))
        return 0; /* of another version: one of this version will be made */
    path = model_path(a, generation);
    if (write_file(a, path, bytes, err) < 0 || (model = map_file(path)) == NULL)
        return -1;
    forget_model(a);
    classifier.model = model;
    classifier.generation = generation;
    return 0;
}

static int follow_generation(struct arena *a, struct error *err)
{
    const struct spam_model *model;
    struct spam_generation generation;

    if (spam_store_generation(&generation, err) < 0)
        return -1;
    if (generation.number == 0 || generation.stamp == classifier.generation.stamp)
        return 0;
    model = map_file(model_path(a, generation));
    if (model == NULL)
        return fetch_model(a, err);
    forget_model(a);
    classifier.model = model;
    classifier.generation = generation;
    return 0;
}

/* ---- making ---------------------------------------------------------------------------------- */

struct making {
    struct spam_example *examples;
    size_t count;
    const struct spam_model *base;
    struct spam_model *model; /* one of these two */
    struct spam_own_model *own_model;
};

static void make_on_thread(void *arg)
{
    struct making *m = arg;

    if (m->model != NULL)
        spam_model_make(m->model, m->examples, m->count);
    else
        spam_own_model_make(m->own_model, m->base, m->examples, m->count);
}

static void use_examples(struct arena *a, const struct spam_stored_example *v, size_t n,
                         struct making *m)
{
    m->examples = ARENA_ARRAY(a, n + 1, struct spam_example);
    m->count = n;
    for (size_t i = 0; i < n; i++)
        m->examples[i] = (struct spam_example){arena_copy(a, v[i].features.p, v[i].features.n),
                                               v[i].features.n / sizeof(uint32_t), v[i].is_spam};
}

/* Another worker's fiber may map a newer model meanwhile: the thread has a copy. */
static int make_own(const struct spam_changed_account *account, struct error *err)
{
    struct arena *a = arena_new();
    struct spam_stored_example *v;
    struct making m = {.own_model = arena_alloc(a, sizeof *m.own_model)};
    size_t n;
    int result = spam_store_examples(a, account->account_id, SPAM_FEATURES_VERSION, &v, &n, err);

    if (result == 0) {
        use_examples(a, v, n, &m);
        if (classifier.model != NULL)
            m.base = arena_copy(a, classifier.model, sizeof *classifier.model);
        offload(make_on_thread, &m);
        result = spam_store_put_own(account->account_id,
                                    str_of((const char *)m.own_model, sizeof *m.own_model),
                                    account->changed_us, err);
    }
    arena_free(&a);
    return result;
}

static int make_changed(struct arena *a, struct error *err)
{
    struct spam_changed_account *v;
    size_t n;

    if (spam_store_changed(a, ACCOUNTS_AT_ONCE, &v, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (make_own(&v[i], err) < 0)
            return -1;
    return 0;
}

static int make_model(struct arena *a, int64_t claimed_us, struct error *err)
{
    struct spam_stored_example *v;
    struct making m = {.model = arena_alloc(a, sizeof *m.model)};
    size_t n;

    if (spam_store_sample(a, SPAM_FEATURES_VERSION, &v, &n, err) < 0)
        return -1;
    use_examples(a, v, n, &m);
    offload(make_on_thread, &m);
    log_info(NULL, "spam_model_made", KV("spam", m.model->head.spam_count),
             KV("ham", m.model->head.ham_count));
    return spam_store_publish(str_of((const char *)m.model, sizeof *m.model), claimed_us, err);
}

static int make_due_model(struct arena *a, int64_t interval_s, struct error *err)
{
    int64_t claimed_us;
    int is_mine = spam_store_claim(interval_s, &claimed_us, err);

    return is_mine <= 0 ? is_mine : make_model(a, claimed_us, err);
}

static int refresh(int64_t interval_s, struct error *err)
{
    struct arena *a = arena_new();
    int result = make_due_model(a, interval_s, err) < 0 || follow_generation(a, err) < 0 ||
                         make_changed(a, err) < 0
                     ? -1
                     : 0;

    arena_free(&a);
    return result;
}

PARKS int spam_classifier_refresh(struct error *err)
{
    return refresh(0, err);
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* A model that was read, or that there is none; gone when the account has another one. */
struct own_kept {
    struct bus_subscription subscription;
    struct list link;
    uint64_t account_id;
    bool is_there;
    struct spam_own_model model;
};

static struct {
    struct map *accounts; /* NULL: nothing was kept yet */
    struct list used;     /* the last used first */
} own_models;

static void forget_own(struct own_kept *kept)
{
    bus_unsubscribe(&kept->subscription);
    map_remove(own_models.accounts, map_key_u64(&kept->account_id));
    list_remove(&kept->link);
    free(kept);
}

static void own_changed(struct bus_subscription *s)
{
    forget_own(CONTAINER_OF(s, struct own_kept, subscription));
}

static void forget_all_own(void)
{
    if (own_models.accounts == NULL)
        return;
    while (!list_is_empty(&own_models.used))
        forget_own(CONTAINER_OF(own_models.used.next, struct own_kept, link));
    map_free(&own_models.accounts);
}

static struct own_kept *find_own(uint64_t account_id)
{
    struct own_kept *kept;

    if (own_models.accounts == NULL) {
        own_models.accounts = map_new();
        list_init(&own_models.used);
    }
    kept = map_get(own_models.accounts, map_key_u64(&account_id));
    if (kept != NULL) {
        list_remove(&kept->link);
        list_prepend(&own_models.used, &kept->link);
    }
    return kept;
}

static void keep_own(uint64_t account_id, struct str bytes)
{
    struct own_kept *kept;

    if (find_own(account_id) != NULL)
        return; /* another fiber was faster */
    if (map_count(own_models.accounts) >= OWN_KEPT_MAX)
        forget_own(CONTAINER_OF(own_models.used.prev, struct own_kept, link));
    kept = memory_alloc(sizeof *kept);
    kept->account_id = account_id;
    kept->is_there = spam_own_model_is_valid(bytes);
    if (kept->is_there)
        memcpy(&kept->model, bytes.p, sizeof kept->model);
    map_put(own_models.accounts, map_key_u64(&account_id), kept);
    list_prepend(&own_models.used, &kept->link);
    bus_subscribe(&kept->subscription, spam_own_topic((int64_t)account_id), own_changed);
}

/* What changes while it is read is not kept. */
struct own_reading {
    struct bus_subscription subscription;
    bool is_stale;
};

static void reading_changed(struct bus_subscription *s)
{
    CONTAINER_OF(s, struct own_reading, subscription)->is_stale = true;
}

static int read_own(struct arena *a, int64_t account_id, const struct spam_own_model **out,
                    struct error *err)
{
    struct own_reading reading = {.is_stale = false};
    struct str bytes;
    int result;

    bus_subscribe(&reading.subscription, spam_own_topic(account_id), reading_changed);
    result = spam_store_get_own(a, account_id, &bytes, err);
    bus_unsubscribe(&reading.subscription);
    if (result < 0)
        return -1;
    if (spam_own_model_is_valid(bytes))
        *out = arena_copy(a, bytes.p, bytes.n);
    if (!reading.is_stale)
        keep_own((uint64_t)account_id, bytes);
    return 0;
}

/* *out holds until the next park. */
static int own_model_of(struct arena *a, int64_t account_id, const struct spam_own_model **out,
                        struct error *err)
{
    const struct own_kept *kept = account_id != 0 ? find_own((uint64_t)account_id) : NULL;

    *out = kept != NULL && kept->is_there ? &kept->model : NULL;
    return account_id == 0 || kept != NULL ? 0 : read_own(a, account_id, out, err);
}

static bool own_has_opinion(const struct spam_own_model *own)
{
    return own != NULL && own->head.spam_count >= SPAM_OWN_MIN &&
           own->head.ham_count >= SPAM_OWN_MIN;
}

static void give_reasons(struct arena *a, const struct spam_model *model,
                         const struct spam_own_model *own, const struct spam_features *features,
                         struct spam_opinion *out)
{
    struct spam_reason reasons[SPAM_REASONS_MAX];

    out->reason_count =
        spam_model_reasons(model, own, features, out->is_spam, reasons, SPAM_REASONS_MAX);
    for (size_t i = 0; i < out->reason_count; i++) {
        out->reasons[i].text = spam_feature_text(a, reasons[i].feature);
        out->reasons[i].weight = reasons[i].weight;
    }
}

PARKS int spam_classify(struct arena *a, const struct spam_features *features, int64_t account_id,
                        struct spam_opinion *out, struct error *err)
{
    const struct spam_own_model *own;
    const struct spam_model *model;
    struct spam_example example = spam_example_of(a, features);

    *out = (struct spam_opinion){0};
    if (own_model_of(a, account_id, &own, err) < 0)
        return -1;
    model = spam_model_has_opinion(classifier.model) ? classifier.model : NULL;
    out->is_known = model != NULL || own_has_opinion(own);
    if (!out->is_known)
        return 0;
    out->score = spam_model_score(model, own, &example);
    out->is_spam = out->score > SPAM_SCORE_THRESHOLD;
    out->percent = (unsigned)lround(100 / (1 + exp(-out->score)));
    give_reasons(a, model, own, features, out);
    return 0;
}

/* ---- learning -------------------------------------------------------------------------------- */

PARKS int spam_learn(int64_t account_id, const struct spam_features *features, struct str message,
                     bool is_spam, struct error *err)
{
    struct arena *a = arena_new();
    struct spam_example example = spam_example_of(a, features);
    struct key key;
    int result =
        spam_store_put(account_id, message_key(message, &key), is_spam, SPAM_FEATURES_VERSION,
                       str_of((const char *)example.v, example.n * sizeof *example.v), err);

    arena_free(&a);
    return result;
}

PARKS int spam_unlearn(int64_t account_id, struct str message, struct error *err)
{
    struct key key;

    return spam_store_remove(account_id, message_key(message, &key), err);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void run(void *arg)
{
    do {
        struct error err = {0};
        if (refresh(MAKE_INTERVAL_S, &err) < 0 && err.kind != ERR_CANCELLED)
            log_warn(NULL, "spam_refresh_failed", KV_ERR(&err));
    } while (fiber_sleep(REFRESH_INTERVAL_MS) != WAKE_CANCELLED);
    classifier.fiber = NULL;
}

void spam_classifier_start(void)
{
    if (classifier.fiber == NULL)
        classifier.fiber = fiber_start("spam_classifier", run, NULL);
}

void spam_classifier_stop(void)
{
    if (classifier.fiber != NULL)
        fiber_cancel(classifier.fiber);
    forget_all_own();
}
