/* store_fixture.h - the mail store on a private PostgreSQL: accounts to write to, and the rules
 * that its counters keep. */
#pragma once
#include "tests/unit/pg_fixture.h"

#include "mail/store/delivery.h"
#include "mail/store/mailbox.h"
#include "mail/store/mailbox_index.h"
#include "mail/store/message_keys.h"
#include "mail/store/message.h"
#include "server/base/date.h"
#include "server/pg/migrate.h"
#include "server/pg/notify.h"
#include "server/run/offload.h"

#define STORE_ACCOUNTS 12
#define INBOX          1
#define DRAFTS         2
#define SENT           3

static struct arena *store_arena; /* of one case */

static int store_start(void **state)
{
    struct error err = {0};

    fixture_start(state);
    if (pg_migrate(cluster_conninfo(), &err) < 0)
        fixture_fail("pg_migrate", &err);
    return 0;
}

static void store_run_case(void *arg)
{
    void (*body)(void) = (void (*)(void))arg;

    pg_pool_init(pg_conninfo(), 3);
    body();
    mailbox_index_cache_clear();
    message_keys_cache_clear();
    pg_pool_fini();
}

/* Each case runs in a fiber with STORE_ACCOUNTS new accounts, numbered from 1. */
static void store_in_fiber(void (*body)(void))
{
    fixture_sql("SET client_min_messages = warning; TRUNCATE account, blob, message, message_meta, "
                "message_removed, mailbox_change, mailbox_seen, thread_ref, blob_use, blob_unused, "
                "annotation, text_bucket, blob_text "
                "RESTART IDENTITY CASCADE");
    fixture_sql("INSERT INTO account (kind) SELECT 'person' FROM generate_series(1, 12);"
                "SELECT mail_account_prepare(account_id) FROM account");
    config.quota_bytes = config.quota_messages = 0;
    store_arena = arena_new();
    loop_init();
    loop_run_fiber("case", store_run_case, (void *)body);
    offload_fini();
    fiber_pool_fini();
    loop_fini();
    arena_free(&store_arena);
}

#define CASE(name)                                                                                 \
    static void name##_body(void);                                                                 \
    static void name(void **state)                                                                 \
    {                                                                                              \
        store_in_fiber(name##_body);                                                               \
    }                                                                                              \
    static void name##_body(void)

/* cmocka's fail_msg() needs the name fail() for itself. */
#define broken(...)                                                                                \
    do {                                                                                           \
        print_error(__VA_ARGS__);                                                                  \
        print_error("\n");                                                                         \
        assert_true(false);                                                                        \
    } while (0)

#define assert_done(call)                                                                          \
    do {                                                                                           \
        struct error err = {0};                                                                    \
        if ((call) < 0)                                                                            \
            broken("%s: %s", #call, err.text);                                                     \
    } while (0)

#define assert_refused(call, expected_kind)                                                        \
    do {                                                                                           \
        struct error err = {0};                                                                    \
        assert_int_equal((call), -1);                                                              \
        assert_int_equal(err.kind, (expected_kind));                                               \
    } while (0)

#define assert_str(actual, expected)                                                               \
    do {                                                                                           \
        struct str s_ = (actual), e_ = (expected);                                                 \
        assert_int_equal(s_.n, e_.n);                                                              \
        assert_memory_equal(s_.p, e_.p, e_.n);                                                     \
    } while (0)

static inline struct message_prepared store_message(const char *text)
{
    struct message_prepared m;

    message_prepare(store_arena, str_c(text), &m);
    return m;
}

static inline uint32_t store_append(int64_t account_id, int64_t mailbox_id, uint32_t flags,
                                    const char *text)
{
    struct message_prepared m = store_message(text);
    struct delivery d = {.account_id = account_id,
                         .mailbox_id = mailbox_id,
                         .flags = flags,
                         .received_us = time_now_us()};

    assert_done(mail_append(&m, &d, 1, &err));
    return d.uid;
}

/* What the counters say is what the rows say. */
static inline void assert_store_is_consistent(void)
{
    static const struct {
        const char *what, *sql;
    } rules[] = {
        {"mailbox counters", "SELECT count(*) FROM mailbox b WHERE (message_count, unseen_count, "
                             "deleted_count, bytes) IS DISTINCT FROM "
                             "(SELECT (count(*)::int, (count(*) FILTER (WHERE flags & 1 = "
                             "0))::int, (count(*) FILTER (WHERE flags & 8 <> "
                             "0))::int, coalesce(sum(size), 0)::bigint) FROM message m WHERE "
                             "m.account_id = b.account_id AND m.mailbox_id = b.mailbox_id)"},
        {"uid_next", "SELECT count(*) FROM mailbox b JOIN message m USING (account_id, mailbox_id) "
                     "WHERE uid >= uid_next"},
        {"mailbox modseq", "SELECT count(*) FROM mailbox b JOIN account_state s USING (account_id) "
                           "WHERE b.modseq > s.modseq OR b.modseq < "
                           "(SELECT max(m.modseq) FROM message m WHERE m.account_id = b.account_id "
                           "AND m.mailbox_id = b.mailbox_id)"},
        {"account counters",
         "SELECT count(*) FROM account_state s WHERE (message_count, bytes_used) IS DISTINCT FROM "
         "(SELECT (count(*), coalesce(sum(size), 0)::bigint) FROM message m WHERE m.account_id = "
         "s.account_id)"},
        {"blob uses", "SELECT count(*) FROM blob b LEFT JOIN blob_use u USING (blob_id) WHERE uses "
                      "+ coalesce(extra, 0) <> (SELECT count(*) FROM message m "
                      "WHERE m.blob_id = b.blob_id) + "
                      "(SELECT count(*) FROM message_removed m WHERE m.blob_id = b.blob_id) + "
                      "(SELECT count(*) FROM queue_message q WHERE q.blob_id = b.blob_id)"},
        {"unused blobs", "SELECT count(*) FROM blob b LEFT JOIN blob_use u USING (blob_id) WHERE "
                         "uses + coalesce(extra, 0) <= 0 AND NOT EXISTS (SELECT FROM blob_unused n "
                         "WHERE n.blob_id = b.blob_id)"},
        {"messages of no mailbox", "SELECT count(*) FROM message m WHERE NOT EXISTS (SELECT FROM "
                                   "mailbox b WHERE b.account_id = m.account_id AND "
                                   "b.mailbox_id = m.mailbox_id)"},
        {"messages without a blob", "SELECT count(*) FROM message m WHERE NOT EXISTS (SELECT FROM "
                                    "blob b WHERE b.blob_id = m.blob_id)"},
        {"messages without their forms", "SELECT count(*) FROM (SELECT account_id, message_id FROM "
                                         "message UNION ALL SELECT account_id, message_id FROM "
                                         "message_removed WHERE blob_id IS NOT NULL) AS m FULL "
                                         "JOIN message_meta t USING (account_id, message_id) WHERE "
                                         "t.envelope IS NULL OR m.* IS NULL"},
        {"UIDs both there and vanished",
         "SELECT count(*) FROM message m JOIN mailbox_change c USING (account_id, mailbox_id) WHERE "
         "is_vanished AND uids @> uid"},
        {"UIDs neither there nor vanished",
         "SELECT count(*) FROM mailbox b WHERE uid_next - 1 <> (SELECT count(*) FROM message m "
         "WHERE m.account_id = "
         "b.account_id AND m.mailbox_id = b.mailbox_id) + (SELECT "
         "coalesce(sum(mail_range_count(uids)), 0) FROM mailbox_change v "
         "WHERE v.account_id = "
         "b.account_id AND v.mailbox_id = b.mailbox_id AND is_vanished)"},
        {"changes that the journal lacks",
         "SELECT count(*) FROM message m WHERE modseq <> created_modseq AND NOT EXISTS (SELECT FROM "
         "mailbox_change c WHERE c.account_id = m.account_id AND c.mailbox_id = m.mailbox_id AND "
         "c.modseq = m.modseq AND NOT is_vanished AND uids @> uid)"},
        {"journal of a mailbox that is gone",
         "SELECT count(*) FROM mailbox_change c WHERE NOT EXISTS (SELECT FROM mailbox b WHERE "
         "b.account_id = c.account_id AND b.mailbox_id = c.mailbox_id AND b.modseq >= c.modseq)"},
        {"what others have seen is there",
         "SELECT count(*) FROM mailbox_seen s WHERE mail_range_count(uids) <> (SELECT count(*) FROM "
         "message m WHERE m.account_id = s.account_id AND m.mailbox_id = s.mailbox_id AND s.uids "
         "@> uid) OR user_id IN (0, account_id)"},
    };

    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (fixture_sql(rules[i].sql) != 0)
            broken("broken: %s", rules[i].what);
}
