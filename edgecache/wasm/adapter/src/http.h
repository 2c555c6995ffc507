// The objects of wasi:http.
#pragma once
#include "abi.h"
#include "heap.h"
#include "io.h"

#define TYPES(name) EXPORT("cm32p2|wasi:http/types@0.2|" name)

RESOURCE(fields, "wasi:http/types@0.2", "fields")
RESOURCE(incoming_request, "wasi:http/types@0.2", "incoming-request")
RESOURCE(incoming_response, "wasi:http/types@0.2", "incoming-response")
RESOURCE(incoming_body, "wasi:http/types@0.2", "incoming-body")
RESOURCE(future_trailers, "wasi:http/types@0.2", "future-trailers")
RESOURCE(outgoing_request, "wasi:http/types@0.2", "outgoing-request")
RESOURCE(outgoing_response, "wasi:http/types@0.2", "outgoing-response")
RESOURCE(outgoing_body, "wasi:http/types@0.2", "outgoing-body")
RESOURCE(request_options, "wasi:http/types@0.2", "request-options")
RESOURCE(response_outparam, "wasi:http/types@0.2", "response-outparam")
RESOURCE(future_response, "wasi:http/types@0.2", "future-incoming-response")

// The cases of error-code that are used here.
enum {
    HTTP_REQUEST_DENIED = 15,
    HTTP_REQUEST_BODY_SIZE = 17,
    HTTP_REQUEST_URI_INVALID = 19,
    HTTP_RESPONSE_BODY_SIZE = 28,
    HTTP_RESPONSE_TIMEOUT = 33,
    INTERNAL_ERROR = 38,
};

typedef struct {
    Field *items;
    u32 count, capacity;
    bool immutable;
} Fields;

void fields_add(Fields *self, Field field);
void fields_add_received(Fields *self, Field field);  // without those that belong to one connection
bool fields_find(const Fields *self, Bytes name, Bytes *value);
Handle fields_shown(const Fields *self);  // as a child of its message: immutable

typedef struct {
    InputStream stream;
    bool taken;
} IncomingBody;

Handle incoming_body_of(Bytes bytes, bool pulls);

struct OutgoingBody {
    Bytes *parts;  // in the order of writing, not joined
    u32 count, capacity;
    u64 size;
    s64 promised;  // by content-length, or -1
    bool answers;  // the body of a response
    bool taken, finished, dropped;
};

OutgoingBody *outgoing_body_for(const Fields *headers, bool answers);
Bytes body_joined(const OutgoingBody *body);

typedef struct {
    u32 status;
    Fields *headers;
    OutgoingBody *body;  // NULL: not asked for
} OutgoingResponse;

typedef struct {
    u32 method;  // the case, `other` has a name
    Bytes method_name;
    bool has_path, has_scheme, has_authority;
    Bytes path, scheme_name, authority;
    Fields *headers;
    OutgoingBody *body;
} OutgoingRequest;

// The parts of a request that both directions have: method, scheme.
enum { OTHER_METHOD = 9, OTHER_SCHEME = 2 };
u8 *method_answer(Bytes name);
Bytes method_name(u32 method);
u8 *scheme_answer(Bytes name);
u8 *optional_string(bool present, Bytes text);
