// The component above the function: it lets the adapter take the request in, calls the function's handler, and gives
// back what the adapter has made of its response. Needed because a component cannot import what is built upon it.
#include "abi.h"

IMPORT("cm32p2|edgecache:adapter/control@0.1", "begin")
void begin(const u8 *meta, u32 meta_size, const u8 *body, u32 body_size, Handle *request_and_outparam);
IMPORT("cm32p2|edgecache:adapter/control@0.1", "finish") void finish(Bytes *meta_and_body);
IMPORT("cm32p2|wasi:http/incoming-handler@0.2", "handle") void handler(Handle request, Handle outparam);

extern u8 __heap_base;
static u32 top;
static Bytes response[2];

// Only the request and the response come through here, once each: memory grows by what they take.
EXPORT("cm32p2_realloc") void *cabi_realloc(void *old, u32 old_size, u32 alignment, u32 size) {
    (void)old, (void)old_size;
    if (!size) return (void *)(uintptr_t)alignment;
    if (!top) top = (u32)(uintptr_t)&__heap_base;
    u32 start = (top + 7) & ~7u, limit = (u32)__builtin_wasm_memory_size(0) * 65536;
    top = start + size;
    if (top < start) __builtin_trap();
    if (top > limit && __builtin_wasm_memory_grow(0, (top - limit + 65535) / 65536) == (size_t)-1) __builtin_trap();
    return (void *)(uintptr_t)start;
}

EXPORT("cm32p2_initialize") void initialize(void) {}

EXPORT("cm32p2||handle") Bytes *handle(const u8 *meta, u32 meta_size, const u8 *body, u32 body_size) {
    Handle call[2];
    begin(meta, meta_size, body, body_size, call);
    handler(call[0], call[1]);
    finish(response);
    return response;
}
