// wasi:keyvalue/{store,atomics,batch}@0.2.0-draft2.
#include "heap.h"
#include "store.h"
#include "text.h"

#define STORE(name) EXPORT("cm32p2|wasi:keyvalue/store@0.2.0-draft2|" name)
#define ATOMICS(name) EXPORT("cm32p2|wasi:keyvalue/atomics@0.2.0-draft2|" name)
#define BATCH(name) EXPORT("cm32p2|wasi:keyvalue/batch@0.2.0-draft2|" name)

RESOURCE(bucket, "wasi:keyvalue/store@0.2.0-draft2", "bucket")
RESOURCE(cas, "wasi:keyvalue/atomics@0.2.0-draft2", "cas")

static const StoreErrors ERRORS = {.no_such_store = 0, .access_denied = 1, .other = 2};

// ---- store

STORE("open") u8 *bucket_open(u8 *data, u32 size) {
    Store wanted = {{data, size}};
    Answer reply = store_ask_only(LITERAL("kv.open"), &wanted);
    return store_opened(&reply, &ERRORS, wanted.name, bucket_new);
}

STORE("[method]bucket.get") u8 *bucket_get(Store *self, u8 *data, u32 size) {
    Answer reply = store_ask(LITERAL("kv.get"), self, (Bytes){data, size});
    u8 *place = store_value(&reply, &ERRORS);
    heap_forget(data);
    return place;
}

STORE("[method]bucket.set") u8 *bucket_set(Store *self, u8 *data, u32 size, u8 *value, u32 value_size) {
    Answer reply = store_put(self, (Bytes){data, size}, (Bytes){value, value_size});
    u8 *place = store_done(&reply, &ERRORS);
    heap_forget(data);
    return place;
}

STORE("[method]bucket.delete") u8 *bucket_delete(Store *self, u8 *data, u32 size) {
    Answer reply = store_ask(LITERAL("kv.delete"), self, (Bytes){data, size});
    u8 *place = store_done(&reply, &ERRORS);
    heap_forget(data);
    return place;
}

STORE("[method]bucket.exists") u8 *bucket_exists(Store *self, u8 *data, u32 size) {
    Answer reply = store_ask(LITERAL("kv.exists"), self, (Bytes){data, size});
    u8 *place = store_exists(&reply, &ERRORS);
    heap_forget(data);
    return place;
}

// All keys come at once, so there is no cursor: none is given, and one that is passed in is of no page of ours.
STORE("[method]bucket.list-keys") u8 *bucket_keys(Store *self, u32 has_cursor, u8 *cursor, u32 cursor_size) {
    (void)cursor, (void)cursor_size;
    if (has_cursor) return answer();
    Answer reply = store_ask_only(LITERAL("kv.keys"), self);
    return store_keys(&reply, &ERRORS);  // key-response: keys, option<string>
}

// ---- atomics: a swap succeeds only where the value is still the one that was seen

typedef struct {
    const Store *store;
    Bytes key, seen;
    bool present;
} Swap;

static Answer look(Swap *swap) {
    Answer reply = store_ask(LITERAL("kv.get"), swap->store, swap->key);
    swap->present = !reply.refused && answer_more(&reply);
    if (swap->present) swap->seen = answer_field(&reply);
    return reply;
}

ATOMICS("[static]cas.new") u8 *cas_of(Store *store, u8 *data, u32 size) {
    Swap *swap = heap_zeroed(sizeof *swap);
    swap->store = store;
    swap->key = (Bytes){data, size};
    Answer reply = look(swap);
    return reply.refused ? store_refusal(&reply, &ERRORS, 4) : ok32(cas_new(swap));
}

ATOMICS("[method]cas.current") u8 *cas_current(Swap *self) {
    u8 *place = answer();
    if (self->present) put_some(place, 4, self->seen);
    return place;
}

// result<_, cas-error>: the case is at 4, the store's error or the new handle at 8
ATOMICS("swap") u8 *cas_swap(Handle handle, u8 *value, u32 size) {
    Swap *swap = cas_rep(handle);
    cas_drop(handle);
    Message message = {0};
    message_add(&message, swap->store->name);
    message_add(&message, swap->key);
    message_add(&message, swap->present ? LITERAL("=") : LITERAL("-"));
    message_add(&message, swap->present ? swap->seen : (Bytes){0});
    message_add(&message, (Bytes){value, size});
    Answer reply = ask(LITERAL("kv.swap"), message);
    if (reply.refused) return store_refusal(&reply, &ERRORS, 8);
    if (same(answer_field(&reply), LITERAL("1"))) return answer();
    Answer now = look(swap);
    if (now.refused) return store_refusal(&now, &ERRORS, 8);
    Handle again = cas_new(swap);
    u8 *place = failed();
    place[4] = 1;
    put32(place, 8, again);
    return place;
}

static Bytes from_signed(s64 number) {
    if (number >= 0) return from_number((u64)number);
    Bytes digits = from_number(0 - (u64)number);
    u8 *text = heap_take(digits.size + 1);
    text[0] = '-';
    __builtin_memcpy(text + 1, digits.data, digits.size);
    return (Bytes){text, digits.size + 1};
}

static s64 to_signed(Bytes text) {
    if (!text.size || text.data[0] != '-') return (s64)to_number(text);
    return (s64)(0 - to_number((Bytes){text.data + 1, text.size - 1}));
}

ATOMICS("increment") u8 *increment(Store *store, u8 *data, u32 size, s64 delta) {
    Bytes number = from_signed(delta);
    Message message = {0};
    message_add(&message, store->name);
    message_add(&message, (Bytes){data, size});
    message_add(&message, number);
    Answer reply = ask(LITERAL("kv.increment"), message);
    if (reply.refused) return store_refusal(&reply, &ERRORS, 8);
    s64 now = to_signed(answer_field(&reply));
    u8 *place = answer();
    put64(place, 8, (u64)now);
    return place;
}

// ---- batch: one host call a key

typedef struct {
    Bytes key;
    u32 present;
    Bytes value;
} Found;  // tuple<string, option<list<u8>>>

BATCH("get-many") u8 *get_many(Store *store, Bytes *keys, u32 count) {
    Found *found = heap_zeroed(count * sizeof *found);
    for (u32 i = 0; i < count; i++) {
        Answer reply = store_ask(LITERAL("kv.get"), store, keys[i]);
        if (reply.refused) return store_refusal(&reply, &ERRORS, 4);
        found[i].key = keys[i];
        found[i].present = answer_more(&reply);
        if (found[i].present) found[i].value = answer_field(&reply);
    }
    u8 *place = answer();
    put_bytes(place, 4, (Bytes){(u8 *)found, count});
    return place;
}

BATCH("set-many") u8 *set_many(Store *store, Field *pairs, u32 count) {
    for (u32 i = 0; i < count; i++) {
        Answer reply = store_put(store, pairs[i].name, pairs[i].value);
        if (reply.refused) return store_refusal(&reply, &ERRORS, 4);
    }
    return answer();
}

BATCH("delete-many") u8 *delete_many(Store *store, Bytes *keys, u32 count) {
    for (u32 i = 0; i < count; i++) {
        Answer reply = store_ask(LITERAL("kv.delete"), store, keys[i]);
        if (reply.refused) return store_refusal(&reply, &ERRORS, 4);
    }
    return answer();
}
