/* certificate.h - keeps the server's certificate covering its names.
 *
 * With tls_cert set, that pair is used. Otherwise a self-signed pair in DIR/tls names localhost, the host and, for
 * each domain, DOMAIN, mail., autoconfig., autodiscover. and mta-sts.DOMAIN; a keeper in one worker makes it anew when a domain was added,
 * and every worker picks the new files up. */
#pragma once
#include "server/base/error.h"
#include "server/run/fiber.h"

int certificate_prepare(struct error *err);            /* supervisor: the pair exists from the start */
int certificate_load(struct error *err);               /* worker */
void certificate_keeper_start(void);
PARKS void certificate_keeper_stop(void);              /* harmless when not started */
