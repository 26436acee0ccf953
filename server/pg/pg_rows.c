/* pg_rows.c - values out of PostgreSQL's binary results.
 *
 * Integers are read by their size on the wire, so a query may change between int4 and int8 without
 * a change here. Asking for a column that the query does not have is our bug and stops the worker. */
#include <assert.h>
#include <endian.h>
#include "server/pg/pg_internal.h"

#define UNIX_EPOCH_US INT64_C(946684800000000) /* 2000-01-01, PostgreSQL's epoch, in Unix time */

void pg_rows_free(struct pg_rows *rows)
{
    PQclear(rows->result); /* harmless on NULL */
    *rows = (struct pg_rows){0};
}

int pg_column(const struct pg_rows *rows, const char *name)
{
    int count = PQnfields(rows->result);
    int column = 0;

    while (column < count && strcmp(PQfname(rows->result, column), name) != 0)
        column++;
    assert(column < count);
    return column;
}

/* ---- by column number ---------------------------------------------------------------------------- */

bool pg_null_at(const struct pg_rows *rows, size_t row, int column)
{
    assert(row < rows->count);
    return PQgetisnull(rows->result, (int)row, column);
}

struct str pg_str_at(const struct pg_rows *rows, size_t row, int column)
{
    assert(row < rows->count);
    return str_of(PQgetvalue(rows->result, (int)row, column),
                  (size_t)PQgetlength(rows->result, (int)row, column));
}

/* NULL has no bytes and reads as 0. */
static int64_t integer(const char *p, size_t size)
{
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;

    switch (size) {
    case 1:
        return p[0] != 0;
    case 2:
        memcpy(&u16, p, sizeof u16);
        return (int16_t)be16toh(u16);
    case 4:
        memcpy(&u32, p, sizeof u32);
        return (int32_t)be32toh(u32);
    case 8:
        memcpy(&u64, p, sizeof u64);
        return (int64_t)be64toh(u64);
    default:
        assert(size == 0);
        return 0;
    }
}

int64_t pg_i64_at(const struct pg_rows *rows, size_t row, int column)
{
    struct str s = pg_str_at(rows, row, column);

    return integer(s.p, s.n);
}

int64_t pg_time_us_at(const struct pg_rows *rows, size_t row, int column)
{
    int64_t unix_us;

    if (pg_null_at(rows, row, column))
        return 0;
    if (__builtin_add_overflow(pg_i64_at(rows, row, column), UNIX_EPOCH_US, &unix_us))
        return INT64_MAX; /* 'infinity' */
    return unix_us;
}

/* ---- by name --------------------------------------------------------------------------------------- */

bool pg_is_null(const struct pg_rows *rows, size_t row, const char *name)
{
    return pg_null_at(rows, row, pg_column(rows, name));
}

bool pg_get_bool(const struct pg_rows *rows, size_t row, const char *name)
{
    return pg_i64_at(rows, row, pg_column(rows, name)) != 0;
}

int32_t pg_get_i32(const struct pg_rows *rows, size_t row, const char *name)
{
    int column = pg_column(rows, name);

    assert(PQgetlength(rows->result, (int)row, column) <= 4);
    return (int32_t)pg_i64_at(rows, row, column);
}

uint32_t pg_get_u32(const struct pg_rows *rows, size_t row, const char *name)
{
    return (uint32_t)pg_i64_at(rows, row, pg_column(rows, name));
}

int64_t pg_get_i64(const struct pg_rows *rows, size_t row, const char *name)
{
    return pg_i64_at(rows, row, pg_column(rows, name));
}

struct str pg_get_str(const struct pg_rows *rows, size_t row, const char *name)
{
    return pg_str_at(rows, row, pg_column(rows, name));
}

int64_t pg_get_time_us(const struct pg_rows *rows, size_t row, const char *name)
{
    return pg_time_us_at(rows, row, pg_column(rows, name));
}

/* ---- arrays ---------------------------------------------------------------------------------------- */

static bool take_u32(struct str *rest, uint32_t *value)
{
    if (rest->n < sizeof *value)
        return false;
    memcpy(value, rest->p, sizeof *value);
    *value = be32toh(*value);
    *rest = str_from(*rest, sizeof *value);
    return true;
}

/* Reads the head of a one-dimensional array: the number of elements, each at least four bytes long. */
static size_t array_begin(struct str *rest)
{
    uint32_t dimensions, has_nulls, type, count, lower_bound;

    if (!take_u32(rest, &dimensions) || !take_u32(rest, &has_nulls) || !take_u32(rest, &type) ||
        dimensions != 1 || !take_u32(rest, &count) || !take_u32(rest, &lower_bound))
        return 0;
    return count <= rest->n / 4 ? count : 0;
}

static struct str array_next(struct str *rest)
{
    uint32_t size;
    struct str element;

    if (!take_u32(rest, &size) || size > rest->n) /* NULL is the size -1 */
        return STR_NULL;
    element = str_head(*rest, size);
    *rest = str_from(*rest, size);
    return element;
}

size_t pg_text_array_at(struct arena *a, const struct pg_rows *rows, size_t row, int column,
                        struct str **out)
{
    struct str rest = pg_str_at(rows, row, column);
    size_t count = array_begin(&rest);

    *out = ARENA_ARRAY(a, count, struct str);
    for (size_t i = 0; i < count; i++)
        (*out)[i] = array_next(&rest);
    return count;
}

size_t pg_i64_array_at(struct arena *a, const struct pg_rows *rows, size_t row, int column,
                       int64_t **out)
{
    struct str rest = pg_str_at(rows, row, column);
    size_t count = array_begin(&rest);

    *out = ARENA_ARRAY(a, count, int64_t);
    for (size_t i = 0; i < count; i++) {
        struct str element = array_next(&rest);
        (*out)[i] = integer(element.p, element.n);
    }
    return count;
}

size_t pg_find_i64(const struct pg_rows *rows, int column, int64_t value)
{
    size_t low = 0, high = rows->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (pg_i64_at(rows, middle, column) < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low < rows->count && pg_i64_at(rows, low, column) == value ? low : SIZE_MAX;
}
