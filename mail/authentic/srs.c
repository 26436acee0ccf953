/* srs.c - rewrites envelope senders and reads them again. The key is shared by all hosts of this server. */
#include "mail/authentic/srs.h"

#include "server/base/encode.h"
#include "server/directory/digest.h"
#include "server/directory/secret.h"
#include "server/run/config.h"

#define HASH_SIZE     6    /* characters of 5 bits: guessing one takes a thousand million tries */
#define DAYS_CYCLE    1024 /* what two characters can count */
#define DAY_S         86400
#define PATH_MAX_SIZE 254 /* RFC 5321, 4.5.3.1.3, without the angle brackets */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"; /* RFC 4648, 6 */

/* Of what stands behind the hash, in lower case. */
static int make_hash(struct arena *a, struct str kind, struct str rest, char out[HASH_SIZE],
                     struct error *err)
{
    uint8_t key[DIGEST_SIZE], digest[DIGEST_SIZE];
    struct str parts[] = {kind, arena_lower(a, rest)};

    if (secret_get(SECRET_SRS, key, err) < 0)
        return -1;
    hmac_sha256_list(digest_str(key), parts, 2, digest);
    for (size_t i = 0; i < HASH_SIZE; i++)
        out[i] = alphabet[digest[i] & 31];
    return 0;
}

static int check_hash(struct arena *a, struct str kind, struct str hash, struct str rest,
                      struct error *err)
{
    char wanted[HASH_SIZE], given[HASH_SIZE];

    if (make_hash(a, kind, rest, wanted, err) < 0)
        return -1;
    for (size_t i = 0; i < HASH_SIZE && hash.n == HASH_SIZE; i++)
        given[i] = ascii_upper(hash.p[i]);
    if (hash.n == HASH_SIZE && bytes_equal_constant_time(wanted, given, HASH_SIZE))
        return 0;
    return fail(err, ERR_DENIED, "this forwarding address was not made by this server");
}

/* ---- the day -------------------------------------------------------------------------------- */

static int64_t day_of(int64_t now_s)
{
    return now_s / DAY_S % DAYS_CYCLE;
}

static int digit_of(char c)
{
    const char *at = c == '\0' ? NULL : strchr(alphabet, ascii_upper(c));

    return at == NULL ? -1 : (int)(at - alphabet);
}

static int check_day(struct str text, int64_t now_s, struct error *err)
{
    int high = text.n == 2 ? digit_of(text.p[0]) : -1, low = text.n == 2 ? digit_of(text.p[1]) : -1;
    int64_t age_days;

    if (high < 0 || low < 0)
        return fail(err, ERR_SYNTAX, "this forwarding address is damaged");
    age_days = (day_of(now_s) - (high * 32 + low) + DAYS_CYCLE) % DAYS_CYCLE;
    /* A day ahead: the other host's clock, or the one of before. */
    if (age_days == DAYS_CYCLE - 1 || age_days * DAY_S * 1000 <= config.srs_age)
        return 0;
    return fail(err, ERR_DENIED, "this forwarding address has expired");
}

/* ---- there ---------------------------------------------------------------------------------- */

/* "SRS0=" or "SRS0+" or "SRS0-", as forwarders write it. */
static bool skip_kind(struct str *local, struct str kind)
{
    if (local->n <= kind.n || !str_istarts(*local, kind) ||
        strchr("=+-", local->p[kind.n]) == NULL || local->p[kind.n] == '\0')
        return false;
    *local = str_from(*local, kind.n + 1);
    return true;
}

static int put_hash(struct arena *a, struct str kind, struct str rest, struct str *out,
                    struct error *err)
{
    char hash[HASH_SIZE];

    if (make_hash(a, kind, rest, hash, err) < 0)
        return -1;
    *out = arena_printf(a, "%.*s=%.*s=%.*s", STR_ARG(kind), HASH_SIZE, hash, STR_ARG(rest));
    return 0;
}

static int rewrite_first(struct arena *a, struct str local, struct str domain, int64_t now_s,
                         struct str *out, struct error *err)
{
    int64_t day = day_of(now_s);
    struct str rest = arena_printf(a, "%c%c=%.*s=%.*s", alphabet[day / 32], alphabet[day % 32],
                                   STR_ARG(domain), STR_ARG(local));

    return put_hash(a, STR("SRS0"), rest, out, err);
}

/* An SRS1 address keeps its first forwarder: what it says behind "==" is meant for that one alone. False: it is
 * an ordinary address that only begins so. */
static bool first_forwarder(struct arena *a, struct str local, struct str domain, struct str *rest)
{
    struct str body = local, ignored, host, opaque;

    if (skip_kind(&body, STR("SRS0"))) {
        /* What stood behind SRS0, its separator too: the forwarder gets it back as he wrote it. */
        *rest = arena_printf(a, "%.*s=%.*s", STR_ARG(domain), STR_ARG(str_from(local, 4)));
        return body.n > 0;
    }
    if (!skip_kind(&body, STR("SRS1")) || !str_cut(body, '=', &ignored, &body) ||
        !str_cut(body, '=', &host, &opaque) || host.n == 0 || opaque.n < 2)
        return false;
    *rest = arena_printf(a, "%.*s=%.*s", STR_ARG(host), STR_ARG(opaque));
    return true;
}

PARKS int srs_rewrite(struct arena *a, struct str local, struct str domain, int64_t now_s,
                      struct str *out, struct error *err)
{
    struct str rest;
    int status = first_forwarder(a, local, domain, &rest)
                     ? put_hash(a, STR("SRS1"), rest, out, err)
                     : rewrite_first(a, local, domain, now_s, out, err);

    if (status < 0)
        return -1;
    if (out->n > PATH_MAX_SIZE)
        return fail(err, ERR_TOO_BIG, "the sender's address is too long to be forwarded");
    return 0;
}

/* ---- and back ------------------------------------------------------------------------------- */

bool srs_is_rewritten(struct str local)
{
    return skip_kind(&local, STR("SRS0")) || skip_kind(&local, STR("SRS1"));
}

static int restore_first(struct arena *a, struct str body, int64_t now_s, struct str *local,
                         struct str *domain, struct error *err)
{
    struct str hash, rest, day;

    if (!str_cut(body, '=', &hash, &rest) || !str_cut(rest, '=', &day, &body) ||
        !str_cut(body, '=', domain, local) || domain->n == 0 || local->n == 0)
        return fail(err, ERR_SYNTAX, "this forwarding address is damaged");
    if (check_hash(a, STR("SRS0"), hash, rest, err) < 0)
        return -1;
    return check_day(day, now_s, err);
}

/* The hash is ours and the day is the first forwarder's to check. */
static int restore_later(struct arena *a, struct str body, struct str *local, struct str *domain,
                         struct error *err)
{
    struct str hash, rest, opaque;

    if (!str_cut(body, '=', &hash, &rest) || !str_cut(rest, '=', domain, &opaque) ||
        domain->n == 0 || opaque.n < 2)
        return fail(err, ERR_SYNTAX, "this forwarding address is damaged");
    if (check_hash(a, STR("SRS1"), hash, rest, err) < 0)
        return -1;
    *local = arena_printf(a, "SRS0%.*s", STR_ARG(opaque));
    return 0;
}

PARKS int srs_restore(struct arena *a, struct str srs_local, int64_t now_s, struct str *local,
                      struct str *domain, struct error *err)
{
    if (skip_kind(&srs_local, STR("SRS0")))
        return restore_first(a, srs_local, now_s, local, domain, err);
    if (skip_kind(&srs_local, STR("SRS1")))
        return restore_later(a, srs_local, local, domain, err);
    return fail(err, ERR_SYNTAX, "this is no forwarding address");
}
