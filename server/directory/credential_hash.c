/* credential_hash.c - crypt(3) strings and SCRAM verifiers, made and compared on helper threads.
 *
 * A hash takes tens of milliseconds of CPU by design. Nothing here reads the database. What the threads touch is
 * one struct per job with its own room for the answer; memory with a password in it is wiped. */
#include <assert.h>
#include <crypt.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "server/base/buf.h"
#include "server/base/encode.h"
#include "server/directory/credential_internal.h"
#include "server/directory/scram.h"
#include "server/run/channel.h"
#include "server/run/offload.h"

#define YESCRYPT_PREFIX "$y$"
/* App passwords hold 120 random bits: stretching them adds nothing but CPU to every log-in. */
#define RANDOM_PREFIX   "$5$"
#define RANDOM_ROUNDS   1000
#define SCRAM_TEXT_SIZE 256
#define HASHERS         4 /* fibers that keep the helper threads busy */

/* --- what libcrypt can verify ---------------------------------------------------------------------- */

/* The length of the digest behind the last '$' (bcrypt: with its salt), to tell a whole hash from a cut one. */
static const struct {
    struct str prefix;
    size_t tail_size;
} shapes[] = {
    {{"$y$", 3}, 43},  {{"$gy$", 4}, 43},   {{"$7$", 3}, 43}, {{"$2a$", 4}, 53}, {{"$2b$", 4}, 53},
    {{"$2x$", 4}, 53}, {{"$2y$", 4}, 53},   {{"$6$", 3}, 86}, {{"$5$", 3}, 43},  {{"$1$", 3}, 22},
    {{"$md5", 4}, 22}, {{"$sha1$", 6}, 28}, {{"$3$", 3}, 32},
};

#define DES_HASH_SIZE 13

static bool is_des(struct str hash)
{
    for (size_t i = 0; i < hash.n; i++) {
        char c = ascii_lower(hash.p[i]);
        if (!(c >= 'a' && c <= 'z') && !(c >= '.' && c <= '9'))
            return false;
    }
    return hash.n == DES_HASH_SIZE;
}

static bool has_whole_digest(struct str hash)
{
    struct str head, tail;

    if (!str_rcut(hash, '$', &head, &tail))
        return is_des(hash);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (str_starts(hash, shapes[i].prefix))
            return tail.n == shapes[i].tail_size;
    return tail.n > 0; /* a scheme newer than this table: libcrypt decides */
}

bool password_hash_supported(struct str crypt_string)
{
    char text[CRYPT_OUTPUT_SIZE];
    int verdict;

    if (crypt_string.n == 0 || crypt_string.n >= sizeof text ||
        memchr(crypt_string.p, '\0', crypt_string.n) != NULL)
        return false;
    memcpy(text, crypt_string.p, crypt_string.n);
    text[crypt_string.n] = '\0';
    verdict = crypt_checksalt(text);
    return verdict != CRYPT_SALT_INVALID && verdict != CRYPT_SALT_METHOD_DISABLED &&
           has_whole_digest(crypt_string);
}

/* Takes "{BLF-CRYPT}" off. The schemes whose value is a crypt(3) string, by Dovecot's names. */
static bool strip_scheme(struct str *hash, struct str *scheme)
{
    static const char *const crypt_schemes[] = {"CRYPT",        "BLF-CRYPT", "SHA512-CRYPT",
                                                "SHA256-CRYPT", "MD5-CRYPT", "DES-CRYPT",
                                                "ARGON2ID",     "ARGON2I",   "YESCRYPT"};
    ptrdiff_t end;

    *scheme = STR_NULL;
    if (hash->n == 0 || hash->p[0] != '{' || (end = str_index(*hash, '}')) < 0)
        return true;
    *scheme = str_of(hash->p + 1, (size_t)end - 1);
    *hash = str_from(*hash, (size_t)end + 1);
    for (size_t i = 0; i < sizeof crypt_schemes / sizeof *crypt_schemes; i++)
        if (str_ieq(*scheme, str_c(crypt_schemes[i])))
            return true;
    return false;
}

/* How to call a hash that we cannot verify: by its scheme's name, never by its text. */
static struct str scheme_name(struct str scheme, struct str hash)
{
    struct str name;

    if (scheme.n > 0)
        return str_head(scheme, 40);
    if (hash.n < 2 || hash.p[0] != '$' || !str_cut(str_from(hash, 1), '$', &name, &hash))
        return STR("unknown");
    return str_head(name, 40);
}

int password_hash_import(struct arena *a, struct str given, struct str *crypt_string,
                         struct error *err)
{
    struct str hash = str_trim(given), scheme, name;
    bool is_crypt = strip_scheme(&hash, &scheme);

    if (is_crypt && password_hash_supported(hash)) {
        *crypt_string = arena_str(a, hash);
        return 0;
    }
    name = scheme_name(scheme, hash);
    return fail(err, ERR_UNSUPPORTED,
                "password hashes of the scheme \"%.*s\" cannot be verified by this system's "
                "libcrypt, or the hash "
                "is cut short: set a new password instead",
                STR_ARG(name));
}

/* --- comparing ------------------------------------------------------------------------------------- */

struct comparison {
    char password[PASSWORD_SIZE_MAX + 1];
    const struct str *hashes;
    size_t count;
    ptrdiff_t match;
};

static bool crypt_equals(const char *password, struct str hash, void **room, int *room_size)
{
    char setting[CRYPT_OUTPUT_SIZE];
    const char *result;

    if (hash.n == 0 || hash.n >= sizeof setting)
        return false;
    memcpy(setting, hash.p, hash.n);
    setting[hash.n] = '\0';
    result = crypt_ra(password, setting, room, room_size);
    return result != NULL && result[0] != '*' && strlen(result) == hash.n &&
           bytes_equal_constant_time(result, hash.p, hash.n);
}

static void release_room(void *room, int size)
{
    if (room != NULL)
        OPENSSL_cleanse(room, (size_t)size);
    free(room);
}

static void compare_on_thread(void *arg)
{
    struct comparison *c = arg;
    void *room = NULL;
    int room_size = 0;

    c->match = -1;
    for (size_t i = 0; i < c->count && c->match < 0; i++)
        if (crypt_equals(c->password, c->hashes[i], &room, &room_size))
            c->match = (ptrdiff_t)i;
    release_room(room, room_size);
}

/* crypt(3) takes a C string: what does not fit one is nobody's password. */
static bool is_hashable(struct str password)
{
    return password.n > 0 && password.n <= PASSWORD_SIZE_MAX &&
           memchr(password.p, '\0', password.n) == NULL;
}

ptrdiff_t password_find_match(struct str password, const struct str *hashes, size_t count)
{
    struct comparison c = {.hashes = hashes, .count = count};

    if (!is_hashable(password))
        return -1;
    memcpy(c.password, password.p, password.n);
    offload(compare_on_thread, &c);
    OPENSSL_cleanse(c.password, sizeof c.password);
    return c.match;
}

bool password_matches(struct str password, struct str crypt_string)
{
    return password_find_match(password, &crypt_string, 1) == 0;
}

/* --- making ---------------------------------------------------------------------------------------- */

struct making {
    char password[PASSWORD_SIZE_MAX + 1];
    struct str salt;
    bool is_random;
    char crypt[CRYPT_OUTPUT_SIZE]; /* empty: failed */
    char scram[SCRAM_TEXT_SIZE];
};

static void make_crypt(struct making *m)
{
    void *room = NULL;
    int room_size = 0;
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];
    const char *result = NULL;

    if (crypt_gensalt_rn(m->is_random ? RANDOM_PREFIX : YESCRYPT_PREFIX,
                         m->is_random ? RANDOM_ROUNDS : 0, NULL, 0, setting,
                         sizeof setting) != NULL)
        result = crypt_ra(m->password, setting, &room, &room_size);
    if (result != NULL && result[0] != '*' && strlen(result) < sizeof m->crypt)
        strcpy(m->crypt, result);
    release_room(room, room_size);
}

static void make_scram(struct making *m)
{
    char fresh[SCRAM_SALT_SIZE];
    struct buf text;

    random_bytes(fresh, sizeof fresh);
    buf_init(&text, sizeof m->scram - 1);
    if (scram_verifier_add(&text, str_c(m->password),
                           m->salt.n > 0 ? m->salt : str_of(fresh, sizeof fresh), SCRAM_ITERATIONS))
        strcpy(m->scram, buf_c(&text));
    buf_fini(&text);
}

static void make_on_thread(void *arg)
{
    struct making *m = arg;

    make_crypt(m);
    if (m->crypt[0] != '\0')
        make_scram(m);
}

static int check_password(struct str password, struct error *err)
{
    if (password.n > PASSWORD_SIZE_MAX)
        return fail(err, ERR_TOO_BIG, "the password is longer than %d bytes", PASSWORD_SIZE_MAX);
    if (!is_hashable(password))
        return fail(err, ERR_SYNTAX, "the password holds a NUL");
    return 0;
}

static int make_one(struct arena *a, struct password_forms *f, struct error *err)
{
    struct making m = {.salt = f->salt, .is_random = f->is_random};

    if (f->password.n == 0)
        return 0;
    if (check_password(f->password, err) < 0)
        return -1;
    memcpy(m.password, f->password.p, f->password.n);
    offload(make_on_thread, &m);
    OPENSSL_cleanse(m.password, sizeof m.password);
    if (m.crypt[0] == '\0')
        return fail(err, ERR_INTERNAL, "this system's libcrypt cannot make yescrypt hashes");
    f->crypt = arena_str(a, str_c(m.crypt));
    f->scram = arena_str(a, str_c(m.scram));
    return 0;
}

/* Several fibers share one row of work; each takes the next that nobody has taken. */
struct crew {
    struct arena *arena;
    struct password_forms *forms;
    size_t next;
    size_t refused; /* index of the first that failed; at first: how many there are */
    unsigned busy;
    struct wait_queue ended;
    struct error error; /* of that one */
};

static void hash_for_crew(void *arg)
{
    struct crew *crew = arg;

    while (crew->next < crew->refused) {
        size_t at = crew->next++;
        struct error err = {0};
        if (make_one(crew->arena, &crew->forms[at], &err) < 0 && at < crew->refused) {
            crew->refused = at;
            crew->error = err;
        }
    }
    crew->busy--;
    wait_queue_wake_all(&crew->ended);
}

int password_forms_make(struct arena *a, struct password_forms *forms, size_t count, size_t *done,
                        struct error *err)
{
    struct crew crew = {.arena = a, .forms = forms, .refused = count};

    if (count == 1) {
        *done = make_one(a, forms, err) == 0;
        return *done == 1 ? 0 : -1;
    }
    wait_queue_init(&crew.ended);
    for (; crew.busy < HASHERS && crew.busy < count; crew.busy++)
        fiber_start("password_hasher", hash_for_crew, &crew);
    /* The crew works on our stack: cancelled or not, we wait for it. */
    while (crew.busy > 0)
        if (wait_queue_wait(&crew.ended, NO_DEADLINE) == WAKE_CANCELLED)
            fiber_yield();
    *done = crew.refused;
    return crew.refused == count ? 0 : fail(err, crew.error.kind, "%s", crew.error.text);
}

int password_hash(struct arena *a, struct str password, struct str *crypt_string, struct error *err)
{
    struct password_forms forms = {.password = password};

    if (password.n == 0)
        return fail(err, ERR_SYNTAX, "the password is empty");
    if (make_one(a, &forms, err) < 0)
        return -1;
    *crypt_string = forms.crypt;
    return 0;
}

int scram_verifier_make(struct arena *a, struct str password, struct str *verifier,
                        struct error *err)
{
    char salt[SCRAM_SALT_SIZE];
    struct buf text;
    bool is_made;

    random_bytes(salt, sizeof salt);
    buf_init(&text, SCRAM_TEXT_SIZE);
    is_made = scram_verifier_add(&text, password, str_of(salt, sizeof salt), SCRAM_ITERATIONS);
    *verifier = arena_str(a, buf_str(&text));
    buf_fini(&text);
    return is_made ? 0
                   : fail(err, ERR_SYNTAX, "the password holds characters that SASLprep forbids");
}
