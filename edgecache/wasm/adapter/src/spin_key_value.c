// fermyon:spin/key-value@2.0.0.
#include "heap.h"
#include "store.h"

#define KEY_VALUE(name) EXPORT("cm32p2|fermyon:spin/key-value@2|" name)

RESOURCE(spin_store, "fermyon:spin/key-value@2", "store")

static const StoreErrors ERRORS = {.no_such_store = 1, .access_denied = 2, .other = 3};

KEY_VALUE("[static]store.open") u8 *spin_store_open(u8 *data, u32 size) {
    Store wanted = {{data, size}};
    Answer reply = store_ask_only(LITERAL("kv.open"), &wanted);
    return store_opened(&reply, &ERRORS, wanted.name, spin_store_new);
}

KEY_VALUE("[method]store.get") u8 *spin_store_get(Store *self, u8 *data, u32 size) {
    Answer reply = store_ask(LITERAL("kv.get"), self, (Bytes){data, size});
    u8 *place = store_value(&reply, &ERRORS);
    heap_forget(data);
    return place;
}

KEY_VALUE("[method]store.set") u8 *spin_store_set(Store *self, u8 *data, u32 size, u8 *value, u32 value_size) {
    Answer reply = store_put(self, (Bytes){data, size}, (Bytes){value, value_size});
    u8 *place = store_done(&reply, &ERRORS);
    heap_forget(data);
    return place;
}

KEY_VALUE("[method]store.delete") u8 *spin_store_delete(Store *self, u8 *data, u32 size) {
    Answer reply = store_ask(LITERAL("kv.delete"), self, (Bytes){data, size});
    u8 *place = store_done(&reply, &ERRORS);
    heap_forget(data);
    return place;
}

KEY_VALUE("[method]store.exists") u8 *spin_store_exists(Store *self, u8 *data, u32 size) {
    Answer reply = store_ask(LITERAL("kv.exists"), self, (Bytes){data, size});
    u8 *place = store_exists(&reply, &ERRORS);
    heap_forget(data);
    return place;
}

KEY_VALUE("[method]store.get-keys") u8 *spin_store_keys(Store *self) {
    Answer reply = store_ask_only(LITERAL("kv.keys"), self);
    return store_keys(&reply, &ERRORS);
}
