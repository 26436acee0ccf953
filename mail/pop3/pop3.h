/* pop3.h - POP3 (RFC 1939) with CAPA, STLS, SASL, UTF8 and LANG, on ports 110 and 995. */
#pragma once
#include "server/run/service.h"

extern const struct service pop3_service;
