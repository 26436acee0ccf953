/* smtp_client_auth.c - logging in at a relay (RFC 4954): SCRAM-SHA-256, PLAIN, LOGIN, the first that
 * both sides know. Passwords go in clear under TLS only, or to this very machine. */
#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "mail/queue/smtp_client_internal.h"
#include "server/base/encode.h"
#include "server/directory/digest.h"
#include "server/directory/saslprep.h"
#include "server/directory/scram.h"
#include "server/run/config.h"
#include "server/run/offload.h"

#define ITERATIONS_MAX 1000000 /* a second or so of a helper's time; no server asks for more */
#define NONCE_SIZE     24
#define SECRET         "AUTH ... (secret)"

/* ---- lines --------------------------------------------------------------------------------- */

static struct str in_base64(struct arena *a, struct str s)
{
    struct buf b;
    struct str out;

    buf_init(&b, SCRAM_MESSAGE_SIZE_MAX);
    base64_encode(&b, s);
    out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

/* What a 334 (or 235) carries, decoded. */
static bool challenge(struct smtp_client *c, struct arena *a, struct str *out)
{
    struct buf b;
    bool is_good;

    if (c->answer.line_count != 1)
        return false;
    buf_init(&b, SCRAM_MESSAGE_SIZE_MAX);
    is_good = base64_decode(&b, str_trim(c->answer.lines[0])) && buf_ok(&b);
    *out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return is_good;
}

static enum smtp_outcome say_secret(struct smtp_client *c, struct str line, int hundreds,
                                    struct error *err)
{
    smtp_client_say(c, line, SECRET);
    return smtp_client_expect(c, hundreds, config.delivery_command_timeout, err);
}

static enum smtp_outcome confused(struct smtp_client *c, struct error *err)
{
    c->is_broken = true;
    fail(err, ERR_SYNTAX, "the relay's part of logging in makes no sense");
    return SMTP_BROKEN;
}

/* ---- PLAIN and LOGIN ----------------------------------------------------------------------- */

static enum smtp_outcome login_plain(struct smtp_client *c, struct arena *a, struct str user,
                                     struct str password, struct error *err)
{
    struct str text = arena_printf(a, "%c%.*s%c%.*s", 0, STR_ARG(user), 0, STR_ARG(password));
    struct str line = in_base64(a, text);

    return say_secret(c, arena_printf(a, "AUTH PLAIN %.*s", STR_ARG(line)), 2, err);
}

static enum smtp_outcome login_login(struct smtp_client *c, struct arena *a, struct str user,
                                     struct str password, struct error *err)
{
    enum smtp_outcome outcome = say_secret(c, STR("AUTH LOGIN"), 3, err);

    if (outcome == SMTP_DONE)
        outcome = say_secret(c, in_base64(a, user), 3, err);
    if (outcome == SMTP_DONE)
        outcome = say_secret(c, in_base64(a, password), 2, err);
    return outcome;
}

/* ---- SCRAM-SHA-256 (RFC 5802, 7677) --------------------------------------------------------- */

struct salting {
    struct str password, salt; /* prepared */
    uint32_t iterations;
    uint8_t salted[DIGEST_SIZE];
};

static void salt_password(void *arg)
{
    struct salting *s = arg;

    PKCS5_PBKDF2_HMAC(s->password.p, (int)s->password.n, (const unsigned char *)s->salt.p,
                      (int)s->salt.n, (int)s->iterations, EVP_sha256(), DIGEST_SIZE, s->salted);
}

static struct str prepared(struct arena *a, struct str password)
{
    struct buf b;
    struct str out;

    buf_init(&b, 1024);
    out = saslprep(password, &b) ? arena_str(a, buf_str(&b)) : password;
    if (b.n > 0)
        OPENSSL_cleanse(b.p, b.n);
    buf_fini(&b);
    return out;
}

static struct str escaped_name(struct arena *a, struct str name)
{
    struct buf b;
    struct str out;

    buf_init(&b, 4096);
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == ',' || name.p[i] == '=')
            buf_adds(&b, name.p[i] == ',' ? "=2C" : "=3D");
        else
            buf_addc(&b, name.p[i]);
    }
    out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

/* "r=NONCE,s=SALT,i=4096": the nonce must begin with ours. */
static bool read_server_first(struct arena *a, struct str message, struct str nonce,
                              struct str *full_nonce, struct salting *out)
{
    struct str salt, iterations;
    struct buf b;
    bool is_good;

    if (!str_cut(message, ',', full_nonce, &salt) || !str_cut(salt, ',', &salt, &iterations))
        return false;
    str_cut(iterations, ',', &iterations, &(struct str){0});
    if (!str_starts(*full_nonce, STR("r=")) || !str_starts(salt, STR("s=")) ||
        !str_starts(iterations, STR("i=")))
        return false;
    *full_nonce = str_from(*full_nonce, 2);
    if (!str_starts(*full_nonce, nonce) || full_nonce->n == nonce.n ||
        !str_to_u32(str_from(iterations, 2), &out->iterations))
        return false;
    buf_init(&b, 1024);
    is_good = base64_decode(&b, str_from(salt, 2)) && buf_ok(&b) && b.n > 0;
    out->salt = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return is_good && out->iterations > 0 && out->iterations <= ITERATIONS_MAX;
}

struct proof {
    struct str text;      /* base64 */
    struct str signature; /* what the server must answer, base64 */
};

static void make_proof(struct arena *a, const struct salting *s, struct str auth_message,
                       struct proof *out)
{
    uint8_t client_key[DIGEST_SIZE], stored_key[DIGEST_SIZE], signature[DIGEST_SIZE];
    uint8_t server_key[DIGEST_SIZE];

    hmac_sha256(digest_str(s->salted), STR("Client Key"), client_key);
    hmac_sha256(digest_str(s->salted), STR("Server Key"), server_key);
    sha256(digest_str(client_key), stored_key);
    hmac_sha256(digest_str(stored_key), auth_message, signature);
    for (size_t i = 0; i < DIGEST_SIZE; i++)
        client_key[i] ^= signature[i];
    out->text = in_base64(a, digest_str(client_key));
    hmac_sha256(digest_str(server_key), auth_message, signature);
    out->signature = in_base64(a, digest_str(signature));
    OPENSSL_cleanse(client_key, sizeof client_key);
}

static enum smtp_outcome finish_scram(struct smtp_client *c, struct arena *a, struct str bare,
                                      struct str nonce, struct salting *s, struct error *err)
{
    struct str server_first, full_nonce, without_proof, auth_message, answer, line;
    enum smtp_outcome outcome;
    struct proof proof;

    if (!challenge(c, a, &server_first) ||
        !read_server_first(a, server_first, nonce, &full_nonce, s))
        return confused(c, err);
    offload(salt_password, s);
    without_proof = arena_printf(a, "c=biws,r=%.*s", STR_ARG(full_nonce));
    auth_message = scram_auth_message(a, bare, server_first, without_proof);
    make_proof(a, s, auth_message, &proof);
    line = arena_printf(a, "%.*s,p=%.*s", STR_ARG(without_proof), STR_ARG(proof.text));
    outcome = say_secret(c, in_base64(a, line), 3, err);
    if (outcome != SMTP_DONE)
        return outcome;
    /* A relay that does not know the password cannot sign: it is not the one we mean. */
    if (!challenge(c, a, &answer) ||
        !str_eq(answer, arena_printf(a, "v=%.*s", STR_ARG(proof.signature))))
        return confused(c, err);
    return say_secret(c, STR_NULL, 2, err);
}

static enum smtp_outcome login_scram(struct smtp_client *c, struct arena *a, struct str user,
                                     struct str password, struct error *err)
{
    char nonce[NONCE_SIZE + 1];
    struct str name = escaped_name(a, user), bare, first;
    struct salting s = {.password = prepared(a, password)};
    enum smtp_outcome outcome;

    random_text(nonce, NONCE_SIZE);
    bare = arena_printf(a, "n=%.*s,r=%s", STR_ARG(name), nonce);
    first = in_base64(a, arena_printf(a, "n,,%.*s", STR_ARG(bare)));
    outcome = say_secret(c, arena_printf(a, "AUTH SCRAM-SHA-256 %.*s", STR_ARG(first)), 3, err);
    if (outcome == SMTP_DONE)
        outcome = finish_scram(c, a, bare, str_c(nonce), &s, err);
    OPENSSL_cleanse(s.salted, sizeof s.salted);
    return outcome;
}

/* ---- choosing ------------------------------------------------------------------------------ */

static bool offers(const struct smtp_client *c, struct str mechanism)
{
    struct str rest = c->capabilities.auth, token;

    while (str_next_token(&rest, ' ', &token))
        if (str_ieq(token, mechanism))
            return true;
    return false;
}

static bool is_local(const struct sockaddr_storage *peer)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)peer;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)peer;

    if (peer->ss_family == AF_INET)
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    return peer->ss_family == AF_UNIX ||
           (peer->ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr));
}

PARKS enum smtp_outcome smtp_client_login(struct smtp_client *c, struct str user,
                                          struct str password, struct error *err)
{
    bool is_secure = dial_is_tls(c->dial) || is_local(dial_peer(c->dial));
    struct arena *a = arena_new();
    enum smtp_outcome outcome = SMTP_BROKEN;

    if (offers(c, STR("SCRAM-SHA-256")))
        outcome = login_scram(c, a, user, password, err);
    else if (is_secure && offers(c, STR("PLAIN")))
        outcome = login_plain(c, a, user, password, err);
    else if (is_secure && offers(c, STR("LOGIN")))
        outcome = login_login(c, a, user, password, err);
    else
        fail(err, ERR_UNSUPPORTED, "the relay offers no way of logging in that can be used here");
    arena_free(&a);
    return outcome;
}
