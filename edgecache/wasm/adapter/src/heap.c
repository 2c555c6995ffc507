#include "heap.h"

extern u8 __heap_base;
static u32 top, limit;                    // where the next thing goes; where memory ends
static u32 forgotten_from, forgotten_to;  // given back at the next use, if nothing was taken after

static _Alignas(8) u8 area[64];
static const u32 PAGE = 65536;

static void reach(u32 end) {
    if (end < top) __builtin_trap();  // over 4 GiB
    if (end > limit) {
        u32 pages = (end - limit + PAGE - 1) / PAGE;
        u32 more = pages < 16 ? 16 : pages;  // 1 MiB at a time, if that is allowed
        if (__builtin_wasm_memory_grow(0, more) == (size_t)-1) {
            more = pages;
            if (__builtin_wasm_memory_grow(0, more) == (size_t)-1) __builtin_trap();
        }
        limit += more * PAGE;
    }
    top = end;
}

static void settle(void) {
    if (forgotten_from && top == forgotten_to) top = forgotten_from;
    forgotten_from = 0;
}

void *heap_take(u32 size) {
    if (!top) {
        top = (u32)(uintptr_t)&__heap_base;
        limit = (u32)__builtin_wasm_memory_size(0) * PAGE;
    }
    settle();
    u32 start = (top + 7) & ~7u;
    if (start + size < start) __builtin_trap();
    reach(start + size);
    return (void *)(uintptr_t)start;
}

void *heap_zeroed(u32 size) { return __builtin_memset(heap_take(size), 0, size); }

u8 *heap_extend(u8 *block, u32 size, u32 more) {
    settle();
    if (block && (u32)(uintptr_t)block + size == top) {
        reach(top + more);
        return block;
    }
    u8 *moved = heap_take(size + more);
    if (size) __builtin_memcpy(moved, block, size);
    return moved;
}

void heap_forget(const void *first) {
    u32 from = (u32)(uintptr_t)first;
    if (from < (u32)(uintptr_t)&__heap_base || from > top) return;  // an empty list has no place
    forgotten_from = from;
    forgotten_to = top;
}

u8 *heap_end(void) {
    settle();
    return (u8 *)(uintptr_t)top;
}

u8 *answer(void) { return __builtin_memset(area, 0, sizeof area); }

// How callers and the host bring their lists and strings in.
EXPORT("cm32p2_realloc") void *cabi_realloc(void *old, u32 old_size, u32 alignment, u32 size) {
    if (!size) return (void *)(uintptr_t)alignment;
    void *block = heap_take(size);
    if (old && old_size) __builtin_memcpy(block, old, old_size < size ? old_size : size);
    return block;
}

EXPORT("cm32p2_initialize") void initialize(void) {}
