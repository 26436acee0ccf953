/* startup.h - what those who wait while the server starts have to ask for. */
#pragma once
#include <stdbool.h>

/* SIGTERM or SIGINT has come and waits to be acted on: whoever waits for something before the workers run asks now
 * and then, and gives up with ERR_CANCELLED. Always false in command-line tools, which such a signal ends at once. */
bool startup_is_called_off(void);
