/* tls.c - one SSL_CTX for every protocol, its certificate, its tickets and its policy.
 *
 * A session holds a reference to the context it began with, so replacing the certificate is
 * replacing the pointer. Making the self-signed pair is tls_selfsigned.c's work. */
#include "server/run/tls.h"

#include <assert.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "server/base/log.h"
#include "server/base/memory.h"

/* Forward secrecy always; CBC suites remain for the mail servers and phones that know nothing newer. */
#define CIPHERS_TLS12   "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!eNULL"
#define TICKET_LIFE_S   (12 * 3600)
#define TICKET_KEY_SIZE 32

struct file_identity {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
};

static struct {
    SSL_CTX *context;
    char *cert_path, *key_path;
    struct file_identity cert, key; /* when they were last looked at */
} store;

/* The first error of the queue is the cause, what follows is where it was noticed. */
const char *tls_error_text(void)
{
    unsigned long code = ERR_peek_error();
    const char *text =
        ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);

    ERR_clear_error();
    return text == NULL ? "closed in the middle" : text;
}

/* ---- tickets ------------------------------------------------------------------------------- */
/* A ticket must open in every worker and must not open for ever: its keys are derived from one
 * secret, inherited through fork, and the number of the half day in which it was made. */

static struct {
    bool is_set;
    unsigned char secret[32];
} tickets;

struct ticket_keys {
    unsigned char name[16]; /* sent in clear: the epoch, and a check that it is ours */
    unsigned char cipher_key[TICKET_KEY_SIZE];
    unsigned char mac_key[TICKET_KEY_SIZE];
};

void tls_prepare_tickets(void)
{
    if (tickets.is_set)
        return;
    if (RAND_bytes(tickets.secret, sizeof tickets.secret) != 1)
        abort();
    tickets.is_set = true;
}

static bool derive(uint64_t epoch, const char *purpose, unsigned char *out, size_t size)
{
    unsigned char message[32] = {0}, digest[32];
    size_t digest_size;

    memcpy(message, &epoch, sizeof epoch);
    memcpy(message + sizeof epoch, purpose, strlen(purpose));
    if (EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, tickets.secret, sizeof tickets.secret,
                  message, sizeof message, digest, sizeof digest, &digest_size) == NULL)
        return false;
    memcpy(out, digest, size);
    return true;
}

static bool ticket_keys_of(uint64_t epoch, struct ticket_keys *keys)
{
    memcpy(keys->name, &epoch, sizeof epoch);
    return derive(epoch, "name", keys->name + sizeof epoch, sizeof keys->name - sizeof epoch) &&
           derive(epoch, "cipher", keys->cipher_key, sizeof keys->cipher_key) &&
           derive(epoch, "mac", keys->mac_key, sizeof keys->mac_key);
}

static bool ticket_mac_begin(EVP_MAC_CTX *mac, struct ticket_keys *keys)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, keys->mac_key, sizeof keys->mac_key),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

static int ticket_seal(uint64_t epoch, unsigned char *name, unsigned char *iv,
                       EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    struct ticket_keys keys;

    if (!ticket_keys_of(epoch, &keys) || RAND_bytes(iv, EVP_MAX_IV_LENGTH) != 1 ||
        EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, keys.cipher_key, iv) != 1 ||
        !ticket_mac_begin(mac, &keys))
        return -1;
    memcpy(name, keys.name, sizeof keys.name);
    return 1;
}

/* 0: not ours or too old, do a full handshake; 1: good; 2: good, and give the client a new one. */
static int ticket_open(uint64_t now, const unsigned char *name, unsigned char *iv,
                       EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    struct ticket_keys keys;
    uint64_t epoch;

    memcpy(&epoch, name, sizeof epoch);
    if (epoch > now || now - epoch > 1)
        return 0;
    if (!ticket_keys_of(epoch, &keys))
        return -1;
    if (CRYPTO_memcmp(keys.name, name, sizeof keys.name) != 0)
        return 0;
    if (EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, keys.cipher_key, iv) != 1 ||
        !ticket_mac_begin(mac, &keys))
        return -1;
    return epoch == now ? 1 : 2;
}

static int ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                      EVP_MAC_CTX *mac, int is_sealing)
{
    uint64_t epoch = (uint64_t)time(NULL) / TICKET_LIFE_S;

    return is_sealing ? ticket_seal(epoch, name, iv, cipher, mac)
                      : ticket_open(epoch, name, iv, cipher, mac);
}

/* ---- ALPN ---------------------------------------------------------------------------------- */

static bool is_offered(struct str offer, const char *name, struct str *found)
{
    while (offer.n > 0) {
        struct str one = str_head(str_from(offer, 1), (unsigned char)offer.p[0]);

        if (str_eq(one, str_c(name))) {
            *found = one;
            return true;
        }
        offer = str_from(offer, 1 + one.n);
    }
    return false;
}

/* A client that offers only names we never heard of is served without ALPN, as before there was any. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                           const unsigned char *in, unsigned in_size, void *unused)
{
    const char *ours = SSL_get_app_data(ssl);
    struct str offer = str_of((const char *)in, in_size), found;

    if (ours == NULL)
        ours = "http/1.1";
    if (is_offered(offer, ours, &found)) {
        *out = (const unsigned char *)found.p;
        *out_size = (unsigned char)found.n;
        return SSL_TLSEXT_ERR_OK;
    }
    if (strcmp(ours, "http/1.1") != 0 &&
        (is_offered(offer, "http/1.1", &found) || is_offered(offer, "h2", &found)))
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    return SSL_TLSEXT_ERR_NOACK;
}

void tls_set_protocol(SSL *ssl, const char *alpn)
{
    SSL_set_app_data(ssl, (void *)(uintptr_t)alpn);
}

/* ---- the context --------------------------------------------------------------------------- */

/* No prompt on a terminal: a key with a passphrase is an error. */
static int no_passphrase(char *to, int size, int is_writing, void *unused)
{
    return -1;
}

static SSL_CTX *context_new(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    if (context == NULL)
        memory_exhausted("TLS context", 0);
    tls_prepare_tickets();
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(context, CIPHERS_TLS12);
    /* A client that closes without close_notify is an end like any other: our protocols mark
     * their own ends, and half-closed clients still get their replies. */
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_PRIORITIZE_CHACHA |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"merpati", 7);
    SSL_CTX_set_timeout(context, TICKET_LIFE_S);
    SSL_CTX_set_num_tickets(context, 1);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(context, ticket_key);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    return context;
}

static int context_load(SSL_CTX *context, const char *cert_path, const char *key_path,
                        struct error *err)
{
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(context, cert_path) != 1)
        return fail(err, ERR_INTERNAL, "cannot use the certificate %s: %s", cert_path,
                    tls_error_text());
    if (SSL_CTX_use_PrivateKey_file(context, key_path, SSL_FILETYPE_PEM) != 1)
        return fail(err, ERR_INTERNAL, "cannot use the private key %s: %s", key_path,
                    tls_error_text());
    if (SSL_CTX_check_private_key(context) != 1)
        return fail(err, ERR_INTERNAL, "the private key %s does not belong to the certificate %s",
                    key_path, cert_path);
    return 0;
}

/* ---- loading and reloading ----------------------------------------------------------------- */

static void identify(const char *path, struct file_identity *out)
{
    struct stat st;

    memset(out, 0, sizeof *out);
    if (stat(path, &st) == 0) {
        out->device = st.st_dev;
        out->inode = st.st_ino;
        out->size = st.st_size;
        out->modified = st.st_mtim;
        out->changed = st.st_ctim;
    }
}

static void remember_paths(const char *cert_path, const char *key_path)
{
    char *cert = memory_copy_str(str_c(cert_path)), *key = memory_copy_str(str_c(key_path));

    free(store.cert_path); /* the arguments may point into these */
    free(store.key_path);
    store.cert_path = cert;
    store.key_path = key;
}

int tls_load(const char *cert_path, const char *key_path, struct error *err)
{
    struct file_identity cert, key;
    SSL_CTX *context = context_new();

    /* Before reading: what changes meanwhile is then seen by the next look. */
    identify(cert_path, &cert);
    identify(key_path, &key);
    if (context_load(context, cert_path, key_path, err) < 0) {
        SSL_CTX_free(context);
        return -1;
    }
    SSL_CTX_free(store.context);
    store.context = context;
    store.cert = cert;
    store.key = key;
    remember_paths(cert_path, key_path);
    return 0;
}

bool tls_reload_if_changed(void)
{
    struct file_identity cert, key;
    struct error err = {0};

    if (store.context == NULL)
        return false;
    identify(store.cert_path, &cert);
    identify(store.key_path, &key);
    if (memcmp(&cert, &store.cert, sizeof cert) == 0 && memcmp(&key, &store.key, sizeof key) == 0)
        return false;
    if (tls_load(store.cert_path, store.key_path, &err) < 0) {
        /* Perhaps one of the two files is still to come; the next change is looked at again. */
        store.cert = cert;
        store.key = key;
        log_warn(NULL, "certificate_not_replaced", KV_ERR(&err));
        return false;
    }
    log_info(NULL, "certificate_replaced", KV("file", store.cert_path));
    return true;
}

void tls_fini(void)
{
    SSL_CTX_free(store.context);
    free(store.cert_path);
    free(store.key_path);
    memset(&store, 0, sizeof store);
}

SSL *tls_server_new(int fd)
{
    SSL *ssl;

    assert(store.context != NULL);
    ssl = SSL_new(store.context);
    if (ssl == NULL || (fd >= 0 && SSL_set_fd(ssl, fd) != 1))
        memory_exhausted("TLS session", 0);
    SSL_set_accept_state(ssl);
    return ssl;
}

/* ---- channel binding ----------------------------------------------------------------------- */

/* RFC 9266, 2 and 3. Below TLS 1.3 it binds only with an extended master secret (RFC 7627). */
static bool add_exporter(SSL *ssl, struct buf *out)
{
    static const char label[] = "EXPORTER-Channel-Binding";
    unsigned char data[32];

    if (SSL_version(ssl) < TLS1_3_VERSION && SSL_get_extms_support(ssl) != 1)
        return false;
    if (SSL_export_keying_material(ssl, data, sizeof data, label, sizeof label - 1,
                                   (const unsigned char *)"", 0, 1) != 1)
        return false;
    buf_add_bytes(out, data, sizeof data);
    return true;
}

/* RFC 5929, 4.1: the hash of the certificate's signature, but never weaker than SHA-256. */
static const EVP_MD *end_point_hash(X509 *certificate)
{
    int hash = NID_undef;

    if (OBJ_find_sigid_algs(X509_get_signature_nid(certificate), &hash, NULL) != 1 ||
        hash == NID_undef)
        return NULL;
    if (hash == NID_md5 || hash == NID_sha1)
        return EVP_sha256();
    return EVP_get_digestbynid(hash);
}

static bool add_server_end_point(SSL *ssl, struct buf *out)
{
    X509 *certificate = SSL_get_certificate(ssl);
    const EVP_MD *hash = certificate == NULL ? NULL : end_point_hash(certificate);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size;

    if (hash == NULL || X509_digest(certificate, hash, digest, &size) != 1)
        return false;
    buf_add_bytes(out, digest, size);
    return true;
}

bool tls_binding(SSL *ssl, const char *type, struct buf *out)
{
    if (strcmp(type, "tls-exporter") == 0)
        return add_exporter(ssl, out);
    if (strcmp(type, "tls-server-end-point") == 0)
        return add_server_end_point(ssl, out);
    return false;
}
