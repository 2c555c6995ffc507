// wasi:http/outgoing-handler: requests of the guest, as one host call (`fetch`) when they are complete.
#include "hostcall.h"
#include "http_incoming.h"
#include "text.h"

struct Future {
    OutgoingRequest *request;
    bool forced;  // the guest waits for it, complete or not
    bool taken;
};

// ---- outgoing-request

TYPES("[constructor]outgoing-request") Handle outgoing_request_constructor(Handle headers) {
    OutgoingRequest *made = heap_zeroed(sizeof *made);
    made->headers = fields_rep(headers);
    return outgoing_request_new(made);
}

TYPES("[method]outgoing-request.body") u8 *outgoing_request_body(OutgoingRequest *self) {
    if (self->body) return failed();
    self->body = outgoing_body_for(self->headers, false);
    return ok32(outgoing_body_new(self->body));
}

TYPES("[method]outgoing-request.method") u8 *outgoing_request_method(OutgoingRequest *self) {
    return method_answer(self->method == OTHER_METHOD ? self->method_name : method_name(self->method));
}

TYPES("[method]outgoing-request.set-method")
u32 outgoing_request_set_method(OutgoingRequest *self, u32 method, u8 *data, u32 size) {
    Bytes name = {data, size};
    if (method == OTHER_METHOD && !is_token(name)) return 1;
    self->method = method;
    self->method_name = name;
    return 0;
}

// No spaces, no control characters, nothing over 0x7f: what a URI is made of.
static bool is_part_of_uri(Bytes text) {
    for (u32 i = 0; i < text.size; i++)
        if (text.data[i] <= ' ' || text.data[i] >= 0x7f) return false;
    return true;
}

TYPES("[method]outgoing-request.path-with-query") u8 *outgoing_request_path(OutgoingRequest *self) {
    return optional_string(self->has_path, self->path);
}

TYPES("[method]outgoing-request.set-path-with-query")
u32 outgoing_request_set_path(OutgoingRequest *self, u32 present, u8 *data, u32 size) {
    Bytes path = {data, size};
    if (present && !is_part_of_uri(path)) return 1;
    self->has_path = present;
    self->path = path;
    return 0;
}

TYPES("[method]outgoing-request.scheme") u8 *outgoing_request_scheme(OutgoingRequest *self) {
    if (!self->has_scheme) return answer();
    return scheme_answer(self->scheme_name);
}

TYPES("[method]outgoing-request.set-scheme")
u32 outgoing_request_set_scheme(OutgoingRequest *self, u32 present, u32 scheme, u8 *data, u32 size) {
    Bytes name = scheme == 0 ? LITERAL("http") : scheme == 1 ? LITERAL("https") : (Bytes){data, size};
    if (present && !is_token(name)) return 1;
    self->has_scheme = present;
    self->scheme_name = name;
    return 0;
}

TYPES("[method]outgoing-request.authority") u8 *outgoing_request_authority(OutgoingRequest *self) {
    return optional_string(self->has_authority, self->authority);
}

TYPES("[method]outgoing-request.set-authority")
u32 outgoing_request_set_authority(OutgoingRequest *self, u32 present, u8 *data, u32 size) {
    Bytes authority = {data, size};
    if (present && (!size || !is_part_of_uri(authority))) return 1;
    self->has_authority = present;
    self->authority = authority;
    return 0;
}

TYPES("[method]outgoing-request.headers") Handle outgoing_request_headers(OutgoingRequest *self) {
    return fields_shown(self->headers);
}

// ---- request-options: the host has deadlines of its own, so none of these is supported, and each says so

TYPES("[constructor]request-options") Handle options_constructor(void) { return request_options_new((void *)8); }

TYPES("[method]request-options.connect-timeout") u8 *options_connect(void *self) {
    (void)self;
    return answer();
}

TYPES("[method]request-options.first-byte-timeout") u8 *options_first_byte(void *self) {
    (void)self;
    return answer();
}

TYPES("[method]request-options.between-bytes-timeout") u8 *options_between_bytes(void *self) {
    (void)self;
    return answer();
}

TYPES("[method]request-options.set-connect-timeout") u32 options_set_connect(void *self, u32 present, u64 ns) {
    (void)self, (void)ns;
    return present;
}

TYPES("[method]request-options.set-first-byte-timeout") u32 options_set_first_byte(void *self, u32 present, u64 ns) {
    (void)self, (void)ns;
    return present;
}

TYPES("[method]request-options.set-between-bytes-timeout")
u32 options_set_between_bytes(void *self, u32 present, u64 ns) {
    (void)self, (void)ns;
    return present;
}

// ---- outgoing-handler and future-incoming-response

EXPORT("cm32p2|wasi:http/outgoing-handler@0.2|handle")
u8 *outgoing_handle(Handle request, u32 has_options, Handle options) {
    if (has_options) request_options_drop(options);
    OutgoingRequest *sent = outgoing_request_rep(request);
    if (!sent->has_authority) {
        u8 *place = failed();  // result<future-incoming-response, error-code>: the case is at 8
        place[8] = HTTP_REQUEST_URI_INVALID;
        return place;
    }
    Future *future = heap_zeroed(sizeof *future);
    future->request = sent;
    u8 *place = answer();
    put32(place, 8, future_response_new(future));
    return place;
}

bool future_is_ready(const Future *self) {
    const OutgoingBody *body = self->request->body;
    return self->forced || !body || body->finished || body->dropped;
}

void future_force(Future *self) { self->forced = true; }

static Bytes url_of(const OutgoingRequest *request) {
    Bytes parts[] = {request->has_scheme ? request->scheme_name : LITERAL("https"), LITERAL("://"),
                     request->authority, request->has_path && request->path.size ? request->path : LITERAL("/")};
    Bytes url = {0};
    for (u32 i = 0; i < sizeof parts / sizeof *parts; i++) {
        url.data = heap_extend(url.data, url.size, parts[i].size);
        __builtin_memcpy(url.data + url.size, parts[i].data, parts[i].size);
        url.size += parts[i].size;
    }
    return url;
}

static Answer fetch(const OutgoingRequest *request) {
    Bytes url = url_of(request), body = body_joined(request->body);
    Message message = {0};
    message_add(&message, request->method == OTHER_METHOD ? request->method_name : method_name(request->method));
    message_add(&message, url);
    message_add(&message, body);
    for (u32 i = 0; i < request->headers->count; i++) {
        message_add(&message, request->headers->items[i].name);
        message_add(&message, request->headers->items[i].value);
    }
    return ask(LITERAL("fetch"), message);
}

static Handle response_from(Answer *reply) {
    IncomingResponse *response = heap_zeroed(sizeof *response);
    response->status = (u32)to_number(answer_field(reply));
    response->body = answer_field(reply);
    while (answer_more(reply)) {
        Bytes name = answer_field(reply);
        fields_add_received(&response->headers, (Field){name, answer_field(reply)});
    }
    return incoming_response_new(response);
}

// option<result<result<incoming-response, error-code>>>: the outer result is at 8, the inner one at 16, its payload
// at 24, and an option<string> of the error at 32.
static u8 *taken_error(u32 code, Bytes text) {
    u8 *place = answer();
    place[0] = 1;
    place[16] = 1;
    place[24] = (u8)code;
    if (code == INTERNAL_ERROR) put_some(place, 32, text);
    return place;
}

TYPES("[method]future-incoming-response.get") u8 *future_get(Future *self) {
    if (!future_is_ready(self)) return answer();
    if (self->taken) {
        u8 *place = answer();
        place[0] = place[8] = 1;
        return place;
    }
    self->taken = true;
    OutgoingBody *body = self->request->body;
    if (body && body->dropped)
        return taken_error(INTERNAL_ERROR, LITERAL("the body of the request was not finished"));
    Answer reply = fetch(self->request);
    if (reply.refused && refused_as(&reply, LITERAL("denied"))) return taken_error(HTTP_REQUEST_DENIED, reply.text);
    if (reply.refused && refused_as(&reply, LITERAL("timeout"))) return taken_error(HTTP_RESPONSE_TIMEOUT, reply.text);
    if (reply.refused) return taken_error(INTERNAL_ERROR, reply.text);
    Handle response = response_from(&reply);
    u8 *place = answer();
    place[0] = 1;
    put32(place, 24, response);
    return place;
}

TYPES("[method]future-incoming-response.subscribe") Handle future_subscribe(Future *self) {
    return pollable_of(self);
}

// No error of a stream here is one of HTTP.
TYPES("http-error-code") u8 *http_error_code(void *error) {
    (void)error;
    return answer();
}
