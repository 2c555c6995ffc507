// wasi:http/types: outgoing-response and response-outparam: the answer of the guest.
#include "body.h"
#include "call.h"

TYPES("[constructor]outgoing-response") Handle outgoing_response_constructor(Handle headers) {
    OutgoingResponse *made = heap_zeroed(sizeof *made);
    made->status = 200;
    made->headers = fields_rep(headers);
    return outgoing_response_new(made);
}

TYPES("[method]outgoing-response.status-code") u32 outgoing_response_status(OutgoingResponse *self) {
    return self->status;
}

TYPES("[method]outgoing-response.set-status-code")
u32 outgoing_response_set_status(OutgoingResponse *self, u32 status) {
    if (status < 100 || status > 999) return 1;
    self->status = status;
    return 0;
}

TYPES("[method]outgoing-response.headers") Handle outgoing_response_headers(OutgoingResponse *self) {
    return fields_shown(self->headers);
}

TYPES("[method]outgoing-response.body") u8 *outgoing_response_body(OutgoingResponse *self) {
    if (self->body) return failed();
    self->body = outgoing_body_for(self->headers, true);
    return ok32(outgoing_body_new(self->body));
}

// A second `set` is not possible: the first takes the handle away, and the engine traps whoever uses it again.
// The error-code comes as its case and up to five numbers, of which none is of interest here.
TYPES("[static]response-outparam.set")
void response_set(Handle self, u32 is_error, u32 value, u32 a, u64 b, u32 c, u32 d, u32 e, u32 f) {
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    response_outparam_drop(self);
    if (is_error) {
        call.error = 1 + value;
        return;
    }
    call.response = outgoing_response_rep(value);
    Bytes reason = {0};
    if (call.writes && call.response->body && response_send_kept(call.response->body, &reason) == REFUSED)
        call.response->body->dropped = true;
}

// A 1xx head has no way to the client.
TYPES("[method]response-outparam.send-informational")
u8 *response_send_informational(void *self, u32 status, Handle headers) {
    (void)self, (void)status;
    fields_drop(headers);
    u8 *place = failed();  // result<_, error-code>: the case is at 8, option<string> at 16
    place[8] = INTERNAL_ERROR;
    put_some(place, 16, LITERAL("informational responses are not passed on"));
    return place;
}
