// The same work as an Extism plug-in: tests/wasm/guests/redact.c behind Extism's own way of passing bytes.
#include "../../../../tests/wasm/guests/redact.c"

#define IMPORT(name) __attribute__((import_module("extism:host/env"), import_name(name)))

IMPORT("input_length") uint64_t input_length(void);
IMPORT("input_load_u8") uint32_t input_load_u8(uint64_t at);
IMPORT("input_load_u64") uint64_t input_load_u64(uint64_t at);
IMPORT("alloc") uint64_t room(uint64_t size);
IMPORT("store_u8") void store_u8(uint64_t at, uint32_t value);
IMPORT("store_u64") void store_u64(uint64_t at, uint64_t value);
IMPORT("output_set") void output_set(uint64_t at, uint64_t size);

EXPORT("run") int32_t run(void) {
    uint32_t size = input_length(), i = 0;
    unsigned char *in = alloc(size);
    for (; i + 8 <= size; i += 8) *(uint64_t *)(in + i) = input_load_u64(i);
    for (; i < size; i++) in[i] = input_load_u8(i);
    uint64_t found = handle((const char *)in, size);
    const unsigned char *out = (const unsigned char *)(uint32_t)(found >> 32);
    uint32_t length = (uint32_t)found;
    uint64_t at = room(length);
    for (i = 0; i + 8 <= length; i += 8) store_u64(at + i, *(const uint64_t *)(out + i));
    for (; i < length; i++) store_u8(at + i, out[i]);
    output_set(at, length);
    return 0;
}
