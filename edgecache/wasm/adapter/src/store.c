#include "store.h"

#include "heap.h"
#include "text.h"

static Message begin(const Store *store) {
    Message message = {0};
    message_add(&message, store->name);
    return message;
}

Answer store_ask(Bytes op, const Store *store, Bytes key) {
    Message message = begin(store);
    message_add(&message, key);
    return ask(op, message);
}

Answer store_ask_only(Bytes op, const Store *store) { return ask(op, begin(store)); }

Answer store_put(const Store *store, Bytes key, Bytes value) {
    Message message = begin(store);
    message_add(&message, key);
    message_add(&message, value);
    return ask(LITERAL("kv.set"), message);
}

u8 *store_refusal(const Answer *reply, const StoreErrors *errors, u32 offset) {
    u8 *place = failed();
    if (refused_as(reply, LITERAL("denied"))) {
        place[offset] = errors->access_denied;
    } else if (refused_as(reply, LITERAL("not-found"))) {
        place[offset] = errors->no_such_store;
    } else {
        place[offset] = errors->other;
        put_bytes(place, offset + 4, reply->text);
    }
    return place;
}

u8 *store_opened(const Answer *reply, const StoreErrors *errors, Bytes name, Handle (*make)(void *)) {
    if (reply->refused) return store_refusal(reply, errors, 4);
    Store *store = heap_take(sizeof *store);
    store->name = name;
    return ok32(make(store));
}

u8 *store_value(Answer *reply, const StoreErrors *errors) {
    if (reply->refused) return store_refusal(reply, errors, 4);
    u8 *place = answer();
    if (answer_more(reply)) put_some(place, 4, answer_field(reply));
    return place;
}

u8 *store_exists(Answer *reply, const StoreErrors *errors) {
    if (reply->refused) return store_refusal(reply, errors, 4);
    u8 *place = answer();
    place[4] = same(answer_field(reply), LITERAL("1"));
    return place;
}

u8 *store_done(const Answer *reply, const StoreErrors *errors) {
    return reply->refused ? store_refusal(reply, errors, 4) : answer();
}

u8 *store_keys(Answer *reply, const StoreErrors *errors) {
    if (reply->refused) return store_refusal(reply, errors, 4);
    u32 count = 0;
    for (Answer counted = *reply; answer_more(&counted); count++) answer_field(&counted);
    Bytes *keys = heap_take(count * sizeof *keys);
    for (u32 i = 0; i < count; i++) keys[i] = as_utf8(answer_field(reply));
    u8 *place = answer();
    put_bytes(place, 4, (Bytes){(u8 *)keys, count});
    return place;
}
