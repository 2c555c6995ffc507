// wasi:http/types: what comes in: the request that the call is about, and responses to requests of the guest.
#include "call.h"
#include "http_incoming.h"
#include "text.h"

static const Bytes METHODS[] = {
    LITERAL("GET"), LITERAL("HEAD"), LITERAL("POST"), LITERAL("PUT"), LITERAL("DELETE"),
    LITERAL("CONNECT"), LITERAL("OPTIONS"), LITERAL("TRACE"), LITERAL("PATCH"),
};

Bytes method_name(u32 method) { return METHODS[method]; }

// variant method: the name of `other` is at 4
u8 *method_answer(Bytes name) {
    u8 *place = answer();
    while (place[0] < OTHER_METHOD && !same(name, METHODS[place[0]])) place[0]++;
    if (place[0] == OTHER_METHOD) put_bytes(place, 4, name);
    return place;
}

// option<scheme>: the case is at 4, the name of `other` at 8
u8 *scheme_answer(Bytes name) {
    u8 *place = answer();
    place[0] = 1;
    place[4] = same_ignoring_case(name, LITERAL("http")) ? 0 : same_ignoring_case(name, LITERAL("https")) ? 1 : 2;
    if (place[4] == OTHER_SCHEME) put_bytes(place, 8, name);
    return place;
}

u8 *optional_string(bool present, Bytes text) {
    u8 *place = answer();
    if (present) put_some(place, 0, text);
    return place;
}

Handle incoming_body_of(Bytes bytes, bool pulls) {
    IncomingBody *body = heap_zeroed(sizeof *body);
    body->stream.rest = bytes;
    body->stream.pulls = pulls;
    return incoming_body_new(body);
}

// ---- incoming-request: there is one, `call`

TYPES("[method]incoming-request.method") u8 *request_method(void *self) {
    (void)self;
    return method_answer(call.method);
}

TYPES("[method]incoming-request.path-with-query") u8 *request_path(void *self) {
    (void)self;
    return optional_string(call.target.size > 0, call.target);
}

TYPES("[method]incoming-request.scheme") u8 *request_scheme(void *self) {
    (void)self;
    return call.scheme.size ? scheme_answer(call.scheme) : answer();
}

TYPES("[method]incoming-request.authority") u8 *request_authority(void *self) {
    (void)self;
    return optional_string(call.authority.size > 0, call.authority);
}

TYPES("[method]incoming-request.headers") Handle request_headers(void *self) {
    (void)self;
    return fields_shown(&call.headers);
}

TYPES("[method]incoming-request.consume") u8 *request_consume(void *self) {
    (void)self;
    if (call.consumed) return failed();
    call.consumed = true;
    return ok32(incoming_body_of(call.body, call.reads));
}

// ---- incoming-response

TYPES("[method]incoming-response.status") u32 response_status(IncomingResponse *self) { return self->status; }

TYPES("[method]incoming-response.headers") Handle response_headers(IncomingResponse *self) {
    return fields_shown(&self->headers);
}

TYPES("[method]incoming-response.consume") u8 *response_consume(IncomingResponse *self) {
    if (self->consumed) return failed();
    self->consumed = true;
    return ok32(incoming_body_of(self->body, false));
}

// ---- incoming-body and its trailers, of which there are none

TYPES("[method]incoming-body.stream") u8 *body_stream(IncomingBody *self) {
    if (self->taken) return failed();
    self->taken = true;
    return ok32(input_stream_new(&self->stream));
}

TYPES("[static]incoming-body.finish") Handle body_finish(Handle body) {
    incoming_body_drop(body);
    return future_trailers_new(heap_zeroed(sizeof(bool)));
}

TYPES("[method]future-trailers.subscribe") Handle trailers_subscribe(bool *taken) {
    (void)taken;
    return pollable_ready();
}

// option<result<result<option<trailers>, error-code>>>: the outer result is at 8
TYPES("[method]future-trailers.get") u8 *trailers_get(bool *taken) {
    u8 *place = answer();
    place[0] = 1;
    place[8] = *taken;
    *taken = true;
    return place;
}
