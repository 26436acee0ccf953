/* auth_results.h - the Authentication-Results field (RFC 8601): built, read, and recognised where it is forged.
 *
 *   Authentication-Results: mx.example.org; spf=pass smtp.mailfrom=example.net;
 *           dkim=fail (bad signature) header.d=example.net header.b=Kx3sA1bQ
 *
 * Pure. Values are quoted when they need it; what can stand in no quoted string (CR, LF, NUL, controls) becomes '?'. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define AUTH_RESULTS_MAX    100       /* results of one field */
#define AUTH_PROPERTIES_MAX 50        /* properties of one result */

struct auth_property { struct str ptype, name, value; };    /* header . d = example.net */
struct auth_result {
    struct str method, result;        /* lower case when read */
    struct str comment;               /* the first one behind the result, without parentheses; may be empty */
    struct str reason;                /* may be empty */
    struct auth_property *properties;
    size_t property_count;
};
struct auth_results {
    struct str authserv_id;
    struct auth_result *v;            /* none: "none" was said */
    size_t n;
};

/* A field's value (unfolded or not). ERR_SYNTAX on what RFC 8601, 2.2 does not allow. */
int auth_results_parse(struct arena *a, struct str value, struct auth_results *out, struct error *err);

/* Results are added one by one to what follows the authserv-id. */
struct auth_builder;
struct auth_builder *auth_builder_new(struct arena *a);
void auth_builder_result(struct auth_builder *b, const char *method, const char *result, struct str comment);
void auth_builder_reason(struct auth_builder *b, struct str reason);      /* before properties */
void auth_builder_property(struct auth_builder *b, const char *ptype, const char *name, struct str value);
/* "; spf=pass ...; dkim=..." without the leading "; ", each result on a line of its own, folded; "none" when empty. */
struct str auth_builder_payload(struct auth_builder *b);
/* The whole field, "Authentication-Results: id;" and the payload, with its CRLF. */
struct str auth_results_field(struct arena *a, struct str authserv_id, struct str payload);

/* Does the value claim to be from authserv_id (ASCII case ignored, quoted or not, comments before it, broken behind
 * it)? Such fields are removed from messages that arrive (RFC 8601, 5). */
bool auth_results_is_ours(struct str value, struct str authserv_id);
