/* outbound_internal.h - shared by outbound.c and outbound_admin.c. */
#pragma once
#include "mail/store/outbound.h"

/* Valid UTF-8 in one line, of bounded size. */
struct str outbound_clean_text(struct arena *a, struct str s);
