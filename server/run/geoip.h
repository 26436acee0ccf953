/* geoip.h - the country of an address, from a database in MaxMind's format (the setting geoip_database).
 *
 * Without the setting every answer is "unknown". A file that is replaced (as geoipupdate does) is noticed by
 * geoip_refresh(); one that cannot be read leaves the old one in use. */
#pragma once
#include <stdbool.h>
#include <sys/socket.h>
#include "server/base/error.h"

int geoip_check_settings(struct error *err);            /* can the file be used? Before workers are forked */
void geoip_refresh(void);                               /* opens the file; looks whether there is another; a few microseconds otherwise */
void geoip_close(void);

/* ISO 3166-1 in capitals ("ID"); false when it is unknown. In microseconds. */
bool geoip_country(const struct sockaddr_storage *address, char out[3]);
