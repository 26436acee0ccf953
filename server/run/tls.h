/* tls.h - the server's certificates and its one TLS policy.
 *
 * One store for every protocol. Certificates come from settings, else a self-signed pair made in
 * DIR/tls with its CA. They are read again on SIGHUP and when a file changes; running sessions
 * keep the old one. TLS 1.2 and 1.3, stateless tickets, buffers released while idle. */
#pragma once
#include <openssl/ssl.h>
#include <stdbool.h>
#include "server/base/buf.h"
#include "server/base/error.h"
#include "server/base/str.h"

/* Supervisor, before workers: makes tls/{ca.pem,cert.pem,key.pem} below the data directory `dir` when no certificate
 * is configured. `names` are the DNS names and addresses it must hold; it is made again when one is missing, when
 * it is about to expire, or does not fit its key. The CA is kept (ca-key.pem), so clients that trust it go on doing so. */
int tls_prepare_self_signed(const char *dir, const struct str *names, size_t name_count, struct error *err);

/* Supervisor, before workers: draws the secret that all workers' session tickets share. A process without makes its own. */
void tls_prepare_tickets(void);

/* Worker: loads the certificate; later calls replace it. The old one stays when loading fails. */
int tls_load(const char *cert_path, const char *key_path, struct error *err);
/* Loads again when a file's identity, size or time changed: called by a timer and on SIGHUP. true when replaced. */
bool tls_reload_if_changed(void);
void tls_fini(void);

/* A server-side session over fd (-1: the caller sets a BIO); never NULL. tls_load() came before. */
SSL *tls_server_new(int fd);
/* What is spoken here, as ALPN names it (RFC 7301): "http/1.1", "imap". Borrowed. A client that offers this name gets it;
 * one that offers HTTP where something else is spoken is refused (a browser led astray). */
void tls_set_protocol(SSL *ssl, const char *alpn);
/* Why the last call failed, from OpenSSL's queue, which is emptied; never NULL. */
const char *tls_error_text(void);

/* Channel binding data of an open session (RFC 5929, 9266): "tls-exporter", "tls-server-end-point". False: there is none. */
bool tls_binding(SSL *ssl, const char *type, struct buf *out);
