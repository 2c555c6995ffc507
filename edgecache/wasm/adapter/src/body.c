// wasi:http/types: outgoing-body. Parts stay where the guest's writes have put them and are joined once, at the end;
// those of a streamed response go to the host at once.
#include "body.h"

#include "call.h"
#include "hostcall.h"
#include "text.h"

OutgoingBody *outgoing_body_for(const Fields *headers, bool answers) {
    OutgoingBody *body = heap_zeroed(sizeof *body);
    Bytes length;
    body->answers = answers;
    body->promised = fields_find(headers, LITERAL("content-length"), &length) && is_digits(length)
                         ? (s64)to_number(length)
                         : -1;
    return body;
}

bool body_is_open(const OutgoingBody *body) { return !body->finished && !body->dropped; }

static void keep(OutgoingBody *body, Bytes part) {
    if (body->count == body->capacity) {
        u32 capacity = body->capacity ? 2 * body->capacity : 8;
        Bytes *parts = heap_take(capacity * sizeof *parts);
        __builtin_memcpy(parts, body->parts, body->count * sizeof *parts);
        body->parts = parts;
        body->capacity = capacity;
    }
    body->parts[body->count++] = part;
}

Bytes body_joined(const OutgoingBody *body) {
    if (!body || !body->count) return (Bytes){0};
    if (body->count == 1) return body->parts[0];
    u8 *place = heap_take((u32)body->size), *end = place;
    for (u32 i = 0; i < body->count; i++) {
        __builtin_memcpy(end, body->parts[i].data, body->parts[i].size);
        end += body->parts[i].size;
    }
    return (Bytes){place, (u32)body->size};
}

static bool is_streamed(const OutgoingBody *body) {
    return call.writes && call.response && call.response->body == body;
}

static Written send(Bytes op, Message message, Bytes *reason) {
    Answer reply = ask(op, message);
    if (!reply.refused) return SENT;
    *reason = reply.text;
    return REFUSED;
}

Written response_send_head(Bytes *reason) {
    if (call.head_sent) return SENT;
    Message message = {0};
    message_number(&message, call.response->status);
    for (u32 i = 0; i < call.response->headers->count; i++) {
        message_add(&message, call.response->headers->items[i].name);
        message_add(&message, call.response->headers->items[i].value);
    }
    call.head_sent = true;
    return send(LITERAL("body.head"), message, reason);
}

static Written send_part(Bytes part, Bytes *reason) {
    Message message = {0};
    message_add(&message, part);
    return send(LITERAL("body.write"), message, reason);
}

Written response_send_kept(OutgoingBody *body, Bytes *reason) {
    Written written = body->count ? response_send_head(reason) : SENT;
    for (u32 i = 0; i < body->count && written == SENT; i++) written = send_part(body->parts[i], reason);
    body->count = 0;
    return written;
}

Written body_write(OutgoingBody *body, Bytes contents, Bytes *reason) {
    if (!body_is_open(body)) return CLOSED;
    if (!contents.size) return SENT;
    body->size += contents.size;
    if (!is_streamed(body)) {
        keep(body, contents);
        return KEPT;
    }
    Written written = response_send_head(reason);
    if (written == SENT) written = send_part(contents, reason);
    if (written == REFUSED) body->dropped = true;
    return written;
}

TYPES("[method]outgoing-body.write") u8 *outgoing_body_write(OutgoingBody *self) {
    if (self->taken) return failed();
    self->taken = true;
    OutputStream *stream = heap_zeroed(sizeof *stream);
    stream->body = self;
    return ok32(output_stream_new(stream));
}

// Trailers are let go: any recipient may (RFC 9110, section 6.5.1), and no phase has a place for them.
TYPES("[static]outgoing-body.finish") u8 *outgoing_body_finish(Handle body, u32 has_trailers, Handle trailers) {
    OutgoingBody *self = outgoing_body_rep(body);
    if (has_trailers) fields_drop(trailers);
    bool kept = self->promised < 0 || (u64)self->promised == self->size;
    self->finished = kept && !self->dropped;
    outgoing_body_drop(body);
    if (kept) return answer();
    u8 *place = failed();  // result<_, error-code>: the case is at 8, option<u64> at 16
    place[8] = self->answers ? HTTP_RESPONSE_BODY_SIZE : HTTP_REQUEST_BODY_SIZE;
    place[16] = 1;
    put64(place, 24, self->size);
    return place;
}

EXPORT("cm32p2|wasi:http/types@0.2|outgoing-body_dtor") void outgoing_body_dtor(OutgoingBody *self) {
    if (!self->finished) self->dropped = true;
}
