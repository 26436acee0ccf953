/* json_depth.h - how deep the values of a JSON text are nested.
 *
 * jansson's reader calls itself for each bracket, and the stacks of fibers are small: whoever reads JSON of others looks first. */
#pragma once
#include <stdbool.h>
#include "server/base/str.h"

/* More than depth_max brackets are open at once. Any bytes are good: what is no JSON is the reader's to refuse. */
bool json_is_deeper_than(struct str json, unsigned depth_max);
