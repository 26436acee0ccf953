/* geoip.c - libmaxminddb behind geoip.h. The file is mapped, and a look-up touches a few of its pages. */
#include "server/run/geoip.h"

#include <maxminddb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>

#include "server/base/log.h"
#include "server/run/config.h"

static struct {
    MMDB_s db;
    bool is_open;
    struct stat file; /* what was opened last, or could not be */
} geoip;

static int open_file(MMDB_s *db, struct error *err)
{
    int status = MMDB_open(config.geoip_database, MMDB_MODE_MMAP, db);

    if (status != MMDB_SUCCESS)
        return fail(err, ERR_SYNTAX, "geoip_database: %s cannot be read as a MaxMind database: %s",
                    config.geoip_database, MMDB_strerror(status));
    return 0;
}

int geoip_check_settings(struct error *err)
{
    MMDB_s db;

    if (config.geoip_database[0] == '\0')
        return 0;
    if (open_file(&db, err) < 0)
        return -1;
    MMDB_close(&db);
    return 0;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

void geoip_refresh(void)
{
    struct error err = {0};
    struct stat file;
    MMDB_s db;

    if (config.geoip_database[0] == '\0' || stat(config.geoip_database, &file) < 0 ||
        is_same_file(&file, &geoip.file))
        return;
    geoip.file = file;
    if (open_file(&db, &err) < 0) {
        log_warn(NULL, "geoip_database_refused", KV_ERR(&err));
        return;
    }
    if (geoip.is_open)
        MMDB_close(&geoip.db);
    geoip.db = db;
    geoip.is_open = true;
}

void geoip_close(void)
{
    if (geoip.is_open)
        MMDB_close(&geoip.db);
    geoip.is_open = false;
    memset(&geoip.file, 0, sizeof geoip.file);
}

static bool is_letter(char c)
{
    return c >= 'A' && c <= 'Z';
}

bool geoip_country(const struct sockaddr_storage *address, char out[3])
{
    MMDB_lookup_result_s found;
    MMDB_entry_data_s code;
    int status;

    if (!geoip.is_open || (address->ss_family != AF_INET && address->ss_family != AF_INET6))
        return false;
    found = MMDB_lookup_sockaddr(&geoip.db, (const struct sockaddr *)address, &status);
    if (status != MMDB_SUCCESS || !found.found_entry)
        return false;
    status = MMDB_get_value(&found.entry, &code, "country", "iso_code", NULL);
    if (status != MMDB_SUCCESS || !code.has_data || code.type != MMDB_DATA_TYPE_UTF8_STRING ||
        code.data_size != 2 || !is_letter(code.utf8_string[0]) || !is_letter(code.utf8_string[1]))
        return false;
    memcpy(out, code.utf8_string, 2);
    out[2] = '\0';
    return true;
}
