/* companion.h - a second fiber beside the caller, on the caller's own data: started, and always waited for.
 *
 * The companion may use what lies on the caller's stack and in its arena, for the caller does not return before
 * companion_await() has seen it end. Whoever is cancelled while it waits calls the companion off, and still waits. */
#pragma once
#include <stdbool.h>
#include "server/run/fiber.h"

struct companion {
    void (*run)(void *arg);
    void *arg;
    struct fiber *fiber, *waiter;
    bool is_awaited, is_done;
};

/* Fills *c, which stays where it is until it was awaited. `name` is a literal. */
void companion_start(struct companion *c, const char *name, void (*run)(void *arg), void *arg);
PARKS void companion_await(struct companion *c);
