/* sts_host.h - the MTA-STS policy of our own domains, for those who send mail to them (RFC 8461).
 *
 * One policy for all domains, from the settings mta_sts_mode, mta_sts_max_age and mx_hosts, answered at
 * https://mta-sts.DOMAIN/.well-known/mta-sts.txt. It binds nobody until the TXT record _mta-sts.DOMAIN names its id. */
#pragma once
#include "mail/queue/mta_sts.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/http/http.h"

/* The hosts that take mail for our domains, in lower case: mx_hosts, else the host name. A name may begin with "*.". */
void sts_host_names(struct arena *a, struct str **names, size_t *count);

struct str sts_host_policy(struct arena *a);            /* the text, with CRLF */
enum sts_mode sts_host_mode(void);
/* For the record "v=STSv1; id=..." (RFC 8461, 3.1): another one for another policy, the same on all hosts. */
struct str sts_host_id(struct arena *a);

/* Before anything is served: ERR_SYNTAX says which setting is wrong and how to write it. */
int sts_host_check_settings(struct error *err);

extern const struct http_route sts_host_routes[];
extern const size_t sts_host_route_count;
