// wasi:random: ChaCha20 (RFC 8439) keyed by the host for this call. The same seed gives the same call again; without
// it nothing can be foretold. `insecure` is the same: there is nothing to gain from a worse one.
#include "call.h"
#include "heap.h"

static u32 block[16];
static u32 used = sizeof block;
static u32 counter;

static u32 rotate(u32 value, u32 bits) { return value << bits | value >> (32 - bits); }

static void quarter(u32 *x, u32 a, u32 b, u32 c, u32 d) {
    x[a] += x[b], x[d] = rotate(x[d] ^ x[a], 16);
    x[c] += x[d], x[b] = rotate(x[b] ^ x[c], 12);
    x[a] += x[b], x[d] = rotate(x[d] ^ x[a], 8);
    x[c] += x[d], x[b] = rotate(x[b] ^ x[c], 7);
}

static void next_block(void) {
    u32 state[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    for (u32 i = 0; i < 8; i++) state[4 + i] = call.seed[i];
    state[12] = counter++;
    for (u32 i = 0; i < 16; i++) block[i] = state[i];
    for (u32 round = 0; round < 10; round++) {
        for (u32 i = 0; i < 4; i++) quarter(block, i, i + 4, i + 8, i + 12);
        for (u32 i = 0; i < 4; i++) quarter(block, i, (i + 1) % 4 + 4, (i + 2) % 4 + 8, (i + 3) % 4 + 12);
    }
    for (u32 i = 0; i < 16; i++) block[i] += state[i];
    used = 0;
}

static void random_into(u8 *place, u64 size) {
    for (u64 i = 0; i < size; i++) {
        if (used == sizeof block) next_block();
        place[i] = ((u8 *)block)[used++];
    }
}

static u64 random_u64(void) {
    u64 value;
    random_into((u8 *)&value, sizeof value);
    return value;
}

static u8 *random_bytes(u64 size) {
    if (size > UINT32_MAX) __builtin_trap();
    u8 *bytes = heap_take((u32)size);
    random_into(bytes, size);
    u8 *place = answer();
    put_bytes(place, 0, (Bytes){bytes, (u32)size});
    heap_forget(bytes);
    return place;
}

EXPORT("cm32p2|wasi:random/random@0.2|get-random-bytes") u8 *get_random_bytes(u64 size) { return random_bytes(size); }

EXPORT("cm32p2|wasi:random/random@0.2|get-random-u64") u64 get_random_u64(void) { return random_u64(); }

EXPORT("cm32p2|wasi:random/insecure@0.2|get-insecure-random-bytes") u8 *get_insecure_random_bytes(u64 size) {
    return random_bytes(size);
}

EXPORT("cm32p2|wasi:random/insecure@0.2|get-insecure-random-u64") u64 get_insecure_random_u64(void) {
    return random_u64();
}

EXPORT("cm32p2|wasi:random/insecure-seed@0.2|insecure-seed") u8 *insecure_seed(void) {
    u64 first = random_u64(), second = random_u64();
    u8 *place = answer();
    put64(place, 0, first);
    put64(place, 8, second);
    return place;
}
