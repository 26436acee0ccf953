/* pg_args.c - parameters in PostgreSQL's binary form.
 *
 * Texts and bytes are passed where they lie; numbers are turned round into the parameter block;
 * arrays are built in one buffer that the process keeps. libpq copies everything while sending. */
#include <assert.h>
#include <endian.h>
#include "server/base/buf.h"
#include "server/pg/pg_internal.h"

#define PARAMS_SIZE_MAX   ((size_t)1 << 30) /* PostgreSQL's own limit of one message */
#define SCRATCH_KEEP_MAX  ((size_t)1 << 20)
#define ARRAY_HEADER_SIZE 20
#define UNIX_EPOCH_US     INT64_C(946684800000000) /* 2000-01-01, PostgreSQL's epoch, in Unix time */

enum { OID_BYTEA = 17, OID_INT8 = 20, OID_INT4 = 23, OID_TEXT = 25 };

#define ONE_8 1, 1, 1, 1, 1, 1, 1, 1
const int pg_binary_formats[PG_PARAMS_MAX] = {ONE_8, ONE_8, ONE_8, ONE_8,
                                              ONE_8, ONE_8, ONE_8, ONE_8};

static struct buf scratch;

/* ---- arrays -------------------------------------------------------------------------------------- */

static size_t element_size(const struct pg_arg *arg, size_t i)
{
    switch (arg->type) {
    case PG_I32_ARRAY:
        return 4;
    case PG_I64_ARRAY:
        return 8;
    default:
        return ((const struct str *)arg->array.items)[i].n;
    }
}

static size_t array_size(const struct pg_arg *arg)
{
    size_t size = ARRAY_HEADER_SIZE;

    for (size_t i = 0; i < arg->array.count && size <= PARAMS_SIZE_MAX; i++)
        size += 4 + element_size(arg, i);
    return size;
}

static uint32_t array_element_oid(const struct pg_arg *arg)
{
    switch (arg->type) {
    case PG_I32_ARRAY:
        return OID_INT4;
    case PG_I64_ARRAY:
        return OID_INT8;
    case PG_TEXT_ARRAY:
        return OID_TEXT;
    default:
        return OID_BYTEA;
    }
}

static char *put_u32(char *at, uint32_t value)
{
    value = htobe32(value);
    memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

static char *put_element(char *at, const struct pg_arg *arg, size_t i)
{
    size_t size = element_size(arg, i);

    at = put_u32(at, (uint32_t)size);
    if (arg->type == PG_I32_ARRAY)
        return put_u32(at, (uint32_t)((const int32_t *)arg->array.items)[i]);
    if (arg->type == PG_I64_ARRAY) {
        uint64_t value = htobe64((uint64_t)((const int64_t *)arg->array.items)[i]);
        memcpy(at, &value, sizeof value);
    } else if (size > 0) {
        memcpy(at, ((const struct str *)arg->array.items)[i].p, size);
    }
    return at + size;
}

static char *put_array(char *at, const struct pg_arg *arg)
{
    at = put_u32(at, arg->array.count > 0); /* dimensions: an empty array has none */
    at = put_u32(at, 0);                    /* no NULLs inside */
    at = put_u32(at, array_element_oid(arg));
    if (arg->array.count == 0)
        return at;
    at = put_u32(at, (uint32_t)arg->array.count);
    at = put_u32(at, 1); /* first subscript */
    for (size_t i = 0; i < arg->array.count; i++)
        at = put_element(at, arg, i);
    return at;
}

/* ---- values -------------------------------------------------------------------------------------- */

/* Big-endian, so the last `size` bytes of the eight are the smaller types. */
static void set_number(struct pg_params *p, size_t i, uint64_t value, int size)
{
    p->numbers[i] = (int64_t)htobe64(value);
    p->values[i] = (const char *)&p->numbers[i] + (8 - size);
    p->sizes[i] = size;
}

static void set_float(struct pg_params *p, size_t i, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    set_number(p, i, bits, 8);
}

static void set_array(struct pg_params *p, size_t i, const struct pg_arg *arg)
{
    char *start = scratch.p + scratch.n;
    char *end = put_array(start, arg);

    buf_commit(&scratch, (size_t)(end - start));
    p->values[i] = start;
    p->sizes[i] = (int)(end - start);
}

static void set_value(struct pg_params *p, size_t i, const struct pg_arg *arg)
{
    switch (arg->type) {
    case PG_NULL:
        p->values[i] = NULL;
        p->sizes[i] = 0;
        break;
    case PG_BOOL:
        set_number(p, i, (uint64_t)arg->i, 1);
        break;
    case PG_I16:
        set_number(p, i, (uint64_t)arg->i, 2);
        break;
    case PG_I32:
        set_number(p, i, (uint64_t)arg->i, 4);
        break;
    case PG_I64:
        set_number(p, i, (uint64_t)arg->i, 8);
        break;
    case PG_TIME_US:
        set_number(p, i, (uint64_t)arg->i - (uint64_t)UNIX_EPOCH_US, 8);
        break;
    case PG_F64:
        set_float(p, i, arg->f);
        break;
    case PG_TEXT:
    case PG_BYTEA:
        p->values[i] = arg->s.n > 0 ? arg->s.p : ""; /* a null pointer would mean NULL */
        p->sizes[i] = (int)arg->s.n;
        break;
    default:
        set_array(p, i, arg);
    }
}

static bool is_array(const struct pg_arg *arg)
{
    return arg->type >= PG_I32_ARRAY;
}

static size_t value_size(const struct pg_arg *arg)
{
    if (arg->type == PG_TEXT || arg->type == PG_BYTEA)
        return arg->s.n;
    return is_array(arg) ? array_size(arg) : 8;
}

/* The arrays of one call lie one behind the other; the room is made before the first, so that none moves. */
static void scratch_prepare(size_t size)
{
    if (scratch.size_max == 0 || scratch.cap > SCRATCH_KEEP_MAX) {
        buf_fini(&scratch);
        buf_init(&scratch, PARAMS_SIZE_MAX);
    }
    buf_clear(&scratch);
    if (size > 0)
        buf_reserve(&scratch, size);
}

int pg_params_encode(struct pg_params *p, struct pg_args args, struct error *err)
{
    size_t arrays = 0;

    assert(args.n <= PG_PARAMS_MAX);
    p->total = 0;
    for (size_t i = 0; i < args.n; i++) {
        size_t size = value_size(&args.v[i]);

        if (size > PARAMS_SIZE_MAX || (p->total += size) > PARAMS_SIZE_MAX)
            return fail(err, ERR_TOO_BIG, "too large for the mail store");
        arrays += is_array(&args.v[i]) ? size : 0;
    }
    scratch_prepare(arrays);
    for (size_t i = 0; i < args.n; i++)
        set_value(p, i, &args.v[i]);
    return 0;
}
