/* spam_confusable.h - letters that look like others, folded onto one: "pаypa1" and "paypal" are the same to the eye. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/str.h"

char spam_latin_look(uint32_t code_point);       /* the Latin small letter that it looks like; 0: none */

/* What a reader takes it for: case, accents and fancy forms gone, look-alikes of other alphabets and of digits as Latin
 * letters ("0" as o, "1" as l), "rn" as m, "vv" as w. Signs that cannot be seen are gone. For comparisons only. */
struct str spam_skeleton(struct arena *a, struct str utf8);

bool spam_mixes_alphabets(struct str utf8);      /* Latin letters and look-alikes of Latin ones in one word */
bool spam_hides_signs(struct str utf8);          /* signs of no width, or that turn the writing around */
