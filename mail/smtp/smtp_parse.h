/* smtp_parse.h - the grammar of SMTP commands: paths and parameters (RFC 5321, 4.1.2; RFC 6531, 3.3). */
#pragma once
#include <stdbool.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define SMTP_LOCAL_SIZE_MAX 64          /* octets, RFC 5321, 4.5.3.1.1; quotes not counted */
#define SMTP_SRS_LOCAL_SIZE_MAX 254     /* of rewritten senders (mail/authentic/srs.h), as long as a path may be */
#define SMTP_DOMAIN_SIZE_MAX 255
#define SMTP_PARAMS_MAX 20

struct smtp_path {
    struct str local;                   /* unquoted; empty in the null path */
    struct str domain;                  /* as written; empty for <postmaster> and the null path */
    bool is_null;                       /* <> */
    bool is_bad;                        /* it could not be read: an error is of the path and not of parameters */
    bool is_utf8;                       /* holds bytes above 127: needs SMTPUTF8 */
};

struct smtp_param { struct str name, value; };      /* value empty when there is none */
struct smtp_params { struct smtp_param v[SMTP_PARAMS_MAX]; size_t n; };

/* Reads "FROM:<path> PARAM=value ..." or "TO:...". A source route is read and dropped. Spaces after the colon are
 * forgiven, as many clients send them. Unquoting uses the arena. ERR_SYNTAX names what is wrong. */
int smtp_parse_path(struct arena *a, struct str args, struct str prefix, struct smtp_path *path,
                    struct smtp_params *params, struct error *err);

/* The argument of EHLO, HELO or LHLO: a domain or address literal; forgiving about what people call their computers. */
bool smtp_helo_is_valid(struct str name);

/* "BDAT 1000 LAST" without the verb (RFC 3030). */
int smtp_parse_bdat(struct str args, uint64_t *size, bool *is_last, struct error *err);
