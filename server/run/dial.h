/* dial.h - a connection that we make: plain or TLS, lines and blocks, with limits.
 *
 * One fiber uses it at a time, and nobody watches it at rest. Two clocks bound every wait: the deadline, set for each
 * step of a protocol, and the end, set for the whole of a piece of work; so a peer that stalls at every byte
 * costs the one, and a peer that stalls cleverly the other. While we wait to write, what the peer says meanwhile is
 * read (up to DIAL_INPUT_MAX), so that two who pipeline cannot lock each other up.
 *
 * Failures stick: ERR_CLOSED (the peer closed or the connection broke), ERR_TIMED_OUT, ERR_CANCELLED; after one
 * nothing but dial_close() makes sense, and every call says the same again. Slices from a read are borrowed until
 * the next call on the same connection. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

#define DIAL_INPUT_MAX  (256u << 10)                    /* bytes read ahead, and the longest line */

struct dial;

/* TCP (AF_INET, AF_INET6) or a unix stream socket (AF_UNIX). `from`: the address to come from, NULL: the system's
 * choice. NULL with ERR_TRY_LATER (nobody there, no way there, refused), ERR_TIMED_OUT, ERR_CANCELLED, or
 * ERR_INTERNAL (`from` is none of our addresses). The deadline is `timeout_ms` until another is set; no end is set. */
PARKS struct dial *dial_open(const struct sockaddr_storage *to, const struct sockaddr_storage *from,
                             int64_t timeout_ms, struct error *err);
void dial_close(struct dial **d);                       /* does not wait: what was not flushed is lost */

/* --- time ------------------------------------------------------------------------------------ */
/* All waits until the next call end at `duration_ms` from now. */
void dial_set_deadline(struct dial *d, int64_t duration_ms);
/* And all waits whatsoever at this one, until it is set again; 0: no end. */
void dial_set_end(struct dial *d, int64_t duration_ms);

/* --- reading --------------------------------------------------------------------------------- */
/* A line without its LF and a CR before that. ERR_TOO_BIG, which sticks too, beyond size_max bytes (at most
 * DIAL_INPUT_MAX - 2). Flushes what is pending before it waits. */
PARKS int dial_read_line(struct dial *d, size_t size_max, struct str *line, struct error *err);
PARKS int dial_read_exact(struct dial *d, void *to, size_t size, struct error *err);
/* Something is there already, or the next read will fail. Does not wait. */
bool dial_has_input(struct dial *d);
/* ERR_CLOSED came because the peer closed as it should: nothing broke. */
bool dial_was_ended(const struct dial *d);
/* At rest: nothing unread came, and the peer has not hung up. Does not wait. */
bool dial_is_fresh(struct dial *d);

/* --- writing --------------------------------------------------------------------------------- */
/* Buffered; parks when 64 KiB are pending, until they are out. Failures stick and show at the next read or flush. */
PARKS void dial_write(struct dial *d, struct str s);
PARKS void dial_printf(struct dial *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
PARKS int dial_flush(struct dial *d, struct error *err);
void dial_push(struct dial *d);                         /* sends what the socket takes now; does not wait */
bool dial_failed(const struct dial *d);

/* --- TLS ------------------------------------------------------------------------------------- */
enum dial_verify {
    DIAL_TLS_ANY,         /* any certificate will do; what PKIX thinks of it is told all the same */
    DIAL_TLS_PKIX,        /* a chain to a CA of the system or of tls_ca_file, for one of the names */
    DIAL_TLS_DANE,        /* as one of the TLSA records says (RFC 6698, 7671; DANE-TA with one of the names) */
};

struct dial_tls {
    struct str server_name;                             /* SNI; empty or an address: none is sent */
    enum dial_verify verify;
    const struct str *names;                            /* reference identifiers; none: server_name is the one */
    size_t name_count;
    const struct str *tlsa;                             /* rdata of TLSA records (RFC 6698, 2.1) */
    size_t tlsa_count;
    const char *alpn;                                   /* NULL: none */
    bool needs_close_notify;                            /* an end without it is a break: where only the end says that all has come */
};

/* Why a handshake came to nothing, in the words of RFC 8460, 4.3. */
enum dial_tls_result {
    DIAL_TLS_OK,
    DIAL_TLS_EXPIRED,                                   /* certificate-expired */
    DIAL_TLS_NAME,                                      /* certificate-host-mismatch */
    DIAL_TLS_UNTRUSTED,                                 /* certificate-not-trusted */
    DIAL_TLS_NO_TLSA,                                   /* none of the TLSA records is usable: nothing was sent */
    DIAL_TLS_FAILED,                                    /* no common version, not TLS at all, hung up, too slow */
};

/* After the peer has agreed: flushes, refuses (ERR_SYNTAX) when the peer sent anything ahead of its handshake, then
 * shakes hands. ERR_DENIED: the certificate was refused. Every failure sticks: TLS cannot be left again. */
PARKS int dial_start_tls(struct dial *d, const struct dial_tls *tls, struct error *err);
bool dial_is_tls(const struct dial *d);
enum dial_tls_result dial_tls_result(const struct dial *d);    /* with DIAL_TLS_ANY: what PKIX would have said */
bool dial_tls_was_resumed(const struct dial *d);
struct str dial_tls_description(const struct dial *d);  /* "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256 bits)"; empty */
/* How many of the records OpenSSL can use (usages 2 and 3 only, RFC 7672, 3.1). Does not connect. */
size_t dial_tlsa_usable(const struct str *tlsa, size_t count);

/* --- who ------------------------------------------------------------------------------------- */
struct str dial_peer_text(const struct dial *d);        /* "192.0.2.7", "2001:db8::1", "unix" */
const struct sockaddr_storage *dial_peer(const struct dial *d);
const struct sockaddr_storage *dial_local(const struct dial *d);

void dial_fini(void);                                   /* at exit: contexts and remembered sessions */
