// Shapes and names of the canonical ABI, shared by every file.
//
// Names are those of the component model's "cm32p2" convention, which wasm-tools turns into a component. A list or
// string is an address and a length. A function whose result does not fit one register returns the address of it;
// `answer` is where all of them put it. Layouts are written as offsets, each next to the type that it comes from:
// a `result` or `option` begins with its discriminant, the payload follows at its own alignment.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

typedef struct { u8 *data; u32 size; } Bytes;         // list<u8>, string
typedef struct { Bytes name, value; } Field;          // tuple<string, list<u8>>
typedef u32 Handle;                                    // own<T>

#define EXPORT(name) __attribute__((export_name(name)))
#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))

// A resource that this component owns: `T_new` makes a handle for an object here, `T_rep` gives the object back,
// `T_drop` gives up a handle that a caller handed over. Borrowed ones arrive as the object itself.
#define RESOURCE(id, interface, name)                                     \
    IMPORT("cm32p2|_ex_" interface, name "_new") Handle id##_new(void *); \
    IMPORT("cm32p2|_ex_" interface, name "_rep") void *id##_rep(Handle);  \
    IMPORT("cm32p2|_ex_" interface, name "_drop") void id##_drop(Handle);

#define LITERAL(text) ((Bytes){(u8 *)(text), sizeof(text) - 1})

// The cleared place for a result. One is enough: the caller has read it before it can call again.
u8 *answer(void);

static inline void put32(u8 *place, u32 offset, u32 value) { *(u32 *)(place + offset) = value; }
static inline void put64(u8 *place, u32 offset, u64 value) { *(u64 *)(place + offset) = value; }
static inline void put_bytes(u8 *place, u32 offset, Bytes value) { *(Bytes *)(place + offset) = value; }

// option<string>, option<list<u8>>
static inline void put_some(u8 *place, u32 offset, Bytes value) {
    place[offset] = 1;
    put_bytes(place, offset + 4, value);
}

// result<own<T>> and every other `ok` that is one handle or address
static inline u8 *ok32(u32 value) {
    u8 *place = answer();
    put32(place, 4, value);
    return place;
}

// The `error` of a result without payload
static inline u8 *failed(void) {
    u8 *place = answer();
    place[0] = 1;
    return place;
}
