/* dial_tls.c - TLS on connections that we make: one context per worker, verification by PKIX or
 * DANE, and a few remembered sessions.
 *
 * A session is remembered under all that was asked of it (host, port, names, records), so a
 * resumed one was verified by the same rules; what failed its check is never remembered. */
#include <arpa/inet.h>
#include <assert.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/list.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/base/memory.h"
#include "server/run/config.h"
#include "server/run/dial_internal.h"
#include "server/run/loop.h"
#include "server/run/offload.h"
#include "server/run/tls.h"

#define NAME_SIZE_MAX   255
#define SESSIONS_MAX    256
#define SESSION_LIFE_MS (3600 * 1000)
#define CHAIN_DEPTH_MAX 10

enum { TLSA_USAGE_TA = 2, TLSA_USAGE_EE = 3 };

struct session {
    struct list link; /* the oldest first */
    struct str key;
    SSL_SESSION *tls;
    int64_t until_ms;
};

static struct {
    SSL_CTX *context;
    struct map *sessions;
    struct list order;
} client;

/* ---- remembered sessions ------------------------------------------------------------------- */

static void session_forget(struct session *s)
{
    map_remove(client.sessions, s->key);
    list_remove(&s->link);
    SSL_SESSION_free(s->tls);
    free((char *)(uintptr_t)s->key.p);
    free(s);
}

static void session_put(struct str key, SSL_SESSION *tls)
{
    struct session *s = map_get(client.sessions, key);

    if (s != NULL)
        session_forget(s);
    if (map_count(client.sessions) >= SESSIONS_MAX)
        session_forget(CONTAINER_OF(client.order.next, struct session, link));
    s = memory_alloc(sizeof *s);
    s->key = str_of(memory_copy_str(key), key.n);
    s->tls = tls;
    s->until_ms = loop_deadline(SESSION_LIFE_MS);
    list_append(&client.order, &s->link);
    map_put(client.sessions, key, s);
}

/* A ticket is used once (RFC 8446, C.4). */
static void session_take(struct dial *d)
{
    struct session *s = map_get(client.sessions, d->session_key);

    if (s == NULL)
        return;
    if (s->until_ms > loop_now_ms())
        SSL_set_session(d->ssl, s->tls);
    session_forget(s);
}

/* OpenSSL offers each new session; 1 keeps it. */
static int session_came(SSL *ssl, SSL_SESSION *tls)
{
    struct dial *d = SSL_get_app_data(ssl);

    if (d->session_key.n == 0 || !SSL_SESSION_is_resumable(tls))
        return 0;
    session_put(d->session_key, tls);
    return 1;
}

static void add_key_part(struct buf *key, struct str part)
{
    buf_addf(key, "%zu:", part.n);
    buf_add(key, part);
}

static void remember_key(struct dial *d, const struct dial_tls *tls)
{
    struct buf key;
    size_t n;

    buf_init(&key, 64 << 10);
    buf_add_bytes(&key, &d->peer, sizeof d->peer);
    buf_addf(&key, "%d", (int)tls->verify);
    add_key_part(&key, tls->server_name);
    for (size_t i = 0; i < tls->name_count; i++)
        add_key_part(&key, tls->names[i]);
    buf_addc(&key, ';');
    for (size_t i = 0; i < tls->tlsa_count; i++)
        add_key_part(&key, tls->tlsa[i]);
    if (buf_ok(&key)) {
        d->session_key.p = buf_take(&key, &n);
        d->session_key.n = n;
    }
    buf_fini(&key);
}

/* ---- the context --------------------------------------------------------------------------- */

struct making {
    SSL_CTX *context;
    const char *ca_file;
    bool ca_failed;
};

/* On a helper thread: a system's CA store has some 150 certificates to be read. */
static void make_context(void *arg)
{
    struct making *m = arg;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    if (context == NULL)
        memory_exhausted("TLS context", 0);
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, session_came);
    SSL_CTX_set_verify_depth(context, CHAIN_DEPTH_MAX);
    SSL_CTX_set_default_verify_paths(context);
    if (m->ca_file[0] != '\0' && SSL_CTX_load_verify_file(context, m->ca_file) != 1)
        m->ca_failed = true;
    if (SSL_CTX_dane_enable(context) != 1)
        memory_exhausted("TLS context", 0);
    ERR_clear_error();
    m->context = context;
}

/* Two fibers may come here at once; the second one's context is thrown away. */
static void need_context(void)
{
    struct making m = {.ca_file = config.tls_ca_file};

    if (client.context != NULL)
        return;
    offload(make_context, &m);
    if (client.context != NULL) {
        SSL_CTX_free(m.context);
        return;
    }
    if (m.ca_failed)
        log_error(NULL, "tls_ca_file_unreadable", KV("file", config.tls_ca_file));
    client.context = m.context;
    client.sessions = map_new();
    list_init(&client.order);
}

void dial_fini(void)
{
    if (client.context == NULL)
        return;
    while (!list_is_empty(&client.order))
        session_forget(CONTAINER_OF(client.order.next, struct session, link));
    map_free(&client.sessions);
    SSL_CTX_free(client.context);
    client.context = NULL;
}

void dial_tls_free(struct dial *d)
{
    if (d->ssl != NULL && SSL_is_init_finished(d->ssl) && !dial_failed(d)) {
        ERR_clear_error();
        SSL_shutdown(d->ssl);
    }
    SSL_free(d->ssl);
    free(d->tls_text);
    free((char *)(uintptr_t)d->session_key.p);
}

/* ---- records ------------------------------------------------------------------------------- */

static enum io or_break(struct dial *d, enum io io)
{
    if (io == IO_BROKEN)
        dial_break(d, ERR_CLOSED, "the TLS connection broke", NULL);
    return io;
}

enum io dial_tls_receive(struct dial *d, void *to, size_t size, size_t *got)
{
    return or_break(d, tls_receive(d->ssl, to, size, got));
}

enum io dial_tls_send(struct dial *d, struct str s, size_t *sent)
{
    return or_break(d, tls_send(d->ssl, s, sent));
}

/* ---- what is asked of the peer ------------------------------------------------------------- */

/* A C string of a name that may be one; NULs in it make it none. */
static bool name_c(struct str name, char out[NAME_SIZE_MAX + 1])
{
    if (name.n == 0 || name.n > NAME_SIZE_MAX || memchr(name.p, '\0', name.n) != NULL)
        return false;
    memcpy(out, name.p, name.n);
    out[name.n] = '\0';
    return true;
}

static bool is_address(const char *name)
{
    unsigned char binary[16];

    return inet_pton(AF_INET, name, binary) == 1 || inet_pton(AF_INET6, name, binary) == 1;
}

static void want_name(SSL *ssl, struct str name)
{
    char text[NAME_SIZE_MAX + 1];

    if (!name_c(name, text))
        return;
    if (is_address(text))
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), text);
    else
        SSL_add1_host(ssl, text);
}

/* RFC 7672, 3.1: usages 0 and 1 have no place with SMTP. */
static bool tlsa_is_usable(struct str record)
{
    static const size_t sizes[] = {0, 32, 64};
    unsigned usage, selector, matching;

    if (record.n < 4)
        return false;
    usage = (unsigned char)record.p[0];
    selector = (unsigned char)record.p[1];
    matching = (unsigned char)record.p[2];
    if ((usage != TLSA_USAGE_TA && usage != TLSA_USAGE_EE) || selector > 1 || matching > 2)
        return false;
    return matching == 0 || record.n - 3 == sizes[matching];
}

size_t dial_tlsa_usable(const struct str *tlsa, size_t count)
{
    size_t usable = 0;

    for (size_t i = 0; i < count; i++)
        usable += tlsa_is_usable(tlsa[i]);
    return usable;
}

static bool want_tlsa(SSL *ssl, const struct dial_tls *tls, const char *base)
{
    bool has_any = false;

    if (SSL_dane_enable(ssl, base) != 1)
        return false;
    /* RFC 7672, 3.1.1: with DANE-EE neither names nor dates count. */
    SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
    for (size_t i = 0; i < tls->tlsa_count; i++) {
        const unsigned char *p = (const unsigned char *)tls->tlsa[i].p;

        if (tlsa_is_usable(tls->tlsa[i]) &&
            SSL_dane_tlsa_add(ssl, p[0], p[1], p[2], p + 3, tls->tlsa[i].n - 3) > 0)
            has_any = true;
    }
    ERR_clear_error();
    return has_any;
}

static void want_alpn(SSL *ssl, const char *alpn)
{
    unsigned char wire[64];
    size_t n = strlen(alpn);

    assert(n < sizeof wire);
    wire[0] = (unsigned char)n;
    memcpy(wire + 1, alpn, n);
    SSL_set_alpn_protos(ssl, wire, (unsigned)n + 1);
}

static bool prepare(struct dial *d, const struct dial_tls *tls)
{
    char name[NAME_SIZE_MAX + 1];
    bool has_name = name_c(tls->server_name, name) && !is_address(name);

    SSL_set_verify(d->ssl, tls->verify == DIAL_TLS_ANY ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    SSL_set_hostflags(d->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (tls->verify == DIAL_TLS_DANE && !want_tlsa(d->ssl, tls, has_name ? name : NULL)) {
        d->tls_result = DIAL_TLS_NO_TLSA;
        return false;
    }
    if (has_name)
        SSL_set_tlsext_host_name(d->ssl, name);
    if (tls->alpn != NULL)
        want_alpn(d->ssl, tls->alpn);
    if (tls->needs_close_notify)
        SSL_clear_options(d->ssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
    if (tls->name_count == 0)
        want_name(d->ssl, tls->server_name);
    for (size_t i = 0; i < tls->name_count; i++)
        want_name(d->ssl, tls->names[i]);
    return true;
}

/* ---- the handshake ------------------------------------------------------------------------- */

static enum dial_tls_result judge(long verify_result)
{
    switch (verify_result) {
    case X509_V_OK:
        return DIAL_TLS_OK;
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return DIAL_TLS_EXPIRED;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return DIAL_TLS_NAME;
    default:
        return DIAL_TLS_UNTRUSTED;
    }
}

static int failed_handshake(struct dial *d, struct error *err)
{
    long verify_result = SSL_get_verify_result(d->ssl);
    const char *reason = tls_error_text();
    char text[200];

    if (verify_result != X509_V_OK && SSL_get_verify_mode(d->ssl) != SSL_VERIFY_NONE) {
        d->tls_result = judge(verify_result);
        snprintf(text, sizeof text, "the certificate was refused: %s",
                 X509_verify_cert_error_string(verify_result));
        d->failure = (struct error){0};
        return dial_break(d, ERR_DENIED, text, err);
    }
    snprintf(text, sizeof text, "the TLS handshake failed: %s", reason);
    d->failure = (struct error){0};
    return dial_break(d, ERR_CLOSED, text, err);
}

static int shake_hands(struct dial *d, struct error *err)
{
    for (;;) {
        int result, reason;

        ERR_clear_error();
        result = SSL_connect(d->ssl);
        if (result == 1)
            return 0;
        reason = SSL_get_error(d->ssl, result);
        if (reason != SSL_ERROR_WANT_READ && reason != SSL_ERROR_WANT_WRITE)
            return failed_handshake(d, err);
        if (dial_wait(d, reason == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT, err) < 0)
            return -1;
    }
}

static void describe(struct dial *d)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(d->ssl);

    if (asprintf(&d->tls_text, "%s with cipher %s (%d bits)", SSL_get_version(d->ssl),
                 SSL_CIPHER_get_name(cipher), SSL_CIPHER_get_bits(cipher, NULL)) < 0)
        memory_exhausted("TLS description", 0);
}

PARKS int dial_start_tls(struct dial *d, const struct dial_tls *tls, struct error *err)
{
    assert(d->ssl == NULL);
    if (dial_flush(d, err) < 0)
        return -1;
    need_context();
    d->tls_result = DIAL_TLS_FAILED;
    if (d->in.n > 0) { /* or an attacker's line would be taken for the peer's (RFC 3207, 6) */
        conn_buffer_release(&d->in);
        return dial_break(d, ERR_SYNTAX, "something was sent ahead of the TLS handshake", err);
    }
    d->ssl = SSL_new(client.context);
    if (d->ssl == NULL || SSL_set_fd(d->ssl, d->fd) != 1)
        memory_exhausted("TLS session", 0);
    SSL_set_app_data(d->ssl, d);
    if (!prepare(d, tls))
        return dial_break(d, ERR_DENIED, "none of the TLSA records is usable", err);
    remember_key(d, tls);
    session_take(d);
    if (shake_hands(d, err) < 0)
        return -1;
    d->tls_result = judge(SSL_get_verify_result(d->ssl));
    describe(d);
    return 0;
}

/* ---- what TLS tells ------------------------------------------------------------------------ */

bool dial_is_tls(const struct dial *d)
{
    return d->ssl != NULL;
}

enum dial_tls_result dial_tls_result(const struct dial *d)
{
    return d->tls_result;
}

bool dial_tls_was_resumed(const struct dial *d)
{
    return d->ssl != NULL && SSL_session_reused(d->ssl) == 1;
}

struct str dial_tls_description(const struct dial *d)
{
    return str_c(d->tls_text);
}
