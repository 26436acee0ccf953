/* dial_internal.h - what dial.c (bytes) and dial_tls.c share. */
#pragma once
#include <netinet/in.h>
#include <openssl/ssl.h>
#include "server/run/conn_buffer.h"
#include "server/run/dial.h"
#include "server/run/tls_io.h"

#define DIAL_MAGIC 0xd1a1d1a1u

struct dial {
    unsigned magic;
    int fd;
    SSL *ssl;
    struct conn_buffer in, out;
    struct error failure;                               /* the first one; kind ERR_NONE: none */
    int64_t deadline_ms, end_ms;
    bool is_eof;
    enum dial_tls_result tls_result;
    char *tls_text;
    struct str session_key;                             /* what a TLS session that may be resumed is remembered by; owned */
    struct sockaddr_storage peer, local;
    char peer_text[INET6_ADDRSTRLEN];
};

/* --- dial.c --- */
/* Remembers the first failure; -1. */
int dial_break(struct dial *d, enum error_kind kind, const char *text, struct error *err);
/* Waits for the socket until the deadline or the end; a failure sticks. */
PARKS int dial_wait(struct dial *d, uint32_t events, struct error *err);

/* --- dial_tls.c --- */
enum io dial_tls_receive(struct dial *d, void *to, size_t size, size_t *got);
enum io dial_tls_send(struct dial *d, struct str s, size_t *sent);
void dial_tls_free(struct dial *d);
