/* listener.h - the sockets that clients connect to: bound by the supervisor, served by the workers.
 *
 * Each worker has a socket of its own per address (SO_REUSEPORT), so the kernel spreads clients evenly
 * and nobody wakes for another's. The supervisor holds all of them: a worker that takes a dead one's
 * place inherits the socket and who waits in its queue. Unix sockets are shared by all workers. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "server/base/error.h"
#include "server/run/fiber.h"
#include "server/run/service.h"

/* Supervisor, before privileges are dropped. The endpoints must stay where they are. An error names the setting
 * and says what to do; then nothing is left bound. Waits a few seconds for a port whose last owner is just ending. */
int listener_bind_all(const struct endpoint *endpoints, size_t count, unsigned workers, struct error *err);

/* One address of the list that was bound, for the lines at start; false beyond the last. */
struct listener_info {
    const struct endpoint *endpoint;
    const char *address;                                /* "[::]:993", "unix:/run/merpati/lmtp" */
    unsigned port;                                      /* 0 for a unix socket */
};
bool listener_info(size_t index, struct listener_info *out);

/* Worker: accepts from now on. The other workers' sockets are closed in this process. */
int listener_start(unsigned worker_index, struct error *err);

/* Worker: stops accepting; sessions at rest are stepped and read ERR_CANCELLED, commands in progress finish. */
void listener_drain(void);
/* Worker, when draining took too long: commands in progress are cancelled too. */
void listener_cut(void);
unsigned listener_connection_count(void);

/* Closes this process's sockets: the supervisor when it ends, a worker after draining. */
void listener_fini(void);
