/* dkim_internal.h - the steps that DKIM and ARC share.
 *
 *   message (dkim_message.c)  -> fields by name, and the body
 *   signature field (dkim_signature.c) -> what it claims, and which fields it covers
 *   its key (dkim_key_ring.c, dkim_key_record.c), by DNS, several at once
 *   check or sign (dkim_crypto.c) over canonical text (dkim_canonical.c), on a helper thread
 *
 * Whatever the helper thread needs was put into the arena before: it allocates nothing there. */
#pragma once
#include <openssl/evp.h>
#include "mail/authentic/arc.h"
#include "mail/authentic/dkim.h"
#include "mail/authentic/tag_list.h"
#include "server/run/dns.h"

#define DKIM_HEADER_SIZE_MAX (512 * 1024)
#define DKIM_FIELDS_MAX      10000
#define DKIM_NAMES_MAX       1000                       /* in h= */
#define DKIM_RECORD_SIZE_MAX 4096                       /* of a key record: 4096 bits need 760 bytes */
#define DKIM_RSA_BITS_MIN    1024                       /* RFC 8301, 3.2 */
#define DKIM_RSA_BITS_MAX    4096
#define DKIM_DIGEST_SIZE     32                         /* SHA-256 */
#define DKIM_SIGNATURE_SIZE_MAX (DKIM_RSA_BITS_MAX / 8)

struct dkim_key {
    EVP_PKEY *pkey;
    enum dkim_algorithm algorithm;
};

/* ---- the message ---------------------------------------------------------------------------- */

struct dkim_field {
    struct str name;                                    /* as written; empty for lines that are no field */
    struct str value;
    struct str whole;                                   /* with its line end */
    uint32_t name_index;                                /* in names[] */
    uint32_t above;                                     /* the next of that name further up, as index + 1; 0: none */
};

struct dkim_name {
    struct str name;                                    /* in lower case */
    uint32_t lowest;                                    /* the last field of that name, as index + 1 */
    uint32_t next;                                      /* in its bucket, as index + 1 */
};

struct dkim_message {
    struct dkim_field *fields;
    size_t field_count;
    struct dkim_name *names;
    size_t name_count;
    uint32_t *buckets;                                  /* name_index + 1 */
    size_t bucket_mask;
    struct str body;
};

/* ERR_TOO_BIG past the limits. Everything borrows from the message. */
int dkim_message_read(struct arena *a, struct str message, struct dkim_message *out, struct error *err);
/* The lowest field of a name (case ignored) as index + 1; 0: none. */
uint32_t dkim_message_lowest(struct arena *a, const struct dkim_message *m, struct str name);

/* The fields that a list of names ("From:To:From", white space ignored) covers, in its order: each further
 * occurrence of a name takes the next field up (RFC 6376, 5.4.2). `own` is passed over. ERR_TOO_BIG past DKIM_NAMES_MAX. */
struct dkim_selection {
    struct str *wholes;
    size_t count;
    struct str doubled;                                 /* a name that may occur once, covered and yet there again; or empty */
};
int dkim_select(struct arena *a, const struct dkim_message *m, struct str names, const struct dkim_field *own,
                struct dkim_selection *out, struct error *err);

/* ---- canonical text (RFC 6376, 3.4) ----------------------------------------------------------- */

enum dkim_canonical { DKIM_SIMPLE, DKIM_RELAXED };

/* Collects small pieces for one that takes larger ones. */
struct dkim_sink {
    void (*write)(void *to, struct str piece);
    void *to;
    size_t staged_size;
    char staged[1024];
};

void dkim_sink_init(struct dkim_sink *sink, void (*write)(void *to, struct str piece), void *to);
void dkim_sink_flush(struct dkim_sink *sink);
void dkim_canonical_field(enum dkim_canonical c, struct str whole, bool has_line_end, struct dkim_sink *sink);
void dkim_canonical_body(enum dkim_canonical c, struct str body, struct dkim_sink *sink);

/* ---- key records (RFC 6376, 3.6.1) ------------------------------------------------------------ */

struct dkim_record {
    enum dkim_algorithm algorithm;
    struct str modulus, exponent;                       /* RSA: big-endian */
    struct str point;                                   /* Ed25519: 32 bytes */
    unsigned bits;
    bool is_testing;                                    /* t=y */
    bool is_strict;                                     /* t=s: i= must be of d= itself */
    bool is_revoked;                                    /* an empty p= */
};

/* ERR_SYNTAX: no key record; ERR_UNSUPPORTED: one that cannot serve here (other service, other hash, key type or size). */
int dkim_record_parse(struct arena *a, struct str text, struct dkim_record *out, struct error *err);
/* RFC 8017's RSAPublicKey, bare or in a SubjectPublicKeyInfo: where its two numbers lie. */
bool dkim_rsa_numbers(struct str der, struct str *modulus, struct str *exponent);
unsigned dkim_number_bits(struct str big_endian);
EVP_PKEY *dkim_record_open(const struct dkim_record *r);       /* NULL: OpenSSL wants none of it */

/* ---- signature fields ------------------------------------------------------------------------- */

enum dkim_kind { DKIM_KIND_SIGNATURE, DKIM_KIND_ARC_MESSAGE, DKIM_KIND_ARC_SEAL };

struct dkim_claim {
    struct dkim_signature told;                         /* result DKIM_NONE: not decided yet */
    const struct dkim_field *field;
    enum dkim_kind kind;
    enum dkim_algorithm algorithm;
    enum dkim_canonical header_canonical, body_canonical;
    struct str signature;                               /* b=, decoded */
    struct str body_digest;                             /* bh=, decoded */
    uint64_t length;                                    /* l= */
    struct str bare;                                    /* the field with an empty b= */
    struct dkim_selection covered;
    bool covers_from;
    unsigned instance;                                  /* ARC's i= */
    struct str chain_status;                            /* cv= of a seal */
    struct dkim_record key;
};

/* Reads what the field says. Whatever is wrong with it becomes its result and problem. A seal's covered fields are
 * for the caller to set. */
void dkim_claim_read(struct arena *a, const struct dkim_message *m, const struct dkim_field *field, enum dkim_kind kind,
                     int64_t now_s, struct dkim_claim *out);
static inline bool dkim_claim_is_open(const struct dkim_claim *c) { return c->told.result == DKIM_NONE; }
/* Decides: sets result and problem (a literal or of the arena). */
void dkim_claim_end(struct dkim_claim *c, enum dkim_result result, struct str problem);
bool dkim_instance_parse(struct str value, unsigned *out);     /* 1 to ARC_SETS_MAX */

/* Looks up the keys of those claims that are open, each name once and several at a time. */
PARKS void dkim_claims_fetch_keys(struct arena *a, struct dkim_claim **v, size_t count);

/* Where key records come from: DNS. Tests put something else here. */
typedef int dkim_key_source(struct arena *a, struct str name, struct str **texts, size_t *count,
                            struct dns_answer *answer, struct error *err);
extern dkim_key_source *dkim_key_lookup;

/* ---- arithmetic -------------------------------------------------------------------------------- */

struct dkim_body_digest {
    enum dkim_canonical canonical;
    uint64_t length;                                    /* l=; UINT64_MAX: all of it */
    bool is_made;
    uint64_t size;                                      /* of the canonical body, all of it */
    uint8_t digest[DKIM_DIGEST_SIZE];
};

/* The body's digests, each made once however many signatures want it, and those of one canonicalization in one
 * pass over the body however many lengths they want. */
struct dkim_body_digests {
    struct str body;
    struct dkim_body_digest *v, **waiting;
    size_t n, room;
};
void dkim_body_digests_init(struct arena *a, struct str body, size_t room, struct dkim_body_digests *out);

/* Decides the claims that are open and have keys. */
PARKS void dkim_claims_check(struct dkim_body_digests *bodies, struct dkim_claim **v, size_t count);

struct dkim_signing {
    const struct dkim_key *key;
    const struct dkim_selection *covered;
    struct str bare;                                    /* the field so far, up to its "b=", without a line end */
    uint8_t signature[DKIM_SIGNATURE_SIZE_MAX];         /* the answer */
    size_t signature_size;                              /* 0: OpenSSL refused */
};
PARKS void dkim_sign_all(struct dkim_signing *v, size_t count);        /* relaxed header canonicalization */
PARKS void dkim_body_digest_make(struct str body, struct dkim_body_digest *out);  /* relaxed, whole */

/* ---- making fields ----------------------------------------------------------------------------- */

/* The names to sign, for h=, of what the message has. is_arc: with its DKIM-Signature fields. */
struct str dkim_names_to_sign(struct arena *a, const struct dkim_message *m, bool is_arc);
/* "DKIM-Signature: v=1; a=...; ... b=": everything but the signature. lead is what stands first ("v=1", "i=2"). */
struct str dkim_field_begin(struct arena *a, struct str field_name, struct str lead, const struct dkim_signer *signer,
                            struct str names, const uint8_t *body_digest, int64_t now_s);
/* The field with its signature and line end. ERR_INTERNAL when there is none. */
int dkim_field_end(struct arena *a, const struct dkim_signing *s, struct str *field, struct error *err);

/* ---- ARC --------------------------------------------------------------------------------------- */

struct arc_set {
    const struct dkim_field *results;
    struct str results_text;                            /* behind its instance */
    struct dkim_claim message, seal;
};

struct arc_chain {
    struct arc_set *sets;                               /* instance 1 first */
    unsigned count;
    unsigned highest;                                   /* instance seen, even when the chain is broken */
    bool has_fields;
    bool is_ended;                                      /* the newest seal says cv=fail */
    struct str problem;                                 /* empty: the structure is sound */
};

/* Steps 1 to 3 of RFC 8617, 5.2. */
PARKS void arc_chain_read(struct arena *a, const struct dkim_message *m, int64_t now_s, struct arc_chain *out);
/* What the seal of the last of `count` sets covers besides itself; from: 1, or its own instance in a chain that failed. */
void arc_seal_scope(struct arena *a, const struct arc_chain *chain, unsigned count, struct dkim_selection *out);
/* arc_seal with the names of h= given. */
PARKS int arc_seal_names(struct arena *a, struct str message, const struct dkim_signer *signer,
                         const struct arc_verdict *verdict, struct str authserv_id, struct str results,
                         struct str names, int64_t now_s, struct str *fields, struct error *err);
