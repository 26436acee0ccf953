/* scram.c - the arithmetic and the grammar of SCRAM. What to do with them is in sasl.c. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "server/base/encode.h"
#include "server/base/memory.h"
#include "server/base/utf8.h"
#include "server/directory/saslprep.h"
#include "server/directory/scram.h"

#define PREPARED_SIZE_MAX 4096

/* --- verifiers ------------------------------------------------------------------------------------- */

static bool decode(struct arena *a, struct str base64, struct str *out)
{
    struct buf bytes;
    bool is_good;

    buf_init(&bytes, SCRAM_MESSAGE_SIZE_MAX);
    is_good = base64_decode(&bytes, base64) && buf_ok(&bytes);
    *out = arena_str(a, buf_str(&bytes));
    buf_fini(&bytes);
    return is_good;
}

static bool decode_digest(struct arena *a, struct str base64, uint8_t out[DIGEST_SIZE])
{
    struct str bytes;

    if (!decode(a, base64, &bytes) || bytes.n != DIGEST_SIZE)
        return false;
    memcpy(out, bytes.p, DIGEST_SIZE);
    return true;
}

bool scram_verifier_parse(struct arena *a, struct str text, struct scram_verifier *out)
{
    struct str iterations, salt, stored_key, server_key;

    return str_skip_prefix(&text, STR("SCRAM-SHA-256$")) &&
           str_cut(text, ':', &iterations, &text) && str_to_u32(iterations, &out->iterations) &&
           out->iterations > 0 && out->iterations <= SCRAM_ITERATIONS_MAX &&
           str_cut(text, '$', &salt, &text) && decode(a, salt, &out->salt) && out->salt.n > 0 &&
           str_cut(text, ':', &stored_key, &server_key) &&
           decode_digest(a, stored_key, out->stored_key) &&
           decode_digest(a, server_key, out->server_key);
}

static void derive_keys(struct str prepared, struct str salt, uint32_t iterations,
                        uint8_t stored_key[DIGEST_SIZE], uint8_t server_key[DIGEST_SIZE])
{
    uint8_t salted[DIGEST_SIZE], client_key[DIGEST_SIZE];

    if (PKCS5_PBKDF2_HMAC(prepared.p, (int)prepared.n, (const unsigned char *)salt.p, (int)salt.n,
                          (int)iterations, EVP_sha256(), DIGEST_SIZE, salted) != 1)
        memory_exhausted("derive_keys", prepared.n);
    hmac_sha256(digest_str(salted), STR("Client Key"), client_key);
    hmac_sha256(digest_str(salted), STR("Server Key"), server_key);
    sha256(digest_str(client_key), stored_key);
    OPENSSL_cleanse(salted, sizeof salted);
    OPENSSL_cleanse(client_key, sizeof client_key);
}

bool scram_verifier_add(struct buf *out, struct str password, struct str salt, uint32_t iterations)
{
    uint8_t stored_key[DIGEST_SIZE], server_key[DIGEST_SIZE];
    struct buf prepared;
    bool is_good;

    buf_init(&prepared, PREPARED_SIZE_MAX);
    is_good = saslprep(password, &prepared) && prepared.n > 0;
    if (is_good) {
        derive_keys(buf_str(&prepared), salt, iterations, stored_key, server_key);
        buf_addf(out, "SCRAM-SHA-256$%u:", iterations);
        base64_encode(out, salt);
        buf_addc(out, '$');
        base64_encode(out, digest_str(stored_key));
        buf_addc(out, ':');
        base64_encode(out, digest_str(server_key));
    }
    if (prepared.n > 0)
        OPENSSL_cleanse(prepared.p, prepared.n);
    buf_fini(&prepared);
    return is_good && buf_ok(out);
}

/* --- messages -------------------------------------------------------------------------------------- */

/* saslname: ',' and '=' are written =2C and =3D, and no other '=' is legal (RFC 5802, 5.1). */
bool scram_unescape_name(struct arena *a, struct str text, struct str *out)
{
    char *to = arena_alloc(a, text.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] != '=') {
            to[n++] = text.p[i];
            continue;
        }
        struct str escape = str_head(str_from(text, i), 3);
        if (!str_eq(escape, STR("=2C")) && !str_eq(escape, STR("=3D")))
            return false;
        to[n++] = escape.p[2] == 'C' ? ',' : '=';
        i += 2;
    }
    *out = str_of(to, n);
    return true;
}

static bool is_nonce(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < 0x21 || s.p[i] > 0x7e || s.p[i] == ',')
            return false;
    return s.n > 0;
}

static bool is_binding_name(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = ascii_lower(s.p[i]);
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '.' && c != '-')
            return false;
    }
    return s.n > 0;
}

/* Takes "KEY=value" up to the next comma; a comma or the end must follow. */
static bool take_attribute(struct str *rest, char key, struct str *value)
{
    if (rest->n < 2 || rest->p[0] != key || rest->p[1] != '=')
        return false;
    str_cut(str_from(*rest, 2), ',', value, rest);
    return true;
}

static int malformed(struct error *err)
{
    return fail(err, ERR_SYNTAX, "malformed SCRAM message");
}

static bool parse_gs2_header(struct arena *a, struct str *rest, struct scram_client_first *out)
{
    struct str flag, authzid;

    if (!str_cut(*rest, ',', &flag, rest) || !str_cut(*rest, ',', &authzid, rest) || flag.n == 0)
        return false;
    out->binding_flag = flag.p[0];
    out->binding_type = STR_NULL;
    if (out->binding_flag == 'p') {
        if (!take_attribute(&flag, 'p', &out->binding_type) || !is_binding_name(out->binding_type))
            return false;
    } else if (flag.n != 1 || (flag.p[0] != 'n' && flag.p[0] != 'y')) {
        return false;
    }
    out->authzid = STR_NULL;
    if (authzid.n == 0)
        return true;
    return authzid.n > 2 && authzid.p[0] == 'a' && authzid.p[1] == '=' &&
           scram_unescape_name(a, str_from(authzid, 2), &out->authzid);
}

static bool is_message(struct str message)
{
    return message.n > 0 && message.n <= SCRAM_MESSAGE_SIZE_MAX && utf8_valid(message) &&
           memchr(message.p, '\0', message.n) == NULL;
}

int scram_parse_client_first(struct arena *a, struct str message, struct scram_client_first *out,
                             struct error *err)
{
    struct str rest = message, name;

    if (!is_message(message) || !parse_gs2_header(a, &rest, out))
        return malformed(err);
    out->gs2_header = str_head(message, message.n - rest.n);
    out->bare = rest;
    /* "m=" announces an extension that must be understood: none is, so it fails here as the RFC demands. */
    if (!take_attribute(&rest, 'n', &name) || !take_attribute(&rest, 'r', &out->nonce))
        return malformed(err);
    if (name.n == 0 || !scram_unescape_name(a, name, &out->name) || !is_nonce(out->nonce))
        return malformed(err);
    return 0;
}

int scram_parse_client_final(struct arena *a, struct str message, struct scram_client_final *out,
                             struct error *err)
{
    struct str rest = message, binding, proof;
    ptrdiff_t at;

    if (!is_message(message))
        return malformed(err);
    at = str_rindex(message, ',');
    if (at < 0)
        return malformed(err);
    out->without_proof = str_head(message, (size_t)at);
    proof = str_from(message, (size_t)at + 1);
    if (!str_starts(proof, STR("p=")) || !decode_digest(a, str_from(proof, 2), out->proof))
        return malformed(err);
    if (!take_attribute(&rest, 'c', &binding) || !decode(a, binding, &out->binding))
        return malformed(err);
    if (!take_attribute(&rest, 'r', &out->nonce) || !is_nonce(out->nonce))
        return malformed(err);
    return 0;
}

struct str scram_server_first(struct arena *a, struct str nonce, struct str salt,
                              uint32_t iterations)
{
    struct buf message;
    struct str out;

    buf_init(&message, 2 * SCRAM_MESSAGE_SIZE_MAX);
    buf_addf(&message, "r=%.*s,s=", STR_ARG(nonce));
    base64_encode(&message, salt);
    buf_addf(&message, ",i=%u", iterations);
    out = arena_str(a, buf_str(&message));
    buf_fini(&message);
    return out;
}

struct str scram_auth_message(struct arena *a, struct str client_first_bare,
                              struct str server_first, struct str client_final_without_proof)
{
    return arena_printf(a, "%.*s,%.*s,%.*s", STR_ARG(client_first_bare), STR_ARG(server_first),
                        STR_ARG(client_final_without_proof));
}

/* The proof is ClientKey XOR HMAC(StoredKey, AuthMessage), and StoredKey is the hash of ClientKey (RFC 5802, 3). */
bool scram_proof_matches(const struct scram_verifier *v, struct str auth_message,
                         const uint8_t proof[DIGEST_SIZE])
{
    uint8_t client_key[DIGEST_SIZE], stored_key[DIGEST_SIZE];

    hmac_sha256(digest_str(v->stored_key), auth_message, client_key);
    for (size_t i = 0; i < DIGEST_SIZE; i++)
        client_key[i] ^= proof[i];
    sha256(digest_str(client_key), stored_key);
    OPENSSL_cleanse(client_key, sizeof client_key);
    return bytes_equal_constant_time(stored_key, v->stored_key, DIGEST_SIZE);
}

struct str scram_server_final(struct arena *a, const struct scram_verifier *v,
                              struct str auth_message)
{
    uint8_t signature[DIGEST_SIZE];
    struct buf message;
    struct str out;

    hmac_sha256(digest_str(v->server_key), auth_message, signature);
    buf_init(&message, 128);
    buf_adds(&message, "v=");
    base64_encode(&message, digest_str(signature));
    out = arena_str(a, buf_str(&message));
    buf_fini(&message);
    return out;
}
