// wasi:clocks. The time is that of the call: every look at the monotonic clock is one step later, and a guest that
// waits finds that its time has come; no real time can be measured.
#include "call.h"
#include "io.h"

static const u64 STEP = 1000;  // ns
static const u64 SECOND = 1000000000;

u64 clock_now(void) { return call.monotonic; }

void clock_advance(u64 instant) {
    if (instant > call.monotonic) call.monotonic = instant;
}

EXPORT("cm32p2|wasi:clocks/monotonic-clock@0.2|now") u64 monotonic_now(void) { return call.monotonic += STEP; }

EXPORT("cm32p2|wasi:clocks/monotonic-clock@0.2|resolution") u64 monotonic_resolution(void) { return STEP; }

EXPORT("cm32p2|wasi:clocks/monotonic-clock@0.2|subscribe-instant") Handle subscribe_instant(u64 instant) {
    return pollable_at(instant);
}

EXPORT("cm32p2|wasi:clocks/monotonic-clock@0.2|subscribe-duration") Handle subscribe_duration(u64 duration) {
    u64 instant = call.monotonic + duration;
    return pollable_at(instant < duration ? UINT64_MAX : instant);
}

static u8 *datetime(u64 ns) {
    u8 *place = answer();
    put64(place, 0, ns / SECOND);
    put32(place, 8, (u32)(ns % SECOND));
    return place;
}

EXPORT("cm32p2|wasi:clocks/wall-clock@0.2|now") u8 *wall_now(void) { return datetime(call.wall); }

EXPORT("cm32p2|wasi:clocks/wall-clock@0.2|resolution") u8 *wall_resolution(void) { return datetime(STEP); }

// Everywhere is UTC.
EXPORT("cm32p2|wasi:clocks/timezone@0.2|utc-offset") u32 timezone_offset(u64 seconds, u32 nanoseconds) {
    (void)seconds, (void)nanoseconds;
    return 0;
}

EXPORT("cm32p2|wasi:clocks/timezone@0.2|display") u8 *timezone_display(u64 seconds, u32 nanoseconds) {
    (void)seconds, (void)nanoseconds;
    u8 *place = answer();  // offset, name, whether in daylight saving time
    put_bytes(place, 4, LITERAL("UTC"));
    return place;
}
