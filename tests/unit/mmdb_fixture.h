/* mmdb_fixture.h - writes a tiny country database in MaxMind's format (version 2.0 of its specification): IPv4 networks alone, records of 24
 * bits. */
#pragma once
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/buf.h"

struct mmdb_network {
    const char *address;
    unsigned bits;
    const char *country;
};

#define MMDB_NODES_MAX 1000
#define MMDB_EMPTY     0xFFFFFF                         /* until the number of nodes is known */
#define MMDB_DATA      0x800000                         /* and the offset in the data */

static inline void mmdb_string(struct buf *b, const char *s)
{
    buf_addc(b, (char)(2 << 5 | strlen(s)));
    buf_adds(b, s);
}

/* Types above 7 stand in a second byte. */
static inline void mmdb_number(struct buf *b, const char *key, unsigned type, unsigned size, uint64_t value)
{
    mmdb_string(b, key);
    buf_addc(b, (char)((type < 8 ? type << 5 : 0) | size));
    if (type > 7)
        buf_addc(b, (char)(type - 7));
    while (size-- > 0)
        buf_addc(b, (char)(value >> (8 * size)));
}

static inline void mmdb_metadata(struct buf *b, uint32_t node_count)
{
    buf_adds(b, "\xAB\xCD\xEFMaxMind.com");
    buf_addc(b, (char)(7 << 5 | 9));
    mmdb_number(b, "node_count", 6, 4, node_count);
    mmdb_number(b, "record_size", 5, 2, 24);
    mmdb_number(b, "ip_version", 5, 2, 4);
    mmdb_number(b, "binary_format_major_version", 5, 2, 2);
    mmdb_number(b, "binary_format_minor_version", 5, 2, 0);
    mmdb_number(b, "build_epoch", 9, 8, 1700000000);
    mmdb_string(b, "database_type");
    mmdb_string(b, "Test-Country");
    mmdb_string(b, "languages");
    buf_addc(b, 0);
    buf_addc(b, 11 - 7);
    mmdb_string(b, "description");
    buf_addc(b, (char)(7 << 5));
}

static inline void mmdb_insert(uint32_t (*nodes)[2], uint32_t *count, const struct mmdb_network *n, uint32_t value)
{
    uint32_t address, at = 0;

    inet_pton(AF_INET, n->address, &address);
    address = ntohl(address);
    for (unsigned i = 0; i < n->bits; i++) {
        uint32_t *record = &nodes[at][address >> (31 - i) & 1];

        if (i + 1 == n->bits) {
            *record = value;
            return;
        }
        if (*record == MMDB_EMPTY) {
            nodes[*count][0] = nodes[*count][1] = MMDB_EMPTY;
            *record = (*count)++;
        }
        at = *record;
    }
}

static inline void mmdb_add_record(struct buf *b, uint32_t value, uint32_t node_count)
{
    value = value == MMDB_EMPTY ? node_count : value >= MMDB_DATA ? value - MMDB_DATA + node_count + 16 : value;
    buf_addc(b, (char)(value >> 16));
    buf_addc(b, (char)(value >> 8));
    buf_addc(b, (char)value);
}

/* A new file takes the old one's place, as updaters do it. */
static inline void mmdb_write(const char *path, const struct mmdb_network *v, size_t count)
{
    uint32_t (*nodes)[2] = calloc(MMDB_NODES_MAX, sizeof *nodes), node_count = 1;
    struct buf file, data;
    char draft[256];
    FILE *f;

    nodes[0][0] = nodes[0][1] = MMDB_EMPTY;
    buf_init(&data, 1 << 20);
    buf_init(&file, 1 << 20);
    for (size_t i = 0; i < count; i++) {
        mmdb_insert(nodes, &node_count, &v[i], MMDB_DATA + (uint32_t)data.n);
        buf_addc(&data, (char)(7 << 5 | 1));
        mmdb_string(&data, "country");
        buf_addc(&data, (char)(7 << 5 | 1));
        mmdb_string(&data, "iso_code");
        mmdb_string(&data, v[i].country);
    }
    for (uint32_t i = 0; i < node_count; i++) {
        mmdb_add_record(&file, nodes[i][0], node_count);
        mmdb_add_record(&file, nodes[i][1], node_count);
    }
    for (int i = 0; i < 16; i++)
        buf_addc(&file, 0);
    buf_add(&file, buf_str(&data));
    mmdb_metadata(&file, node_count);
    snprintf(draft, sizeof draft, "%s.new", path);
    f = fopen(draft, "we");
    if (f == NULL || fwrite(file.p, 1, file.n, f) != file.n || fclose(f) != 0 || rename(draft, path) != 0)
        abort();
    buf_fini(&file);
    buf_fini(&data);
    free(nodes);
}
