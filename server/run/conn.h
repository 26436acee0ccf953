/* conn.h - a client's connection: plain or TLS, lines, literals and blocks, with limits.
 *
 * A connection at rest owns no stack and no buffer. When input, a wake or the end of its time
 * arrives, the runtime lends it a pooled fiber and calls its service's step (service.h).
 *
 * Writes go to a buffer and errors stick: replies go unchecked, and the next read tells. Reading
 * flushes pending replies before it parks, so pipelined commands share one write. Slices
 * from a read are borrowed until the next read or conn_consume on the same connection. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "server/base/buf.h"
#include "server/base/error.h"
#include "server/base/log.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

struct conn;

/* --- reading: all fail with ERR_CLOSED, ERR_TIMED_OUT or ERR_CANCELLED (draining, at rest) --- */

/* A line without its end. It ends at LF; a CR before that is dropped too, and conn_line_had_cr() says
 * whether there was one. Longer than size_max: the rest of the line is read and thrown away (up to
 * 16 MiB, then ERR_CLOSED), and ERR_TOO_BIG is the answer, with at least the line's first
 * CONN_LONG_LINE_HEAD bytes in `line` (NULs behind a shorter one) until the next park; the connection stays usable. */
#define CONN_LONG_LINE_HEAD 128
PARKS int conn_read_line(struct conn *c, size_t size_max, struct str *line, struct error *err);
bool conn_line_had_cr(const struct conn *c);

PARKS int conn_read_exact(struct conn *c, void *to, size_t size, struct error *err);

/* Block reading: waits until the input buffer holds something new, and shows all of it. */
PARKS int conn_fill(struct conn *c, struct error *err);
struct str conn_peek(const struct conn *c);
void conn_consume(struct conn *c, size_t size);

/* A read would not wait: a pipelined command is buffered here or inside TLS. Also true when the next read will
 * fail: the client has closed, the rest timed out, the server drains. A step that was called for a wake asks
 * this before it reads. */
bool conn_has_input(struct conn *c);

/* --- writing: PARKS because a slow reader makes the writer wait once 256 KiB are pending ------ */
PARKS void conn_write(struct conn *c, struct str s);
PARKS void conn_printf(struct conn *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
PARKS int conn_flush(struct conn *c, struct error *err);
/* Less may pend: for clients that nobody knows yet. SIZE_MAX: as at first. */
void conn_set_output_max(struct conn *c, size_t size_max);
bool conn_failed(const struct conn *c);                 /* closed, reset or timed out: nothing more will go out */

/* --- time ------------------------------------------------------------------------------------ */
/* Every wait until the next call ends at `duration_ms` from now with ERR_TIMED_OUT. Each step begins the same
 * duration anew, and so does a client that reads slowly but does read what we write. Until the first call: 5 minutes. */
void conn_set_deadline(struct conn *c, int64_t duration_ms);
/* How long it may rest after its last input; then step is called and its read fails with ERR_TIMED_OUT.
 * Wakes do not prolong it. Until the first call: 30 minutes. */
void conn_set_rest_timeout(struct conn *c, int64_t duration_ms);

/* --- events ----------------------------------------------------------------------------------- */
/* Asks that step be called although no input came (new mail for an idling client). From any
 * fiber or loop callback of the worker; wakes are merged. */
void conn_wake(struct conn *c);
bool conn_take_wake(struct conn *c);                    /* was there one since the last call? */
/* Inside a step: waits for input (the client's end included), a wake, or the rest timeout (ERR_TIMED_OUT). Counts as
 * a read for borrowed slices. When the server begins to drain it fails once with ERR_CANCELLED. */
PARKS int conn_wait_event(struct conn *c, struct error *err);

/* --- TLS --------------------------------------------------------------------------------------- */
/* STARTTLS after its positive reply was written: flushes, refuses (ERR_SYNTAX) when the client sent
 * anything ahead of its handshake, then shakes hands. */
PARKS int conn_start_tls(struct conn *c, struct error *err);
bool conn_is_tls(const struct conn *c);
bool conn_is_secure(const struct conn *c);              /* TLS, a unix socket, or loopback with login_plaintext_loopback */
struct str conn_tls_description(const struct conn *c);  /* "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256 bits)"; empty without */
struct str conn_tls_server_name(const struct conn *c);  /* SNI, or empty */
/* Channel binding data (RFC 5929, 9266). false when there is none. type: "tls-exporter", "tls-server-end-point". */
bool conn_tls_binding(const struct conn *c, const char *type, struct buf *out);

/* --- compression (RFC 4978) ---------------------------------------------------------------------- */
/* After its positive reply was written: flushes, then all bytes of both directions are DEFLATE, below TLS or STARTTLS to
 * come. What was received behind the command counts as compressed. A corrupt stream closes the connection. */
PARKS int conn_start_compression(struct conn *c, struct error *err);
/* After the last reply that is compressed was written: flushes; from now on both sides speak plainly (RFC 8437, 4.1).
 * ERR_SYNTAX, and nothing can follow, when the client sent more that was compressed. Harmless when it was not. */
PARKS int conn_stop_compression(struct conn *c, struct error *err);
bool conn_is_compressed(const struct conn *c);

/* --- who ----------------------------------------------------------------------------------------- */
struct str conn_peer_text(const struct conn *c);        /* "192.0.2.7", "2001:db8::1", "unix"; of PROXY v2 where used */
const struct sockaddr_storage *conn_peer(const struct conn *c);
const struct sockaddr_storage *conn_local(const struct conn *c);
bool conn_is_loopback(const struct conn *c);
/* From now on this is the client, as a trusted peer says for whom it speaks: in logs, limits, everywhere. False: that address
 * has as many connections as it may; then only a goodbye can follow. */
bool conn_assume_peer(struct conn *c, const struct sockaddr_storage *peer);
struct log *conn_log(struct conn *c);                   /* fields: session, peer, service */
const char *conn_session_id(const struct conn *c);      /* 10 characters, unique enough for logs */
bool conn_is_draining(const struct conn *c);            /* SIGTERM came: finish and say goodbye */

/* Takes the socket out of the connection (plain ones with nothing buffered); -1 when that cannot be. It is
 * non-blocking. The connection ends with the step. */
int conn_detach_fd(struct conn *c);
