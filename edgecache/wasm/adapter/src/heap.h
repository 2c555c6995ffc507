// Memory of one call. Every call has an instance of its own, so nothing is freed one by one: `take` goes up, and the
// whole is gone with the instance. Only what a loop would pile up is given back, by `heap_forget`.
#pragma once
#include "abi.h"

void *heap_take(u32 size);    // aligned to 8; traps when the sandbox may have no more
void *heap_zeroed(u32 size);  // the same, all zero

// `more` bytes after the `size` that are at `block`; moved if something else was taken since. Not zeroed.
u8 *heap_extend(u8 *block, u32 size, u32 more);

// Whatever was taken from `first` on is needed until the caller has read the answer, not longer. The last thing a
// function does; for none whose objects stay.
void heap_forget(const void *first);

u8 *heap_end(void);  // where the next thing would go, unaligned: what ends there was taken last
