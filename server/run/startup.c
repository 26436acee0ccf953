/* startup.c - apart from supervisor.c, so that those who ask are not bound to all that it brings along. */
#include "server/run/startup.h"

#include <signal.h>
#include <stddef.h>

/* The supervisor blocks both for good and takes them up one by one. */
bool startup_is_called_off(void)
{
    sigset_t pending;

    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}
