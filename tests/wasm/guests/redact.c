// The fast lane's benchmark: puts the user's name in, takes e-mail addresses and long numbers out of a cached answer.
// zig cc -target wasm32-freestanding -O2 -nostdlib -mbulk-memory -Wl,--no-entry -Wl,-z,stack-size=8192 -s \
//     -o redact.wasm redact.c
// Everything that an answer of a few KB touches is in one page of 64 KiB, which a POP wipes faster than it remaps.
#include <stddef.h>
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(name)))

extern unsigned char __heap_base;
static uint32_t top;

EXPORT("alloc") void *alloc(uint32_t size) {
    uint32_t start = ((top ? top : (uint32_t)&__heap_base) + 15) & ~15u;
    uint32_t has = __builtin_wasm_memory_size(0) << 16;
    if (start + size < start) __builtin_trap();
    if (start + size > has && __builtin_wasm_memory_grow(0, (start + size - has + 65535) >> 16) == (size_t)-1)
        __builtin_trap();
    top = start + size;
    return (void *)start;
}

static int digit(int c) { return c >= '0' && c <= '9'; }

static int part_of_word(int c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || digit(c) || c == '.' || c == '_' || c == '-' || c == '+';
}

static int begins(const char *in, uint32_t left, const char *with, uint32_t length) {
    return left >= length && !__builtin_memcmp(in, with, length);
}

EXPORT("handle") uint64_t handle(const char *in, uint32_t size) {
    const char *name = "friend";
    uint32_t name_size = 6, body = size;
    for (uint32_t i = 0; i + 1 < size; i++) {
        if (in[i] != '\n') continue;
        if (in[i + 1] == '\n') { body = i + 2; break; }
        if (begins(in + i + 1, size - i - 1, "x-user: ", 8)) {
            uint32_t end = i + 9;
            while (end < size && in[end] != '\n') end++;
            name = in + i + 9;
            name_size = end - i - 9;
        }
    }
    char *out = alloc(size * 2 + 256);
    uint32_t at = 5;
    __builtin_memcpy(out, "200\n\n", 5);
    for (uint32_t i = body; i < size;) {
        if (begins(in + i, size - i, "{{name}}", 8)) {
            for (uint32_t j = 0; j < name_size; j++) out[at++] = name[j];
            i += 8;
        } else if (part_of_word(in[i])) {
            uint32_t end = i;
            int mail = 0, digits = 0;
            for (; end < size && (part_of_word(in[end]) || in[end] == '@'); end++) {
                mail |= in[end] == '@';
                digits += digit(in[end]);
            }
            if (mail) { __builtin_memcpy(out + at, "[email]", 7); at += 7; }
            else if (digits >= 9) { __builtin_memcpy(out + at, "[number]", 8); at += 8; }
            else while (i < end) out[at++] = in[i++];
            i = end;
        } else {
            out[at++] = in[i++];
        }
    }
    return ((uint64_t)(uintptr_t)out << 32) | at;
}

void *memcpy(void *to, const void *from, size_t size) {
    char *a = to;
    const char *b = from;
    while (size--) *a++ = *b++;
    return to;
}

int memcmp(const void *a, const void *b, size_t size) {
    const unsigned char *x = a, *y = b;
    for (; size--; x++, y++) if (*x != *y) return *x - *y;
    return 0;
}
