// A response to a request of the guest.
#pragma once
#include "http.h"

typedef struct {
    u32 status;
    Fields headers;
    Bytes body;
    bool consumed;
} IncomingResponse;
