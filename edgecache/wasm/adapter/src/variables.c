// fermyon:spin/variables@2.0.0 and wasi:config/store@0.2.0-draft-2024-09-27: variables and secrets, by name.
#include "hostcall.h"
#include "text.h"

static Answer get(u8 *data, u32 size) {
    Message message = {0};
    message_add(&message, (Bytes){data, size});
    return ask(LITERAL("var.get"), message);
}

// A variable that the function may not read is as one that is not there.
static bool is_undefined(const Answer *reply) {
    return refused_as(reply, LITERAL("not-found")) || refused_as(reply, LITERAL("denied"));
}

// result<_, error>: the case is at 4, the message at 8
static u8 *error(u32 code, Bytes message) {
    u8 *place = failed();
    place[4] = (u8)code;
    put_bytes(place, 8, message);
    return place;
}

EXPORT("cm32p2|fermyon:spin/variables@2|get") u8 *variables_get(u8 *data, u32 size) {
    enum { INVALID_NAME, UNDEFINED, PROVIDER };
    Answer reply = get(data, size);
    if (reply.refused) {
        u32 code = is_undefined(&reply) ? UNDEFINED : refused_as(&reply, LITERAL("invalid")) ? INVALID_NAME : PROVIDER;
        return error(code, reply.text);
    }
    Bytes value = as_utf8(answer_field(&reply));
    u8 *place = answer();
    put_bytes(place, 4, value);
    return place;
}

EXPORT("cm32p2|wasi:config/store@0.2.0-draft-2024-09-27|get") u8 *config_get(u8 *data, u32 size) {
    enum { UPSTREAM };
    Answer reply = get(data, size);
    if (reply.refused) return is_undefined(&reply) ? answer() : error(UPSTREAM, reply.text);
    Bytes value = as_utf8(answer_field(&reply));
    u8 *place = answer();
    put_some(place, 4, value);
    return place;
}

// The host gives variables by name only: what a function may read, it knows from its own manifest.
EXPORT("cm32p2|wasi:config/store@0.2.0-draft-2024-09-27|get-all") u8 *config_get_all(void) {
    return error(0, LITERAL("variables cannot be listed; get them by name"));
}
