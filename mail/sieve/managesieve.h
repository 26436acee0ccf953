/* managesieve.h - ManageSieve (RFC 5804) on port 4190: people look after their filters from their mail clients. */
#pragma once
#include "server/run/service.h"

extern const struct service managesieve_service;
