//! The fast lane of edgecache: a core module with `memory`, `alloc` and `handle`, and the one import it may have.
//!
//! Memory is never freed: the sandbox is gone when the call ends.
const std = @import("std");

var top: usize = 0;
extern var __heap_base: u8;

/// `n` bytes, aligned to 16; traps where the memory limit is reached.
pub export fn alloc(n: usize) [*]u8 {
    const start = std.mem.alignForward(usize, if (top == 0) @intFromPtr(&__heap_base) else top, 16);
    const there = @wasmMemorySize(0) * 65536;
    if (start + n > there and @wasmMemoryGrow(0, (start + n - there + 65535) / 65536) < 0) @trap();
    top = start + n;
    return @ptrFromInt(start);
}

pub fn bytes(n: usize) []u8 {
    return alloc(n)[0..n];
}

/// A request: `METHOD TARGET\nname: value\n...\n\nBODY`.
pub const Request = struct {
    head: []const u8,
    body: []const u8,

    pub fn of(raw: []const u8) Request {
        const end = std.mem.indexOf(u8, raw, "\n\n") orelse return .{ .head = raw, .body = "" };
        return .{ .head = raw[0..end], .body = raw[end + 2 ..] };
    }

    /// The value of a header, by its name in lower case.
    pub fn header(self: Request, name: []const u8) ?[]const u8 {
        var lines = std.mem.splitScalar(u8, self.head, '\n');
        _ = lines.next();
        while (lines.next()) |line| {
            if (std.mem.startsWith(u8, line, name) and std.mem.startsWith(u8, line[name.len..], ": "))
                return line[name.len + 2 ..];
        }
        return null;
    }
};

/// An answer under construction: `STATUS\nname: value\n...\n\nBODY`.
pub const Answer = struct {
    made: []u8 = &.{},
    size: usize = 0,

    pub fn write(self: *Answer, text: []const u8) void {
        if (self.size + text.len > self.made.len) {
            const more = bytes(2 * (self.size + text.len) + 1024);
            @memcpy(more[0..self.size], self.made[0..self.size]);
            self.made = more;
        }
        @memcpy(self.made[self.size..][0..text.len], text);
        self.size += text.len;
    }

    /// `text` as it stands inside a JSON string.
    pub fn writeJson(self: *Answer, text: []const u8) void {
        const hex = "0123456789abcdef";
        for (text) |c| {
            if (c < 0x20) {
                self.write(&.{ '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] });
            } else if (c == '"' or c == '\\') {
                self.write(&.{ '\\', c });
            } else {
                self.write(&.{c});
            }
        }
    }

    /// What `handle` returns.
    pub fn done(self: Answer) u64 {
        return @as(u64, @intFromPtr(self.made.ptr)) << 32 | self.size;
    }
};

/// What `handle` returns to leave everything as it is (204).
pub const unchanged: u64 = 0;

const host = struct {
    extern "edgecache" fn call(op: [*]const u8, op_len: usize, argument: [*]const u8, argument_len: usize) u64;
};

/// The answer to operation `op`: `=` and netstrings, or `!code\nmessage`.
pub fn call(op: []const u8, fields: []const []const u8) []const u8 {
    var argument: Answer = .{};
    for (fields) |field| {
        var digits: [10]u8 = undefined;
        var at: usize = digits.len;
        var rest = field.len;
        while (at == digits.len or rest > 0) : (rest /= 10) {
            at -= 1;
            digits[at] = '0' + @as(u8, @intCast(rest % 10));
        }
        argument.write(digits[at..]);
        argument.write(":");
        argument.write(field);
        argument.write(",");
    }
    const answer = host.call(op.ptr, op.len, argument.made.ptr, argument.size);
    return @as([*]const u8, @ptrFromInt(@as(usize, @intCast(answer >> 32))))[0..@as(usize, @intCast(answer & 0xffffffff))];
}

/// A line in the log that `edgecache fn tail` shows.
pub fn log(level: []const u8, line: []const u8) void {
    _ = call("log", &.{ level, line });
}
