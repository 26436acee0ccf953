/* first_account.h - an account to begin with, for somebody who has just started the server by hand. */
#pragma once
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

/* When the server has no domain and no account: makes admin@ in the host's domain with a random password.
 * Both are in the arena; address is empty when there was something already. */
PARKS int first_account_make(struct arena *a, struct str *address, struct str *password, struct error *err);
