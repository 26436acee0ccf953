/* tls_io.c - OpenSSL's answers in our words. */
#include "server/run/tls_io.h"

#include <openssl/err.h>

#define RECORD_MAX 16384

enum io tls_outcome(SSL *ssl, int result)
{
    switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return IO_WANTS_READ;
    case SSL_ERROR_WANT_WRITE:
        return IO_WANTS_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return IO_END;
    default:
        return IO_BROKEN;
    }
}

enum io tls_receive(SSL *ssl, void *to, size_t size, size_t *got)
{
    int result;

    ERR_clear_error();
    result = SSL_read_ex(ssl, to, size, got);
    return result == 1 ? IO_DONE : tls_outcome(ssl, result);
}

enum io tls_send(SSL *ssl, struct str s, size_t *sent)
{
    int result;

    ERR_clear_error();
    result = SSL_write_ex(ssl, s.p, s.n < RECORD_MAX ? s.n : RECORD_MAX, sent);
    return result == 1 ? IO_DONE : tls_outcome(ssl, result);
}
