/* guard_admin.c - what administrators do about held accounts. The database tells the workers (GUARD_TOPIC), each of which
 * repeats a release a little later for what was on its way into the queue. */
#include "mail/queue/guard_internal.h"

#include "mail/queue/queue.h"
#include "server/base/date.h"
#include "server/run/config.h"

#define TRACE_PAGE 1000
#define TRACED_MAX 20000 /* of one account: who has more knows by then */

void guard_trace(int64_t account_id, bool only_held, enum trace_kind kind, struct str text)
{
    struct outbound_filter f = {.account_id = account_id, .is_held = only_held};
    size_t count = TRACE_PAGE, total = 0;
    int64_t after_id = 0;
    int32_t after_no = 0;

    while (count == TRACE_PAGE && total < TRACED_MAX) {
        struct arena *a = arena_new();
        struct outbound_entry *v;

        if (outbound_list(a, &f, after_id, after_no, TRACE_PAGE, &v, &count, NULL) < 0)
            count = 0;
        for (size_t i = 0; i < count; i++) {
            if (v[i].trace_id != 0)
                trace_event(v[i].trace_id, kind, v[i].address, text);
            after_id = v[i].queue_id;
            after_no = v[i].no;
        }
        total += count;
        arena_free(&a);
    }
}

int guard_release(int64_t account_id, bool *was_held, int64_t *count, struct error *err)
{
    struct outbound_filter f = {.account_id = account_id, .is_held = true};

    if (guard_record_release(account_id, guard_hour(time_now_us()), config.guard_window, was_held,
                             err) < 0)
        return -1;
    guard_trace(account_id, true, TRACE_RELEASED, STR("by an administrator"));
    return outbound_release(&f, count, err);
}

int guard_purge(int64_t account_id, int64_t *count, struct error *err)
{
    struct outbound_filter f = {.account_id = account_id, .is_held = true};
    bool was_held;

    if (guard_record_purge(account_id, &was_held, err) < 0)
        return -1;
    guard_trace(account_id, true, TRACE_DELETED, STR("by an administrator"));
    return outbound_delete(&f, count, err);
}

int guard_set_off(int64_t account_id, bool is_off, struct error *err)
{
    return guard_record_set_off(account_id, is_off, err);
}
