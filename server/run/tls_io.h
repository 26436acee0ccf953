/* tls_io.h - TLS records in and out, without waiting: one place for connections that we take (conn.c) and that we make (dial.c). */
#pragma once
#include <openssl/ssl.h>
#include <stddef.h>
#include "server/base/str.h"

/* What an attempt to read or write came to, with TLS or without. */
enum io {
    IO_DONE,
    IO_END,              /* the peer's end */
    IO_FULL,             /* no room to read into */
    IO_BROKEN,
    IO_WANTS_READ,
    IO_WANTS_WRITE,
};

/* What a call of OpenSSL that failed means; its queue of errors was empty before the call. */
enum io tls_outcome(SSL *ssl, int result);
/* Never IO_FULL. */
enum io tls_receive(SSL *ssl, void *to, size_t size, size_t *got);
/* One record at most: a write that must be repeated then never comes with less than before. */
enum io tls_send(SSL *ssl, struct str s, size_t *sent);
