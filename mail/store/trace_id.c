/* trace_id.c - ids of messages and events: microseconds since 2020 above, the worker's lane below.
 *
 * 52 bits of time last until 2162. A worker never gives out a microsecond twice, so its ids grow even when the clock is set
 * back; two workers that share a lane would have to meet in one microsecond. */
#include "mail/store/trace.h"

#include "mail/store/trace_internal.h"
#include "server/base/date.h"
#include "server/base/encode.h"

#define EPOCH_US  INT64_C(1577836800000000) /* 2020-01-01 */
#define LANE_BITS 11
#define LANE_MASK ((1 << LANE_BITS) - 1)
#define TIME_MAX  ((INT64_C(1) << 52) - 1)

static int lane = -1; /* drawn at random until the database has given one */

void trace_lane_set(int64_t number)
{
    lane = (int)(number & LANE_MASK);
}

int64_t trace_id_new(void)
{
    static int64_t last_us;
    int64_t now_us = time_now_us() - EPOCH_US;

    if (lane < 0)
        trace_lane_set((int64_t)(random_u64() >> 1));
    last_us = now_us > last_us ? now_us : last_us + 1;
    return last_us << LANE_BITS | lane;
}

int64_t trace_id_time_us(int64_t trace_id)
{
    return (trace_id >> LANE_BITS) + EPOCH_US;
}

int64_t trace_id_at(int64_t unix_us)
{
    int64_t us = unix_us - EPOCH_US;

    us = us < 0 ? 0 : us > TIME_MAX ? TIME_MAX : us;
    return us << LANE_BITS;
}

/* ---- text: Crockford's alphabet has no I, L, O and U ------------------------------------------------ */

static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

const char *trace_id_text(int64_t trace_id, char out[TRACE_ID_TEXT_SIZE])
{
    uint64_t rest = (uint64_t)trace_id;

    out[TRACE_ID_TEXT_SIZE - 1] = '\0';
    for (int i = TRACE_ID_TEXT_SIZE - 2; i >= 0; i--, rest >>= 5)
        out[i] = digits[rest & 31];
    return out;
}

static int digit_value(char c)
{
    const char *at;

    c = ascii_upper(c);
    if (c == 'O')
        return 0;
    if (c == 'I' || c == 'L')
        return 1;
    at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

bool trace_id_parse(struct str text, int64_t *trace_id)
{
    uint64_t value = 0;

    if (text.n != TRACE_ID_TEXT_SIZE - 1 || digit_value(text.p[0]) > 7)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        int digit = digit_value(text.p[i]);
        if (digit < 0)
            return false;
        value = value << 5 | (uint64_t)digit;
    }
    *trace_id = (int64_t)value;
    return value > 0;
}
