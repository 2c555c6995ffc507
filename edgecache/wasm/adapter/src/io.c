// wasi:io. Nothing here ever waits: a read that needs the host blocks inside the host call.
#include "io.h"

#include "hostcall.h"
#include "text.h"

static const u32 BUDGET = 1 << 20;    // what check-write permits
static const u32 AT_ONCE = 4096;      // what blocking-write-and-flush takes, by its definition
enum { LAST_OPERATION_FAILED, END };  // stream-error

// ---- wasi:io/error

EXPORT("cm32p2|wasi:io/error@0.2|[method]error.to-debug-string") u8 *error_to_debug_string(Bytes *message) {
    u8 *place = answer();
    put_bytes(place, 0, *message);
    return place;
}

// ---- wasi:io/poll

static Pollable always;

Handle pollable_ready(void) { return pollable_new(&always); }

static Handle pollable_like(Pollable like) {
    Pollable *made = heap_take(sizeof *made);
    *made = like;
    return pollable_new(made);
}

Handle pollable_at(u64 instant) {
    if (instant == UINT64_MAX) instant--;  // the end of time is no instant, see `let_time_pass`
    return pollable_like((Pollable){.instant = instant});
}

Handle pollable_of(Future *future) { return pollable_like((Pollable){.future = future}); }

static bool is_ready(const Pollable *pollable) {
    if (pollable->future) return future_is_ready(pollable->future);
    return pollable->instant <= clock_now();
}

// Time goes by for a guest that waits, by its own clock only: to the first instant that it waits for. With no such
// instant, it waits for the response to a request that it has not finished: that will not become more complete.
static void let_time_pass(Pollable *const *pollables, u32 count) {
    u64 first = UINT64_MAX;
    for (u32 i = 0; i < count; i++)
        if (!pollables[i]->future && pollables[i]->instant < first) first = pollables[i]->instant;
    if (first != UINT64_MAX) {
        clock_advance(first);
        return;
    }
    for (u32 i = 0; i < count; i++)
        if (pollables[i]->future) future_force(pollables[i]->future);
}

EXPORT("cm32p2|wasi:io/poll@0.2|[method]pollable.ready") u32 pollable_is_ready(Pollable *self) {
    return is_ready(self);
}

EXPORT("cm32p2|wasi:io/poll@0.2|[method]pollable.block") void pollable_block(Pollable *self) {
    if (!is_ready(self)) let_time_pass(&self, 1);
}

EXPORT("cm32p2|wasi:io/poll@0.2|poll") u8 *poll(Pollable **pollables, u32 count) {
    if (!count) __builtin_trap();  // by its definition
    u32 *ready = heap_take(count * sizeof *ready), found = 0;
    while (!found) {
        for (u32 i = 0; i < count; i++)
            if (is_ready(pollables[i])) ready[found++] = i;
        if (!found) let_time_pass(pollables, count);
    }
    u8 *place = answer();
    put_bytes(place, 0, (Bytes){(u8 *)ready, found});
    heap_forget(pollables);
    return place;
}

// ---- wasi:io/streams: reading

// stream-error is at 4, or at 8 where the other outcome is a u64.
static u8 *closed(u32 offset) {
    u8 *place = failed();
    place[offset] = END;
    return place;
}

static u8 *refused(u32 offset, Bytes reason) {
    Bytes *kept = heap_take(sizeof *kept);
    *kept = reason;
    u8 *place = failed();
    place[offset] = LAST_OPERATION_FAILED;
    put32(place, offset + 4, io_error_new(kept));
    return place;
}

// Something to read is there; false at the end. A host that refuses ends the stream.
static bool fill(InputStream *self) {
    if (self->rest.size) return true;
    while (self->pulls && !self->rest.size) {
        Answer part = ask(LITERAL("body.read"), (Message){0});
        self->part = part.start;
        self->part_end = heap_end();
        if (part.refused || !answer_more(&part))
            self->pulls = false;
        else
            self->rest = answer_field(&part);
    }
    return self->rest.size > 0;
}

static Bytes take(InputStream *self, u64 most) {
    Bytes taken = self->rest;
    if (taken.size > most) taken.size = (u32)most;
    self->rest.data += taken.size;
    self->rest.size -= taken.size;
    return taken;
}

// All of the host's last part was read, and nothing that stays was taken since.
static bool was_read(const InputStream *self) {
    return self->part && !self->rest.size && self->part_end == heap_end();
}

EXPORT("cm32p2|wasi:io/streams@0.2|[method]input-stream.read") u8 *input_read(InputStream *self, u64 most) {
    if (!fill(self)) return closed(4);
    Bytes taken = take(self, most);
    u8 *place = answer();
    put_bytes(place, 4, taken);
    if (was_read(self)) heap_forget(self->part);
    return place;
}

EXPORT("cm32p2|wasi:io/streams@0.2|[method]input-stream.blocking-read")
u8 *input_blocking_read(InputStream *self, u64 most) {
    return input_read(self, most);
}

// result<u64, stream-error>: the payload is at 8
static u8 *ok64(u64 value) {
    u8 *place = answer();
    put64(place, 8, value);
    return place;
}

EXPORT("cm32p2|wasi:io/streams@0.2|[method]input-stream.skip") u8 *input_skip(InputStream *self, u64 most) {
    if (!fill(self)) return closed(8);
    return ok64(take(self, most).size);
}

EXPORT("cm32p2|wasi:io/streams@0.2|[method]input-stream.blocking-skip")
u8 *input_blocking_skip(InputStream *self, u64 most) {
    return input_skip(self, most);
}

EXPORT("cm32p2|wasi:io/streams@0.2|[method]input-stream.subscribe") Handle input_subscribe(InputStream *self) {
    (void)self;
    return pollable_ready();
}

// ---- wasi:io/streams: writing

static Written put(OutputStream *self, Bytes contents, Bytes *reason) {
    if (!self->log) return body_write(self->body, contents, reason);
    log_write(self->log, contents);
    return SENT;
}

static u8 *write_most(OutputStream *self, Bytes contents, u32 most) {
    if (contents.size > most) __builtin_trap();  // by its definition: more than was permitted
    Bytes reason = {0};
    switch (put(self, contents, &reason)) {
        case CLOSED: return closed(4);
        case REFUSED: return refused(4, reason);
        case SENT: heap_forget(contents.data); break;
        case KEPT: break;
    }
    return answer();
}

static bool is_open(OutputStream *self) { return self->log || body_is_open(self->body); }

EXPORT("cm32p2|wasi:io/streams@0.2|[method]output-stream.check-write") u8 *output_check_write(OutputStream *self) {
    return is_open(self) ? ok64(BUDGET) : closed(8);
}

EXPORT("cm32p2|wasi:io/streams@0.2|[method]output-stream.write")
u8 *output_write(OutputStream *self, u8 *data, u32 size) {
    return write_most(self, (Bytes){data, size}, BUDGET);
}

EXPORT("cm32p2|wasi:io/streams@0.2|[method]output-stream.blocking-write-and-flush")
u8 *output_blocking_write(OutputStream *self, u8 *data, u32 size) {
    return write_most(self, (Bytes){data, size}, AT_ONCE);
}

static u8 *write_zeroes(OutputStream *self, u64 size, u32 most) {
    if (size > most) __builtin_trap();
    return write_most(self, (Bytes){heap_zeroed((u32)size), (u32)size}, most);
}

EXPORT("cm32p2|wasi:io/streams@0.2|[method]output-stream.write-zeroes")
u8 *output_write_zeroes(OutputStream *self, u64 size) {
    return write_zeroes(self, size, BUDGET);
}

EXPORT("cm32p2|wasi:io/streams@0.2|[method]output-stream.blocking-write-zeroes-and-flush")
u8 *output_blocking_write_zeroes(OutputStream *self, u64 size) {
    return write_zeroes(self, size, AT_ONCE);
}

// What is written goes at once: there is nothing to flush.
EXPORT("cm32p2|wasi:io/streams@0.2|[method]output-stream.flush") u8 *output_flush(OutputStream *self) {
    return is_open(self) ? answer() : closed(4);
}

EXPORT("cm32p2|wasi:io/streams@0.2|[method]output-stream.blocking-flush")
u8 *output_blocking_flush(OutputStream *self) {
    return output_flush(self);
}

EXPORT("cm32p2|wasi:io/streams@0.2|[method]output-stream.subscribe") Handle output_subscribe(OutputStream *self) {
    (void)self;
    return pollable_ready();
}

EXPORT("cm32p2|wasi:io/streams@0.2|[method]output-stream.splice")
u8 *output_splice(OutputStream *self, InputStream *from, u64 most) {
    if (!is_open(self) || !fill(from)) return closed(8);
    Bytes taken = take(from, most < BUDGET ? most : BUDGET), reason = {0};
    u8 *unneeded = was_read(from) ? from->part : heap_end();
    Written written = put(self, taken, &reason);
    if (written == CLOSED) return closed(8);
    if (written == REFUSED) return refused(8, reason);
    if (written == SENT) heap_forget(unneeded);
    return ok64(taken.size);
}

EXPORT("cm32p2|wasi:io/streams@0.2|[method]output-stream.blocking-splice")
u8 *output_blocking_splice(OutputStream *self, InputStream *from, u64 most) {
    return output_splice(self, from, most);
}
