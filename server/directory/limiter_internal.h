/* limiter_internal.h - lets the log-in query carry the limiter's question, so that both take one round trip. */
#pragma once
#include "server/base/arena.h"
#include "server/directory/limiter.h"
#include "server/pg/pg.h"

/* The network that an address belongs to: "192.0.2.7", "2001:db8:1:2::/64", "unix". */
struct str limiter_network(struct arena *a, struct str address);
int64_t limiter_window_s(void);
/* Reads account_wait_s and network_wait_s of the first row. */
int limiter_judge(const struct pg_rows *rows, struct error *err);
