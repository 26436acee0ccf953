/* dkim_key.h - the private keys that sign mail, and the DNS records that publish their public halves.
 *
 * RSA with SHA-256 (RFC 6376, 8301) and Ed25519 (RFC 8463). A key is parsed once and may sign for
 * several fibers at a time; whoever holds it keeps it until those signatures are done. */
#pragma once
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

enum dkim_algorithm { DKIM_RSA_SHA256, DKIM_ED25519_SHA256 };

struct dkim_key;                                        /* opaque; the members are in dkim_internal.h */

/* A new key: RSA of 2048 bits (some 100 ms on a helper thread) or Ed25519. NULL: ERR_INTERNAL. */
PARKS struct dkim_key *dkim_key_make(enum dkim_algorithm algorithm, struct error *err);

/* A private key as PEM (PKCS #8, or PKCS #1 for RSA) or DER, without a pass phrase. NULL: ERR_SYNTAX on what is no
 * key, ERR_UNSUPPORTED on other kinds of keys and on RSA below 1024 or above 4096 bits (RFC 8301, 3.2). */
PARKS struct dkim_key *dkim_key_new(struct str pem_or_der, struct error *err);
void dkim_key_free(struct dkim_key **key);

enum dkim_algorithm dkim_key_algorithm(const struct dkim_key *key);
unsigned dkim_key_bits(const struct dkim_key *key);     /* 256 for Ed25519 */
const char *dkim_algorithm_name(enum dkim_algorithm algorithm);         /* "rsa-sha256", "ed25519-sha256" */
bool dkim_algorithm_parse(struct str name, enum dkim_algorithm *out);   /* also "rsa" and "ed25519" */

PARKS struct str dkim_key_pem(struct arena *a, const struct dkim_key *key);   /* PKCS #8, as dkim_key_new takes it: a secret */

/* "v=DKIM1; k=rsa; p=...", the text to be published at SELECTOR._domainkey.DOMAIN (RFC 6376, 3.6.1). */
PARKS struct str dkim_key_record(struct arena *a, const struct dkim_key *key);
/* The same as one line of a zone file, in character strings of at most 255 bytes (RFC 6376, 3.6.2.2):
 * SELECTOR._domainkey.DOMAIN. IN TXT ( "..." "..." ) */
PARKS struct str dkim_key_zone_line(struct arena *a, const struct dkim_key *key, struct str selector,
                                    struct str domain);
/* Does a published record carry this key? For checking what the DNS says. */
PARKS bool dkim_key_matches_record(const struct dkim_key *key, struct str record);
