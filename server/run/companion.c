/* companion.c - who waits is woken once, and only while waiting: a wake that nobody waits for would end some later wait. */
#include "server/run/companion.h"

static void companion_fiber(void *arg)
{
    struct companion *c = arg;

    c->run(c->arg);
    c->is_done = true;
    if (c->is_awaited)
        fiber_wake(c->waiter);
}

void companion_start(struct companion *c, const char *name, void (*run)(void *arg), void *arg)
{
    *c = (struct companion){.run = run, .arg = arg, .waiter = fiber_self()};
    c->fiber = fiber_start(name, companion_fiber, c);
}

PARKS void companion_await(struct companion *c)
{
    bool is_told = false;

    c->is_awaited = true;
    while (!c->is_done) {
        if (fiber_park(NO_DEADLINE) != WAKE_CANCELLED)
            continue;
        if (!is_told && !c->is_done)
            fiber_cancel(c->fiber);
        is_told = true;
        fiber_yield();
    }
}
