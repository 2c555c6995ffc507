// The call that this instance was made for: what the host said about it, and what the guest has answered so far.
#pragma once
#include "abi.h"
#include "http.h"

typedef struct {
    Bytes method, target, scheme, authority;
    Fields headers;
    Bytes body;
    bool reads, writes;  // the bodies go part by part through the host
    u64 wall, monotonic;  // ns
    u32 seed[8];

    bool consumed;               // the request's body was taken
    OutgoingResponse *response;  // what the guest has set,
    u32 error;                   // or 1 + the error-code that it has set
    bool head_sent;
} Call;

extern Call call;
