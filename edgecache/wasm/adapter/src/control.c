// edgecache:adapter/control: how the driver starts and ends the call. The frames are described in the README.
#include "body.h"
#include "call.h"
#include "cli.h"
#include "hostcall.h"
#include "text.h"

Call call;

static u32 hex_digit(u8 digit) { return digit <= '9' ? digit - '0' : digit - 'a' + 10; }

static void read_seed(Bytes hex) {
    if (hex.size != 64) __builtin_trap();
    for (u32 i = 0; i < 64; i++) call.seed[i / 8] = call.seed[i / 8] << 4 | hex_digit(hex.data[i]);
    for (u32 i = 0; i < 8; i++) call.seed[i] = __builtin_bswap32(call.seed[i]);  // the key is little-endian
}

static void read_flags(Bytes flags) {
    for (u32 i = 0; i < flags.size; i++) {
        call.reads |= flags.data[i] == 'r';
        call.writes |= flags.data[i] == 'w';
    }
}

EXPORT("cm32p2|edgecache:adapter/control@0.1|begin")
u8 *begin(u8 *meta_data, u32 meta_size, u8 *body_data, u32 body_size) {
    Bytes meta = from_latin1((Bytes){meta_data, meta_size});
    call.method = as_utf8(netstring(&meta));
    call.target = as_ascii(netstring(&meta));
    call.scheme = as_ascii(netstring(&meta));
    call.authority = as_ascii(netstring(&meta));
    call.wall = to_number(netstring(&meta));
    call.monotonic = to_number(netstring(&meta));
    read_seed(netstring(&meta));
    read_flags(netstring(&meta));
    while (meta.size) {
        Bytes name = netstring(&meta);
        fields_add_received(&call.headers, (Field){name, netstring(&meta)});
    }
    call.body = from_latin1((Bytes){body_data, body_size});
    u8 *place = answer();
    put32(place, 0, incoming_request_new(&call));
    put32(place, 4, response_outparam_new(&call));
    return place;
}

// Why the response cannot be used, or nothing.
static Bytes failure(void) {
    static const Bytes CODES[] = {
#define CASE(name) LITERAL("the function answered with the error " name),
#include "error_codes.h"
#undef CASE
    };
    if (call.error) return call.error <= sizeof CODES / sizeof *CODES ? CODES[call.error - 1] : (Bytes){0};
    const OutgoingBody *body = call.response->body;
    if (!body || body->finished) return (Bytes){0};
    if (body->promised >= 0 && (u64)body->promised != body->size)
        return LITERAL("the body of the response is not as long as its content-length says");
    return LITERAL("the body of the response was not finished (outgoing-body.finish)");
}

static u8 *finished(Message meta, Bytes body) {
    Bytes text = to_latin1(body);
    u8 *place = answer();
    put_bytes(place, 0, (Bytes){meta.data, meta.size});
    put_bytes(place, 8, text);
    return place;
}

EXPORT("cm32p2|edgecache:adapter/control@0.1|finish") u8 *finish(void) {
    Message meta = {0};
    Bytes reason = {0};
    logs_end();
    if (!call.response && !call.error) {
        message_add(&meta, LITERAL("0"));
        return finished(meta, (Bytes){0});
    }
    reason = failure();
    if (reason.size) {
        message_add(&meta, LITERAL("-1"));
        message_add(&meta, LITERAL("reason"));
        message_add(&meta, reason);
        return finished(meta, (Bytes){0});
    }
    if (call.writes) response_send_head(&reason);  // a response without body; refused: nobody is there to hear it
    Bytes body = body_joined(call.response->body);
    message_number(&meta, call.response->status);
    for (u32 i = 0; i < call.response->headers->count; i++) {
        message_add(&meta, call.response->headers->items[i].name);
        message_add(&meta, call.response->headers->items[i].value);
    }
    return finished(meta, body);
}
