/* scram.h - SCRAM-SHA-256 as pure functions: verifiers, messages, proofs (RFC 5802, 7677, 5803). No I/O.
 *
 *   C: n,,n=user,r=CLIENT                      scram_parse_client_first
 *   S: r=CLIENT+SERVER,s=SALT,i=10000          scram_server_first
 *   C: c=biws,r=CLIENT+SERVER,p=PROOF          scram_parse_client_final, scram_proof_matches
 *   S: v=SIGNATURE                             scram_server_final */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/directory/digest.h"

#define SCRAM_ITERATIONS      10000                     /* of verifiers that we make; RFC 7677, 4 asks for 4,096 */
#define SCRAM_SALT_SIZE       16
#define SCRAM_ITERATIONS_MAX  10000000
#define SCRAM_MESSAGE_SIZE_MAX 8192

/* --- verifiers: "SCRAM-SHA-256$10000:SALT$STOREDKEY:SERVERKEY", as PostgreSQL writes them too ------------------ */
struct scram_verifier {
    uint32_t iterations;
    struct str salt;
    uint8_t stored_key[DIGEST_SIZE];
    uint8_t server_key[DIGEST_SIZE];
};

bool scram_verifier_parse(struct arena *a, struct str text, struct scram_verifier *out);
/* Appends to `out`; false when SASLprep refuses the password. Burns about 5 ms of CPU; needs no loop. */
bool scram_verifier_add(struct buf *out, struct str password, struct str salt, uint32_t iterations);

/* --- messages -------------------------------------------------------------------------------------------------- */
struct scram_client_first {
    char binding_flag;                  /* 'n', 'y' or 'p' */
    struct str binding_type;            /* of 'p' */
    struct str authzid, name;           /* unescaped, in the arena */
    struct str nonce;
    struct str gs2_header;              /* "n,,": slices of the message, like the next */
    struct str bare;
};

struct scram_client_final {
    struct str binding;                 /* decoded: the GS2 header and the channel's data */
    struct str nonce;
    struct str without_proof;
    uint8_t proof[DIGEST_SIZE];
};

/* Slices live as long as the message. ERR_SYNTAX on anything malformed. */
int scram_parse_client_first(struct arena *a, struct str message, struct scram_client_first *out, struct error *err);
int scram_parse_client_final(struct arena *a, struct str message, struct scram_client_final *out, struct error *err);

/* A saslname (RFC 5802, 5.1), into the arena; false when it is none. */
bool scram_unescape_name(struct arena *a, struct str text, struct str *out);

struct str scram_server_first(struct arena *a, struct str nonce, struct str salt, uint32_t iterations);
struct str scram_auth_message(struct arena *a, struct str client_first_bare, struct str server_first,
                              struct str client_final_without_proof);
bool scram_proof_matches(const struct scram_verifier *v, struct str auth_message, const uint8_t proof[DIGEST_SIZE]);
struct str scram_server_final(struct arena *a, const struct scram_verifier *v, struct str auth_message);
