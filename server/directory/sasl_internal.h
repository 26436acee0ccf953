/* sasl_internal.h - the parts of sasl.c that tests and fuzzers take hold of. */
#pragma once
#include "server/directory/sasl.h"
#include "server/directory/scram.h"

/* "authzid NUL authcid NUL password" (RFC 4616). Slices of the message. */
struct sasl_plain { struct str authzid, name, password; };
int sasl_parse_plain(struct str message, struct sasl_plain *out, struct error *err);

/* What a client says of itself and its token. The name is empty where OAUTHBEARER gives none, and in the arena otherwise. */
struct sasl_bearer { struct str name, token; };
int sasl_parse_oauthbearer(struct arena *a, struct str message, struct sasl_bearer *out, struct error *err);
int sasl_parse_xoauth2(struct str message, struct sasl_bearer *out, struct error *err);
