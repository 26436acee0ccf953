/* object.h - magic numbers for objects that cross a void pointer. */
#pragma once
#include <assert.h>
#include <stdint.h>

#define CHECK_OBJ(ptr, magic_value) \
    do { \
        assert((ptr) != NULL); \
        assert((ptr)->magic == (magic_value)); \
    } while (0)
