// Streams and pollables of wasi:io, and what stands behind them.
#pragma once
#include "abi.h"
#include "heap.h"

RESOURCE(io_error, "wasi:io/error@0.2", "error")
RESOURCE(pollable, "wasi:io/poll@0.2", "pollable")
RESOURCE(input_stream, "wasi:io/streams@0.2", "input-stream")
RESOURCE(output_stream, "wasi:io/streams@0.2", "output-stream")

// Bytes that are here, or that come part by part from the host (`body.read`).
typedef struct {
    Bytes rest;
    bool pulls;
    u8 *part, *part_end;  // the host's last part, in memory
} InputStream;

typedef struct OutgoingBody OutgoingBody;
typedef struct Log Log;

// Goes to a body, or to the log.
typedef struct {
    OutgoingBody *body;
    Log *log;
} OutputStream;

// A time to wait for, or a response; or neither: always ready.
typedef struct Future Future;
typedef struct {
    u64 instant;
    Future *future;
} Pollable;

Handle pollable_ready(void);
Handle pollable_at(u64 instant);
Handle pollable_of(Future *future);

// In http_outgoing.c: whether its request is complete, and making it go out as it is.
bool future_is_ready(const Future *future);
void future_force(Future *future);

// In clocks.c: what the clock shows, and letting it jump.
u64 clock_now(void);
void clock_advance(u64 instant);

// In body.c. The host may refuse, `reason` says why; `contents` that are kept must stay where they are.
typedef enum { SENT, KEPT, CLOSED, REFUSED } Written;
Written body_write(OutgoingBody *body, Bytes contents, Bytes *reason);
bool body_is_open(const OutgoingBody *body);

// In cli.c.
void log_write(Log *log, Bytes contents);
