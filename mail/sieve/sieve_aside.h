/* sieve_aside.h - compiling without standing in the way of other fibers. */
#pragma once
#include "mail/sieve/sieve.h"
#include "server/run/fiber.h"

/* sieve_compile(); a large script goes to a helper thread meanwhile. */
PARKS int sieve_compile_aside(struct str text, struct sieve_script **out, struct arena *a, struct sieve_fault *fault);
