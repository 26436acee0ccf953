/* conn_tls.c - TLS between a connection and its socket.
 *
 * OpenSSL comes to the socket through a BIO of ours, so that what conn.c knows of it (may_read,
 * may_write) holds below TLS, too. */
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

#include "server/base/memory.h"
#include "server/run/conn_internal.h"
#include "server/run/metrics.h"
#include "server/run/tls.h"

#define HANDSHAKE_MS 30000

/* ---- OpenSSL's way to the socket ----------------------------------------------------------- */

static ssize_t take_ahead(struct conn *c, char *to, size_t size)
{
    struct str s = str_head(conn_buffer_str(&c->ahead), size);

    memcpy(to, s.p, s.n);
    conn_buffer_drop(&c->ahead, s.n);
    if (c->ahead.n == 0)
        conn_buffer_release(&c->ahead);
    return (ssize_t)s.n;
}

static int bio_read(BIO *bio, char *to, int size)
{
    struct conn *c = BIO_get_data(bio);
    ssize_t got =
        c->ahead.n > 0 ? take_ahead(c, to, (size_t)size) : conn_socket_receive(c, to, (size_t)size);

    BIO_clear_retry_flags(bio);
    if (got < 0 && errno == EAGAIN)
        BIO_set_retry_read(bio);
    if (got == 0)
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    return (int)got;
}

static int bio_write(BIO *bio, const char *p, int size)
{
    struct conn *c = BIO_get_data(bio);
    ssize_t sent = conn_socket_send(c, p, (size_t)size);

    BIO_clear_retry_flags(bio);
    if (sent < 0 && errno == EAGAIN)
        BIO_set_retry_write(bio);
    return (int)sent;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    if (command == BIO_CTRL_EOF)
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method;

static BIO *bio_new(struct conn *c)
{
    BIO *bio;

    if (bio_method == NULL) {
        bio_method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "connection");
        BIO_meth_set_read(bio_method, bio_read);
        BIO_meth_set_write(bio_method, bio_write);
        BIO_meth_set_ctrl(bio_method, bio_control);
    }
    bio = BIO_new(bio_method);
    if (bio == NULL)
        memory_exhausted("TLS session", 0);
    BIO_set_data(bio, c);
    BIO_set_init(bio, 1);
    return bio;
}

void conn_tls_fini(void)
{
    BIO_meth_free(bio_method);
    bio_method = NULL;
}

/* ---- records ------------------------------------------------------------------------------- */

static enum io or_break(struct conn *c, enum io io)
{
    if (io == IO_BROKEN)
        conn_break(c, ERR_CLOSED);
    return io;
}

enum io conn_tls_receive(struct conn *c, void *to, size_t size, size_t *got)
{
    if (!c->may_read &&
        !SSL_has_pending(c->ssl)) /* else OpenSSL would allocate 16 KiB to learn it */
        return IO_WANTS_READ;
    return or_break(c, tls_receive(c->ssl, to, size, got));
}

enum io conn_tls_send(struct conn *c, struct str s, size_t *sent)
{
    return or_break(c, tls_send(c->ssl, s, sent));
}

/* ---- the handshake ------------------------------------------------------------------------- */

static void describe_tls(struct conn *c)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(c->ssl);

    if (asprintf(&c->tls_text, "%s with cipher %s (%d bits)", SSL_get_version(c->ssl),
                 SSL_CIPHER_get_name(cipher), SSL_CIPHER_get_bits(cipher, NULL)) < 0)
        memory_exhausted("TLS description", 0);
}

static int failed_handshake(struct conn *c, const char *reason, struct error *err)
{
    metric_inc(METRIC_tls_handshakes_failed);
    log_info(&c->log, "tls_handshake_failed", KV("reason", reason));
    conn_break(c, ERR_CLOSED);
    return fail(err, ERR_CLOSED, "the TLS handshake failed");
}

static const char *alpn_name(const struct service *service)
{
    return strcmp(service->name, "http") == 0 ? "http/1.1" : service->name;
}

PARKS int conn_handshake(struct conn *c, struct error *err)
{
    int64_t deadline_ms = loop_deadline(HANDSHAKE_MS);
    BIO *bio = bio_new(c);

    c->ssl = tls_server_new(-1);
    SSL_set_bio(c->ssl, bio, bio);
    tls_set_protocol(c->ssl, alpn_name(c->service));
    for (;;) {
        int result;
        enum io io;
        enum wake wake;

        ERR_clear_error();
        result = SSL_do_handshake(c->ssl);
        if (result == 1)
            break;
        io = tls_outcome(c->ssl, result);
        if (io != IO_WANTS_READ && io != IO_WANTS_WRITE)
            return failed_handshake(c, tls_error_text(), err);
        wake = conn_park(c, io == IO_WANTS_READ ? WAIT_READ : WAIT_WRITE, deadline_ms);
        if (wake != WAKE_READY)
            return failed_handshake(c, wake == WAKE_TIMED_OUT ? "too slow" : "shutting down", err);
    }
    metric_inc(METRIC_tls_handshakes);
    describe_tls(c);
    return 0;
}

/* ---- what TLS tells ------------------------------------------------------------------------ */

struct str conn_tls_description(const struct conn *c)
{
    return str_c(c->tls_text);
}

struct str conn_tls_server_name(const struct conn *c)
{
    return c->ssl == NULL ? STR_NULL : str_c(SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name));
}

bool conn_tls_binding(const struct conn *c, const char *type, struct buf *out)
{
    return c->ssl != NULL && tls_binding(c->ssl, type, out);
}
